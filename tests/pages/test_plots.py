"""A model's figures as drawings: each mark lies where its value says, and a figure that is not known is not drawn."""

from __future__ import annotations

import html
import re
from dataclasses import replace

import pytest

from evidence_example import example_evidence, normal_evidence
from storyxai.errors import CitationError
from storyxai.evidence.record import as_record
from storyxai.model_facts import FindingCurves
from storyxai.pages.layout import labels_of
from storyxai.pages.plots import AXIS_PX, LABEL_PX, PANEL_PX, PLOTS, SIDE_PX, Forest, Panels, Plane, plot_of
from storyxai.pages.story import render_html
from storyxai.pages.tables import PrintedRecord
from storyxai.proof.checking import check_page
from storyxai.story.tell import tell
from storyxai.types import Evidence

RECORD, LABELS = as_record(example_evidence()), labels_of("en")


def test_a_value_lies_between_its_ticks_in_proportion() -> None:
    forest = plot_of("auroc", PrintedRecord(RECORD, LABELS))
    assert isinstance(forest, Forest)
    for mark in forest.marks:
        item = RECORD["model"]["per_finding"][mark.label.replace(" ", "_")]
        low, high = item["auroc_interval"]
        for at, value in ((mark.x, item["auroc"]), (mark.low, low), (mark.high, high)):
            assert at == pytest.approx(LABEL_PX + AXIS_PX * (value - 0.4) / 0.6, abs=0.051)
        assert mark.strong == (mark.label.replace(" ", "_") in RECORD["named"])
    assert [mark.y for mark in forest.marks] == sorted(mark.y for mark in forest.marks)
    assert [mark.x for mark in forest.marks] == sorted((mark.x for mark in forest.marks), reverse=True), "best first"
    assert forest.reference == pytest.approx(LABEL_PX + AXIS_PX / 6, abs=0.051)


def test_an_operating_point_lies_at_its_sensitivity_and_specificity() -> None:
    plane = plot_of("operating", PrintedRecord(RECORD, LABELS))
    assert isinstance(plane, Plane) and len(plane.marks) == 3, "of the fourth nothing was measured"
    for mark in plane.marks:
        item = RECORD["model"]["per_finding"][mark.label.replace(" ", "_")]
        assert mark.x == pytest.approx(SIDE_PX * (1 - item["specificity"]), abs=0.051)
        assert mark.y == pytest.approx(SIDE_PX * (1 - item["sensitivity"]), abs=0.051)


def test_what_is_not_measured_is_not_drawn() -> None:
    bare = as_record(normal_evidence())
    assert [plot_of(name, PrintedRecord(bare, LABELS)) for name in PLOTS] == [None] * len(PLOTS)
    assert plot_of("roc", PrintedRecord(RECORD, LABELS)) is None, "a card of before has no points"
    with pytest.raises(CitationError, match="plot 'lift' is not known"):
        plot_of("lift", PrintedRecord(RECORD, LABELS))


def test_the_practitioner_reads_what_a_reviewer_asks_in_that_order() -> None:
    story = tell(example_evidence(), "practitioner")
    asked = [section.heading for section in story.sections if section.heading.endswith("?")]
    assert asked == [
        "Is it right on data like this?", "Is it calibrated?", "Are its maps faithful?", "Is it fair?",
        "How does the student differ from its teacher?", "How do I make this again?",
    ]  # fmt: skip
    page = render_html(story, example_evidence()).decode()
    assert page.count('<figure class="chart">') >= 3


def test_the_code_to_copy_names_the_very_image_and_settings() -> None:
    page = render_html(tell(example_evidence(), "practitioner"), example_evidence()).decode()
    assert "methods" not in RECORD["provenance"], "the example was drawn, not gathered"
    assert '<pre class="code"' not in page
    record = example_evidence()
    told = type(record)(**{**vars(record), "provenance": {**record.provenance, "methods": {"grad_cam": {}, "lime": {}}}})
    blocks = re.findall(r"<pre class=.code.*?</pre>", render_html(tell(told, "practitioner"), told).decode(), re.S)
    shell, python = ([html.unescape(line) for line in re.findall("<code>(.*?)</code>", block)] for block in blocks)
    assert shell == ["storyxai tell 'example.png' --out again --method 'grad_cam, lime' --samples 1000 --seed 0"]
    assert "settings = sx.GatherSettings(samples=1000, seed=0)" in python
    compile("\n".join(python), "again.py", "exec")
    image = type(record.image)(**{**vars(record.image), "source": "x'; rm -rf ~; '.png"})
    nasty = type(record)(**{**vars(told), "image": image})
    assert '<pre class="code"' not in render_html(tell(nasty, "practitioner"), nasty).decode()


def with_curves() -> Evidence:
    """The example, with points of the curves of two findings, of which the story names one first."""
    points = ((0.0, 0.0), (0.1, 0.8), (1.0, 1.0))
    curves = {
        "Mass": FindingCurves(points, ((0.01, 0.0, 100), (0.03, 0.04, 100))),
        "Effusion": FindingCurves(points, ((0.1, 0.2, 50), (0.7, 0.6, 50))),
    }
    example = example_evidence()
    return replace(example, model=replace(example.model, curves=curves))


def test_a_curve_goes_through_its_points_and_the_dot_stands_at_the_threshold() -> None:
    record = as_record(with_curves())
    panels = plot_of("roc", PrintedRecord(record, LABELS))
    assert isinstance(panels, Panels) and [panel.strong for panel in panels.panels] == [True, False]
    effusion, item = panels.panels[0], record["model"]["per_finding"]["Effusion"]
    places = [float(at) for point in effusion.line.split() for at in point.split(",")]
    assert places == pytest.approx([0, PANEL_PX, 0.1 * PANEL_PX, 0.2 * PANEL_PX, PANEL_PX, 0], abs=0.051)
    assert effusion.marks[0].x == pytest.approx(PANEL_PX * (1 - item["specificity"]), abs=0.051)
    assert effusion.marks[0].y == pytest.approx(PANEL_PX * (1 - item["sensitivity"]), abs=0.051)
    assert f"AUROC {item['auroc']:.3f}; at the threshold sensitivity {item['sensitivity']:.3f}" in effusion.alt


def test_a_group_of_images_lies_where_it_was_said_and_seen_within_its_chance() -> None:
    panels = plot_of("reliability", PrintedRecord(as_record(with_curves()), LABELS))
    assert isinstance(panels, Panels)
    first, second = panels.panels[0].marks
    assert (first.x, first.y) == pytest.approx((0.1 * PANEL_PX, 0.8 * PANEL_PX), abs=0.051)
    assert first.low > first.y > first.high and second.y == pytest.approx(0.4 * PANEL_PX, abs=0.051)
    mass = panels.panels[1]
    assert mass.end == "0.05" and mass.marks[0].y == PANEL_PX, "a small scale of its own"
    assert mass.alt.endswith("0.010 said, 0.000 seen of 100; 0.030 said, 0.040 seen of 100")
    # Wilson's interval of 0 of 100 ends at z² / (n + z²).
    assert mass.marks[0].high == pytest.approx(PANEL_PX * (1 - 1.96**2 / (100 + 1.96**2) / 0.05), abs=0.051)


@pytest.mark.parametrize("language", ["en", "de"])
def test_the_page_with_curves_is_read_back_clean(language: str) -> None:
    evidence = with_curves()
    page = render_html(tell(evidence, "practitioner", language=language), evidence)
    assert page.count(b'<figure class="panel') == 4 and b'class="panel strong"' in page
    assert check_page(page, evidence).problems == ()
