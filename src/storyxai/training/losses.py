"""Losses of the three tasks. Every distillation term is zero exactly when student and teacher agree.

Source: Hinton et al. 2015, Dubey et al. 2024: L = (1 - a) hard + a tau^2 KL(teacher || student).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from storyxai.models.tokens import PAD


def bernoulli_kl(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) of Bernoulli variables with logits divided by `temperature`, mean over known entries.

    Shapes: both [...] logits; nan in `teacher` = the teacher does not know. Zero if nothing is known.
    """
    known = ~teacher.isnan()
    if not bool(known.any()):
        return student.sum() * 0.0
    s, t = student[known] / temperature, teacher[known] / temperature
    p = torch.sigmoid(t)
    return (p * (F.logsigmoid(t) - F.logsigmoid(s)) + (1 - p) * (F.logsigmoid(-t) - F.logsigmoid(-s))).mean()


def finding_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None) -> Tensor:
    """Cross-entropy over stated labels (nan = not stated), the positives of finding f weighted by `weights[f]`."""
    known = ~labels.isnan()
    if not bool(known.any()):
        return logits.sum() * 0.0
    loss = F.binary_cross_entropy_with_logits(logits, labels.nan_to_num(0.0), pos_weight=weights, reduction="none")
    return loss[known].mean()


def focal_loss(logits: Tensor, labels: Tensor, weights: Tensor | None = None, *, gamma: float = 2.0) -> Tensor:
    """`finding_loss` with each term times (1 - probability given to its side) ** `gamma`: the easy ones fade.

    Shapes: as `finding_loss`, which it equals at `gamma` 0. Source: Lin et al., ICCV 2017, equation 4; the positives'
    factor alpha is `weights`.
    """
    return asymmetric_loss(logits, labels, weights, gamma_negative=gamma, gamma_positive=gamma, clip=0.0)


def asymmetric_loss(
    logits: Tensor, labels: Tensor, weights: Tensor | None = None, *, gamma_negative: float = 4.0,
    gamma_positive: float = 1.0, clip: float = 0.05,
) -> Tensor:
    """Cross-entropy that fades easy negatives more than easy positives; negatives below probability `clip` are dropped.

    Positive: (1 - p) ** gamma_positive * -ln p, times `weights[f]`; negative with q = max(p - clip, 0):
    q ** gamma_negative * -ln(1 - q). Shapes: logits and labels [..., F], nan = not stated; with both gammas and `clip`
    at 0 it equals `finding_loss`. Source: Ridnik et al., ICCV 2021, equations 4 to 7.
    """
    known = ~labels.isnan()
    if not bool(known.any()):
        return logits.sum() * 0.0
    target = labels.nan_to_num(0.0)
    # In logarithms: a power of a probability that has sunk to 0 would have no finite gradient.
    yes, no = F.logsigmoid(logits), F.logsigmoid(-logits)
    positive = torch.exp(gamma_positive * no) * -yes
    if clip > 0:
        left = (torch.sigmoid(logits) - clip).clamp(min=0)
        negative = -torch.log1p(-left) * (left.clamp(min=1e-9) ** gamma_negative)
    else:
        negative = torch.exp(gamma_negative * yes) * -no
    if weights is not None:
        positive = positive * weights
    return (target * positive + (1 - target) * negative)[known].mean()


def dice_loss(probability: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """1 - soft Dice per image and channel over known pixels, mean over those that have any. Shapes: [B, C, h, w]."""
    p, y = probability * known, target * known
    overlap = (p * y).sum(dim=(2, 3))
    size = (p + y).sum(dim=(2, 3))
    stated = known.flatten(2).any(dim=2)
    score = 1 - (2 * overlap + 1.0) / (size + 1.0)
    return (score * stated).sum() / stated.sum().clamp(min=1)


def mask_loss(logits: Tensor, masks: Tensor) -> Tensor:
    """Dice plus cross-entropy over known pixels. Shapes: both [B, C, h, w]; nan in `masks` = not stated."""
    known = ~masks.isnan()
    if not bool(known.any()):
        return logits.sum() * 0.0
    target = masks.nan_to_num(0.0)
    cross = F.binary_cross_entropy_with_logits(logits[known], target[known])
    return cross + dice_loss(torch.sigmoid(logits), target, known)


def union_loss(logits: Tensor, union: Tensor) -> Tensor:
    """`mask_loss` of the first two structures, a pair, taken together: for sets that do not tell its sides apart.

    Shapes: logits [B, C, h, w], union [B, h, w]; nan in `union` = not stated.
    """
    known = ~union.isnan()
    if not bool(known.any()):
        return logits.sum() * 0.0
    # log P(neither) is the sum of the two log-complements, which stays exact far from zero.
    neither = F.logsigmoid(-logits[:, 0]) + F.logsigmoid(-logits[:, 1])
    either = _log_of_rest(neither, torch.logaddexp(logits[:, 0], logits[:, 1]))
    target = union.nan_to_num(0.0)
    cross = -(target * either + (1 - target) * neither)[known].mean()
    return cross + dice_loss(either.exp().unsqueeze(1), target.unsqueeze(1), known.unsqueeze(1))


def _log_of_rest(log_none: Tensor, log_sum: Tensor) -> Tensor:
    """ln(1 - exp(log_none)): 1 - exp by expm1, and `log_sum` (its limit) where nothing of `log_none` is left to tell.

    Both sides are kept clear of 0 before the choice is made, or the side not taken would send back nan.
    """
    far = log_none > -1e-5
    return torch.where(far, log_sum, torch.log(-torch.expm1(log_none.masked_fill(far, -1.0))))


def box_loss(grid: Tensor, cells: Tensor) -> Tensor:
    """Cross-entropy of the evidence grid against the share of each cell inside a box.

    Cells inside a box are few, so the two sides are averaged apart. Shapes: both [B, F, h, w], nan = not stated.
    """
    known = ~cells.isnan()
    if not bool(known.any()):
        return grid.sum() * 0.0
    logits, target = grid[known], cells[known]
    loss = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    inside = target > 0.3
    parts = [loss[side].mean() for side in (inside, ~inside) if bool(side.any())]
    return torch.stack(parts).mean()


def token_loss(logits: Tensor, tokens: Tensor) -> Tensor:
    """Cross-entropy of the next word; padding is left out.

    Shapes: logits [B, T - 1, V] for the words after each of tokens[:, :-1], tokens [B, T].
    """
    target = tokens[:, 1:]
    if not bool((target != PAD).any()):
        return logits.sum() * 0.0
    return F.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=PAD)


def token_kl(student: Tensor, teacher: Tensor, tokens: Tensor, temperature: float = 1.0) -> Tensor:
    """KL(teacher || student) of the next word's softmax, mean over the words that are there. Shapes: [B, T, V]."""
    there = tokens[:, 1:] != PAD
    if not bool(there.any()):
        return student.sum() * 0.0
    s = F.log_softmax(student[there] / temperature, dim=-1)
    t = F.log_softmax(teacher[there] / temperature, dim=-1)
    return (t.exp() * (t - s)).sum(dim=-1).mean()


def attention_map(features: Tensor) -> Tensor:
    """Where features are strong: their squares summed over channels, of length 1 over the cells, [B, h, w].

    Shapes: features [B, K, h, w]. Features that are zero everywhere give zeros.
    Source: Zagoruyko and Komodakis, ICLR 2017, with the sum of squares.
    """
    strength = features.square().sum(dim=1)
    return F.normalize(strength.flatten(1), dim=1).view_as(strength)


def hint_loss(student_features: Tensor, teacher_features: Tensor) -> Tensor:
    """Squared distance of attention maps of length 1, mean over images; 0 only where both look alike everywhere.

    Shapes: either may be features [B, K, h, w] of any width or attention maps [B, h, w]; a finer grid is averaged down to
    the coarser. An image with nan from the teacher is left out. Units: between 0 and 2.
    """
    parts = (student_features, teacher_features)
    student, teacher = (attention_map(part) if part.ndim == 4 else part for part in parts)
    known = ~teacher.flatten(1).isnan().any(dim=1)
    if not bool(known.any()):
        return student_features.sum() * 0.0
    sides = (min(student.shape[1], teacher.shape[1]), min(student.shape[2], teacher.shape[2]))
    s, t = (
        F.normalize(F.adaptive_avg_pool2d(part[known].unsqueeze(1), sides).flatten(1), dim=1) for part in (student, teacher)
    )
    return (s - t).square().sum(dim=1).mean()
