"""Faults planted in rendered phantom studies, of every kind that a reader could be misled by: each is caught and named."""

from __future__ import annotations

import base64
import io
import re
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from PIL import Image as Picture

sys.path.insert(0, str(Path(__file__).parent))
from studies import Study, studies, whole  # type: ignore[import-not-found]

from evidence_example import example_evidence
from storyxai.pages.story import render_html
from storyxai.proof.checking import check_page, contradictions
from storyxai.story.tell import AUDIENCES, tell

Edit = Callable[[str, Study], str]


@dataclass(frozen=True)
class Fault:
    """A way to spoil the page of `audience`; `named` must stand in what is found."""

    audience: str
    edit: Edit
    named: str


def swap(old: str, new: str, *, count: int = 1) -> Edit:
    return lambda page, study: page.replace(old, new, count)


def sub(pattern: str, new: str) -> Edit:
    return lambda page, study: re.sub(pattern, new, page, count=1, flags=re.DOTALL)


def exchanged(one: str, other: str) -> Edit:
    """The first of two phrases that the page has is told as the other."""
    return lambda page, study: page.replace(one, other, 1) if one in page else page.replace(other, one, 1)


def drop(*words: str) -> Edit:
    """Leave out the first sentence that holds all the words."""
    return lambda page, study: page.replace(whole(page, words), "", 1)


def silenced(*phrases: str) -> Edit:
    """Leave out every sentence that holds one of the phrases."""
    def edit(page: str, study: Study) -> str:
        for phrase in phrases:
            while said := whole(page, [phrase]):
                page = page.replace(said, "", 1)
        return page

    return edit


def _first(study: Study) -> str:
    """The first finding that is named; where nothing is, the first of all, whose tier no page then tells."""
    return str((*study.record["named"], *study.record["findings"])[0])


def _unnamed(study: Study) -> str:
    return next(name for name in study.record["findings"] if name not in study.record["named"])


def _spoken(finding: str) -> str:
    return finding.replace("_", " ")


def _moved(page: str, study: Study) -> str:
    """The finding that the practitioner reads as likely stands among the unlikely ones."""
    found = re.search(r">Likely: ([A-Z]\w+)", page)
    if found is None:
        return page
    name = found[1]
    page = re.sub(rf">Likely: {name}(, | and |)", ">Likely: ", page, count=1)
    return page.replace(">Unlikely: ", f">Unlikely: {name}, ", 1)


def _without_last(page: str, study: Study) -> str:
    """ "A, B and C" without C."""
    return re.sub(r"(>Also possible: [^<]*?\)) and [^<]*?(\.</span>)", r"\1\2", page, count=1)


def _without_section(page: str, study: Study) -> str:
    if not study.record["named"]:
        return page
    return re.sub(r'<details class="fold" id="s1">.*?</div></details>\n', "", page, count=1, flags=re.DOTALL)


def _black(page: str, study: Study) -> str:
    target = io.BytesIO()
    Picture.new("L", (256, 256)).save(target, "PNG")
    return re.sub(r'(id="film"[^>]*base64,)[^"]+', lambda m: m[1] + base64.b64encode(target.getvalue()).decode(), page, count=1)


def _mirrored(page: str, study: Study) -> str:
    """The film turned left to right, as a page that swaps sides would show it."""
    found = re.search(r'id="film"[^>]*base64,([^"]+)', page)
    if found is None:
        return page
    target = io.BytesIO()
    with Picture.open(io.BytesIO(base64.b64decode(found[1]))) as film:
        film.transpose(Picture.Transpose.FLIP_LEFT_RIGHT).save(target, "PNG")
    return page.replace(found[1], base64.b64encode(target.getvalue()).decode(), 1)


def _maps_exchanged(page: str, study: Study) -> str:
    """Two maps change places."""
    found = re.findall(r'<image id="(m\d+)"[^>]*base64,([^"]+)', page)
    if len({data for _, data in found}) < 2:
        return page
    (_, one), (_, other) = found[0], next(item for item in found if item[1] != found[0][1])
    return page.replace(one, "\0", 1).replace(other, one, 1).replace("\0", other, 1)


def _withheld_shown(page: str, study: Study) -> str:
    """A map that is shown gets the name of one that was withheld."""
    for finding, maps in study.record["heatmaps"].items():
        for method, item in maps.items():
            shown = {"grad_cam": "Grad-CAM", "lime": "LIME"}.get(method)
            if not item["shown"] and shown:
                return re.sub(
                    r"with the [\w-]+ map of [\w ]+ over it",
                    f"with the {shown} map of {_spoken(finding)} over it",
                    page,
                    count=1,
                )
    return page


def _zone_swapped(page: str, study: Study) -> str:
    found = re.search(r"mainly in the (?:right|left) (lower|mid|upper)", page)
    return page.replace(found[0], found[0].replace(found[1], "mid" if found[1] != "mid" else "upper"), 1) if found else page


def _invented(text: str) -> Edit:
    """A sentence more, with the note of the one before it."""
    return lambda page, study: re.sub(
        r'(<p><span class="s">[^\n]*</p>\n)',
        lambda m: m[1] + re.sub(r'class="s">.*?</span>', f'class="s">{text}</span>', m[1]),
        page,
        count=1,
    )


FAULTS: Mapping[str, Fault] = {
    "finding invented, with a citation": Fault(
        "clinician",
        _invented("Pneumonia is likely: about 80 in 100 images with this number are expected to show it."),
        "Pneumonia",
    ),
    "sentence without citation": Fault(
        "clinician",
        sub(r"(<div class=\"text[^\n]*\n)", r'\1<p><span class="s">The heart is of normal size.</span></p>\n'),
        "cites no evidence",
    ),
    "text that is no sentence of the page": Fault("patient", swap("</main>", "<h2>All is well</h2></main>"), "All is well"),
    "paragraph without a mark": Fault(
        "clinician", sub(r"</section>", "<p>No follow-up is needed.</p></section>"), "No follow-up is needed"
    ),
    "section of a named finding dropped": Fault("clinician", _without_section, "leaves out"),
    "finding dropped from a list": Fault("clinician", _without_last, "does not name it"),
    "finding exchanged in a list": Fault(
        "clinician",
        lambda page, study: page.replace(
            f"likely {_spoken(_first(study)).lower()}", f"likely {_spoken(_unnamed(study)).lower()}", 1
        ),
        "which it does not cite",
    ),
    "finding exchanged for a patient": Fault(
        "patient", swap("may well show fluid around the lung", "may well show a larger spot in the lung"), "larger spot"
    ),
    "tier against the probability": Fault("clinician", sub(r">(\w+) is likely: ", r">\1 is possible: "), "possible"),
    "tier of the verdict altered": Fault(
        "clinician", swap("Probably abnormal: likely", "Worth a second look: possible"), "says possible"
    ),
    "tier of a chip altered": Fault("clinician", sub(r"<small>likely</small>", "<small>unlikely</small>"), "calls"),
    "tier on a line altered": Fault("clinician", sub(r'(<span class="state \w+">)\w+<', r"\1unlikely<"), "calls"),
    "tier in a table altered": Fault("auditor", sub(r'(findings\.\w+\.tier">)unlikely<', r"\1likely<"), "prints “likely”"),
    "probability in a sentence altered": Fault(
        "clinician", sub(r"about \d\d in 100 images with this number", "about 55 in 100 images with this number"), "55 in 100"
    ),
    "probability in the verdict altered": Fault(
        "clinician", sub(r"(Also possible: [^<(]*\()\d\d in 100", r"\g<1>71 in 100"), "71 in 100"
    ),
    "probability of a patient altered": Fault("patient", sub(r"[mM]ore than 9 in 10", "about 2 in 10"), "2 in 10"),
    "probability in a table altered": Fault("auditor", sub(r'(findings\.\w+\.probability">)[\d.]+', r"\g<1>0.501"), "0.501"),
    "probability of a chip altered": Fault("clinician", sub(r'(class="chip[^\n]*?probability">)[^<]+', r"\g<1>0.51"), "0.51"),
    "interval altered": Fault("clinician", sub(r"(\(probability [^<(]*interval )0\.\d\d to", r"\g<1>0.05 to"), "“0.05 to"),
    "threshold altered": Fault("clinician", sub(r", threshold 0\.\d\d\)", ", threshold 0.35)"), "0.35"),
    "words of a line altered": Fault("clinician", sub(r'(aria-label="[^"]*probability )[\d.]+', r"\g<1>0.33"), "has a line of"),
    "mark on a line moved": Fault("clinician", sub(r'<circle cx="[\d.]+"', '<circle cx="160.0"'), "draws the probability"),
    "side swapped": Fault("clinician", sub(r"lies on the left", "lies on the right"), "on the right"),
    "zone swapped": Fault("clinician", _zone_swapped, "zones.value"),
    "zone swapped in the verdict": Fault(
        "clinician", sub(r"(>Also possible: [^<]*?in the \w+) (?:lower|mid)", r"\1 upper"), "puts"
    ),
    "side for a patient": Fault(
        "patient", swap("It seems to be on both sides", "It seems to be on your left side"), "left side"
    ),
    "likely for one, unlikely for another": Fault("practitioner", _moved, "does not name it"),
    "citation that leads nowhere": Fault("clinician", sub(r'href="#e3"', 'href="#e9999"'), "cites no evidence"),
    "citation to another fact": Fault(
        "clinician",
        sub(r'<a href="#e1" aria-label="Evidence 1">1<', '<a href="#e9" aria-label="Evidence 9">9<'),
        "does not cite",
    ),
    "number of a note altered": Fault("clinician", sub(r'(href="#e1" [^>]*>)1<', r"\g<1>2<"), "leads to no note"),
    "path of a note altered": Fault(
        "patient", sub(r"<code>findings\.(\w+)\.tier</code>", r"<code>findings.\1.stage</code>"), "leads nowhere"
    ),
    "value of a note altered": Fault(
        "patient", sub(r'(<td><span data-path="findings\.\w+\.probability">)[\d.]+', r"\g<1>0.123"), "0.123"
    ),
    "note without a sentence": Fault(
        "patient",
        sub(
            r'<tbody id="e1">',
            '<tbody id="e77"><tr><td><code>findings</code></td><td><span data-path="findings">14 entries</span></td></tr>'
            "</tbody>"
            '<tbody id="e1">',
        ),
        "note 77",
    ),
    "model's name altered": Fault("clinician", sub(r"Model storyxai-student,", "Model gold-standard,"), "gold-standard"),
    "model's version altered": Fault(
        "clinician", sub(r", version (\w+), weights", r", version \g<1>9, weights"), "model.version"
    ),
    "hash of the weights altered": Fault(
        "auditor", sub(r"weights with SHA-256 [0-9a-f]{8}", "weights with SHA-256 00000000"), "weights_sha256"
    ),
    "hash of the evidence altered": Fault(
        "patient",
        sub(r"(Told from evidence with SHA-256 <code>)[0-9a-f]{4}", r"\g<1>beef"),
        "does not say that it was told from",
    ),
    "number of images altered": Fault("auditor", sub(r": [\d,]+ images of", ": 1,000,000 images of"), "1,000,000"),
    "licence altered": Fault("auditor", sub(r"licence CC BY 4\.0\.</span>", "licence CC0.</span>"), "CC0"),
    "withheld map shown": Fault("clinician", _withheld_shown, "withheld"),
    "reason of a withheld map altered": Fault(
        "clinician",
        sub(r"is withheld: [^<]*\.</span>", "is withheld: the reader asked for it.</span>"),
        "the reader asked for it",
    ),
    "film exchanged": Fault("clinician", _black, "another film"),
    "film mirrored": Fault("clinician", _mirrored, "another film"),
    "maps exchanged": Fault("practitioner", _maps_exchanged, "than the map on record"),
    "frame moved": Fault("practitioner", sub(r'<rect class="frame" x="[\d.]+"', '<rect class="frame" x="3"'), "not on record"),
    "research line missing at the head": Fault(
        "patient", swap('<p class="research">Research use only - not for diagnostic use</p>', ""), "research use"
    ),
    "research line altered at the foot": Fault(
        "patient",
        swap(
            '<p class="research last">Research use only - not for diagnostic use</p>',
            '<p class="research last">For diagnostic use</p>',
        ),
        "research use",
    ),
    "negation inserted": Fault("clinician", sub(r">(\w+) is likely: ", r">\1 is not likely: "), "no sentence of this reader"),
    "negation in the verdict": Fault(
        "clinician", sub(r"Probably abnormal: likely (\w+)", r"Probably abnormal: likely no \1"), "“no"
    ),
    "likely finding denied": Fault("patient", swap("may well show", "does not show"), "no sentence of this reader"),
    "unit altered": Fault("clinician", sub(r"(spans \d+ by \d+) mm,", r"\1 pixels,"), "no sentence of this reader"),
    "percent altered": Fault("clinician", sub(r"the model marked (\d+) %", "the model marked 99 %"), "99 %"),
    "patient's page shown as released": Fault("patient", sub(r'<p class="held">.*?</p>', ""), "no release is on record"),
    "release invented": Fault(
        "patient",
        sub(r'<p class="held">.*?</p>', '<p class="facts">Released for reading by Dr. Who, 2026-01-01T00:00:00Z</p>'),
        "no release is on record",
    ),
    "count of maps altered": Fault(
        "practitioner", sub(r"; shown: \d+", "; shown: 17"), "counts 17"
    ),
    "count of failed checks altered": Fault("auditor", sub(r"Checks failed: \d+", "Checks failed: 1"), "counts 1"),
    "count of findings altered": Fault("clinician", sub(r"not excluded: \d+ of the", "not excluded: 3 of the"), "counts 3"),
    "count of signs altered": Fault("patient", sub(r"looked for \d+ signs", "looked for 15 signs"), "15"),
    "view altered": Fault("clinician", sub(r"The view is PA", "The view is AP"), "study.image.view"),
    "age altered": Fault("clinician", sub(r"(The file says: \w+, )\d+ years", r"\g<1>7 years"), "age_years"),
    "sex altered": Fault("clinician", sub(r"The file says: \w+,", "The file says: male,"), "study.image.sex"),
    "file altered": Fault(
        "clinician", sub(r"The image read is [\w.-]+,", "The image read is other.png,"), "study.image.source"
    ),
    "doubt dropped": Fault("clinician", drop("Do not rely on this"), "leaves out"),
    "warning dropped": Fault("clinician", drop("Warning:"), "leaves out the warning"),
    "withheld map passed over": Fault("clinician", drop("map of", "is withheld"), "withheld"),
    "agreement turned round": Fault(
        "clinician",
        sub(r"No other method points to the same parts of the image as the (.*?) \(",
            r"The \1 and that of another method point to the same parts of the image ("),
        "says the opposite",
    ),
    "report said to agree": Fault(
        "clinician", exchanged("The numbers, which count, speak against", "The numbers agree on"), "says the opposite"
    ),
    "report altered": Fault(
        "clinician", sub(r"“No evidence of pneumothorax\.”", "“No evidence of disease.”"), "No evidence of disease"
    ),
    "what-if altered": Fault(
        "clinician", sub(r"falls from ([^<]*?) to 0\.\d\d, below", r"falls from \1 to 0.01, below"), "0.01"
    ),
    "hidden part altered": Fault(
        "clinician", sub(r"with the left lung hidden", "with the right lung hidden"), "the right lung"
    ),
    "look-alike altered": Fault(
        "clinician", sub(r">[\w ]+(, [\w ]+ or [\w ]+ can look like)", r">Nothing\1"), "look_alikes"
    ),
    "methods apart passed over": Fault(
        "clinician", silenced("No other method points to", "disagree on the place"), "leaves out that the maps",
    ),
    "limit dropped": Fault("clinician", drop("films are of children"), "limit"),
    "what it cannot see dropped": Fault("auditor", drop("Not made to find"), "not made to find"),
    "advice dropped": Fault("patient", drop("Call the emergency number"), "patient.help_1"),
    "advice altered": Fault(
        "patient", swap("Do not start or stop a treatment", "Start or stop a treatment"), "no sentence of this reader"
    ),
    "row under another name": Fault(
        "auditor", sub(r'<th scope="row">Effusion</th>', '<th scope="row">Hernia</th>'), "beside a value of Effusion"
    ),
    "columns exchanged": Fault(
        "practitioner",
        sub(r"<span>Sensitivity</span>(.*?)<span>Specificity</span>", r"<span>Specificity</span>\1<span>Sensitivity</span>"),
        "under “Specificity”",
    ),
    "measured figure altered": Fault("practitioner", sub(r"AUROC of (\w+) is 0\.\d\d", r"AUROC of \1 is 0.99"), "0.99"),
    "method of a figure altered": Fault(
        "practitioner", sub(r"(>On films with [^<]*) evidence grid map", r"\1 LIME map"), "names “LIME”"
    ),
    "seed altered": Fault("practitioner", sub(r"Seed 0,", "Seed 4,"), "provenance.seed"),
    "sentence hidden": Fault("clinician", swap('<p><span class="s">', '<p style="display:none"><span class="s">'), "hides"),
    "address outside the page": Fault(
        "clinician", swap("</main>", '<img src="https://example.org/x.png"></main>'), "outside the page"
    ),
    "script added": Fault("clinician", swap("</main>", '<p onclick="x()"></p></main>'), "a script in onclick"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_planted_fault_is_caught_and_named(name: str) -> None:
    fault = FAULTS[name]
    planted = 0
    for study in studies():
        page = study.pages[fault.audience].decode()
        spoilt = fault.edit(page, study)
        if spoilt == page:
            continue
        planted += 1
        problems = check_page(spoilt.encode(), study.evidence).problems
        assert any(fault.named in problem for problem in problems), problems
    assert planted, "no study has what this fault spoils"


@pytest.mark.parametrize(
    ("language", "told", "instead"),
    [
        ("en", "both lower zones", "both upper zones"),
        ("en", "both lower zones", "the left lower zone"),
        ("en", "both lower zones", "both mid and lower zones"),
        ("de", "in beiden Unterfeldern", "in beiden Oberfeldern"),
        ("de", "in beiden Unterfeldern", "im linken Mittel- und Unterfeld"),
    ],
)
def test_zones_that_have_one_phrase_are_read_one_by_one(language: str, told: str, instead: str) -> None:
    """ "Both lower zones" is two zones to the checker, wherever the page says it."""
    base, both = example_evidence(), {"zones": "right lower, left lower", "side": "bilateral"}
    concepts = tuple(replace(c, value=both[c.name]) if c.finding == "Effusion" and c.name in both else c for c in base.concepts)
    evidence = replace(base, concepts=concepts)
    page = render_html(tell(evidence, "clinician", language), evidence).decode()
    body, mark, rest = page.partition('<script type="application/json"')
    assert body.count(told) >= 2
    assert check_page(page.encode(), evidence).problems == ()
    for place in range(body.count(told)):
        parts = body.split(told)
        spoilt = told.join(parts[: place + 1]) + instead + told.join(parts[place + 1 :])
        problems = check_page(f"{spoilt}{mark}{rest}".encode(), evidence).problems
        assert any("zones.value" in problem or "puts Effusion in" in problem for problem in problems), problems


@pytest.mark.parametrize("language", ["en", "de"])
@pytest.mark.parametrize("name", ["inside_structures", "inside_shoe"])
def test_the_place_check_of_a_modality_of_one_s_own_stands_under_words_and_is_read_back(name: str, language: str) -> None:
    """One that names no words for its check: the general one has ours, another its own key without underscores."""
    base = example_evidence()
    checks = tuple(replace(check, name=name) if check.name == "inside_lungs" else check for check in base.checks)
    evidence = replace(base, checks=checks)
    page = render_html(tell(evidence, "practitioner", language), evidence).decode()
    assert f">{name}<" not in page
    assert check_page(page.encode(), evidence).problems == ()


def test_there_are_enough_kinds() -> None:
    assert len(FAULTS) >= 16


@pytest.mark.parametrize("number", range(3))
def test_a_clean_study_has_no_problem(number: int) -> None:
    study = studies()[number]
    proofs = [check_page(page, study.evidence) for page in study.pages.values()]
    assert [proof.problems for proof in proofs] == [()] * 4
    assert contradictions(proofs) == []
    assert min(len(proof.page.said) for proof in proofs) > 10


def test_readers_that_contradict_one_another_are_named() -> None:
    study = next(one for one in studies() if not one.record["doubts"] and "Likely: " in one.pages["practitioner"].decode())
    spoilt = _moved(study.pages["practitioner"].decode(), study).encode()
    proofs = [check_page(page, study.evidence) for page in (study.pages["clinician"], spoilt)]
    (line,) = contradictions(proofs)
    assert "likely (clinician)" in line and "unlikely (practitioner)" in line


def test_the_embedded_story_is_not_what_is_read() -> None:
    """A page whose embedded story was taken away, or replaced, is read all the same."""
    study = studies()[0]
    page = re.sub(
        r'(<script type="application/json"[^>]*>).*?</script>',
        r"\1{}</script>",
        study.pages["clinician"].decode(),
        flags=re.DOTALL,
    )
    assert check_page(page.encode(), study.evidence).problems == ()


@pytest.mark.parametrize("refused", [False, True])
def test_force_is_told_as_the_reason_where_the_gate_refused(refused: bool) -> None:
    """`--force` on an image that nothing speaks against changes nothing but what the auditor reads."""
    evidence = studies()[0].evidence
    settings = {**evidence.provenance["settings"], "forced": True}
    failed = "gate.inverted" if refused else ""
    gate = tuple(replace(check, passed=False) if check.name == failed else check for check in evidence.gate)
    forced = replace(evidence, gate=gate, provenance={**evidence.provenance, "settings": settings})
    pages = {audience: render_html(tell(forced, audience), forced) for audience in AUDIENCES}
    assert {audience: check_page(page, forced).problems for audience, page in pages.items()} == dict.fromkeys(AUDIENCES, ())
    assert (b">The image was refused and is told only because the caller forced it." in pages["clinician"]) is refused
    assert b">The caller forced the telling" in pages["auditor"]
    unsaid = "The image was refused and is told only because the caller forced it."
    without = drop(unsaid)(pages["clinician"].decode(), studies()[0])
    assert any("forced it" in problem for problem in check_page(without.encode(), forced).problems) is refused
