"""Sentences that state what the evidence does not hold are refused; so are pages that were edited."""

from __future__ import annotations

import dataclasses
import hashlib
import re

import pytest

from evidence_example import example_evidence
from storyxai.errors import CitationError
from storyxai.evidence.record import as_record
from storyxai.pages.story import render_html
from storyxai.story.citations import SEAL, check_page, check_story, claims, contradictions, story_of_page
from storyxai.story.tell import AUDIENCES, tell
from storyxai.types import Section, Sentence, Story

RECORD = as_record(example_evidence())
EFFUSION = ("findings.Effusion.tier", "terms.Effusion.phrase")


def story_of(text: str, *cites: str, figures: tuple[str, ...] = (), audience: str = "clinician") -> Story:
    return Story(audience, "en", "t", (Section("h", (Sentence(text, cites),), figures),), {})


@pytest.mark.parametrize(
    ("text", "cites"),
    [
        ("Pleural effusion is likely.", EFFUSION),
        ("Its probability is 0.83.", ("findings.Effusion.probability",)),
        ("Its probability is 83 %.", ("findings.Effusion.probability",)),
        ("Think of 10 people: about 8 in 10 have it.", ("findings.Effusion.probability",)),
        ("About 83 in 100 have it.", ("findings.Effusion.probability",)),
        ("Fewer than 1 in 10 have it.", ("findings.Pneumothorax.probability",)),
        ("Its probability is below 0.01.", ("findings.Pneumothorax.probability",)),
        ("It changes by -0.64.", ("counterfactuals.Effusion.0.change",)),
        ("Trained on 1,200 images.", ("model.trained_on.0.n_images",)),
        ("It knows 14 findings.", ("findings",)),
        ("2 are there or not.", ("findings.Effusion.threshold", "findings.Mass.threshold")),
        ("It lies on the right.", ("concepts.Effusion.side.value",)),
        ("The right lung is drawn.", ("masks.right_lung.area_share",)),
        ("The weights are a1b2c3d4a1b2.", ("model.weights_sha256",)),
        ("Look-alikes: a mass.", ("terms.Consolidation.look_alikes",)),
    ],
)
def test_backed_sentences_pass(text: str, cites: tuple[str, ...]) -> None:
    check_story(story_of(text, *cites), RECORD)


@pytest.mark.parametrize(
    ("text", "cites", "why"),
    [
        ("Pleural effusion is likely.", (), "cites no evidence"),
        ("Its probability is high.", ("findings.Effusion.likelihood",), "not in this evidence"),
        ("AUROC is known.", ("model.per_finding.Mass.auroc",), "not known"),
        ("Its probability is 0.84.", ("findings.Effusion.probability",), "states 0.84"),
        ("Its probability is 0.8301.", ("findings.Effusion.probability",), "states 0.8301"),
        ("Its probability is 0.01.", ("findings.Pneumothorax.probability",), "states 0.01"),
        ("Its probability is 1.", ("findings.Effusion.probability",), "states 1"),
        ("Its probability is 84 %.", ("findings.Effusion.probability",), "states 84"),
        ("About 9 in 10 have it.", ("findings.Effusion.probability",), "states 9"),
        ("About 84 in 100 have it.", ("findings.Effusion.probability",), "states 84"),
        ("It changes by 0.64.", ("counterfactuals.Effusion.0.change",), "states 0.64"),
        ("It is 5 days old.", ("findings.Effusion.probability",), "states 5"),
        ("It knows 15 findings.", ("findings",), "states 15"),
        ("It lies on the left.", ("concepts.Effusion.side.value",), "names a side"),
        ("A mass is there.", ("findings.Effusion.probability",), "names Mass"),
        ("Pulmonary edema is likely.", EFFUSION, "names Edema"),
        ("Pleural effusion is unlikely.", EFFUSION, "is likely on record"),
        ("Possible pleural effusion (about 83 in 100).", (*EFFUSION, "findings.Effusion.probability"), "is likely on record"),
        ("Pleural effusion is likely or unlikely.", EFFUSION, "exactly one"),
        ("Pleural effusion is perhaps there.", EFFUSION, "exactly one"),
        ("It is likely.", ("findings.Effusion.probability",), "cites none"),
    ],
)
def test_unbacked_sentences_are_refused(text: str, cites: tuple[str, ...], why: str) -> None:
    with pytest.raises(CitationError, match=re.escape(why)):
        check_story(story_of(text, *cites), RECORD)


@pytest.mark.parametrize(
    ("figure", "why"),
    [
        ("map/Consolidation/lime", "withheld"),
        ("withheld/Effusion/lime", "not withheld"),
        ("map/Mass/lime", "not in this evidence"),
        ("boxes/Mass", "not in this evidence"),
        ("gauge/Ghost", "not in this evidence"),
        ("film/Effusion", "no known kind"),
    ],
)
def test_figures_without_evidence_are_refused(figure: str, why: str) -> None:
    with pytest.raises(CitationError, match=why):
        check_story(story_of("It has a box.", "boxes.Effusion", figures=(figure,)), RECORD)


def test_every_number_of_every_story_is_guarded() -> None:
    """The last digit of each number with two decimals in each story, changed by one, is found."""
    changed = found = 0
    for audience in AUDIENCES:
        story = tell(example_evidence(), audience)
        for section in story.sections:
            for sentence in section.sentences:
                for match in re.finditer(r"(?<![\w.])0\.\d\d\b", sentence.text):
                    end = match.end() - 1
                    digit = str((int(sentence.text[end]) + 1) % 10)
                    text = sentence.text[:end] + digit + sentence.text[end + 1 :]
                    changed += 1
                    try:
                        check_story(story_of(text, *sentence.cites, audience=audience), RECORD)
                    except CitationError:
                        found += 1
    assert changed > 40
    assert found == changed


def test_contradictions_between_stories_are_named() -> None:
    said = story_of("Pleural effusion is likely.", *EFFUSION)
    denied = story_of("We did not find fluid around the lung.", *EFFUSION, audience="patient")
    assert claims(denied) == {"Effusion": {"unlikely"}}
    assert contradictions([said, denied]) == ["Effusion: likely (clinician), unlikely (patient)"]
    assert contradictions([said, said]) == []
    assert contradictions([tell(example_evidence(), audience) for audience in AUDIENCES]) == []


def test_a_story_of_other_evidence_is_refused() -> None:
    story = tell(example_evidence(), "patient")
    other = as_record(dataclasses.replace(example_evidence(), indication="another question"))
    with pytest.raises(CitationError, match="other evidence"):
        check_story(story, other)


PAGE = render_html(tell(example_evidence(), "clinician"), example_evidence())


def sealed_again(page: bytes) -> bytes:
    """The page with a seal that holds: what someone who knows how it is made could do."""
    blank = SEAL.sub(rb"\g<1>" + b"0" * 64 + rb"\g<3>", page)
    return SEAL.sub(rb"\g<1>" + hashlib.sha256(blank).hexdigest().encode() + rb"\g<3>", page)


def test_a_page_as_it_was_written_passes() -> None:
    assert check_page(PAGE, RECORD) == []
    assert sealed_again(PAGE) == PAGE
    assert story_of_page(PAGE).audience == "clinician"


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        (b"(probability 0.83, 90 % interval", b"(probability 0.38, 90 % interval", "0.38"),
        (b"Effusion is likely: about 83", b"Effusion is unlikely: about 83", "unlikely"),
        (b'Infiltration.probability">0.180', b'Infiltration.probability">0.280', "0.280"),
        (b"Effusion is likely", b"Effusion is likely", "out"),
        (b'Infiltration.probability">0.180', b'Infiltration.probability">tiny', "holds a number"),
        (b">example.png</span>", b">another.png</span>", "another.png"),
    ],
)  # fmt: skip
def test_an_edited_page_is_found_with_and_without_its_seal(old: bytes, new: bytes, why: str) -> None:
    assert old in PAGE
    if why == "out":
        start = PAGE.index(b'<p><span class="s">Effusion is likely')
        edited = PAGE[:start] + PAGE[PAGE.index(b"</p>", start) + 4 :]
    else:
        # Where it is a sentence, this edits both what a reader sees and the story that the page holds.
        edited = PAGE.replace(old, new)
    assert edited != PAGE
    assert any("seal" in problem for problem in check_page(edited, RECORD))
    problems = check_page(sealed_again(edited), RECORD)
    assert problems and not any("seal" in problem for problem in problems)
    assert any(why in problem for problem in problems)


def test_any_changed_byte_breaks_the_seal() -> None:
    for place in range(0, len(PAGE), len(PAGE) // 23):
        edited = PAGE[:place] + bytes([PAGE[place] ^ 1]) + PAGE[place + 1 :]
        assert check_page(edited, RECORD), place
    assert check_page(b"", RECORD)[0] == "the page has no seal"
