"""The format of evidence that is written, and older ones made into it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from storyxai.modalities.registry import with_outlines
from storyxai.types import Remark

FORMAT = "storyxai-evidence/4"
OLD_FORMATS = ("storyxai-evidence/1", "storyxai-evidence/2", "storyxai-evidence/3")
"""What is written, and what is read beside it."""
BOXED = "box"
"""How counterfactuals call the strongest box of their finding, where a structure has its name."""
NOTICES: Mapping[str, str] = {name: name for name in ("research_use", "advice", "prior", "sign_off", "frame")}
"""What holds for every record: fixed statements that stories may cite, by the codes that a language's file words."""


def upgraded(record: Mapping[str, object]) -> Mapping[str, object]:
    """The record as this format writes it: the words of an older one stand as remarks of its own words.

    The oldest kept the gaps of the card under "gaps", and no others. What is derived and an older record lacks is filled in; it
    is made anew with the evidence.
    """
    derived: dict[str, list[str]] = {"named": [], "doubts": []}
    told = record.get("findings")
    if record.get("format") not in (FORMAT, *OLD_FORMATS) or not isinstance(told, Mapping):
        return record
    findings = {name: {"tier": "cannot_tell", **item} for name, item in told.items()}
    record = {**derived, **record, "findings": findings}
    if record["format"] == FORMAT:
        return record
    before, model = record["format"], with_outlines(record.get("model"))
    record = {**_with_note_remarks(record), "format": FORMAT, "model": model}
    if before == OLD_FORMATS[-1]:
        return record
    if before == OLD_FORMATS[0]:
        record = {**record, "gaps": [], "card_gaps": record.get("gaps", [])}
    return {**_with_remarks(record), "notices": NOTICES}


def _with_note_remarks(record: Mapping[str, object]) -> Mapping[str, object]:
    """The record with the notes on its image as remarks: they were English words once."""
    study = record.get("study")
    image = study.get("image") if isinstance(study, Mapping) else None
    if not isinstance(study, Mapping) or not isinstance(image, Mapping) or not isinstance(image.get("notes"), list):
        return record
    told = [_quoted(text) if isinstance(text, str) else text for text in image["notes"]]
    return {**record, "study": {**study, "image": {**image, "notes": told}}}


def _with_remarks(value: Any) -> Any:
    """The record with its words as remarks, and its regions by their names."""
    if isinstance(value, list):
        return [_with_remarks(item) for item in value]
    if not isinstance(value, Mapping):
        return value
    kept = {key: _with_remarks(item) for key, item in value.items()}
    if isinstance(about := kept.get("about"), str):
        kept |= {"about": _quoted(about)}
        if "passed" in kept:
            kept["warns"] = about.startswith("Warning:")
    if isinstance(why := kept.get("withheld_because"), str):
        kept["withheld_because"] = [_quoted(why)] if why else []
    if "fill" in kept and isinstance(region := kept.get("region"), str):
        kept["region"] = BOXED if region == "the boxed area" else region.removeprefix("the ").replace(" ", "_")
    return kept


def _quoted(text: str) -> object:
    return msgspec.to_builtins(Remark.quoted(text))
