"""An outsider's language and reader, each a file of their own or a package; templates that no record can fill are refused."""

from __future__ import annotations

import dataclasses
import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

import storyxai.pages.layout as page_layout
from checks.teller_checks import check_teller
from evidence_example import example_evidence
from storyxai.catalogue.files import known_languages, load_catalogue
from storyxai.errors import EvidenceError, InputError, UnknownNameError
from storyxai.evidence.record import arrays_of, as_record, from_record
from storyxai.evidence.schema import unknown_part
from storyxai.modalities.chest_radiograph.modality import CHEST_RADIOGRAPH
from storyxai.modalities.words import english_words
from storyxai.pages.story import render_html
from storyxai.story.audiences.registry import find_audience, known_audiences
from storyxai.story.citations import check_page
from storyxai.story.tell import AUDIENCES, tell
from storyxai.story.words import load_words
from storyxai.types import Remark

READER = """
key = "radiographer"
title = "For the radiographer"
maps = false
signed = true

[[sections]]
heading = "The image"
figures = ["image", "map/Effusion/lime"]
say = ["clinician.file", "clinician.view_known"]

[[sections]]
heading = "What was found"
each = "named"
figures = ["gauge/<F>"]
sentences = [
    { text = "Look again for [terms.<F>.phrase|text], at [findings.<F>.probability|decimal].", cites = [] },
    { text = "[terms.<F>.phrase|text] has a Dice of [model.outlines.interval.1|decimal] of [boxes.<F>.7.x|mm].", cites = [] },
]
"""


def toy_language() -> dict[str, Any]:
    """German marks and sides in our own file: commas for decimals, points for thousands, four words for two sides."""
    data: dict[str, Any] = json.loads(load_catalogue("en").source.text)
    data["numbers"] = {"decimal": ",", "group": "."}
    data["joins"] |= {"last": " und ", "below": "unter {}", "above": "über {}"}
    data["sides"] = {"left": ["links", "linken"], "right": ["rechts", "rechten"]}
    data["tables"]["side"] = {"right": "rechts", "left": "links", "bilateral": "beidseits", "midline": "mittig"}
    data["tables"]["zone"] = {"right lower": "rechts unten", "left mid": "links mittig"}
    data["tables"]["lay_side"] = {"right": "auf der rechten Seite", "left": "auf der linken Seite",
                                  "bilateral": "auf beiden Seiten", "midline": "in der Mitte"}  # fmt: skip
    data["tier_phrases"] = {"likely": ["liegt vor"], "possible": ["ist offen"], "unlikely": ["liegt nicht vor"],
                            "cannot_tell": ["ist ungewiss"]}  # fmt: skip
    data["terms"] = {"Effusion": {"phrase": "ein Pleuraerguss", "lay": "Wasser am Rippenfell"}}
    data["page"] = {"evidence": "Belege"}
    swaps = (("cannot tell", "ist ungewiss"), ("unlikely", "liegt nicht vor"), ("Unlikely", "Liegt nicht vor"),
             ("did not find", "liegt nicht vor"), ("may well show", "liegt vor:"), ("might show", "ist offen:"),
             ("likely", "liegt vor"), ("Likely", "Liegt vor"), ("possible", "ist offen"), ("Possible", "Ist offen"),
             ("scored one half or more", "liegt vor"), ("scored below one half", "liegt nicht vor"))
    def told(text: str) -> str:
        for ours, theirs in swaps:
            text = re.sub(rf"\b{ours}\b", theirs, text)
        return text

    for room in AUDIENCES:
        data[room] = {
            key: told(entry) if isinstance(entry, str) else {**entry, "text": told(entry["text"])}
            for key, entry in data[room].items()
        }
    return data


def outsiders_package(folder: Path, name: str, group: str, point: str, files: dict[str, str]) -> None:
    """An installed package as pip leaves it: its files, and a folder that says which entry points it has."""
    (folder / name).mkdir(parents=True)
    for file, text in files.items():
        (folder / name / file).write_text(text, encoding="utf-8")
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text(f"[{group}]\n{point}\n", encoding="utf-8")


@pytest.fixture(params=["folder", "package"])
def toy(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The code of the toy language, which lies in a folder of its own or in a package."""
    text = json.dumps(toy_language(), ensure_ascii=False, indent=1)
    if request.param == "folder":
        (tmp_path / "toy.json").write_text(text, encoding="utf-8")
        monkeypatch.setenv("STORYXAI_LANGUAGES", str(tmp_path))
        return "toy"
    outsiders_package(tmp_path, "toywords", "storyxai.languages", "toyp = toywords", {"__init__.py": "", "toyp.json": text})
    monkeypatch.syspath_prepend(str(tmp_path))
    return "toyp"


def test_an_outsiders_language_tells_every_story(toy: str) -> None:
    assert toy in known_languages()
    evidence = example_evidence()
    stories = {audience: tell(evidence, audience, toy) for audience in AUDIENCES}
    text = " ".join(s.text for story in stories.values() for section in story.sections for s in section.sentences)
    for part in ("0,83", "liegt vor", "rechts, mainly in the rechts unten zone", "auf der rechten Seite",
                 "1.200 images", "Wasser am Rippenfell"):  # fmt: skip
        assert part in text, part
    assert "0.83" not in text
    check_teller(tell, evidence, audiences=AUDIENCES, language=toy)
    page = render_html(stories["clinician"], evidence)
    assert check_page(page, as_record(evidence)) == [] and "Belege" in page.decode() and f'lang="{toy}"' in page.decode()


@pytest.mark.parametrize(
    ("where", "value", "why"),
    [
        (("clinician", "view_known"), "View [study.image.veiw|text].", "line .*'study.image.veiw'.*no 'veiw'"),
        (("patient", "mean_1"), {"text": "x", "cites": ["notices.frame.x"]}, "no 'x'"),
        (("auditor", "study"), "[study.study_id|texd]", "the format 'texd'"),
        (("auditor", "same"), {"text": "x", "cites": ["provenance.settings.forcd"]}, "no 'forcd'"),
    ],
)
def test_a_template_that_no_record_can_fill_is_refused_when_loaded(
    where: tuple[str, str], value: object, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy_language()
    data[where[0]][where[1]] = value
    (tmp_path / "bad.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
    monkeypatch.setenv("STORYXAI_LANGUAGES", str(tmp_path))
    with pytest.raises(InputError, match=rf"bad\.json, {why}" if why.startswith("line") else why) as caught:
        load_words("bad")
    assert f"{where[0]}.{where[1]}" in str(caught.value) and caught.value.mend


def test_languages_that_lack_something_or_cannot_be_read_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STORYXAI_LANGUAGES", str(tmp_path))
    data = toy_language()
    del data["clinician"]["view_known"]
    odd, spelt = json.dumps({**toy_language(), "joins": 1}), json.dumps({**toy_language(), "page": {"evidense": "Belege"}})
    for name, text, why in (
        ("less", json.dumps(data), "lacks 'clinician.view_known'"), ("none", "{", "is no JSON"),
        ("odd", odd, "lacks 'joins.about'"), ("spelt", spelt, "unknown field `evidense`"),
    ):  # fmt: skip
        (tmp_path / f"{name}.json").write_text(text, encoding="utf-8")
        with pytest.raises(InputError, match=why):
            load_words(name)
    outsiders_package(tmp_path, "brokenwords", "storyxai.languages", "brk = brokenwords", {"__init__.py": "1 / 0"})
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(InputError, match=r"language 'brk'.*ZeroDivisionError"):
        load_words("brk")
    with pytest.raises(UnknownNameError):
        load_words("../en")


def test_every_path_of_a_record_has_its_place_in_the_schema() -> None:
    def paths(value: object, path: str = "") -> list[str]:
        if isinstance(value, dict):
            return [p for k, v in value.items() for p in paths(v, f"{path}.{k}" if path else k)]
        if isinstance(value, list):
            return [p for i, v in enumerate(value) for p in paths(v, f"{path}.{i}")]
        return [path]

    record = {k: v for k, v in as_record(example_evidence()).items() if k != "gate"}  # its names hold dots
    assert [path for path in paths(record) if unknown_part(path)] == []
    assert unknown_part("findings.<F>.likelihood") == "likelihood" and unknown_part("model.trained_on.<I>.x") == "x"


def radiographer(folder: Path) -> Path:
    path = folder / "radiographer.toml"
    path.write_text(READER, encoding="utf-8")
    return path


def test_a_reader_of_ones_own_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = radiographer(tmp_path)
    evidence = example_evidence()
    story = tell(evidence, str(path))
    assert (story.audience, story.title, story.signed) == ("radiographer", "For the radiographer", True)
    assert [s.text for s in story.sections[1].sentences] == [
        "Look again for pleural effusion, at 0.83.", "Look again for consolidation, at 0.61.",
        "Look again for an enlarged cardiac silhouette, at 0.44.",
    ], "what no record holds is left out"  # fmt: skip
    assert story.sections[0].figures == ("image",), "this reader is shown no map"
    assert story.sections[1].figures == ("gauge/Effusion", "gauge/Consolidation", "gauge/Cardiomegaly")
    page = render_html(story, evidence)
    assert check_page(page, as_record(evidence)) == [] and b"Not yet for reading" in page
    monkeypatch.setenv("STORYXAI_AUDIENCES", str(tmp_path))
    assert "radiographer" in known_audiences() and tell(evidence, "radiographer") == story


def test_an_outsiders_package_brings_a_reader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "from storyxai.story.audiences.contract import Audience\n"
        "def sections(t):\n"
        "    return tuple(t.section('Hello', [t.say('clinician.file')]))\n"
        "nurse = Audience('nurse', sections, title='For the nurse', maps=False)\n"
        "other = 3\n"
    )
    points = "nurse = nursewords:nurse\nodd = nursewords:other\nbad = nursewords:no"
    outsiders_package(tmp_path, "nursewords", "storyxai.audiences", points, {"__init__.py": code})
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "nursewords", raising=False)
    assert tell(example_evidence(), "nurse").title == "For the nurse"
    with pytest.raises(InputError, match="audience 'odd': is no Audience"):
        find_audience("odd")
    with pytest.raises(InputError, match=r"audience 'bad'.*AttributeError"):
        find_audience("bad")


@pytest.mark.parametrize(
    ("old", "new", "why"),
    [
        ("maps = false", "mapz = false", "unknown field `mapz`"),
        ("[findings.<F>.probability|decimal]", "[findings.<F>.probabilty|decimal]", r"line 17: .*no 'probabilty'"),
        ('"clinician.file"', '"clinician.flie"', r"line 10: there is no template 'clinician.flie'"),
        ('key = "radiographer"', 'key = "x y"', "has the key 'x y'"),
        ("[[sections]]", "[[sections", "describes no reader"),
    ],
)
def test_a_readers_file_at_fault_is_named_with_its_line(old: str, new: str, why: str, tmp_path: Path) -> None:
    path = radiographer(tmp_path)
    path.write_text(READER.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=why) as caught:
        find_audience(str(path))
    assert "radiographer.toml" in str(caught.value) and caught.value.mend


def test_a_readers_grade_is_kept_to(tmp_path: Path) -> None:
    strict = dataclasses.replace(find_audience("clinician"), grade=2.0)
    with pytest.raises(EvidenceError, match="clinician's story asks for school grade"):
        tell(example_evidence(), strict)


def mirrored(value: Any) -> Any:
    """Every text below `value` with the letters of its words in reverse: a language that nobody of ours speaks."""
    if isinstance(value, dict):
        return {key: item if key in ("cites", "apart") else mirrored(item) for key, item in value.items()}
    if isinstance(value, list):
        return [mirrored(item) for item in value]
    return re.sub(r"\[[^\]]+\]|\{\w*\}|[A-Za-z]+", lambda m: m[0] if m[0][0] in "[{" else m[0][::-1], value)


def test_a_third_language_copies_the_catalogue_and_is_told_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The language's file, the words of pages and those of the modality, each turned round: no word of English is left."""
    english = json.loads(load_catalogue("en").source.text)
    page = json.loads((Path(page_layout.__file__).parent / "templates" / "en.json").read_text(encoding="utf-8"))
    names = {f"findings.{name}.name": name.replace("_", " ") for name in CHEST_RADIOGRAPH.names}
    data = mirrored({**english, "page": page, "modalities": {"chest_radiograph": {**english_words(CHEST_RADIOGRAPH), **names}}})
    data["numbers"], data["readability"], data["joins"]["names"] = english["numbers"], {"measure": ""}, "lower"
    data["page"]["again"] = page["again"]
    (tmp_path / "rev.json").write_text(json.dumps(data), encoding="utf-8")
    monkeypatch.setenv("STORYXAI_LANGUAGES", str(tmp_path))
    base = example_evidence()
    silent = dataclasses.replace(base.model, limits=(), cannot_see=(), trained_on=())
    evidence = dataclasses.replace(base, model=silent, indication="")
    for audience in AUDIENCES:
        story = tell(evidence, audience, "rev")
        assert check_page(render_html(story, evidence), as_record(evidence)) == [], audience
        told = " ".join(s.text for section in story.sections for s in section.sentences)
        for draft in evidence.prediction.report:  # quoted as the model wrote it
            told = told.replace(draft, "")
        words = set(re.findall(r"[a-z]+", told.lower()))
        assert not words & {"the", "of", "is", "with", "this", "that", "which", "are", "and", "effusion", "likely"}, audience


@pytest.mark.parametrize(("where", "value", "why"), [
    (("clinician", "normal"), "{cuont} of [findings|len].", r"line \d+.*the slot \{cuont\}, which nobody fills.*\{count\}"),
    (("joins", "item"), "{nmae} ({number})", r"line \d+.*\{nmae\}"),
    (("clinician", "view_known"), 3, r"line \d+: template 'clinician.view_known' is no text"),
    (("readability", "measure"), "flesch_kincade", "did you mean 'flesch_kincaid'"),
])  # fmt: skip
def test_a_fault_in_a_languages_file_is_named_with_its_line(
    where: tuple[str, str], value: object, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = toy_language()
    data[where[0]][where[1]] = value
    (tmp_path / "bad.json").write_text(json.dumps(data, indent=1), encoding="utf-8")
    monkeypatch.setenv("STORYXAI_LANGUAGES", str(tmp_path))
    with pytest.raises(InputError, match=why):
        load_words("bad")


def test_the_archive_of_an_older_format_is_told_in_its_own_words() -> None:
    """Where an older storyxai wrote sentences, these stand as remarks of their own words."""
    record = json.loads(json.dumps(as_record(example_evidence())))
    old = {**record, "format": "storyxai-evidence/2"}
    old["gate"]["gate.cropped"] = {"value": 0.72, "limit": 0.6, "passed": False, "about": "Warning: cut off; give all of it."}
    old["heatmaps"]["Consolidation"]["lime"]["withheld_because"] = "the map is empty"
    old["counterfactuals"]["Effusion"][0]["region"] = "the right lung"
    again = from_record(old, arrays_of(example_evidence()))
    text = " ".join(s.text for section in tell(again, "clinician").sections for s in section.sentences)
    assert "Warning: cut off; give all of it." in text and "is withheld: the map is empty." in text
    assert "with the right lung hidden" in text and as_record(again)["doubts"] == []


def test_an_outsiders_modality_brings_words_in_an_outsiders_language(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own sentences are told in that language; those that it has in English alone are the general ones of the language."""
    (tmp_path / "toy.json").write_text(json.dumps(toy_language()), encoding="utf-8")
    monkeypatch.setenv("STORYXAI_LANGUAGES", str(tmp_path))
    ratio = "[concepts.image.cardiothoracic_ratio.value|decimal]"
    words = {
        "modality": "somebodys_eyes",
        "en": {"patient.title": "Your eye", "clinician.measured_1a": f"Cup to disc {ratio}.", "remarks.mine": "of the rim"},
        "toy": {"patient.looked": "Un ordinateur a vu [findings|len] signes.", "clinician.measured_1a": f"Rapport {ratio}."},
    }
    base = example_evidence()
    evidence = dataclasses.replace(base, provenance={**base.provenance, "words": words})
    told = {audience: tell(evidence, audience, "toy") for audience in ("clinician", "patient")}
    text = " ".join(s.text for story in told.values() for section in story.sections for s in section.sentences)
    assert "Un ordinateur a vu 14 signes." in text and "Rapport 0,53." in text and "Cup to disc" not in text
    assert told["patient"].title == toy_language()["patient"]["title"]
    assert load_words("toy", as_record(evidence)).say(Remark("mine")) == "of the rim"
    for story in told.values():
        assert check_page(render_html(story, evidence), as_record(evidence)) == []
