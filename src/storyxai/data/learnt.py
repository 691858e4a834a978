"""What a card says of the sets that its student learned from: name, size, licence, limits, and what may be passed on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from storyxai.data.sources import Source, may_be_passed_on, source_of
from storyxai.data.table import StudyTable
from storyxai.model_facts import DataSet

if TYPE_CHECKING:  # `evaluate` and the reading of a recipe need no torch
    from storyxai.data.batches import Examples

__all__ = ["Origin", "learnt_sets", "learnt_sources", "origins_of", "weights_licence"]


@dataclass(frozen=True)
class Origin:
    """Where the images of a set come from: the sources that their tables name, and the licences of the images ("": none)."""

    sources: tuple[str, ...]
    licences: tuple[str, ...] = ()


def origins_of(names: Sequence[str], tables: Sequence[StudyTable]) -> dict[str, Origin]:
    """The origin of the images of each set; `names` call each table's images, "" by their source."""
    found: dict[str, Origin] = {}
    for name, table in zip(names, tables, strict=True):
        for source, rows in table.frame.groupby("source"):
            before = found.get(name or str(source), Origin(()))
            sources, licences = {*before.sources, str(source)}, {*before.licences, *rows["license"]}
            found[name or str(source)] = Origin(tuple(sorted(sources)), tuple(sorted(licences)))
    return found


def learnt_sets(train: Examples, origins: Mapping[str, Origin]) -> tuple[DataSet, ...]:
    """Name, size, licence and limits of each set in `train`, by its domain."""
    return tuple(_learnt_set(train, domain, _origin(domain, origins)) for domain in sorted(set(train.domain)))


def learnt_sources(train: Examples, origins: Mapping[str, Origin]) -> tuple[str, ...]:
    """The sources, as tables name them, of the images of people in `train`."""
    named = {source for domain in set(train.domain) for source in _origin(domain, origins).sources}
    return tuple(sorted(named - {"phantom"}))


def weights_licence(train: Examples, origins: Mapping[str, Origin], licence: str) -> str:
    """`licence`, under which what learned from `train` may be passed on, or the sets whose terms do not let it be."""
    bound = [
        source.name for domain in sorted(set(train.domain)) for source in _sources(_origin(domain, origins))
        if may_be_passed_on(source, _origin(domain, origins).licences) is False
    ]
    return f"not to be passed on: see the terms of {'; '.join(dict.fromkeys(bound))}" if bound else licence


def _learnt_set(train: Examples, domain: str, origin: Origin) -> DataSet:
    rows = [row for row, name in enumerate(train.domain) if name == domain]
    sources = _sources(origin)
    name = " and ".join(source.name for source in sources)
    licences = [source.licence for source in sources if source.licence] or [one or "none given" for one in origin.licences]
    stated = "" if set(licences) <= {"none given"} else ", ".join(dict.fromkeys(licences))
    limits = [limit for source in sources for limit in source.limits]
    limits += [
        f"The terms of {source.name} do not let weights that learned from it be passed on." for source in sources
        if may_be_passed_on(source, origin.licences) is False
    ]
    return DataSet(
        name if domain in {source.key for source in sources} else f"{name}, part {domain}",
        len({train.ids[row] for row in rows}), len({train.patient_ids[row] for row in rows}), stated,
        all(source.synthetic for source in sources), tuple(dict.fromkeys(limits)),
    )


def _origin(domain: str, origins: Mapping[str, Origin]) -> Origin:
    return origins.get(domain, Origin((domain,)))


def _sources(origin: Origin) -> list[Source]:
    """What is known of the origin's sources; of one that is not ours only its name."""
    return [source_of(name) or Source(name, name) for name in origin.sources]
