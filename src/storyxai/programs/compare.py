"""Two told studies compared, from their archives: as text, as JSON or as one page."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Final

from storyxai.errors import UnknownNameError
from storyxai.evidence.archive import read_archive
from storyxai.evidence.compare import Comparison
from storyxai.evidence.compare import compare as compare_evidence
from storyxai.files import write_whole
from storyxai.pages.comparison import render_comparison, say_comparison
from storyxai.types import RESEARCH_USE, Evidence

FORMAT = "storyxai-comparison/1"
ENDINGS: Final = {".html": "html", ".json": "json", ".txt": "text"}


def compare(a: Path, b: Path, *, form: str = "", out: Path | None = None, language: str = "en") -> bytes:
    """The comparison of the studies in `a` and `b` ("text", "json" or "html"), also written to `out` where that is named.

    Without a `form` the ending of `out` says it; else it is text. Raises: ArchiveError for what is no sound study; InputError
    for a pair that cannot be compared; UnknownNameError for another form; OutputError.
    """
    wanted = form or ENDINGS.get(out.suffix.lower() if out else "", "text")
    if wanted not in FORMS:
        raise UnknownNameError("form", wanted, FORMS)
    first, second = read_archive(a), read_archive(b)
    made = FORMS[wanted](compare_evidence(first, second), first, second, language)
    if out is not None:
        write_whole(made, out)
    return made


def _text(found: Comparison, a: Evidence, b: Evidence, language: str) -> bytes:
    return say_comparison(found, a, language).encode()


def _json(found: Comparison, a: Evidence, b: Evidence, language: str) -> bytes:
    record = {"format": FORMAT, "research_use": RESEARCH_USE, **asdict(found)}
    return (json.dumps(record, indent=1, sort_keys=True, ensure_ascii=False) + "\n").encode()


FORMS: Final[Mapping[str, Callable[[Comparison, Evidence, Evidence, str], bytes]]] = {
    "text": _text, "json": _json, "html": render_comparison,
}
"""What each word after --format makes of a comparison."""
