"""The labeler against the grammar's truth, and against sentences as radiologists write them."""

from __future__ import annotations

import math
import tarfile
from pathlib import Path

import numpy as np
import pytest
from defusedxml import ElementTree

from storyxai.modalities.chest_radiograph import grammar
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.modalities.chest_radiograph.grammar import Fact
from storyxai.modalities.chest_radiograph.labeler import label_report


def random_facts(rng: np.random.Generator) -> list[Fact]:
    share = rng.choice([0.0, 0.05, 0.2, 0.5, 1.0])
    return [
        Fact(name, bool(rng.random() < share), str(rng.choice(grammar.SIDE_WORDS)), str(rng.choice(grammar.ZONE_WORDS)),
             str(rng.choice(grammar.SEVERITY_WORDS)))
        for name in NAMES if rng.random() < 0.8
    ]


def test_exact_on_what_2000_written_reports_state() -> None:
    for seed in range(2000):
        rng = np.random.default_rng(seed)
        shown = grammar.DEVICES if seed % 4 == 0 else ()
        report = grammar.compose_report(random_facts(rng), rng, view="AP", devices=shown)
        stated: dict[str, float] = {}
        for sentence in report:
            stated.update(sentence.states)
        read = label_report([sentence.text for sentence in report])
        assert {name: read[name] for name in stated} == stated, report
        assert not [name for name in NAMES if name not in stated and read[name] == 1.0], report


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("No evidence of pneumothorax.", {"Pneumothorax": 0}),
        ("Without focal consolidation or effusion.", {"Consolidation": 0, "Effusion": 0}),
        ("The left pleural effusion has resolved.", {"Effusion": 0}),
        ("Right pneumothorax is no longer seen.", {"Pneumothorax": 0}),
        ("Interval resolution of the edema.", {"Edema": 0}),
        ("Opacity which may represent pneumonia.", {"Pneumonia": 1}),
        ("Pneumonia cannot be excluded.", {"Pneumonia": 1}),
        ("Infiltrate is not entirely excluded.", {"Infiltration": 1}),
        ("No change in the right pleural effusion.", {"Effusion": 1}),
        ("No significant interval change in cardiomegaly.", {"Cardiomegaly": 1}),
        ("No pneumothorax, but there is a small effusion.", {"Pneumothorax": 0, "Effusion": 1}),
        ("Cardiomegaly without pulmonary edema.", {"Cardiomegaly": 1, "Edema": 0}),
        ("No cardiomegaly with small pleural effusions.", {"Cardiomegaly": 0, "Effusion": 1}),
        ("The heart is not enlarged.", {"Cardiomegaly": 0}),
        ("Heart size is at the upper limits of normal.", {"Cardiomegaly": 0}),
        ("Borderline heart size.", {"Cardiomegaly": 1}),
        ("The cardiac silhouette is enlarged.", {"Cardiomegaly": 1}),
        ("Cardiomediastinal silhouette is within normal limits.", {"Cardiomegaly": 0}),
        ("Evaluate for pneumonia.", {}),
        ("History of emphysema.", {}),
        ("Pericardial effusion.", {}),
        ("Subcutaneous emphysema. Mass effect.", {}),
        ("Blunting of the left costophrenic angle.", {"Effusion": 1}),
        ("Lungs are hyperinflated.", {"Emphysema": 1}),
        ("No hiatal hernia.", {"Hernia": 0}),
        ("Streaky bibasilar atelectatic change.", {"Atelectasis": 1}),
        ("XXXX XXXX are intact.", {}),
        ("Nodule measuring 1.5 cm. No mass.", {"Nodule": 1, "Mass": 0}),
        ("NO PLEURAL THICKENING OR FIBROSIS", {"Pleural_Thickening": 0, "Fibrosis": 0}),
        ("", {}),
    ],
)
def test_sentences_as_radiologists_write_them(text: str, expected: dict[str, float]) -> None:
    read = {name: value for name, value in label_report(text).items() if not math.isnan(value)}
    assert read == {name: float(value) for name, value in expected.items()}


def test_clear_lungs_deny_shadows_of_the_lung_only() -> None:
    read = label_report("The lungs are clear.")
    assert {name for name, value in read.items() if value == 0.0} == {
        "Atelectasis", "Consolidation", "Edema", "Infiltration", "Mass", "Nodule", "Pneumonia",
    }
    assert not [name for name, value in read.items() if value == 1.0]


def test_a_finding_stated_once_is_present_whatever_follows() -> None:
    assert label_report(["Small left effusion.", "No right effusion."])["Effusion"] == 1.0
    assert label_report(["No right effusion.", "Small left effusion."])["Effusion"] == 1.0


def test_sentences_and_one_text_read_the_same() -> None:
    report = ["Mild cardiomegaly.", "No pleural effusion or pneumothorax."]
    np.testing.assert_equal(label_report(report), label_report(" ".join(report)))
    assert tuple(label_report("")) == NAMES


@pytest.mark.real
def test_agrees_with_the_coders_of_open_i(real_data: Path) -> None:
    """Human coders tagged each report; they leave out doubtful findings, so only well-defined ones are held here."""
    tags = {"Cardiomegaly": "Cardiomegaly", "Effusion": "Pleural Effusion", "Hernia": "Hernia"}
    tags["Emphysema"] = "Lung/hyperd"
    counts = {name: np.zeros(3) for name in tags}
    with tarfile.open(real_data / "openi" / "NLMCXR_reports.tgz") as archive:
        members = [member for member in archive if member.name.endswith(".xml")][:1500]
        for member in members:
            stream = archive.extractfile(member)
            assert stream is not None
            root = ElementTree.fromstring(stream.read())
            parts = {one.get("Label"): one.text or "" for one in root.iter("AbstractText")}
            read = label_report([parts.get("FINDINGS", ""), parts.get("IMPRESSION", "")])
            coded = [one.text or "" for one in root.iter("major")]
            for name, tag in tags.items():
                tagged, told = any(one.startswith(tag) for one in coded), read[name] == 1.0
                counts[name] += (tagged and told, told and not tagged, tagged and not told)
    for name, (both, only_read, only_coded) in counts.items():
        assert both >= 10, name
        assert 2 * both / (2 * both + only_read + only_coded) > 0.85, (name, counts[name])
