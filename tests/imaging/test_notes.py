"""Notes on reading: texts with a code behind them, that every language words and that come back from an archive."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest

from evidence_example import example_evidence
from storyxai.catalogue.files import load_catalogue
from storyxai.evidence.record import arrays_of, as_record, from_record
from storyxai.imaging.notes import NOTES, note
from storyxai.story.tell import tell
from storyxai.story.words import load_words

VALUES = {
    "low": 2, "high": 13, "modality": "OT", "part": "HIP", "count": 2, "held": 12, "stated": 16, "view": "oblique",
    "views": "PA and AP", "forms": "circular, bitmap", "share": 0.25, "form": "bitmap",
    "orientation": 3, "kind": "projection",
}  # fmt: skip


def every_note() -> list:
    return [
        note(code, **{name: value for name, value in VALUES.items() if f"{{{name}" in text}) for code, text in NOTES.items()
    ]


def test_our_english_words_say_what_reading_says() -> None:
    words = load_words("en")
    for one in every_note():
        said = words.say(one.remark)
        assert said.replace("25 %", "25%") == one.replace("25.0%", "25%"), one.remark.code


@pytest.mark.parametrize("language", ["de"])
def test_another_language_says_every_note_in_its_own_words(language: str) -> None:
    remarks, words = load_catalogue(language).told.remarks, load_words(language)
    assert set(NOTES) <= set(remarks)
    same = [one.remark.code for one in every_note() if words.say(one.remark) == one]
    assert same == [], "what the file says as it stands is a value and no word"


def test_a_note_is_a_text_and_keeps_its_code_when_it_is_copied() -> None:
    one = note("note_colour", share=0.613)
    assert one == "colour: 61.3% of the pixels are coloured" and one.startswith("colour: ")
    again = pickle.loads(pickle.dumps(one))
    assert again == one and again.remark == one.remark == type(one)(str(one), one.remark).remark


def test_notes_stand_on_record_as_codes_and_come_back() -> None:
    base = example_evidence()
    notes = (note("note_mirrored"), note("note_colour", share=0.5), "by hand")
    evidence = replace(base, image=replace(base.image, notes=notes))
    record = as_record(evidence)
    codes = [(one["code"], one["values"]) for one in record["study"]["image"]["notes"]]
    assert codes == [("note_mirrored", {}), ("note_colour", {"share": 0.5}), ("text", {"text": "by hand"})]
    back = from_record(record, arrays_of(evidence))
    assert back.image.notes == evidence.image.notes and as_record(back) == record


def test_a_record_that_held_notes_as_words_is_read() -> None:
    record = as_record(example_evidence())
    record["study"]["image"]["notes"], record["format"] = ["inverted: MONOCHROME1"], "storyxai-evidence/3"
    assert from_record(record, arrays_of(example_evidence())).image.notes == ("inverted: MONOCHROME1",)


def test_a_german_reader_reads_them_in_german() -> None:
    base = example_evidence()
    evidence = replace(base, image=replace(base.image, notes=(note("note_mirrored"), note("note_padding"))))
    story = tell(evidence, "clinician", "de")
    text = " ".join(sentence.text for section in story.sections for sentence in section.sentences)
    assert "Beim Einlesen vermerkt: seitlich gespiegelt, wie die Patientenlage es sagt." in text and "mirrored" not in text
