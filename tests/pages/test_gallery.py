"""A slide of several films: what stands on it, and what it never shows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from browser import axe_source, seen_in_browser
from test_browser import FAULTS

from evidence_example import example_evidence, gate_check, normal_evidence
from storyxai.errors import InputError, UnknownNameError
from storyxai.evidence.archive import write_archive
from storyxai.export.browser import find_browser
from storyxai.pages.gallery import MOST_FILMS, exhibit_of, render_gallery
from storyxai.programs.gallery import GalleryOptions, gallery
from storyxai.types import RESEARCH_USE

FIRST, NORMAL = exhibit_of(example_evidence()), exhibit_of(normal_evidence())


def test_each_film_stands_beside_the_map_of_its_first_finding() -> None:
    assert (FIRST.finding, FIRST.said, FIRST.caption) == ("Effusion", "0.83, likely", "Grad-CAM, logit per cell")
    assert (NORMAL.finding, NORMAL.said, NORMAL.layer) == ("", "nothing named", "")
    page = render_gallery([FIRST, NORMAL]).decode()
    assert page.count("<use href=") == 1 and page.count('class="withheld"') == 1 and RESEARCH_USE in page
    assert page == render_gallery([FIRST, NORMAL]).decode()


def test_no_finding_is_told_as_certain() -> None:
    base = example_evidence()
    findings = tuple(replace(one, probability=0.9991, interval=(0.996, 0.9999)) if one.name == "Effusion" else one
                     for one in base.prediction.findings)  # fmt: skip
    assert exhibit_of(replace(base, prediction=replace(base.prediction, findings=findings))).said == "above 0.99, likely"


def test_a_map_that_failed_its_checks_is_never_shown() -> None:
    withheld = exhibit_of(example_evidence(), finding="Cardiomegaly")
    assert withheld.layer == "" and withheld.said == "0.44, cannot tell" and withheld.caption == "no map is shown"
    hidden = tuple(replace(h, shown=False, withheld_because="a check") for h in example_evidence().heatmaps)
    assert exhibit_of(replace(example_evidence(), heatmaps=hidden)).layer == ""


def test_a_slide_is_written_as_its_ending_says(tmp_path: Path) -> None:
    for number in range(MOST_FILMS + 2):
        write_archive(normal_evidence(), tmp_path / "stories" / f"study-{number:02d}")
    (tmp_path / "empty").mkdir()
    done = gallery([tmp_path / "stories"], tmp_path / "slide.html")
    assert done.films == MOST_FILMS and done.remarks == ("2 more are not shown: a slide holds 12",)
    with pytest.raises(UnknownNameError, match="ending"):
        gallery([tmp_path / "stories"], tmp_path / "slide.gif")
    with pytest.raises(UnknownNameError, match="did you mean 'Effusion'"):
        gallery([tmp_path / "stories"], tmp_path / "new.html", GalleryOptions(finding="Effusio"))
    with pytest.raises(InputError, match="holds no study"):
        gallery([tmp_path / "empty"], tmp_path / "new.html")
    assert not (tmp_path / "new.html").exists()


def test_a_slide_as_png_has_the_size_of_a_slide(tmp_path: Path) -> None:
    try:
        find_browser()
    except InputError as error:
        pytest.skip(str(error))
    write_archive(example_evidence(), tmp_path / "study")
    gallery([tmp_path / "study"], tmp_path / "slide.png")
    data = (tmp_path / "slide.png").read_bytes()
    assert data.startswith(b"\x89PNG") and tuple(int.from_bytes(data[i : i + 4]) for i in (16, 20)) == (1600, 900)


@pytest.mark.parametrize("films", [1, 2, 4, 6, 12])
def test_all_films_fit_the_slide(films: int, tmp_path: Path) -> None:
    page = render_gallery([FIRST, NORMAL] * (films // 2) or [FIRST])
    script = "[document.documentElement.scrollHeight - innerHeight, document.documentElement.scrollWidth - innerWidth]"
    high, wide = seen_in_browser(page, script, tmp_path, size=(1600, 987))  # the window's frame takes 87 of these
    assert high <= 0 and wide <= 0


def test_axe_finds_no_fault_on_a_slide(tmp_path: Path) -> None:
    axe = axe_source().replace("</", "<\\/")
    page = render_gallery([FIRST, NORMAL]).replace(b"</body>", f"<script>{axe}</script></body>".encode())
    assert seen_in_browser(page, FAULTS, tmp_path, size=(1600, 987)) == []


def test_a_film_of_which_nothing_can_be_told_has_no_map_on_the_slide() -> None:
    sure = example_evidence()
    far = gate_check("gate.distance", 9.0, 1.0, failed="gate_warned")
    doubted = replace(sure, gate=(*(check for check in sure.gate if check.name != far.name), far))
    for exhibit in (exhibit_of(doubted), exhibit_of(doubted, finding="Effusion")):
        assert (exhibit.finding, exhibit.said, exhibit.layer) == ("", "not to be relied on", "")
