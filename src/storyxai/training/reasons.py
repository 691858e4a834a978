"""The student's reasons beside its teacher's: maps per finding that gradients can pass through, and how far they differ.

Source: Parchami-Araghi et al., "Good Teachers Explain" (e2KD), ECCV 2024: 1 - cosine of the two explanations.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from storyxai.errors import RecipeError, UnknownNameError
from storyxai.models.network import FindingHead

MAP_KINDS = ("grid", "grad-cam")
PRESENT_FROM = 0.5


def finding_maps(
    head: FindingHead, features: Tensor, shares: Tensor | None = None, *, signed: bool = False
) -> Tensor:
    """Grad-CAM of every finding from the features the head reads [B, F, h, w], itself open to gradients.

    The head is h = relu(V A + c), g = W h + b, z_f = (1 / r_f) ln mean exp(r_f g_f), so with p_f the softmax of r_f g_f
    over the cells the mean gradient is d z_f / d A_k = (1 / cells) sum_j W_fj V_jk sum_cell p_f [h_j > 0]: no second pass
    through the network and no graph of a gradient. With `shares` p_f is the softmax of r_f g_f + ln s. `signed` leaves the
    last ReLU out. Shapes: features [B, K, h, w], shares [B, h, w]. Units: as `explain.cam.grad_cam`.
    """
    before = head.hidden(features)
    grid = head.out(F.relu(before))
    counted = 0.0 if shares is None else shares.flatten(1)[:, None].log()
    pooled = torch.softmax(grid.flatten(2) * head.sharpness()[None, :, None] + counted, dim=2)
    passing = (before > 0).flatten(2).to(features.dtype)
    through = torch.einsum("bfc,bjc->bfj", pooled, passing) * head.out.weight[:, :, 0, 0]
    channels = through @ head.hidden.weight[:, :, 0, 0] / pooled.shape[2]
    maps = torch.einsum("bfk,bkhw->bfhw", channels, features)
    return maps if signed else F.relu(maps)


def evidence_maps(grid: Tensor) -> Tensor:
    """The probability of each finding in each cell, from the head's logits per cell; shapes as given."""
    return torch.sigmoid(grid)


def maps_of(kind: str, head: FindingHead, features: Tensor, grid: Tensor, shares: Tensor | None = None) -> Tensor:
    """A network's maps of `kind` [B, F, h, w]: "grid" (the evidence grid) or "grad-cam". Raises: RecipeError."""
    if kind == "grid":
        return evidence_maps(grid)
    if kind == "grad-cam":
        return finding_maps(head, features, shares)
    raise RecipeError(f"reasons '{kind}'", "are not known", mend=str(UnknownNameError("kind of map", kind, MAP_KINDS)))


def present_findings(labels: Tensor, teacher_logits: Tensor) -> Tensor:
    """True where a finding is stated present or, where nothing is stated, the teacher finds it likelier than not [B, F]."""
    return torch.where(labels.isnan(), teacher_logits > 0, labels >= PRESENT_FROM)


def reasons_loss(student_maps: Tensor, teacher_maps: Tensor, present: Tensor) -> Tensor:
    """1 - cosine of the student's and the teacher's map, mean over the findings present; 0 only where all are proportional.

    A finding's teacher map with nan or nothing in it is left out; a student map with nothing in it costs 1.
    Shapes: maps [B, F, h, w], a finer grid is averaged down to the coarser; present bool [B, F]. Units: 0 to 2.
    """
    there = teacher_maps.flatten(2)
    counted = present & ~there.isnan().any(dim=2) & (there != 0).any(dim=2)
    if not bool(counted.any()):
        return student_maps.sum() * 0.0
    height, width = (min(student_maps.shape[i], teacher_maps.shape[i]) for i in (2, 3))
    s, t = (F.adaptive_avg_pool2d(part[counted], (height, width)).flatten(1) for part in (student_maps, teacher_maps))
    # Half the squared distance of unit maps is 1 - cosine, and stays exact where the two agree.
    s, t = _unit(s), _unit(t)
    apart = 0.5 * (s - t).square().sum(dim=1)
    return torch.where((s != 0).any(dim=1), apart, s.sum(dim=1) + 1.0).mean()


def _unit(rows: Tensor) -> Tensor:
    """Rows of length 1; their largest value is brought to 1 first, so that small maps keep their digits."""
    top = rows.detach().abs().amax(dim=1, keepdim=True)
    return F.normalize(rows / top.masked_fill(top == 0, 1.0), dim=1)
