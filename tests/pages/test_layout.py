"""Documents from templates: every shape of block, each value escaped, nothing from outside, the same bytes."""

from __future__ import annotations

from pathlib import Path

import jinja2
import pytest
from browser import axe_source, seen_in_browser
from PIL import Image as Picture
from test_browser import FAULTS, WIDTHS

from checks.renderer_checks import PageFacts, check_policy
from evidence_example import example_evidence, normal_evidence
from storyxai.errors import UnknownNameError
from storyxai.pages import views
from storyxai.pages.layout import _environment, data_uri, labels_of, render_document, render_fragment
from storyxai.pages.notebook import evidence_html, story_html
from storyxai.story.tell import tell
from storyxai.types import RESEARCH_USE

NASTY = "<script>alert('1')</script> & \"2\""


def dot() -> str:
    import io

    stream = io.BytesIO()
    Picture.new("L", (4, 4)).save(stream, "PNG")
    return data_uri(stream.getvalue())


def every_shape(text: str) -> views.Document:
    """A document with each kind of block, saying `text` wherever text may stand."""
    part = views.Part
    line = views.Row(views.cell(text), (
        views.Cell((part(text, "a.b", "fail"), part(text, "c"), part(text, kind="code"), part("", kind="bar", share=0.5))),
        views.cell(text, text, kind="better"),
    ), "aside")  # fmt: skip
    table = views.Table((text, "", "n"), (line, line), text)
    blocks = (
        views.Text(text, "note", text), views.Listing((text, text)), views.Plot(dot(), text, text), table,
        views.Tables((table, views.Table((text, "n", "m"), (line,), kind="matrix"))),
        views.Pictures((views.Picture(dot(), text, text, text), views.Picture("", text, text)), ((text, "lung"),)),
        views.Fold(text, (views.Fold(text, (table,)), views.Text(text))),
    )  # fmt: skip
    return views.Document(text, text, (text,), (views.Chapter(text, blocks), views.Chapter(text, blocks[:1], level=3)))


def test_every_value_is_escaped_and_every_tag_closed() -> None:
    page = render_document(every_shape(NASTY))
    facts = PageFacts(page)
    assert page == render_document(every_shape(NASTY))
    assert not facts.crossed and not facts.open and b"<script" not in page and page.count(RESEARCH_USE.encode()) == 4
    assert all(link.startswith("data:image/png;base64,") for link in facts.links)
    check_policy(page.decode("utf-8"))
    assert b' data-path="a.b"' in page and b'<td class="better">' in page and b'width="50.0"' in page
    assert "<script" not in render_fragment("fragment.html", every_shape(NASTY))


def test_the_environment_is_frozen() -> None:
    environment = _environment()
    assert environment.autoescape is True and not environment.extensions and not environment.globals
    with pytest.raises(jinja2.UndefinedError):
        environment.from_string("{{ view.nothing }}").render(view=every_shape("x"))
    with pytest.raises(jinja2.exceptions.SecurityError):
        environment.from_string("{{ view.append(1) }}").render(view=[])
    with pytest.raises(UnknownNameError):
        labels_of("xx")


def test_a_document_has_no_fault_that_axe_finds_and_is_no_wider_than_its_screen(tmp_path: Path) -> None:
    page = render_document(every_shape("some words"))
    assert set(seen_in_browser(page, WIDTHS, tmp_path).values()) == {0}
    axe = axe_source().replace("</", "<\\/")
    page = page.replace(b"</body>", f"<script>{axe}</script></body>".encode())
    # That one text stands everywhere makes two regions and figures of one name; real pages name theirs apart.
    assert [fault for fault in seen_in_browser(page, FAULTS, tmp_path) if fault[2] != "image-redundant-alt"] == []


def test_evidence_and_stories_show_themselves_in_a_notebook() -> None:
    shown = evidence_html(example_evidence())
    assert example_evidence()._repr_html_() == shown
    assert shown.count("<img") == 3 and shown.count("too much of the map lies away") == 2
    assert "<th scope=\"row\">Effusion</th>" in shown and "0.830" in shown and RESEARCH_USE in shown
    bare = evidence_html(normal_evidence())
    assert "<img" not in bare and "<details" not in bare and "Effusion" in bare
    story = tell(example_evidence(), "clinician")
    told = story_html(story)
    assert story._repr_html_() == told
    assert told.count("<details") == len([section for section in story.sections if section.sentences]) - 1
    assert all(section.sentences[0].text.split("&")[0][:20] in told for section in story.sections if section.sentences)
