"""Pages: self-contained, the same bytes, the untouched image beside every map, withheld maps withheld."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from pathlib import Path

import pytest
from PIL import Image as Picture

from checks.renderer_checks import PageFacts, check_renderer
from evidence_example import example_evidence, normal_evidence
from storyxai.errors import CitationError, UnknownNameError
from storyxai.evidence.record import as_record, story_as_record
from storyxai.pages import tables
from storyxai.pages.json import render_json
from storyxai.pages.story import render_html
from storyxai.pages.tables import TABLES, format_value, table_html
from storyxai.story.citations import check_page
from storyxai.story.tell import AUDIENCES, tell
from storyxai.types import Evidence, Finding, Section

PAGES = {audience: render_html(tell(example_evidence(), audience), example_evidence()) for audience in AUDIENCES}


@pytest.mark.parametrize("audience", AUDIENCES)
@pytest.mark.parametrize("evidence", [example_evidence(), normal_evidence()], ids=["example", "normal"])
def test_renderer_keeps_to_the_rules(audience: str, evidence: Evidence) -> None:
    check_renderer(render_html, tell(evidence, audience), evidence)


def rows_of(page: bytes) -> list[str]:
    return re.findall(r'<div class="(?:row|single)[^"]*">.*?</div>\n', page.decode("utf-8"), re.DOTALL)


@pytest.mark.parametrize("audience", AUDIENCES)
def test_the_untouched_image_stands_first_and_of_one_size(audience: str) -> None:
    page = PAGES[audience].decode("utf-8")
    rows = re.findall(r'<div class="(?:row|single)[^"]*">\n(.*?)</figure>\n</div>', page, re.DOTALL)
    assert rows
    for row in rows:
        images = re.findall(r'<figure><img src="data:image/png;base64,([^"]+)" alt="([^"]+)"', row)
        assert images[0][1] == "Chest radiograph, untouched"
        sizes = {Picture.open(io.BytesIO(base64.b64decode(data))).size for data, _ in images}
        assert len(sizes) == 1
        assert not any("untouched" in alt for _, alt in images[1:])


@pytest.mark.parametrize("threshold", [0.01, 0.04, 0.1, 0.5, 0.93, 0.99])
def test_the_label_of_a_threshold_lies_within_the_picture(threshold: float) -> None:
    base = example_evidence()
    sure = {"probability": 0.996, "interval": (0.995, 0.998), "threshold": threshold}
    found = tuple(dataclasses.replace(f, **sure) for f in base.prediction.findings)
    evidence = dataclasses.replace(base, prediction=dataclasses.replace(base.prediction, findings=found))
    page = render_html(tell(evidence, "clinician"), evidence).decode("utf-8")
    labels = re.findall(r'<text x="([\d.]+)" y="11" text-anchor="(\w+)">([^<]+)</text>', page)
    assert labels
    for x, anchor, words in labels:
        width = 7 * len(words)  # letters of 12 units are narrower than 7 on average
        left = float(x) - {"start": 0, "middle": width / 2, "end": width}[anchor]
        assert left >= 0 and left + width <= 500 and words.endswith(f"{threshold:.2f}")


def test_withheld_maps_are_said_not_drawn() -> None:
    page = PAGES["clinician"].decode("utf-8")
    assert page.count('<div class="withheld"') == 1, "cardiomegaly has no map to stand beside"
    assert "Consolidation: LIME map withheld" in page
    alts = [image["alt"] for image in PageFacts(PAGES["clinician"]).images]
    drawn = [alt for alt in alts if alt and "map of" in alt]
    assert drawn == [
        "The same radiograph with the Grad-CAM map of Effusion over it",
        "The same radiograph with the LIME map of Effusion over it",
        "The same radiograph with the Grad-CAM map of Consolidation over it",
    ]


def test_a_box_is_drawn_and_named_only_where_its_grad_cam_map_is_shown() -> None:
    """The box rests on the grid of the Grad-CAM map: where that is withheld, LIME's picture does not show it either."""
    base = example_evidence()

    def lime_tile(*, cam_shown: bool) -> str:
        maps = tuple(
            dataclasses.replace(h, shown=cam_shown, withheld_because="" if cam_shown else "the map lies off the lungs")
            if (h.finding, h.method) == ("Effusion", "grad_cam") else h
            for h in base.heatmaps
        )  # fmt: skip
        changed = dataclasses.replace(base, heatmaps=maps)
        page = render_html(tell(changed, "practitioner"), changed).decode("utf-8")
        return next(tile for tile in re.findall(r"<figure><img.*?</figure>", page) if "Effusion: LIME" in tile)

    framed, plain = lime_tile(cam_shown=True), lime_tile(cam_shown=False)
    assert "white frame: " in framed and "white frame" not in plain and "light blue: lungs" in plain
    pictures = [re.findall(r'src="([^"]+)"', tile)[0] for tile in (framed, plain)]
    assert pictures[0] != pictures[1]


def test_scales_are_shared_by_method_and_carry_their_unit() -> None:
    page = PAGES["clinician"].decode("utf-8")
    ends = re.findall(r'<span class="scale"><span>([^<]+)</span><img[^>]+><span>([^<]+)</span>', page)
    assert ends == [("0.000", "0.800"), ("-0.706", "0.706"), ("0.000", "0.800")]
    assert page.count("logit per cell") >= 2 and "logit per superpixel" in page


def test_the_patients_page_is_held_back() -> None:
    assert b"Held back until a clinician has signed it off" in PAGES["patient"]
    assert not any(b"Held back" in PAGES[audience] for audience in AUDIENCES if audience != "patient")
    assert b"map of" not in PAGES["patient"]


@pytest.mark.parametrize("audience", AUDIENCES)
def test_every_note_leads_to_its_evidence(audience: str) -> None:
    page = PAGES[audience].decode("utf-8")
    sentences = re.findall(r'<span class="s">(.*?)</span><sup><a href="#e(\d+)"', page)
    assert len(sentences) == sum(len(s.sentences) for s in tell(example_evidence(), audience).sections)
    for _, note in sentences:
        assert f'id="e{note}"' in page


def test_text_from_outside_cannot_become_markup() -> None:
    nasty = '</script><script>alert(1)</script><img src=x onerror="alert(2)"><!--'
    base = example_evidence()
    evidence = dataclasses.replace(
        base,
        indication=nasty,
        image=dataclasses.replace(base.image, source=f"{nasty}.png", notes=(nasty,)),
        prediction=dataclasses.replace(base.prediction, study_id=nasty, report=(nasty,)),
        model={**base.model, "name": nasty, "limits": [nasty], "cannot_see": [nasty]},
    )
    for audience in AUDIENCES:
        page = render_html(tell(evidence, audience), evidence)
        facts = PageFacts(page)
        assert not facts.crossed
        assert all("onerror" not in image for image in facts.images)
        assert page.count(b"<script") == 1
        assert check_page(page, as_record(evidence)) == []


def test_unknown_parts_are_refused() -> None:
    story = tell(example_evidence(), "clinician")
    for figure in ("film", "table/none", "map/Mass/lime"):
        with pytest.raises(CitationError):
            render_html(dataclasses.replace(story, sections=(Section("h", (), (figure,)),)), example_evidence())
    with pytest.raises(UnknownNameError):
        render_html(dataclasses.replace(story, language="xx"), example_evidence())


def test_tables_print_values_at_their_paths() -> None:
    labels = {"yes": "yes", "no": "no", "entry": "entry", "entries": "entries"}
    values = (0.83, 1e-6, 8e-9, 0.000769763, 1234.0, 12.34, True, [1, 2], {"a": 1}, [{}], "x")
    assert [format_value(v, labels) for v in values] == [
        "0.830", "0.000001", "0.000", "0.0008", "1,234", "12.3", "yes", "1, 2", "1 entry", "1 entry", "x"
    ]  # fmt: skip
    page = PAGES["practitioner"].decode("utf-8")
    assert '<span data-path="model.per_finding.Effusion.auroc_interval">0.830 to 0.910</span>' in page
    assert '<span class="fail" data-path="checks.Consolidation.lime.inside_lungs.passed">no</span>' in page
    base = example_evidence()
    told = dataclasses.replace(base, provenance={**base.provenance, "told": ["Effusion", "Consolidation"],
                                                 "settings": {"most_told": 2}})  # fmt: skip
    pages = [*PAGES.values(), render_html(tell(told, "clinician"), told)]
    assert set(re.findall(r"table-(\w+)", "".join(p.decode() for p in pages))) >= set(TABLES)


def cells_of(table: str) -> list[list[str]]:
    """The printed cells of a table's rows."""
    rows = re.findall(r"<tr><th scope=\"row\">.*?</tr>", table)
    return [[re.sub(r"<.*?>", "", cell) for cell in re.findall(r"<t[hd].*?</t[hd]>", row)] for row in rows]


def test_numbers_that_tables_compare_never_print_alike() -> None:
    """ "0.062 / 0.062 no" and "absent" up to 0.062 at a threshold of 0.062 read as false."""
    base = example_evidence()
    labels = json.loads((Path(tables.__file__).parent / "templates" / "en.json").read_text(encoding="utf-8"))
    near = Finding("Mass", 0.03, (0.01, 0.19968), 0.2)
    findings = tuple(near if f.name == "Mass" else f for f in base.prediction.findings)
    checks = tuple(
        dataclasses.replace(c, value=0.60996) if c.name == "inside_lungs" and c.passed is False else c for c in base.checks
    )
    gate = tuple(dataclasses.replace(c, value=0.6002) if c.name == "gate.cropped" else c for c in base.gate)
    changed = dataclasses.replace(
        base, prediction=dataclasses.replace(base.prediction, findings=findings), checks=checks, gate=gate
    )
    record = as_record(changed)
    mass = next(row for row in cells_of(table_html("findings", record, labels)) if row[0] == "Mass")
    assert mass[1:5] == ["absent", "0.0300", "0.0100 to 0.1997", "0.2000"]
    hernia = next(row for row in cells_of(table_html("findings", record, labels)) if row[0] == "Hernia")
    assert hernia[2:5] == ["0.004", "0.001 to 0.010", "0.100"], "three digits where they say enough"
    assert ["0.60996", "0.61000"] in [row[3:5] for row in cells_of(table_html("failed", record, labels))]
    assert "0.60996 / 0.61000 no" in [cell for row in cells_of(table_html("checks", record, labels)) for cell in row]
    assert ["0.6002", "0.6000", "no"] in [row[1:4] for row in cells_of(table_html("gate", record, labels))]
    for audience in AUDIENCES:
        assert check_page(render_html(tell(changed, audience), changed), record) == []


def test_no_patients_are_counted_behind_synthetic_images() -> None:
    base = example_evidence()
    sets = [{**item, "n_patients": 800} for item in base.model["trained_on"]]
    labels = json.loads((Path(tables.__file__).parent / "templates" / "en.json").read_text(encoding="utf-8"))
    record = as_record(dataclasses.replace(base, model={**base.model, "trained_on": sets}))
    rows = {row[0]: row for row in cells_of(table_html("trained_on", record, labels))}
    assert rows["Example films"][2] == "800" and rows["Phantom"][2] == labels["unknown"]


def test_lines_do_not_break_where_they_should_not() -> None:
    """On a phone an interval ran over three lines, and the title ended its first line in "X-"."""
    assert b'<h1>Your chest <span class="nb">X-ray</span>, in plain words</h1>' in PAGES["patient"]
    assert b'on an <bdi class="nb">X-ray</bdi>.</span>' in PAGES["patient"]
    style = PAGES["practitioner"].decode("utf-8").split("</style>")[0]
    assert ".data.table-trained_on tbody th { white-space: normal;" in style, "long names pushed the other columns away"
    assert '.data [data-path$="interval"] { white-space: nowrap; }' in style


def test_the_patients_page_names_no_model_and_no_file_format_in_its_head() -> None:
    head = PAGES["patient"].decode("utf-8").split("</header>")[0]
    assert "example-student" not in head and "example-0001" in head
    assert b"Your X-ray as it is" in PAGES["patient"] and b"Untouched image" not in PAGES["patient"]


def test_the_json_story_holds_values_beside_sentences() -> None:
    story = tell(example_evidence(), "clinician")
    content = json.loads(render_json(story, example_evidence()))
    assert content["format"] == "storyxai-story/1"
    assert content["evidence"]["findings.Effusion.probability"] == 0.83
    assert content["sections"] == story_as_record(story)["sections"]
    assert render_json(story, example_evidence()) == render_json(story, example_evidence())
