"""Another prevalence: probabilities move as Bayes' rule says, decisions stay, and the evidence and the story say so."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from evidence_example import example_evidence
from storyxai.errors import InputError, UnknownNameError
from storyxai.evidence.archive import read_archive, write_archive
from storyxai.evidence.predict import calibrated
from storyxai.models.card import Calibration, ModelCard, at_prevalence, read_card, write_card
from storyxai.programs.models import ModelChoice, open_model, read_prevalence
from storyxai.story.tell import AUDIENCES, tell

ONE = Calibration(
    1.25, -0.5, 0.3, ((1.5, -0.25),), 200, 80, "toy validation", (0.8, 0.35, 0.9), (0.28,)
)
CARD = ModelCard("toy", "1", {}, {}, {"Effusion": ONE, "Edema": dataclasses.replace(ONE, positives=0)}, (), (), ())


def test_a_moved_probability_is_bayes_rule_with_the_other_prior() -> None:
    """By counting: of 1000 patients, likelihoods from the old posterior and prior, weighed by the new prior."""
    moved = at_prevalence(CARD, {"Effusion": 0.1}).calibration["Effusion"]
    for logit in (-3.0, -0.4, 0.0, 2.5):
        before, after = (calibrated("Effusion", logit, one) for one in (ONE, moved))
        for old, new in ((before.probability, after.probability), *zip(before.interval, after.interval, strict=True)):
            with_it, without = 0.1 * old / (80 / 200), 0.9 * (1 - old) / (120 / 200)
            assert new == pytest.approx(with_it / (with_it + without), abs=1e-12)
        assert (before.probability >= ONE.threshold) == (after.probability >= moved.threshold)
        assert (before.prevalence, after.prevalence) == (None, 0.1)
        assert moved.conformal is not None and ONE.conformal is not None
        told = [(1 - found.probability <= limits[0], found.probability <= limits[1])
                for found, limits in ((before, ONE.conformal), (after, moved.conformal))]
        assert told[0] == told[1]
    same = at_prevalence(CARD, {"Effusion": 0.4}).calibration["Effusion"]
    assert np.allclose((same.bias, same.threshold, *same.thresholds), (ONE.bias, ONE.threshold, *ONE.thresholds))
    assert at_prevalence(CARD, {"Effusion": 0.1}).calibration["Edema"] == CARD.calibration["Edema"]


def test_no_card_on_disk_states_a_prevalence(tmp_path: Path) -> None:
    write_card(CARD, tmp_path)
    assert "prevalence" not in (tmp_path / "card.json").read_text(encoding="utf-8") and read_card(tmp_path) == CARD


@pytest.mark.parametrize(
    ("given", "kind", "said"),
    [
        ({"Efusion": 0.2}, UnknownNameError, "Effusion"), ({"Effusion": 0.0}, InputError, "of Effusion is 0"),
        ({"Effusion": 1.0}, InputError, "above 0 and under 1"), ({"Effusion": float("nan")}, InputError, "is nan"),
        ({"Edema": 0.2}, InputError, "is not known: 0 of the 200"),
    ],
)
def test_a_prevalence_that_cannot_be_is_refused(given: dict[str, float], kind: type[Exception], said: str) -> None:
    with pytest.raises(kind, match=said):
        at_prevalence(CARD, given)


def test_shares_are_read_from_words_and_from_a_file(tmp_path: Path) -> None:
    assert read_prevalence("") == {} and read_prevalence("Effusion=0.2, Edema = 0.1") == {"Effusion": 0.2, "Edema": 0.1}
    path = tmp_path / "ours.toml"
    path.write_text("Effusion = 0.2\n", encoding="utf-8")
    assert read_prevalence(str(path)) == {"Effusion": 0.2}
    for text in ("Effusion", "Effusion=often", str(tmp_path / "none.toml")):
        with pytest.raises(InputError):
            read_prevalence(text)
    model = tmp_path / "net.onnx"
    model.write_bytes(b"")
    with pytest.raises(InputError, match="without a calibration"):
        open_model(ModelChoice(model, ("a",), {"a": 0.2}))


def test_the_story_and_the_archive_say_so(tmp_path: Path) -> None:
    evidence = example_evidence()
    name = next(finding.name for finding in evidence.prediction.findings if finding.tier == "likely")
    findings = tuple(
        dataclasses.replace(finding, prevalence=0.2) if finding.name == name else finding
        for finding in evidence.prediction.findings
    )
    moved = dataclasses.replace(evidence, prediction=dataclasses.replace(evidence.prediction, findings=findings))
    said = [sentence for section in tell(moved, "clinician").sections for sentence in section.sentences
            if f"findings.{name}.prevalence" in sentence.cites]
    assert len(said) == 1 and "about 20 in 100" in said[0].text
    back = read_archive(write_archive(moved, tmp_path / "study"))
    assert back.prediction.findings == findings
    for audience in AUDIENCES:
        assert "prevalence" not in str(tell(evidence, audience).sections)


@pytest.mark.parametrize(("text", "why", "mend"), [
    ("Mass=0,2", "a share without a finding", "point"), ("=0.2", "a share without a finding", "point"),
    ("Mass=0.2,Mass=0.3", "names Mass twice", "keep one"), ("missing.toml", "is not there", "path"),
    ("Mass=20%", "is not understood", "Mass=0.2"),
])  # fmt: skip
def test_shares_that_were_lost_without_a_word_are_refused(text: str, why: str, mend: str) -> None:
    """Of "Mass=0,2" only "Mass=0" was seen, and of two shares of one finding the last."""
    with pytest.raises(InputError, match=why) as refused:
        read_prevalence(text)
    assert mend in refused.value.mend


def test_a_toml_file_of_windows_is_read(tmp_path: Path) -> None:
    (tmp_path / "shares.toml").write_bytes(b"\xef\xbb\xbfMass = 0.2\r\n")
    assert read_prevalence(str(tmp_path / "shares.toml")) == {"Mass": 0.2}
