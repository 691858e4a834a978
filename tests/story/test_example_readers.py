"""The readers that come along as files: three lines for the emergency physician, a teaching case that hides its answers."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from evidence_example import example_evidence, normal_evidence
from storyxai.errors import InputError
from storyxai.evidence.archive import read_archive, write_archive
from storyxai.pages.story import render_html
from storyxai.programs.verify import verify
from storyxai.story.audiences.registry import BUILT_IN, EXAMPLES, find_audience, known_audiences
from storyxai.story.citations import contradictions
from storyxai.story.tell import tell
from storyxai.types import Evidence

KEYS = ("emergency", "student")


def doubted() -> Evidence:
    gate = tuple(replace(check, value=9.0, passed=False) if check.name == "gate.distance" else check
                 for check in example_evidence().gate)  # fmt: skip
    return replace(example_evidence(), gate=gate)


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("evidence", [example_evidence(), normal_evidence(), doubted()], ids=["abnormal", "normal", "doubted"])
def test_they_tell_what_the_evidence_holds_and_verify_finds_them(key: str, evidence: Evidence, tmp_path: Path) -> None:
    assert key not in BUILT_IN and key in known_audiences() and find_audience(key).key == key
    stories = [tell(evidence, audience) for audience in (*BUILT_IN, key)]
    assert contradictions(stories) == []
    folder = write_archive(evidence, tmp_path / "study")
    kept = read_archive(folder)
    (folder / f"{key}.html").write_bytes(render_html(tell(kept, key), kept))
    found = verify(folder)
    assert found.problems == () and found.pages == (f"{key}.html",)


def test_three_lines_say_what_to_watch_for_and_what_next() -> None:
    claim, watch, after, table = tell(example_evidence(), "emergency").sections
    assert claim.sentences[0].text.startswith("Probably abnormal: likely effusion in the right lower zone")
    assert 1 <= len(watch.sentences) <= 3 and any("Warning" in one.text for one in watch.sentences)
    assert len(after.sentences) == 1 and not table.sentences
    words = sum(len(one.text.split()) for section in (claim, watch, after) for one in section.sentences)
    assert words <= 90
    normal = tell(normal_evidence(), "emergency").sections
    assert "Nothing stands out" in normal[0].sentences[0].text and normal[1].heading == "To do"
    assert "Do not rely on this" in tell(doubted(), "emergency").sections[0].sentences[0].text


@pytest.mark.parametrize("language", ["en", "de"])
def test_no_reader_from_a_file_says_a_sentence_twice(language: str) -> None:
    """What two blocks of a file have in common stands where it comes first."""
    for key in KEYS:
        said = [one.text for part in tell(example_evidence(), key, language).sections for one in part.sentences]
        assert len(said) == len(set(said)), key


def test_the_teaching_case_hides_every_answer() -> None:
    page = render_html(tell(example_evidence(), "student"), example_evidence()).decode()
    body = page[page.index("<main>") : page.index("</main>")]
    open_part = re.sub(r"<details.*?</details>", "", body, flags=re.S)
    assert "what would you call it?" in open_part and 'class="film-frame' in open_part
    for answer in ("effusion", "Effusion", "consolidation", "layer-m", "Probably abnormal", "layer-o"):
        assert answer not in open_part, answer
        assert answer in body, answer
    assert not re.search(r"<details[^>]* open", body)


def test_the_teaching_case_tells_findings_with_its_claim_and_not_as_a_fault_of_the_model() -> None:
    parts = {one.heading: [s.text for s in one.sentences] for one in tell(example_evidence(), "student").sections}
    beside = "Pneumothorax is unlikely"
    assert any(beside in text for text in parts["Answer: what the model claims"])
    assert not any(beside in text for text in parts["Why the model may be wrong"])
    claims = next(one for one in tell(doubted(), "student").sections if one.heading == "Answer: what the model claims")
    assert [s.text[:18] for s in claims.sentences] == ["Do not rely on thi"], "there are no others, where all are left open"


def test_a_block_that_is_not_there_is_refused_with_its_line(tmp_path: Path) -> None:
    text = (EXAMPLES / "emergency.toml").read_text(encoding="utf-8")
    (tmp_path / "emergency.toml").write_text(text.replace('["watch"]', '["wach"]'), encoding="utf-8")
    line = 1 + text.splitlines().index('blocks = ["watch"]')
    with pytest.raises(InputError, match=rf"emergency.toml, line {line}: there is no block 'wach' .* claim, watch"):
        find_audience(str(tmp_path / "emergency.toml"))


@pytest.mark.parametrize(("say", "each", "why"), [
    ("clinician.verdict_likely", "named", "has a place {names} that only a block fills"),
    ("clinician.look_alikes", "", "is told of one finding"), ("clinician.withheld", "named", "is told of one method"),
])
def test_a_template_that_the_section_cannot_fill_is_refused_when_the_file_is_read(
    say: str, each: str, why: str, tmp_path: Path
) -> None:
    text = f'key = "mine"\ntitle = "Mine"\n[[sections]]\nheading = "One"\neach = "{each}"\nsay = ["{say}"]\n'
    (tmp_path / "mine.toml").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=rf"mine.toml, line 6: template '{say}' {re.escape(why)}"):
        find_audience(str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("key", KEYS)
def test_their_german_words_are_all_there_and_a_stranger_is_refused_with_its_line(key: str, tmp_path: Path) -> None:
    text = (EXAMPLES / f"{key}.toml").read_text(encoding="utf-8")
    german, english = tell(example_evidence(), key, "de"), tell(example_evidence(), key)
    assert german.title != english.title and len(german.sections) == len(english.sections)
    assert not {one.heading for one in german.sections} & {one.heading for one in english.sections if " " in one.heading}
    (tmp_path / f"{key}.toml").write_text(f'{text}"Never said" = "Nie gesagt"\n', encoding="utf-8")
    with pytest.raises(InputError, match=rf"{key}.toml, line {len(text.splitlines()) + 1}: translates “Never said” into 'de'"):
        find_audience(str(tmp_path / f"{key}.toml"))


def test_a_translated_sentence_is_checked_as_the_file_s_own(tmp_path: Path) -> None:
    own = 'key = "mine"\ntitle = "Mine"\n[[sections]]\nheading = "One"\n'
    said = 'sentences = [{ text = "So.", cites = ["notices.frame"] }]\n'
    (tmp_path / "mine.toml").write_text(f'{own}{said}[words.de]\n"So." = "Also [nobody.knows|text]."\n', encoding="utf-8")
    with pytest.raises(InputError, match="nobody"):
        find_audience(str(tmp_path / "mine.toml"))
