"""The core names no organ and no kind of image: what is chest, skin or breast stands in `modalities`, sources and phantoms.

Code, comments, docstrings, templates and catalogues count alike. A word that belongs to somebody else's standard or package
(a DICOM keyword's value, a file's published name) may stand where `ALLOWED` says why.
"""

from __future__ import annotations

import re
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[1] / "src" / "storyxai"
ELSEWHERE = ("modalities", "data/sources", "phantoms", "models/shipped", "examples")
WORDS = re.compile(
    r"(?<![a-zäöüß])lung|heart|thora[xck]|chest|\bribs?\b|clavicle|pleura|effusion|pneumo|atelect|consolidation|\bo?edema|"
    r"emphysema|hernia|nodule|cardio|cardiac|mediastin|diaphragm|perihil|costophren|hilum|\bhila\b|radiograph|radiogram|x-ray|"
    r"\bcxr\b|mammo|lesion|\bskin|\bmoles?\b|melanom|naev|\bdermo|dermat|breast|ultraso|opacit(?:y|ies) (?:of|in) |"
    r"herz|brust|röntgen|\brippe|schlüsselbein|erguss|ergüsse|pneumonie|atelekt|zwerchfell|rundherd|verschattung|ödem|"
    r"läsion|(?<![a-zäöüß])haut|muttermal|leberfleck|nävus|sonogra",
    re.IGNORECASE,
)
"""Names of organs and of kinds of images, English and German; "Beurteilung" and "Behandlung" end like a lung and are none."""
TEXT = (".py", ".json", ".toml", ".html", ".css", ".js", ".md", ".txt", ".ftl")
ALLOWED = {
    "imaging/tags.py": "values of DICOM's Body Part Examined and their codes, as files of any part of the body write them",
    "imaging/dicom.py": "names of DICOM's modalities, said of a file that is refused",
    "node/intake.py": "names of DICOM's SOP classes",
    "models/teachers/packages.py": "names of the files that TorchXRayVision downloads",
    "story/readability.py": "syllables of English words that the rule of thumb miscounts, whatever the text is about",
}
"""Whose words they are, by file."""
MOST_ALLOWED = 14


def lines_that_name_one() -> list[tuple[str, int, str]]:
    """(file, line number, line) of every line of the core that names an organ or a kind of image."""
    found = []
    for path in sorted(SOURCE.rglob("*")):
        name = path.relative_to(SOURCE).as_posix()
        if path.suffix in TEXT and not name.startswith(ELSEWHERE):
            lines = path.read_text(encoding="utf-8").splitlines()
            found += [(name, number, line.strip()) for number, line in enumerate(lines, 1) if WORDS.search(line)]
    return found


def test_the_core_names_no_organ_and_no_kind_of_image() -> None:
    strange = [f"{name}:{number}: {line[:140]}" for name, number, line in lines_that_name_one() if name not in ALLOWED]
    assert strange == []


def test_what_is_allowed_is_little_and_used() -> None:
    named = [name for name, _, _ in lines_that_name_one() if name in ALLOWED]
    assert set(named) == set(ALLOWED) and len(named) <= MOST_ALLOWED


def test_the_rule_sees_what_it_is_for() -> None:
    for line in (
        'names = ("left_lung",)', "# the heart's shadow", '"title": "Your chest X-ray"', "a skin lesion", "thoracic", "a mole",
        "dermoscopy", "the breast", "pleura", "mit dem Grau dunklerer Lunge", "Herz-Thorax-Quotient", "Röntgenbild der Brust",
        "die Haut ringsum", "ein Muttermal", "der Pleuraerguss", "Lungenumrisse", "linke_lunge",
    ):
        assert WORDS.search(line), line
    for line in (
        "a change in the picture", "opacity: 0.5", "the distribution of values", "structures that were drawn", "molecule",
        "Beurteilung der Regelung", "Behandlung", "überhaupt", "Hauptkomponente", "stripped",
    ):
        assert not WORDS.search(line), line
