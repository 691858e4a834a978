"""Pages: self-contained, the same bytes, the untouched image beside every map, withheld maps withheld."""

from __future__ import annotations

import base64
import dataclasses
import io
import re
from functools import partial

import numpy as np
import pytest
from PIL import Image as Picture

from checks.renderer_checks import PageFacts, check_renderer
from evidence_example import example_evidence, gate_check, normal_evidence
from storyxai.errors import CitationError, UnknownNameError
from storyxai.evidence.record import as_record
from storyxai.evidence.story_record import story_as_record
from storyxai.pages.layout import labels_of
from storyxai.pages.story import render_html
from storyxai.pages.tables import TABLES, PrintedRecord, format_value, table_of
from storyxai.pages.views import Table
from storyxai.story.citations import check_page, story_of_page
from storyxai.story.tell import AUDIENCES, tell
from storyxai.types import Evidence, Finding, Release, Section

RELEASE = Release("Dr. Example", "2026-11-29T12:00:00Z", with_picture=True)
render_released = partial(render_html, release=RELEASE)
PAGES = {audience: render_released(tell(example_evidence(), audience), example_evidence()) for audience in AUDIENCES}


@pytest.mark.parametrize("audience", AUDIENCES)
@pytest.mark.parametrize("evidence", [example_evidence(), normal_evidence()], ids=["example", "normal"])
def test_renderer_keeps_to_the_rules(audience: str, evidence: Evidence) -> None:
    check_renderer(render_released, tell(evidence, audience), evidence)


def drawn_rows(page: str) -> list[str]:
    """What stands in each row of pictures."""
    return re.findall(r'<div class="row of\d">\n(.*?)\n</div>', page, re.DOTALL)


@pytest.mark.parametrize("audience", AUDIENCES)
def test_the_untouched_image_stands_first_and_once_on_the_page(audience: str) -> None:
    page = PAGES[audience].decode("utf-8")
    rows = drawn_rows(page)
    assert rows
    for row in rows:
        first, *others = re.findall(r'<svg [^>]*viewBox="([^"]+)" role="img" aria-label="([^"]+)">(.*?)</svg>', row)
        film = '<use class="film" href="#film"/>'
        assert first == ("0 0 200 240", "Chest radiograph, untouched", film), "nothing lies over it"
        for size, alt, layers in others:
            assert size == first[0] and "untouched" not in alt
            assert layers.startswith(film) and layers != film
    (packed,) = re.findall(r'<image id="film" width="200" height="240" [^>]*href="data:image/png;base64,([^"]+)"', page)
    picture = np.asarray(Picture.open(io.BytesIO(base64.b64decode(packed))))
    grey = np.rint(example_evidence().image.pixels * 255).astype(np.uint8)
    twice = Picture.fromarray(grey).resize((400, 480), Picture.Resampling.BICUBIC)
    assert np.array_equal(picture, np.asarray(twice)), "lossless, only scaled"


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
        width = 6 * len(words)  # letters of 12 units are narrower than 6 on average
        left = float(x) - {"start": 0, "middle": width / 2, "end": width}[anchor]
        assert left >= -14 and left + width <= 334 and words.endswith(f"{threshold:.2f}")


def test_withheld_maps_are_said_not_drawn() -> None:
    page = PAGES["clinician"].decode("utf-8")
    folded = page[page.index('<div class="folds">') :]
    assert folded.count('<div class="withheld"') == 1, "cardiomegaly has no map to stand beside"
    assert "Consolidation: LIME map withheld" in folded
    layers = dict(re.findall(r'<image id="([mo]\d+)" [^>]+ href="([^"]+)"', page))
    assert sum(name.startswith("m") for name in layers) == 3, "only the maps that passed stand on the page"
    drawn = [drawing["aria-label"] for drawing in PageFacts(folded.encode()).drawings]
    assert [alt for alt in drawn if alt and "map of" in alt] == [
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
        return next(tile for tile in re.findall(r"<figure><svg.*?</figure>", page, re.DOTALL) if "Effusion: LIME" in tile)

    framed, plain = lime_tile(cam_shown=True), lime_tile(cam_shown=False)
    assert "white frame: " in framed and "white frame" not in plain and "light blue: lungs" in plain
    place = '<rect class="frame" x="22.0" y="150.0" width="62.0" height="58.0"/>'
    assert place in framed and "<rect" not in plain, "in the image's own pixels, where it was measured"


def test_scales_are_shared_by_method_and_carry_their_unit() -> None:
    page = PAGES["clinician"].decode("utf-8")
    ends = re.findall(r'<span class="scale"><span>([^<]+)</span><img[^>]+><span>([^<]+)</span>', page)
    once = [("0.000", "0.800"), ("-0.706", "0.706"), ("0.000", "0.800")]
    assert ends == once + once, "in the reading room and in the findings' own parts"
    assert page.count("logit per cell") >= 2 and "logit per superpixel" in page


def test_the_clinicians_page_is_a_reading_room() -> None:
    page = PAGES["clinician"].decode("utf-8")
    room = page[page.index('<div class="room">') : page.index('<div class="folds">')]
    assert re.findall(r'<a class="chip (\w+)" href="#(s\d+)" data-focus="(\d)"( aria-current="true")?><b>(\w+)</b>', room) == [
        ("likely", "s1", "1", ' aria-current="true"', "Effusion"), ("likely", "s2", "2", "", "Consolidation"),
        ("cannot_tell", "s3", "3", "", "Cardiomegaly"),
    ]  # fmt: skip
    assert '<span data-path="findings.Effusion.probability">0.83</span>' in room
    shown = [pane for pane in re.findall(r'<figure class="pane[^>]*>', room) if "hidden" not in pane]
    assert len(shown) == 2, "the untouched image, and one map beside it"
    assert "Cardiomegaly: no map is shown" in room
    sections = tell(example_evidence(), "clinician").sections
    assert page.count('<details class="fold" id="s') == len(sections) - 1 and 'class="fold" open' not in page


def test_a_story_without_its_evidence_is_told_in_words_alone() -> None:
    story = tell(example_evidence(), "clinician")
    page = render_html(story)
    facts = PageFacts(page)
    assert page == render_html(story) and not facts.drawings and not facts.images and not facts.crossed
    assert story_as_record(story_of_page(page)) == story_as_record(story)
    assert b"Told without its evidence" in page and b"findings.Effusion.probability" in page


def test_no_page_is_larger_than_a_megabyte_and_a_half() -> None:
    """Noise is what packs worst: the image is drawn smaller until it fits."""
    base = example_evidence()
    noise = np.random.default_rng(0).random((1500, 1250), dtype=np.float32)
    grown = {name: np.kron(mask, np.ones((6, 6), dtype=np.bool_))[:1500, :1250] for name, mask in base.prediction.masks.items()}
    evidence = dataclasses.replace(
        base, image=dataclasses.replace(base.image, pixels=noise), prediction=dataclasses.replace(base.prediction, masks=grown),
        heatmaps=tuple(dataclasses.replace(h, values=noise if h.shown else h.values) for h in base.heatmaps),
    )
    for audience in AUDIENCES:
        assert len(render_html(tell(evidence, audience), evidence)) <= 1_500_000


def test_the_patients_page_is_held_back() -> None:
    held = render_html(tell(example_evidence(), "patient"), example_evidence())
    assert b"Not yet for reading" in held and b"Not yet for reading" not in PAGES["patient"]
    assert not any(b"Not yet for reading" in PAGES[audience] for audience in AUDIENCES if audience != "patient")
    assert b"map of" not in PAGES["patient"]


@pytest.mark.parametrize("audience", AUDIENCES)
def test_every_note_leads_to_its_evidence(audience: str) -> None:
    page = PAGES[audience].decode("utf-8")
    sentences = re.findall(r'<span class="s">(.*?)</span><sup><a href="#e(\d+)"', page, re.DOTALL)
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
        model=dataclasses.replace(base.model, name=nasty, limits=(nasty,), cannot_see=(nasty,)),
    )
    for audience in AUDIENCES:
        page = render_html(tell(evidence, audience), evidence)
        facts = PageFacts(page)
        assert not facts.crossed
        assert all("onerror" not in image for image in facts.images)
        held = audience == "auditor"
        assert page.count(b"<script") == 2 + held, "the story, the page's own code, and the auditor's evidence"
        assert check_page(page, as_record(evidence)) == []


def test_unknown_parts_are_refused() -> None:
    story = tell(example_evidence(), "clinician")
    for figure in ("film", "table/none", "map/Mass/lime"):
        with pytest.raises(CitationError):
            render_html(dataclasses.replace(story, sections=(Section("h", (), (figure,)),)), example_evidence())
    with pytest.raises(UnknownNameError):
        render_html(dataclasses.replace(story, language="xx"), example_evidence())


def test_tables_print_values_at_their_paths() -> None:
    labels = labels_of("en")
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
    pages = [*PAGES.values(), *(render_html(tell(told, "clinician", language), told) for language in ("en", "de"))]
    assert set(re.findall(r"table-(\w+)", "".join(p.decode() for p in pages))) >= set(TABLES)


def cells_of(table: Table | None) -> list[list[str]]:
    """The printed cells of a table's rows."""
    assert table is not None
    return [["".join(part.text for part in cell.parts) for cell in (row.head, *row.cells)] for row in table.rows]


def test_numbers_that_tables_compare_never_print_alike() -> None:
    """ "0.062 / 0.062 no" and "unlikely" up to 0.062 at a threshold of 0.062 read as false."""
    base = example_evidence()
    labels = labels_of("en")
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
    mass = next(row for row in cells_of(table_of("findings", PrintedRecord(record, labels))) if row[0] == "Mass")
    assert mass[1:5] == ["unlikely", "0.0300", "0.0100 to 0.1997", "0.2000"]
    hernia = next(row for row in cells_of(table_of("findings", PrintedRecord(record, labels))) if row[0] == "Hernia")
    assert hernia[2:5] == ["0.004", "0.001 to 0.010", "0.100"], "three digits where they say enough"
    assert ["0.60996", "0.61000"] in [row[3:5] for row in cells_of(table_of("failed", PrintedRecord(record, labels)))]
    checks_told = cells_of(table_of("checks", PrintedRecord(record, labels)))
    assert "0.60996 / 0.61000 no" in [cell for row in checks_told for cell in row]
    assert ["0.6002", "0.6000", "no"] in [row[1:4] for row in cells_of(table_of("gate", PrintedRecord(record, labels)))]
    for audience in AUDIENCES:
        assert check_page(render_html(tell(changed, audience), changed), record) == []


def test_no_patients_are_counted_behind_synthetic_images() -> None:
    base = example_evidence()
    sets = tuple(dataclasses.replace(item, n_patients=800) for item in base.model.trained_on)
    labels = labels_of("en")
    record = as_record(dataclasses.replace(base, model=dataclasses.replace(base.model, trained_on=sets)))
    rows = {row[0]: row for row in cells_of(table_of("trained_on", PrintedRecord(record, labels)))}
    assert rows["Example films"][2] == "800" and rows["Phantom"][2] == labels.unknown


def test_lines_do_not_break_where_they_should_not() -> None:
    """On a phone an interval ran over three lines, and the title ended its first line in "X-"."""
    assert b'<h1>Your chest <span class="nb">X-ray,</span> in plain words</h1>' in PAGES["patient"]
    assert b'on one <bdi class="nb">X-ray</bdi> of your chest.' in PAGES["patient"]
    style = PAGES["practitioner"].decode("utf-8").split("</style>")[0]
    assert '[data-path$="interval"], .table-checks td { white-space: nowrap; }' in style


def test_the_patients_page_has_no_picture_until_it_is_released_with_one() -> None:
    story, evidence = tell(example_evidence(), "patient"), example_evidence()
    for release in (None, Release("Dr. Example", "2026-11-29T12:00:00Z")):
        page = render_html(story, evidence, release=release).decode("utf-8")
        assert not drawn_rows(page) and "<svg" not in page and "data:image" not in page
    assert "data:image" in PAGES["patient"].decode("utf-8")


def test_the_patients_page_names_no_model_and_no_file_format_in_its_head() -> None:
    head = PAGES["patient"].decode("utf-8").split("</header>")[0]
    assert "example-student" not in head and "example-0001" in head
    assert b"Your X-ray as it is" in PAGES["patient"] and b"Untouched image" not in PAGES["patient"]


def test_where_nothing_is_to_be_relied_on_the_image_stands_alone() -> None:
    """A lateral view that was forced past the gate had a map beside it, as large as if it were good, and its number."""
    sure = example_evidence()
    far = gate_check("gate.distance", 9.0, 1.0, failed="gate_warned")
    gate = (*(check for check in sure.gate if check.name != far.name), far)
    for evidence, panes in ((sure, 6), (dataclasses.replace(sure, gate=gate), 1)):
        page = render_html(tell(evidence, "clinician"), evidence).decode()
        room = page[page.index('<div class="room">') : page.index('<div class="folds">')]
        assert (room.count('<figure class="pane'), 'class="chip' in room, "layer-m" in room) == (panes, panes > 1, panes > 1)
    assert "layer-m" in page, "the maps stand in the part of their finding"
