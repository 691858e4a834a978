"""The modalities that are known, by key: built in, installed with a package of yours, or written in a TOML file.

A package names its modality under the entry point group "storyxai.modalities": key = "package.module:MODALITY".
A file names findings and structures as data (docs/how-to/add-a-modality.md); a model's folder may hold one, "modality.toml".
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any, TypeVar

from storyxai.catalogue.language import Language
from storyxai.errors import InputError, UnknownNameError, nearest_name
from storyxai.modalities.any_image import GateLimits, gate_within, plain_filling
from storyxai.modalities.contract import Acquisition, Code, FindingTerm, Modality, NeutralFilling, Structure, WhatIf
from storyxai.modalities.words import english_words, flat_words, words_in
from storyxai.provenance import read_provenance

__all__ = [
    "DEFAULT_MODALITY", "ENTRY_POINTS", "MODALITY_FILE", "is_built_in", "modality_bytes", "modality_keys", "modality_named",
    "modality_of", "read_modality", "with_outlines", "words_on_record",
]

DEFAULT_MODALITY = "chest_radiograph"
"""The modality of a model whose card names none."""
ENTRY_POINTS = "storyxai.modalities"
MODALITY_FILE = "modality.toml"
_BUILT_IN: Mapping[str, str] = {
    "chest_radiograph": "storyxai.modalities.chest_radiograph.modality:CHEST_RADIOGRAPH",
    "dermoscopy": "storyxai.modalities.dermoscopy.modality:DERMOSCOPY",
}
_PARTS = (
    "key", "name", "words", "acquisition", "findings", "structures", "what_ifs", "gate", "filling", "limits", "cannot_see",
)
_FILLING_QUANTILE = 0.25
_T = TypeVar("_T")


def modality_keys() -> tuple[str, ...]:
    """The keys that `modality_named` knows, sorted."""
    return tuple(sorted({*_BUILT_IN, *(point.name for point in entry_points(group=ENTRY_POINTS))}))


def is_built_in(key: str) -> bool:
    """Whether the modality called `key` is one of ours, whose words need not go with the evidence."""
    return key in _BUILT_IN


def words_on_record(record: Mapping[str, object], language: str, told: Language) -> tuple[str, dict[str, str]]:
    """The key of the modality that an evidence record tells of, and its words: of a built-in one ours, else those on record.

    `told` is the language's file, whose "modalities" may hold its words for this one, which go before all others.
    """
    made = read_provenance(record["provenance"])
    named, spoken = made.words.get("modality"), {code: own for code, own in made.words.items() if isinstance(own, Mapping)}
    key = named if isinstance(named, str) and named else made.settings.modality or DEFAULT_MODALITY
    own, english = _built_in_words(key, language) if is_built_in(key) else (spoken.get(language, {}), spoken.get("en", {}))
    return key, {**words_in(own, english, told), **flat_words(told.modalities.get(key, {}))}


@lru_cache(maxsize=16)
def _built_in_words(key: str, language: str) -> tuple[Mapping[str, str], Mapping[str, str]]:
    modality = modality_named(key)
    return modality.words.get(language, {}), english_words(modality)


def modality_named(key: str = DEFAULT_MODALITY) -> Modality:
    """The modality called `key`. Raises: UnknownNameError naming the nearest; InputError where a package of it is broken."""
    if key in _BUILT_IN:
        module, _, attribute = _BUILT_IN[key].partition(":")
        built_in: Modality = getattr(import_module(module), attribute)
        return built_in
    point = next((point for point in entry_points(group=ENTRY_POINTS) if point.name == key), None)
    if point is None:
        raise UnknownNameError("modality", key, modality_keys())
    return _loaded(point)


def modality_of(named: str, *, beside: Path | None = None) -> Modality:
    """The modality that a card or a recipe names: a key, or a TOML file (or its folder), relative to the folder `beside`.

    "" is the default one. A "modality.toml" of that key in the folder goes before an installed one: it came with the model.
    """
    if _is_path(named, beside):
        return read_modality((beside or Path()) / named)
    if beside is not None and (beside / MODALITY_FILE).is_file():
        came_with = read_modality(beside / MODALITY_FILE)
        if came_with.key == named:
            return came_with
    return modality_named(named or DEFAULT_MODALITY)


def modality_bytes(named: str) -> bytes:
    """The file that describes the modality which a recipe names; empty where it is one of ours or of a package."""
    path = Path(named)
    return (path / MODALITY_FILE if path.is_dir() else path).read_bytes() if _is_path(named, None) else b""


def with_outlines(figures: Any) -> Any:
    """The figures of a model, those of its outlines under that name: before, the default modality's pair gave it."""
    pair = modality_named(DEFAULT_MODALITY).pair
    if not isinstance(figures, Mapping) or pair is None or pair.name not in figures or "outlines" in figures:
        return figures
    return {"outlines" if key == pair.name else key: value for key, value in figures.items()}


def _is_path(named: str, beside: Path | None) -> bool:
    return bool(named) and (named.endswith(".toml") or ((beside or Path()) / named / MODALITY_FILE).is_file())


def read_modality(path: Path) -> Modality:
    """The modality of a TOML file, or of "modality.toml" in a folder.

    Raises: InputError naming the file and what is wrong in it; for an unknown key also the nearest known one.
    """
    file = path / MODALITY_FILE if path.is_dir() else path
    try:
        return _read(str(file), file.read_bytes())
    except OSError as error:
        mend = "give a TOML file, or a folder that holds modality.toml"
        raise InputError(str(file), f"cannot be read ({error.strerror})", mend=mend) from error


@lru_cache(maxsize=16)
def _read(what: str, data: bytes) -> Modality:
    try:
        record = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise InputError(what, f"is no TOML ({error})", mend="put the line right") from error
    _require_known(what, record, _PARTS, "")
    try:
        return Modality(
            key=str(record.get("key", "")),
            name=str(record.get("name", "")),
            findings=tuple(_finding(what, item) for item in _tables(what, record, "findings")),
            structures=tuple(
                _built(Structure, what, item, "structures", leave=("fault", "codes"))
                for item in _tables(what, record, "structures")
            ),
            what_ifs=tuple(_built(WhatIf, what, item, "what_ifs") for item in _tables(what, record, "what_ifs")),
            gate=gate_within(_built(GateLimits, what, _table(what, record, "gate"), "gate")) if "gate" in record else None,
            filling=_filling(what, _table(what, record, "filling")) if "filling" in record else None,
            limits=_texts(what, record, "limits"),
            cannot_see=_texts(what, record, "cannot_see"),
            acquisition=_built(Acquisition, what, _table(what, record, "acquisition"), "acquisition"),
            words={lang: flat_words(_table(what, words, lang))
                   for words in (_table(what, record, "words"),) for lang in words},
        )
    except InputError as error:
        if error.what.startswith(what):
            raise
        raise InputError(f"{what}: {error.what}", error.why, mend=error.mend) from error


def _loaded(point: EntryPoint) -> Modality:
    what = f"modality '{point.name}'"
    try:
        found = point.load()
    except Exception as error:  # whatever a stranger's module raises when it is imported
        why = f"cannot be imported from {point.value} ({type(error).__name__}: {error})"
        raise InputError(what, why, mend="mend or remove the package that brings it") from error
    if not isinstance(found, Modality) or found.key != point.name:
        why = f"is not what {point.value} holds"
        raise InputError(what, why, mend=f"let it be a Modality whose key is '{point.name}'")
    return found


def _texts(what: str, record: Mapping[str, object], key: str) -> tuple[str, ...]:
    given = record.get(key, [])
    if not isinstance(given, list) or not _fits(tuple(given), "tuple[str, ...]"):
        raise InputError(f"{what}: {key}", f"is {given!r}", mend=f"write {_WORDS['tuple[str, ...]']}")
    return tuple(given)


def _filling(what: str, item: Mapping[str, object]) -> NeutralFilling:
    _require_known(what, item, ("structures", "quantile"), "filling")
    named, quantile = item.get("structures"), item.get("quantile", _FILLING_QUANTILE)
    if not named or not isinstance(named, list) or not _fits(tuple(named), "tuple[str, ...]"):
        raise InputError(f"{what}: filling.structures", f"is {named!r}", mend=f"write {_WORDS['tuple[str, ...]']}")
    if not _fits(quantile, "float"):
        raise InputError(f"{what}: filling.quantile", f"is {quantile!r}", mend=f"write {_WORDS['float']}")
    return plain_filling(tuple(named), float(str(quantile)))


def _finding(what: str, item: Mapping[str, object]) -> FindingTerm:
    codes = tuple(Code(str(value), scheme) for scheme, value in _table(what, item, "codes").items())
    rest = {key: value for key, value in item.items() if key != "codes"}
    return _built(FindingTerm, what, {**rest, "codes": codes} if codes else rest, "findings")


def _built(kind: type[_T], what: str, item: Mapping[str, object], table: str, *, leave: Sequence[str] = ()) -> _T:
    _require_known(what, item, [field.name for field in fields(kind) if field.name not in leave], table)  # type: ignore[arg-type]
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in item.items()}
    wanted = {field.name: str(field.type) for field in fields(kind)}  # type: ignore[arg-type]
    for key, value in values.items():
        if not _fits(value, wanted[key]):
            raise InputError(f"{what}: {table}.{key}", f"is {value!r}", mend=f"write {_WORDS[wanted[key]]}")
    try:
        return kind(**values)
    except TypeError as error:
        why = f"lacks a field ({error})"
        raise InputError(f"{what}: [{table}]", why, mend="give every finding and structure its name") from error


_WORDS = {"str": "a text", "bool": "true or false", "tuple[str, ...]": "a list of texts", "Literal[1, 3]": "1 or 3",
          "float": "a number"}


def _fits(value: object, wanted: str) -> bool:
    if wanted == "tuple[str, ...]":
        return isinstance(value, tuple) and all(isinstance(item, str) for item in value)
    if wanted == "Literal[1, 3]":
        return value in (1, 3) and not isinstance(value, bool)
    if wanted == "float":
        return isinstance(value, int | float) and not isinstance(value, bool)
    return not (wanted == "str" and not isinstance(value, str)) and not (wanted == "bool" and not isinstance(value, bool))


def _tables(what: str, record: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    found = record.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise InputError(f"{what}: {key}", "is not a list of tables", mend=f"write [[{key}]] before each")
    return found


def _table(what: str, record: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = record.get(key, {})
    if not isinstance(found, dict):
        raise InputError(f"{what}: {key}", "is not a table", mend=f"write [{key}] before its lines")
    return found


def _require_known(what: str, record: Mapping[str, object], known: Sequence[str], table: str) -> None:
    where = f" in [{table}]" if table else ""
    for key in record:
        if key not in known:
            nearest = nearest_name(key, known)
            mend = f"did you mean '{nearest}'? " if nearest else ""
            raise InputError(what, f"has an unknown key '{key}'{where}", mend=f"{mend}known: {', '.join(known)}")
