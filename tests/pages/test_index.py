"""The index of many studies: what it says of each, its order, what it leaves out, and how it works in a browser."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from browser import axe_source, seen_in_browser
from test_browser import FAULTS, WIDTHS

from checks.renderer_checks import PageFacts
from evidence_example import FINDINGS, example_evidence, normal_evidence
from storyxai.errors import InputError, OutputError
from storyxai.evidence.archive import read_archive, write_archive
from storyxai.html_tree import parse_html
from storyxai.pages.index import LinkedPage, Listed, render_index
from storyxai.pages.story import render_html
from storyxai.programs.index import index
from storyxai.programs.tell import _index
from storyxai.story.tell import tell
from storyxai.types import Evidence


def told(evidence: Evidence, folder: Path) -> Path:
    write_archive(evidence, folder)
    (folder / "clinician.html").write_bytes(render_html(tell(read_archive(folder), "clinician"), read_archive(folder)))
    return folder


@pytest.fixture
def stories(tmp_path: Path) -> Path:
    told(normal_evidence(), tmp_path / "stories" / "study a")
    told(example_evidence(), tmp_path / "stories" / "study-b")
    return tmp_path / "stories"


def test_the_index_lists_what_the_records_name_worst_first(stories: Path) -> None:
    done = index([stories])
    page = (stories / "index.html").read_text(encoding="utf-8")
    assert done.studies == 2 and done.unread == ()
    lines = re.findall(r"<li .*</li>", page)
    assert [re.findall(r'href="([^"]+)"', line)[0] for line in lines] == ["study-b/clinician.html", "study%20a/clinician.html"]
    said = re.findall(r'class="state (\w+)">([^<]+) <small>([^<]+)<', lines[0])
    tiers = {f.name: f.tier for f in example_evidence().prediction.findings}
    words = {"likely": "likely", "possible": "possible", "cannot_tell": "cannot tell"}
    assert said == [(tiers[name], name, f"{FINDINGS[name][0]:.2f} {words[tiers[name]]}")
                    for name in ("Effusion", "Consolidation", "Cardiomegaly")]
    assert "maps withheld: 2" in lines[0] and "nothing named" in lines[1]
    tiers = re.findall(r'data-t="([^"]+)"', lines[0])[0]
    assert len(tiers) == len(FINDINGS) and tiers[sorted(FINDINGS).index("Effusion")] == "l"
    assert not PageFacts(page.encode()).crossed
    # Who sees such a page first reads what opens what, and what the frames mean.
    assert "A file&#39;s name opens its first story" in page and "Filled: likely; dashed: possible, or left open." in page


def test_pictures_lie_beside_the_page_and_are_drawn_once(stories: Path, tmp_path: Path) -> None:
    index([stories], tmp_path / "elsewhere" / "list.html")
    pictures = list((tmp_path / "elsewhere" / "list-thumbs").iterdir())
    page = (tmp_path / "elsewhere" / "list.html").read_text(encoding="utf-8")
    assert len(pictures) == 1, "both studies are of one image"
    assert f'src="list-thumbs/{pictures[0].name}"' in page and 'href="../stories/study-b/clinician.html"' in page
    before = pictures[0].stat().st_mtime_ns
    index([stories], tmp_path / "elsewhere" / "list.html")
    assert pictures[0].stat().st_mtime_ns == before
    assert (tmp_path / "elsewhere" / "list.html").read_text(encoding="utf-8") == page, "the same studies, the same bytes"


def test_a_study_that_cannot_be_read_is_named_and_left_out(stories: Path) -> None:
    (stories / "study-b" / "evidence.json").write_text('{"format": "storyxai-evidence/2"}', encoding="utf-8")
    done = index([stories])
    assert done.studies == 1 and "lacks or garbles a field" in done.unread[0] and "study-b" in done.unread[0]
    assert "Not listed:" in (stories / "index.html").read_text(encoding="utf-8")


def test_what_cannot_be_listed_is_one_sentence(stories: Path, tmp_path: Path) -> None:
    (stories / "index.html").write_text("my own", encoding="utf-8")
    with pytest.raises(OutputError, match="no index of ours"):
        index([stories])
    assert (stories / "index.html").read_text(encoding="utf-8") == "my own"
    with pytest.raises(InputError, match="is no folder"):
        index([tmp_path / "nothing"])
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no study"):
        index([tmp_path / "empty"])
    assert not (tmp_path / "empty" / "index.html").exists()


def listed(number: int, findings: Mapping[str, tuple[str, float]]) -> Listed:
    named = tuple(name for name, (tier, _) in findings.items() if tier != "unlikely")
    pages = (LinkedPage("clinician", f"s{number}/clinician.html"), LinkedPage("patient", f"s{number}/patient.html"))
    return Listed(f"study-{number:03d}", f"<film & {number}>.png", "model", findings, named, 0, False, False, "", pages)


MANY = render_index([
    *(listed(number, {"Edema": ("unlikely", 0.001 * number), "Mass": ("unlikely", 0.1)}) for number in range(197)),
    listed(300, {"Edema": ("possible", 0.4), "Mass": ("unlikely", 0.2)}),
    listed(301, {"Edema": ("likely", 0.9), "Mass": ("unlikely", 0.2)}),
    listed(302, {"Edema": ("unlikely", 0.1), "Mass": ("likely", 0.8)}),
])  # fmt: skip
USE = """(async () => {
  const one = (id) => document.getElementById(id), seen = {};
  const set = (id, value, event) => { one(id).value = value; one(id).dispatchEvent(new Event(event)); };
  const first = () => [...document.querySelectorAll("#studies .who a")].slice(0, 3).map((link) => link.textContent);
  const key = (key) => document.activeElement.dispatchEvent(
    new KeyboardEvent("keydown", { key, bubbles: true, cancelable: true }));
  seen.start = [one("count").textContent, first(), document.querySelectorAll("#studies li").length];
  set("tier", "l", "change"); seen.likely = [one("count").textContent, first()];
  set("finding", "1", "change"); seen.mass = first();
  set("tier", "u", "change"); set("sort", "probability", "change"); seen.unlikely = [one("count").textContent, first()];
  one("clear").click(); set("search", "& 30", "input"); seen.search = [one("count").textContent, first()];
  set("search", "no such", "input"); seen.nothing = [one("count").textContent, one("empty").hidden];
  one("clear").click(); set("sort", "name", "change"); seen.name = first();
  one("clear").click();
  key("j"); key("j"); key("k"); key("j"); seen.moved = document.activeElement.textContent;
  key("/"); seen.slash = document.activeElement.id;
  document.body.focus();
  for (let step = 0; step < 9 && !one("more").hidden; step++) reachEnd();
  seen.all = document.querySelectorAll("#studies li").length;
  return seen;
})()"""


OBSERVER = b"""<script>IntersectionObserver = class {
  constructor(told) { globalThis.reachEnd = () => told([{ isIntersecting: true }]); }
  observe() {} unobserve() {} disconnect() {}
}</script>"""
"""Stands in for the browser's: a busy machine draws no frame for seconds, and then that tells of no scrolling."""


def test_the_list_is_sorted_filtered_and_walked_by_keys(tmp_path: Path) -> None:
    worst = ["<film & 301>.png", "<film & 302>.png", "<film & 300>.png"]
    seen = seen_in_browser(MANY.replace(b"<body", OBSERVER + b"<body", 1), USE, tmp_path)
    assert seen == {
        "start": ["200 of 200", worst, 60], "likely": ["2 of 200", worst[:2]], "mass": [worst[1]],
        "unlikely": ["199 of 200", [worst[0], worst[2], "<film & 0>.png"]], "search": ["5 of 200", worst],
        "nothing": ["0 of 200", False], "name": [f"<film & {number}>.png" for number in (0, 1, 2)],
        "moved": worst[1], "slash": "search", "all": 200,
    }  # fmt: skip


@pytest.mark.parametrize("size", [(1280, 800), (360, 800)])
def test_axe_finds_no_fault_in_the_index(size: tuple[int, int], tmp_path: Path) -> None:
    axe = axe_source().replace("</", "<\\/")
    page = MANY.replace(b"</body>", f"<script>{axe}</script></body>".encode())
    assert seen_in_browser(page, FAULTS, tmp_path, size=size) == []


def test_the_index_is_no_wider_than_its_screen(tmp_path: Path) -> None:
    assert seen_in_browser(MANY, WIDTHS, tmp_path) == {str(width): 0 for width in (360, 768, 1280, 3840)}


def test_the_head_counts_in_words_and_names_the_model_and_a_doubted_study_names_no_finding() -> None:
    """It read "2 with a finding named as cannot tell", printed the weights' id, and listed numbers of a forced lateral view."""
    plain = [listed(1, {"Edema": ("likely", 0.9), "Mass": ("possible", 0.3)}), listed(2, {"Edema": ("cannot_tell", 0.5)})]
    named = [replace(one, model_id="reader-7-abc", model="reader 7") for one in plain]
    doubted = replace(named[1], study_id="study-003", source="lateral.png", doubted=True)
    page = parse_html(render_index([doubted, listed(4, {}), *named]))
    head = [one.text() for one in page.first("header").all("span")]  # type: ignore[union-attr]
    assert head == [
        "1 with a likely finding", "1 with a possible finding", "1 with a finding that the model cannot tell",
        "1 not to be relied on", "Model: model", "Model: reader 7", "not checked here: storyxai verify does that",
    ]  # fmt: skip
    lines = [one.text() for one in page.all("li")]
    assert "not to be relied on" in lines[1] + lines[2] and "0.50" in lines[1] + lines[2]
    assert all(("not to be relied on" in one) != ("0.50" in one) for one in lines[1:3]) and "nothing named" in lines[3]
    alike = render_index([named[0], replace(named[1], model_id="reader-7-def")]).decode()
    assert "Model: reader 7 (reader-7-abc)" in alike and "Model: reader 7 (reader-7-def)" in alike


def test_a_score_is_not_called_likely() -> None:
    study = replace(listed(1, {"Edema": ("likely", 0.9)}), scored=True)
    assert b"0.90 score" in render_index([study]) and b"0.90 likely" not in render_index([study])


def test_a_chip_never_prints_certainty() -> None:
    page = render_index([listed(1, {"Edema": ("likely", 0.9996)})])
    assert b"above 0.99 likely" in page and b"<small>1.00" not in page


def test_telling_several_films_writes_their_index_and_one_more_renews_it(tmp_path: Path) -> None:
    out = tmp_path / "stories"
    for name in ("a", "b"):
        told(example_evidence(), out / name)
    _index(out, 1, "en")
    assert not (out / "index.html").exists(), "one study needs no list"
    _index(out, 2, "en")
    told(normal_evidence(), out / "c")
    _index(out, 1, "en")
    assert "3 studies" in (out / "index.html").read_text(encoding="utf-8")
    (out / "index.html").write_text("my own", encoding="utf-8")
    _index(out, 2, "en")
    assert (out / "index.html").read_text(encoding="utf-8") == "my own"
