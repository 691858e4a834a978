"""Budgets of a telling: what is no budget, what is kept, and what is said of how far it came."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from evidence_example import example_evidence
from evidence_models import CalibratedReader, image_of
from storyxai.errors import InputError
from storyxai.evidence.gather import USUAL_BATCH, GatherSettings, gather
from storyxai.modalities.contract import FindingTerm, Modality
from storyxai.programs.budget import Allowance, read_samples
from storyxai.story.tell import tell
from storyxai.types import Array, Evidence

SPOTS = Modality("spots", (FindingTerm("Upper_spot"),))
UPPER = np.zeros((32, 32), np.bool_)
UPPER[4:12, 4:12] = True


class Counting(CalibratedReader):
    """Remembers how many images it was asked for, and how many at once."""

    def logits(self, images: Array) -> Array:
        self.__dict__.setdefault("batches", []).append(len(images))
        return super().logits(images)


def spot() -> np.ndarray:
    pixels = 0.3 + 0.1 * np.random.default_rng(3).random((32, 32))
    pixels[UPPER] += 0.35
    return pixels


def gathered(model: CalibratedReader, **asked: object) -> Evidence:
    settings = GatherSettings(modality=SPOTS, **asked)  # type: ignore[arg-type]
    return gather(model, image_of(spot()), methods=["lime"], settings=settings)


@pytest.mark.parametrize(("given", "said"), [
    (Allowance(samples=0), "samples: 0 are too few for LIME — use 100 or more, or 'auto'"),
    (Allowance(seconds=0.0), "seconds: 0 is a budget of nothing — allow a second or more"),
    (Allowance(seconds=float("nan")), "seconds: nan is a budget of nothing"),
    (Allowance(memory_mb=-1.0), "memory: -1 is a budget of nothing"),
])
def test_a_budget_of_nothing_is_refused(given: Allowance, said: str) -> None:
    with pytest.raises(InputError, match=said):
        given.check()
    Allowance(None, 2.5, 10.0).check()


def test_samples_are_a_number_or_auto() -> None:
    assert (read_samples("auto"), read_samples(" AUTO "), read_samples("250")) == (None, None, 250)
    with pytest.raises(InputError, match="samples: 'many' is no number — give a number such as 1000, or 'auto'"):
        read_samples("many")


def test_memory_bounds_the_images_at_once_and_changes_no_number() -> None:
    wide, narrow = Counting({"Upper_spot": UPPER}), Counting({"Upper_spot": UPPER})
    one, two = gathered(wide, samples=200), gathered(narrow, samples=200, memory_mb=0.03)
    assert max(wide.__dict__["batches"]) == USUAL_BATCH and max(narrow.__dict__["batches"]) <= 5
    np.testing.assert_array_equal(one.heatmaps[0].values, two.heatmaps[0].values)
    with pytest.raises(InputError, match=r"memory: 0\.001 MB hold no perturbed image"):
        gathered(narrow, samples=200, memory_mb=0.001)


def test_a_moment_gives_the_best_result_within_it_and_says_how_far_it_came() -> None:
    hurried = gathered(Counting({"Upper_spot": UPPER}), samples=2000, seconds=1e-9)
    details = hurried.heatmaps[0].details
    assert details["stopped"] == "seconds" and 60 <= int(details["samples"] or 0) < 200 and hurried.heatmaps[0].values.any()
    told = [s.text for section in tell(hurried, "practitioner").sections for s in section.sentences]
    (said,) = [text for text in told if text.startswith("LIME of upper spot ended after")]
    assert "as the time was up; the effects of its strongest superpixels are known to within" in said


def test_auto_ends_when_the_order_is_known_and_says_so() -> None:
    evidence = gathered(Counting({"Upper_spot": UPPER}), samples=None)
    assert evidence.heatmaps[0].details["stopped"] in ("stable", "samples") and evidence.provenance["samples"] is None
    told = [s.text for section in tell(evidence, "practitioner").sections for s in section.sentences]
    assert "Seed 0, as many samples as it took." in told


def test_whoever_listens_hears_of_every_pass() -> None:
    heard: list[tuple[int, int]] = []
    model = Counting({"Upper_spot": UPPER})
    gathered(model, samples=200, progress=lambda step, done, total: heard.append((done, total)))
    assert [done for done, _ in heard] == sorted(done for done, _ in heard)
    assert 200 <= heard[-1][0] <= heard[-1][1] and heard[-1][0] <= sum(model.__dict__["batches"])


def test_the_samples_of_each_finding_are_told_where_they_differ() -> None:
    base = example_evidence()
    other = [
        dataclasses.replace(h, details={**h.details, "samples": 640})
        if (h.finding, h.method) == ("Consolidation", "lime") else h for h in base.heatmaps
    ]
    story = tell(dataclasses.replace(base, heatmaps=tuple(other)), "practitioner")
    assert any("(640 and 1,000 samples, seed 0" in s.text for section in story.sections for s in section.sentences)
