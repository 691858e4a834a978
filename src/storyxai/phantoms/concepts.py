"""Phantoms that show one concept and none of the others, and phantoms that show none: what concept vectors are learnt from."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import count, islice
from typing import Final

from storyxai.errors import UnknownNameError
from storyxai.phantoms.generate import Phantom, generate_phantom, planned

CONCEPTS: Final[Mapping[str, Callable[[frozenset[str], tuple[str, ...]], bool]]] = {
    "dense_focus": lambda findings, devices: bool(findings & {"Nodule", "Mass", "Consolidation"}),
    "line": lambda findings, devices: bool(devices),
    "fluid_level": lambda findings, devices: "Effusion" in findings,
    "enlarged_heart": lambda findings, devices: "Cardiomegaly" in findings,
}
"""What each concept is of a plan: the findings that are drawn, and the devices ("central line", "pacemaker")."""
FIRST_SEED: Final = 7_000_000
"""Seeds from here on: recipes take their phantoms from lower or higher ones."""
FILMS_SEED: Final = 7_500_000


def concept_phantoms(concept: str, number: int, *, size: int) -> Iterator[Phantom]:
    """`number` phantoms that show `concept` and no other one; "" for those that show none of them.

    Raises: UnknownNameError naming the nearest.
    """
    if concept and concept not in CONCEPTS:
        raise UnknownNameError("concept", concept, CONCEPTS)
    wanted = {concept} if concept else set()
    seeds = (one for one in count(FIRST_SEED) if {name for name, shows in CONCEPTS.items() if shows(*planned(one))} == wanted)
    return (generate_phantom(one, size=size) for one in islice(seeds, number))


def films_of_all_kinds(number: int, *, size: int) -> Iterator[Phantom]:
    """`number` phantoms as they come, none of which `concept_phantoms` gives."""
    return (generate_phantom(one, size=size) for one in range(FILMS_SEED, FILMS_SEED + number))
