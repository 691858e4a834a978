"""Whatever lies where a page should lie, the checker names what is wrong and never breaks."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1]))
from evidence_example import example_evidence
from storyxai.evidence.record import as_archived
from storyxai.html_tree import parse_html
from storyxai.pages.story import render_html
from storyxai.proof.checking import check_page
from storyxai.story.tell import tell
from storyxai.types import Evidence

LEAST = 300
"""A few bytes may fall on a mark that no reader sees; of so many some stand in a sentence, a note or a link."""


@pytest.fixture(scope="module")
def evidence() -> Evidence:
    return as_archived(example_evidence())


@pytest.fixture(scope="module")
def page(evidence: Evidence) -> bytes:
    return render_html(tell(evidence, "patient"), evidence)


@pytest.mark.parametrize("data", [
    b"", b"\x00\xff\xfe", b"<", b"<p", b"<html lang=xx><body class='story clinician'>", b"<html lang='../en'>", b"no page",
    b"<body>" + b"<div>" * 500, b"<html lang=en><body class='story nobody'><p><span class='s'></span></p>",
    b"<html lang=en><svg class='film-frame'><use href=''/><rect class='frame' x='a'/></svg>",
    b"<html lang=en><a class=chip></a><div class=gauge></div><tbody id=e1><tr></tr></tbody>",
    b"<html lang=en><image id=film href='data:image/png;base64,AAAA'/>",
])  # fmt: skip
def test_what_is_no_page_is_said_to_be_none(data: bytes, evidence: Evidence) -> None:
    assert check_page(data, evidence).problems


def test_pages_cut_doubled_and_shuffled_are_found(page: bytes, evidence: Evidence) -> None:
    draw = random.Random(7)
    begin, end = page.index(b"<main"), page.index(b"</main>")
    for _ in range(40):
        a, b = sorted(draw.sample(range(begin, end), 2))
        kind = draw.randrange(3)
        middle = (b"", page[a:b] * 2, bytes(draw.sample(list(page[a:b]), min(b - a, 40))))[kind]
        spoilt = page[:a] + middle + page[b:]
        problems = check_page(spoilt, evidence).problems
        assert problems or b - a < LEAST, (kind, page[a:b])


def test_elements_that_never_end_do_not_swallow_the_page() -> None:
    root = parse_html(b"<body><p>one<br>two<p>three</section></p><img src=x>four")
    assert root.text() == "one twothreefour"
    assert [one.tag for one in root.elements] == ["", "body", "p", "br", "p", "img"]


def test_each_element_knows_those_in_it_and_a_deep_page_is_no_burden() -> None:
    tree = parse_html(b"<body><div><p>a<b>b</b></p><p>c</p></div><i>d</i>")
    found = {one.tag: [inner.tag for inner in one.elements] for one in reversed(tree.elements)}
    assert found["div"] == ["div", "p", "b", "p"] and found["i"] == ["i"] and found["body"][-1] == "i"
    deep = parse_html(b"<body>" + b"<div>" * 20_000 + b"end")
    assert len(deep.elements) == 20_002 and deep.text() == "end"
