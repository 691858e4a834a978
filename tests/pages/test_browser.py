"""Pages in a browser: one screen for the clinician, nothing wider than the screen, no fault that axe-core finds."""

from __future__ import annotations

from pathlib import Path

import pytest
from browser import axe_source, seen_in_browser

from evidence_example import example_evidence, normal_evidence
from storyxai.pages.story import render_html
from storyxai.story.tell import AUDIENCES, tell

PAGES = {audience: render_html(tell(example_evidence(), audience), example_evidence()) for audience in AUDIENCES}
PAGES["normal"] = render_html(tell(normal_evidence(), "clinician"), normal_evidence())
FAULTS = """(async () => {
  const found = [];
  for (const open of [false, true]) for (const theme of ["light", "dark"]) {
    document.documentElement.dataset.theme = theme;
    for (const fold of document.querySelectorAll("details")) fold.open = open;
    const { violations } = await axe.run({ resultTypes: ["violations"] });
    for (const fault of violations) found.push([theme, open, fault.id, fault.nodes.map((node) => node.html)]);
  }
  return found;
})()"""
WIDTHS = """(async () => {
  const source = document.documentElement.outerHTML, found = {};
  for (const width of [360, 768, 1280, 3840]) {
    const frame = document.createElement("iframe");
    frame.sandbox = "allow-same-origin";
    frame.width = width; frame.height = 800; frame.srcdoc = source.replaceAll("<details", "<details open");
    await new Promise((done) => { frame.onload = done; document.body.append(frame); });
    const { scrollWidth, clientWidth } = frame.contentDocument.documentElement;
    found[width] = scrollWidth - clientWidth;
    frame.remove();
  }
  return found;
})()"""
PRINTED = """(async () => {
  const frame = document.createElement("iframe"), source = document.documentElement.outerHTML;
  frame.sandbox = "allow-same-origin"; frame.scrolling = "no"; frame.height = 800; frame.width = 680;
  frame.srcdoc = source.replaceAll("@media screen", "@media not all").replaceAll("@media print", "@media all")
    .replaceAll("<details", "<details open");
  await new Promise((done) => { frame.onload = done; document.body.append(frame); });
  const { scrollWidth, clientWidth } = frame.contentDocument.documentElement;
  return scrollWidth - clientWidth;
})()"""
FRONT = """(() => {
  const seen = [];
  const look = (key) => seen.push([key, ...[...document.querySelectorAll(".over:not([hidden]), [aria-current] b")].map(
    (element) => element.innerText.split(/,|\\n/)[0].trim())]);
  look("");
  for (const key of "2m1m3") { document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true })); look(key); }
  return seen;
})()"""


@pytest.mark.parametrize("name", sorted(PAGES))
def test_axe_finds_no_fault_light_or_dark_folded_or_open(name: str, tmp_path: Path) -> None:
    axe = axe_source().replace("</", "<\\/")
    page = PAGES[name].replace(b"</body>", f"<script>{axe}</script></body>".encode())
    assert seen_in_browser(page, FAULTS, tmp_path) == []


@pytest.mark.parametrize("name", ["clinician", "practitioner"])
def test_no_page_is_wider_than_its_screen_though_all_is_open(name: str, tmp_path: Path) -> None:
    assert seen_in_browser(PAGES[name], WIDTHS, tmp_path) == {str(width): 0 for width in (360, 768, 1280, 3840)}


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("name", ["clinician", "practitioner", "auditor"])
def test_nothing_is_wider_than_a_sheet(name: str, language: str, tmp_path: Path) -> None:
    """What reaches beyond 180 mm, A4 less its margins, would make the browser print the whole document smaller."""
    page = render_html(tell(example_evidence(), name, language), example_evidence())
    assert seen_in_browser(page, PRINTED, tmp_path) <= 0


def test_the_clinicians_page_fits_one_screen_in_few_words(tmp_path: Path) -> None:
    script = "[innerHeight, document.documentElement.scrollHeight, document.body.innerText.trim().split(/\\s+/).length]"
    inner, height, words = seen_in_browser(PAGES["clinician"], script, tmp_path)
    assert inner <= 800 and height <= 800
    assert words <= 190, "150 for the story, the rest names controls and parts"


def test_keys_bring_findings_and_maps_to_the_front(tmp_path: Path) -> None:
    assert seen_in_browser(PAGES["clinician"], FRONT, tmp_path) == [
        ["", "Effusion", "Effusion: Grad-CAM"], ["2", "Consolidation", "Consolidation: Grad-CAM"],
        ["m", "Consolidation", "Consolidation: LIME map withheld"], ["1", "Effusion", "Effusion: Grad-CAM"],
        ["m", "Effusion", "Effusion: LIME"], ["3", "Cardiomegaly", "Cardiomegaly: no map is shown"],
    ]  # fmt: skip
