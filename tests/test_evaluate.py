"""The scorecard: figures known on paper, honest counts, faults named; the page: whole, closed, the same bytes."""

from __future__ import annotations

import copy
import html
import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from storyxai.errors import InputError, TableError, UnknownNameError
from storyxai.metrics.calibration import ConformalLimits
from storyxai.metrics.classification import auroc
from storyxai.programs.evaluate import Evaluated
from storyxai.provenance import canonical_json
from storyxai.scorecard.build import References, TaskOutputs, age_bands, build_scorecard, headline
from storyxai.scorecard.page import glance_html, render_scorecard
from storyxai.scorecard.record import read_scores

FINDINGS = ("Effusion", "Nodule", "Hernia")
COUNT = 120
EFFUSION = "There is a pleural effusion."
CLEAR = "No pleural effusion. The lungs are clear."


def references(**changes: Any) -> References:
    """120 images of 60 patients: every third has an effusion, every second a nodule (some not stated), two a hernia."""
    labels = np.zeros((COUNT, 3))
    labels[::3, 0], labels[1::2, 1], labels[:2, 2] = 1.0, 1.0, 1.0
    labels[::10, 1] = np.nan
    given = References(
        dataset="paper set",
        synthetic=True,
        ids=[f"i{row:03d}" for row in range(COUNT)],
        patient_ids=[f"p{row // 2:02d}" for row in range(COUNT)],
        findings=FINDINGS,
        labels=labels,
        reports=[EFFUSION if row % 3 == 0 else CLEAR for row in range(COUNT)],
        boxes={"Nodule": [[[10, 10, 20, 20]] if row % 2 else (None if row % 4 else []) for row in range(COUNT)]},
        subgroups={"sex": ["F" if row % 5 < 2 else ("M" if row % 5 < 4 else "") for row in range(COUNT)]},
    )
    return replace(given, **changes)


def scores(seed: int, strength: float) -> np.ndarray:
    labels = np.nan_to_num(np.asarray(references().labels))
    return np.random.default_rng(seed).normal(size=labels.shape) + strength * labels


def told() -> np.ndarray:
    """Tiers of the student's findings: likely from a score of 1, possible from 0, cannot tell near 1, and one not told."""
    score = scores(1, 2.0)
    tiers = np.select([abs(score - 1) < 0.2, score >= 1, score >= 0], ["cannot_tell", "likely", "possible"], "unlikely")
    tiers[0, 0] = ""
    return tiers


def student(**changes: Any) -> TaskOutputs:
    given = TaskOutputs(
        "student",
        "student",
        references().ids,
        FINDINGS,
        scores(1, 2.0),
        calibration=[(1.0, -1.0)] * 3,
        thresholds=[0.5, 0.4, 0.3],
        conformal=(ConformalLimits(0.9, 0.8, 0.9),) * 3,
        tiers=told(),
        dices={"left_lung": np.linspace(0.90, 1.0, COUNT)},
        distances={"left_lung": {"average_mm": np.full(COUNT, 1.5), "hausdorff_95_px": np.full(COUNT, 4.0)}},
        reports=list(references().reports or ()),
        boxes={"Nodule": [[[10, 10, 20, 20, 0.9]] if row % 2 else [] for row in range(COUNT)]},
        facts={"parameters_millions": 4.0},
    )
    return replace(given, **changes)


def teacher() -> TaskOutputs:
    return TaskOutputs(
        "teacher", "teacher", references().ids, FINDINGS, scores(2, 3.0), thresholds=[0.5] * 3,
        dices={"left_lung": np.linspace(0.92, 1.0, COUNT)}, reports=[CLEAR] * COUNT,
    )


def card(*outputs: TaskOutputs, **changes: Any) -> dict[str, Any]:
    return build_scorecard(outputs, references(**changes), seed=1, count=100).as_dict()


@pytest.fixture(scope="module")
def full() -> dict[str, Any]:
    view = TaskOutputs("view alone", "control", references().ids[:80], ("pleural effusion",), scores(3, 0.0)[:80, :1])
    built = build_scorecard(
        [student(), teacher(), view],
        references(),
        seed=1,
        count=100,
        map_cosines={("student", "teacher"): {"Effusion": np.full(COUNT, 0.25)}},
    )
    return json.loads(canonical_json(built.as_dict()))


def row_of(model: dict[str, Any], finding: str) -> dict[str, Any]:
    return next(row for row in model["findings"] if row["finding"] == finding)


def test_figures_are_those_of_the_metrics_with_their_counts(full: dict[str, Any]) -> None:
    labels = np.asarray(references().labels)
    row = row_of(full["models"][0], "Nodule")
    assert row["auroc"]["value"] == pytest.approx(auroc(labels[:, 1], scores(1, 2.0)[:, 1]), rel=1e-5)
    assert (row["n"], row["positives"]) == (int(np.isfinite(labels[:, 1]).sum()), int((labels[:, 1] == 1).sum()))
    assert row["auroc"]["low"] < row["auroc"]["value"] < row["auroc"]["high"]
    said = 1 / (1 + np.exp(-(scores(1, 2.0)[:, 0] - 1.0)))
    row = row_of(full["models"][0], "Effusion")
    assert row["sensitivity"]["value"] == pytest.approx((said[labels[:, 0] == 1] >= 0.5).mean(), rel=1e-5)
    assert row["specificity"]["value"] == pytest.approx((said[labels[:, 0] == 0] < 0.5).mean(), rel=1e-5)
    assert row["brier"]["value"] == pytest.approx(((said - labels[:, 0]) ** 2).mean(), rel=1e-5)
    assert row["conformal"]["present_coverage"] == pytest.approx((1 - said[labels[:, 0] == 1] <= 0.9).mean(), rel=1e-5)
    assert full["dataset"]["images"] == 120 and full["dataset"]["patients"] == 60
    assert full["dataset"]["findings"][2] == {"finding": "Hernia", "n": 120, "positives": 2, "positive_patients": 1}


def test_mean_holds_the_findings_with_enough_cases_only(full: dict[str, Any]) -> None:
    model = full["models"][0]
    assert model["mean_auroc"]["findings"] == ["Effusion", "Nodule"]
    expected = np.mean([row_of(model, name)["auroc"]["value"] for name in ("Effusion", "Nodule")])
    assert model["mean_auroc"]["value"] == pytest.approx(expected, rel=1e-4)
    assert [row["rare"] for row in model["findings"]] == [False, False, True]
    low = build_scorecard([student()], references(), seed=1, count=20, min_positives=2).as_dict()
    assert low["models"][0]["mean_auroc"]["findings"] == FINDINGS


def test_mean_of_all_holds_every_finding_with_a_case_of_each_kind(full: dict[str, Any]) -> None:
    """Hernia has two images of one patient: too few for the guarded mean, enough for this one, which says how many it holds."""
    model = full["models"][0]
    mean = model["mean_auroc_all"]
    assert (mean["findings"], mean["finding_count"]) == (list(FINDINGS), 3)
    expected = np.mean([row_of(model, name)["auroc"]["value"] for name in FINDINGS])
    assert mean["value"] == pytest.approx(expected, rel=1e-4)
    assert mean["low"] < mean["value"] < mean["high"]
    # A third of the resamples lack the one patient with a hernia: their mean is over the findings they can judge.
    assert (mean["left_out"], mean["replicates"]) == (0, 100)
    assert (mean["images"], mean["patients"]) == (120, 60)
    assert (model["mean_auroc"]["images"], model["mean_auroc"]["patients"]) == (120, 60)
    view = full["models"][2]["mean_auroc_all"]
    assert (view["findings"], view["images"], view["patients"]) == (["Effusion"], 80, 40)


def test_mean_of_all_leaves_out_what_has_one_kind_of_case_only() -> None:
    labels = np.asarray(references().labels).copy()
    labels[:, 2], labels[:, 1] = np.nan, 1.0
    mean = card(student(), labels=labels)["models"][0]["mean_auroc_all"]
    assert (mean["findings"], mean["finding_count"]) == (("Effusion",), 1)
    labels[:, 0] = 0.0
    mean = card(student(), labels=labels)["models"][0]["mean_auroc_all"]
    assert (mean["value"], mean["low"], mean["finding_count"], mean["images"]) == (None, None, 0, 0)


def test_difference_of_the_means_of_all_is_paired(full: dict[str, Any]) -> None:
    to_teacher, to_view = full["differences"]
    own, taught = (model["mean_auroc_all"]["value"] for model in full["models"][:2])
    assert to_teacher["mean_auroc_all"]["value"] == pytest.approx(own - taught, abs=2e-5)
    assert to_teacher["mean_auroc_all"]["finding_count"] == 3
    assert to_view["mean_auroc_all"]["findings"] == ["Effusion"]


def test_page_shows_both_means_and_reads_cards_from_before_there_were_two(full: dict[str, Any]) -> None:
    page = render_scorecard(full).decode("utf-8")
    mean = full["models"][0]["mean_auroc_all"]
    span = f"{mean['value']:.3f}<small>({mean['low']:.3f} to {mean['high']:.3f})</small>"
    assert f"<td>{span}<small>3 findings</small></td>" in page
    assert "Mean AUROC, all 3 findings" in page and "Mean AUROC, 2 findings" in page
    # The sentences on top speak of both: what few findings do not show, all may, and the other way round.
    glance = page[: page.index("<h2>Findings")]
    assert "mean AUROC over 3 findings" in glance and "mean AUROC over 2 findings" in glance
    older = json.loads(canonical_json(full))
    for row in (*older["models"], *older["differences"]):
        del row["mean_auroc_all"]
    assert "Mean AUROC, 2 findings" in render_scorecard(older).decode("utf-8")
    assert list(headline(older)["models"][2]["figures"]) == ["mean AUROC of 1 finding with 20 or more positives"]


def test_difference_uses_what_both_have_scored(full: dict[str, Any]) -> None:
    labels = np.asarray(references().labels)
    to_teacher, to_view = full["differences"]
    own, taught = (row_of(model, "Effusion")["auroc"]["value"] for model in full["models"][:2])
    assert to_teacher["findings"][0]["auroc"]["value"] == pytest.approx(own - taught, abs=2e-5)
    # The control knows 80 images and calls the finding by a synonym.
    assert (to_view["images"], [row["finding"] for row in to_view["findings"]]) == (80, ["Effusion"])
    first = auroc(labels[:80, 0], scores(1, 2.0)[:80, 0])
    second = auroc(labels[:80, 0], scores(3, 0.0)[:80, 0])
    assert first is not None and second is not None
    assert to_view["mean_auroc"]["value"] == pytest.approx(first - second, abs=1e-5)
    assert to_teacher["masks"][0]["dice"]["value"] == pytest.approx(0.95 - 0.96, abs=1e-5)


def test_a_model_against_itself_differs_by_nothing() -> None:
    twin = replace(student(), name="twin", role="teacher")
    found = card(student(), twin)
    difference = found["differences"][0]
    gaps = [difference["mean_auroc"], *[row["auroc"] for row in difference["findings"]]]
    gaps += [*[mask["dice"] for mask in difference["masks"]], *difference["reports"].values()]
    spans = [(gap["value"], gap["low"], gap["high"]) for gap in gaps]
    assert spans.count((0.0, None, None)) == 1  # the hernia of one patient
    assert set(spans) == {(0.0, 0.0, 0.0), (0.0, None, None)}
    for row in found["agreement"][0]["findings"]:
        assert row["correlation"] == pytest.approx(1.0)
        assert (row["kl_nats"], row["mean_probability_difference"]) == (0.0, 0.0)
        assert (row["decisions_equal"], row["decisions_kappa"]) == (1.0, 1.0)


def test_not_stated_changes_nothing() -> None:
    """Images whose labels are all nan leave every finding's figure as it was."""
    labels = np.asarray(references().labels).copy()
    labels[100:] = np.nan
    unstated = card(student(), labels=labels)["models"][0]
    cut = replace(student(), ids=references().ids[:100], logits=scores(1, 2.0)[:100], tiers=told()[:100], dices={},
                  distances={}, reports=None, boxes={})
    missing = card(cut)["models"][0]
    for one, other in zip(unstated["findings"], missing["findings"], strict=True):
        for name in ("n", "positives", "auroc", "average_precision", "sensitivity", "brier", "conformal"):
            assert one[name] == other[name]
    assert (missing["images"], unstated["images"]) == (100, 120)


def test_order_of_a_models_images_does_not_matter() -> None:
    order = np.random.default_rng(5).permutation(COUNT)
    given = student()
    moved = replace(
        given,
        ids=[given.ids[row] for row in order],
        logits=np.asarray(given.logits)[order],
        tiers=told()[order],
        dices={name: np.asarray(values)[order] for name, values in given.dices.items()},
        distances={},
        reports=[given.reports[row] for row in order] if given.reports else None,
        boxes={name: [boxes[row] for row in order] for name, boxes in given.boxes.items()},
    )
    assert canonical_json(card(moved)) == canonical_json(card(replace(given, distances={})))


def test_an_inverted_control_is_not_calibrated(full: dict[str, Any]) -> None:
    row = full["models"][2]["findings"][0]
    assert (row["brier"], row["ece"], row["sensitivity"], row["threshold"]) == (None, None, None, None)
    assert full["models"][2]["subgroups"] == []


def test_reports_stand_beside_what_knowing_nothing_earns(full: dict[str, Any]) -> None:
    """The student repeats the references, the teacher always says "clear": no effusion is ever named."""
    own, constant = full["models"][0]["reports"], full["models"][1]["reports"]
    assert (own["finding_f1_micro"]["value"], own["bleu_4"]["value"], own["rouge_l"]["value"]) == (1.0, 1.0, 1.0)
    assert (constant["finding_f1_micro"]["value"], constant["distinct_reports"], own["distinct_reports"]) == (0.0, 1, 2)
    names = [base["name"] for base in full["report_baselines"]]
    assert names == ["normal report", "nearest neighbour"]
    normal, near = (base["reports"] for base in full["report_baselines"])
    assert normal["finding_f1_micro"]["value"] == 0.0
    assert 0.3 < near["finding_f1_micro"]["value"] < 1.0  # look-alikes by good logits often share the finding
    extra = card(student(), baseline_reports={"constant": [CLEAR] * COUNT})
    assert [base["name"] for base in extra["report_baselines"]] == ["normal report", "constant", "nearest neighbour"]


def test_the_normal_report_denies_and_claims_nothing() -> None:
    from storyxai.modalities.chest_radiograph.labeler import label_report
    from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH

    read = label_report(CHEST_RADIOGRAPH.normal_report)
    assert 1.0 not in read.values()
    assert (read["Effusion"], read["Pneumothorax"], read["Cardiomegaly"]) == (0.0, 0.0, 0.0)


def test_boxes_count_searched_images_only(full: dict[str, Any]) -> None:
    found = full["models"][0]["detection"][0]
    assert (found["images"], found["boxes"]) == (90, 60)  # 60 with a box, 30 searched and empty, 30 never searched
    assert found["hit_rate"]["value"] == found["by_iou"][0]["average_precision"]["value"] == 1.0
    assert found["top_box_iou"]["value"] == 1.0
    # Sixty of sixty patients: an interval of zero width would claim certainty.
    assert found["hit_rate"]["low"] == pytest.approx(0.025 ** (1 / 60), rel=1e-5)


def test_subgroups_have_counts_and_are_compared_on_the_same_findings(full: dict[str, Any]) -> None:
    few = full["models"][0]["subgroups"][0]  # 16 effusions and 12 nodules among 48: too few for a mean
    assert (few["findings"], few["mean_auroc"]["value"]) == ([], None)
    found = build_scorecard([student()], references(), seed=1, count=100, min_positives=10).as_dict()
    rows = found["models"][0]["subgroups"]
    assert [(row["group"], row["images"]) for row in rows] == [("F", 48), ("M", 48)]  # the unknown are no group
    female, male = rows
    assert female["minus_others"]["value"] == pytest.approx(-male["minus_others"]["value"], abs=1e-5)
    assert female["findings"] == male["findings"] == ("Effusion", "Nodule")
    assert female["minus_others"]["value"] == pytest.approx(female["mean_auroc"]["value"] - male["mean_auroc"]["value"])


def test_a_subgroup_has_the_mean_over_every_finding_that_it_can_judge(full: dict[str, Any]) -> None:
    """Against scikit-learn on the group's own images; the two with a hernia are women, so men are judged on two findings."""
    labels, group = np.asarray(references().labels), np.asarray(references().subgroups["sex"])
    for row, names in zip(full["models"][0]["subgroups"], (FINDINGS, FINDINGS[:2]), strict=True):
        mean, aurocs = row["mean_auroc_all"], []
        for column in range(len(names)):
            here = (group == row["group"]) & np.isfinite(labels[:, column])
            aurocs.append(roc_auc_score(labels[here, column], scores(1, 2.0)[here, column]))
        assert mean["findings"] == list(names) and mean["images"] == 48
        assert mean["value"] == pytest.approx(np.mean(aurocs), abs=1e-5) and mean["low"] < mean["value"] < mean["high"]
    page = render_scorecard(full).decode("utf-8")
    groups = page[page.index("<h2>Subgroups") :]
    assert f"{mean['value']:.3f}<small>({mean['low']:.3f} to {mean['high']:.3f})</small><small>2 findings</small>" in groups
    older = json.loads(canonical_json(full))
    for model in older["models"]:
        for row in model["subgroups"]:
            del row["mean_auroc_all"]
    assert "<h2>Subgroups" in render_scorecard(older).decode("utf-8")


def test_masks_and_maps_are_summed_up(full: dict[str, Any]) -> None:
    mask = full["models"][0]["masks"][0]
    assert (mask["dice"]["value"], mask["distances"]["average_mm"]["value"]) == (pytest.approx(0.95), 1.5)
    assert (mask["distances"]["hausdorff_95_px"]["value"], mask["distances"]["hausdorff_95_px"]["images"]) == (4.0, 120)
    assert [entry["dice"] for entry in mask["quantiles"]][::3] == [pytest.approx(0.9), pytest.approx(0.95), 1.0]
    effusion = full["agreement"][0]["findings"][0]
    assert effusion["map_cosine"]["value"] == 0.25
    assert full["agreement"][0]["findings"][1]["map_cosine"] is None


def test_age_bands() -> None:
    assert age_bands([0, 17.9, 18, 59, 60, 79, 80, 101, np.nan]) == (
        "0-17", "0-17", "18-39", "40-59", "60-79", "60-79", "80+", "80+", "",
    )


@pytest.mark.parametrize(
    ("broken", "changes", "error", "says"),
    [
        (student(ids=["zz", *references().ids[1:]]), {}, TableError, "zz"),
        (student(ids=["i001", *references().ids[1:]]), {}, TableError, "twice"),
        (student(logits=np.zeros((3, 3))), {}, TableError, "logits"),
        (student(findings=("Effusion", "Nodule", "Dragon")), {}, UnknownNameError, "Dragon"),
        (student(reports=["one"]), {}, TableError, "reports"),
        (student(dices={"left_lung": [1.0]}), {}, TableError, "left_lung"),
        (student(), {"labels": np.zeros((2, 3))}, TableError, "labels"),
        (student(), {"subgroups": {"sex": ["F"]}}, TableError, "sex"),
        (student(), {"ids": ["same"] * COUNT}, TableError, "twice"),
    ],
)
def test_faults_of_the_tables_are_named(
    broken: TaskOutputs, changes: dict[str, Any], error: type[InputError], says: str
) -> None:
    with pytest.raises(error, match=says):
        card(broken, **changes)


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(TableError, match="one name"):
        card(student(), student())


class _Tags(HTMLParser):
    """Collects what a page would load, and checks that every tag is closed in turn."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.loads += [value or "" for name, value in attrs if name in {"src", "href"}]
        assert tag not in {"script", "link"} and not [name for name, _ in attrs if name.startswith("on") or name == "style"]
        if tag not in {"meta", "img", "br"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def test_page_is_closed_self_contained_and_the_same_each_time(full: dict[str, Any]) -> None:
    page = render_scorecard(full)
    assert render_scorecard(json.loads(canonical_json(full))) == page
    tags = _Tags()
    tags.feed(page.decode("utf-8"))
    assert tags.open == []
    assert len(tags.loads) == 5 and all(load.startswith("data:image/svg+xml;base64,") for load in tags.loads)
    text = " ".join(tags.text)
    assert text.count("Research use only") == 4, "at the top and bottom, on screen and on every printed page"
    assert "synthetic phantoms, not patients" in text
    assert not re.search(r"\bnan\b|None|\binf\b", text)
    for model in full["models"]:
        for row in model["findings"]:
            assert f"{row['auroc']['value']:.3f}" in text


def test_page_says_which_way_a_difference_goes() -> None:
    strong, weak = scores(4, 4.0), scores(5, 0.0)
    up = card(student(logits=strong), replace(teacher(), logits=weak))
    down = card(student(logits=weak), replace(teacher(), logits=strong))
    same = card(student(), replace(teacher(), logits=scores(1, 2.0)))
    for found, words in ((up, "student is above"), (down, "student is below"), (same, "cannot be told")):
        page = render_scorecard(found).decode("utf-8")
        assert words in page
        assert sum(other in page for other in ("is above", "is below", "cannot be told")) == 1


def test_page_escapes_what_others_wrote() -> None:
    evil = "<script>alert(1)</script>"
    found = card(
        student(name=evil, facts={evil: evil}), dataset=evil, facts={evil: evil},
        subgroups={evil: [evil] * 60 + ["b"] * 60}, baseline_reports={evil: [CLEAR] * COUNT},
    )
    assert b"<script" not in render_scorecard(found)


@pytest.mark.parametrize("only", ["lungs", "controls", "nothing"])
def test_page_of_a_model_with_few_heads(only: str) -> None:
    ids = references().ids
    outputs = {
        "lungs": TaskOutputs("lung teacher", "teacher", ids, dices={"left_lung": [np.nan] * COUNT}),
        "controls": TaskOutputs("view", "control", ids, ("Effusion",), np.zeros((COUNT, 1))),
        "nothing": TaskOutputs("silent", "student", ids),
    }[only]
    page = render_scorecard(card(outputs, reports=None)).decode("utf-8")
    assert outputs.name in page
    assert "nan" not in re.sub(r"base64,[^\"]*", "", page)


def test_page_of_another_format_is_refused() -> None:
    with pytest.raises(InputError, match="storyxai evaluate"):
        render_scorecard({"format": "storyxai-scorecard/0"})


@pytest.mark.parametrize(
    ("path", "lacking"),
    [
        (("models", 0, "findings", 0), "auroc"), (("models", 0, "masks", 0), "dice"), (("models", 0, "told"), "right_named"),
        (("differences", 0), "student"), (("agreement", 0, "findings", 0), "correlation"), (("dataset",), "facts"),
        (("settings",), "min_positives"), (("models", 0, "detection", 0), "free_response_iou_0.3"), (("models", 0), "reports"),
    ],
)
def test_a_scorecard_that_lacks_a_field_is_refused_and_the_field_is_named(
    full: dict[str, Any], path: tuple[str | int, ...], lacking: str
) -> None:
    found = copy.deepcopy(full)
    place: Any = found
    for step in path:
        place = place[step]
    place[lacking + "s"] = place.pop(lacking)
    for read in (render_scorecard, headline, glance_html):
        with pytest.raises(TableError, match=f"lacks or garbles a field .*`{lacking}`.*write it again with `evaluate`"):
            read(found)


def test_times_that_are_no_numbers_are_refused(full: dict[str, Any]) -> None:
    with pytest.raises(TableError, match=r"speed\.json.*measure again"):
        render_scorecard(full, speed={"models": [{"name": "student", "images_per_second": "fast"}]})


def test_agreement_has_intervals_ranks_and_features() -> None:
    rng = np.random.default_rng(0)
    features = rng.normal(size=(COUNT, 4))
    turned, _ = np.linalg.qr(rng.normal(size=(4, 4)))
    found = card(student(features=features), replace(teacher(), features=2.0 * features @ turned))["agreement"][0]
    assert found["feature_cka"]["value"] == pytest.approx(1.0)
    assert (found["feature_cka"]["images"], found["feature_cka"]["patients"]) == (COUNT, 60)
    row = found["findings"][0]
    ours, theirs = scores(1, 2.0)[:, 0], scores(2, 3.0)[:, 0]
    ranks = np.argsort(np.argsort(ours)), np.argsort(np.argsort(theirs))
    assert row["rank_correlation"] == pytest.approx(np.corrcoef(*ranks)[0, 1], rel=1e-5)
    for name in ("correlation", "rank_correlation", "mean_probability_difference", "kl_nats", "decisions_kappa"):
        low, high = row["intervals"][name]
        assert low < row[name] < high, name
    assert card(student(), teacher())["agreement"][0]["feature_cka"] is None


def test_where_is_compared_image_by_image() -> None:
    """The student hits all 60 boxes; the control draws far away in every second image that has one."""
    rows = range(COUNT)
    away = [[[90, 90, 5, 5, 0.5]] if row % 4 == 1 else ([[10, 10, 20, 20, 0.5]] if row % 2 else []) for row in rows]
    control = TaskOutputs("centre map", "control", references().ids, boxes={"Nodule": away})
    (difference,) = card(student(), control)["differences"]
    (where,) = difference["detection"]
    assert (where["finding"], where["images"], where["hit_rate"]["value"]) == ("Nodule", 60, 0.5)
    assert where["top_box_iou"]["value"] == pytest.approx(0.5)
    assert where["hit_rate"]["low"] < 0.5 < where["hit_rate"]["high"]


def test_conformal_coverage_has_an_interval_and_none_promised_is_none() -> None:
    promised = (ConformalLimits(0.5, 0.3, 0.9), None, ConformalLimits(1.0, 1.0, 0.9))
    effusion, nodule, hernia = card(student(conformal=promised))["models"][0]["findings"]
    sets = effusion["conformal"]
    assert sets["present_estimate"]["value"] == pytest.approx(sets["present_coverage"])
    assert sets["present_estimate"]["low"] < sets["present_coverage"] < sets["present_estimate"]["high"]
    assert nodule["conformal"] is None
    assert (hernia["conformal"]["both_share"], hernia["conformal"]["absent_coverage"]) == (1.0, 1.0)


def test_temperature_is_one_over_the_scale() -> None:
    found = card(student(calibration=[(0.5, 0.0), (2.0, 1.0), (0.0, 0.0)]), teacher())["models"]
    assert [row["temperature"] for row in found[0]["findings"]] == [2.0, 0.5, None]
    assert {row["temperature"] for row in found[1]["findings"]} == {None}


def test_headline_holds_the_main_figures_that_have_a_value(full: dict[str, Any]) -> None:
    said = headline(full)
    own, _, view = said["models"]
    names = ["mean AUROC of all 3 findings", "mean AUROC of 2 findings with 20 or more positives", "Dice of left lung",
             "hit rate, Nodule", "nothing named, of images without a finding", "a right finding named, of images with one",
             "findings named per image", "report finding F1"]
    assert list(own["figures"]) == names
    first = full["models"][0]
    for name, place in zip(names, (first["mean_auroc_all"], first["mean_auroc"], first["masks"][0]["dice"]), strict=False):
        assert own["figures"][name] == {key: place[key] for key in ("value", "low", "high")}
    # Where all findings have enough cases both means are one figure, and stand once.
    assert list(view["figures"]) == ["mean AUROC of the one finding"]
    assert (said["images"], said["patients"]) == (120, 60)


def test_what_readers_are_told_is_counted_by_finding_and_over_whole_images(full: dict[str, Any]) -> None:
    labels, tiers, own = np.asarray(references().labels), told(), full["models"][0]["told"]
    assert [row["finding"] for row in own["findings"]] == list(references().findings)
    likely = own["findings"][0]["tiers"][0]
    present, absent = (labels[:, 0] >= 0.5) & (tiers[:, 0] != ""), labels[:, 0] < 0.5
    assert likely["tier"] == "likely" and likely["with"]["images"] == present.sum()
    assert likely["with"]["value"] == pytest.approx((tiers[present, 0] == "likely").mean(), rel=1e-5)
    assert likely["without"]["value"] == pytest.approx((tiers[absent, 0] == "likely").mean(), rel=1e-5)
    assert likely["with"]["low"] < likely["with"]["value"] < likely["with"]["high"]
    normal = (labels < 0.5).all(axis=1)
    silent = ~np.isin(tiers, ["likely", "possible"]).any(axis=1)
    assert own["nothing_named"]["images"] == normal.sum()
    assert own["nothing_named"]["value"] == pytest.approx(silent[normal].mean(), rel=1e-5)
    assert full["models"][1]["told"] is None and full["models"][2]["told"] is None
    page = render_scorecard(full).decode("utf-8")
    assert "What readers are told" in page and "Nothing named, of images without a finding" in page
    older = {**full, "models": [{key: value for key, value in model.items() if key != "told"} for model in full["models"]]}
    assert "What readers are told" not in render_scorecard(older).decode("utf-8")  # a scorecard of before


def test_tiers_of_another_shape_are_refused() -> None:
    with pytest.raises(TableError, match=r"tiers of shape \(2, 3\)"):
        card(student(tiers=told()[:2]))


def test_an_unknown_measure_of_distance_is_named() -> None:
    with pytest.raises(UnknownNameError, match="average_cm"):
        card(student(distances={"left_lung": {"average_cm": np.ones(COUNT)}}))


def test_speed_stands_on_the_page_only_when_it_was_measured(full: dict[str, Any]) -> None:
    measured = {"name": "student", "images_per_second": 123.4, "slowest": 100.0, "fastest": 150.0, "batches": 5,
                "batch_size": 16}
    slow = {**measured, "name": "teacher", "images_per_second": 12.34, "student_times_faster": 10.0}
    page = render_scorecard(full, speed={"models": [measured, slow]}).decode("utf-8")
    assert "<h2>Speed</h2>" in page and "123.4" in page and "<td>10.0</td>" in page
    assert "<h2>Speed</h2>" not in render_scorecard(full).decode("utf-8")


def test_a_scorecard_shows_itself_in_a_notebook_at_a_glance(full: dict[str, Any], tmp_path: Path) -> None:
    said = build_scorecard([student()], references(), seed=1, count=20)
    assert said._repr_html_() == glance_html(said.as_dict())
    path = tmp_path / "scorecard.json"
    path.write_text(json.dumps(full))
    shown = Evaluated(path, {}, ())._repr_html_()
    assert shown == glance_html(full) and "mean AUROC over 3 findings" in shown and "<h2>Findings" not in shown


def test_one_patient_of_a_class_gives_a_figure_without_an_interval() -> None:
    """Both images with a hernia are of one patient: every resample that holds it gives the same, which is no certainty."""
    found = card(student(logits=scores(1, 50.0)), teacher())
    hernia, nodule = (row_of(found["models"][0], name) for name in ("Hernia", "Nodule"))
    for name in ("auroc", "average_precision"):
        assert (hernia[name]["value"], hernia[name]["low"], hernia[name]["high"]) == (1.0, None, None)
    assert 0.5 < nodule["auroc"]["low"] < nodule["auroc"]["high"] == 1.0  # ranked perfectly, by many patients
    gaps = {row["finding"]: row["auroc"] for row in found["differences"][0]["findings"]}
    assert gaps["Hernia"]["low"] is None and gaps["Nodule"]["low"] is not None
    one = {"Nodule": [[[10, 10, 20, 20]], *[[]] * (COUNT - 1)]}
    drawn = {"Nodule": [[[12, 10, 20, 20, 0.9]], *[[]] * (COUNT - 1)]}
    (where,) = card(student(boxes=drawn), boxes=one)["models"][0]["detection"]
    assert 0 < where["top_box_iou"]["value"] < 1
    figures = [where["top_box_iou"], where["free_response_iou_0.3"][0]["share_hit"], where["by_iou"][0]["average_precision"]]
    assert [figure["low"] for figure in figures] == [None] * 3
    assert where["hit_rate"]["low"] == pytest.approx(0.025)  # one of one, exactly


def test_page_says_in_whose_pixels_outlines_are_and_who_a_baseline_is(full: dict[str, Any]) -> None:
    assert "in pixels of the original image and" in render_scorecard(full).decode("utf-8")
    facts = {"outlines": "measured in pixels of each network's own view"}
    found = card(
        student(), facts=facts, baseline_reports={"constant": [CLEAR] * COUNT}, baselines_about={"constant": "the same for all"}
    )
    page = html.unescape(render_scorecard(found).decode("utf-8"))
    assert "in pixels of each network's own view and" in page and "original image" not in page
    assert "constant: the same for all" in page
    assert all(f"BLEU-{order}" in page for order in (1, 2, 3, 4))


def test_the_plot_leaves_out_findings_that_no_model_could_be_judged_on(monkeypatch: pytest.MonkeyPatch) -> None:
    from storyxai.scorecard import plots as evaluate_plots

    drawn: list[Any] = []
    monkeypatch.setattr(evaluate_plots, "chart_svg", lambda draw: drawn.append(draw()) or b"")
    labels = np.asarray(references().labels).copy()
    labels[:, 1] = 0.0
    found = read_scores(card(student(), labels=labels))
    evaluate_plots.forest(found.models, evaluate_plots.looks(found))
    rows = [label.get_text() for label in drawn[0].axes[0].get_yticklabels()]
    assert rows == ["Mean, all findings", "Mean, enough cases", "Effusion (40 / 120)", "Hernia (2 / 120)"]
    alone = read_scores(card(replace(
        student(), findings=("Effusion",), logits=scores(1, 2.0)[:, :1], calibration=[(1.0, 0.0)], thresholds=[0.5],
        conformal=(), tiers=None,
    )))
    evaluate_plots.forest(alone.models, evaluate_plots.looks(alone))
    assert [label.get_text() for label in drawn[1].axes[0].get_yticklabels()] == ["Mean", "Effusion (40 / 120)"]
