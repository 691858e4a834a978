"""Tellers that cost nothing, for the node's tests and benchmarks: picklable, for they are called in another process."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from storyxai.node.press import Press
from storyxai.node.workers import Outcome, RefusedFilm, ToldFilm
from storyxai.provenance import sha256_file


@dataclass(frozen=True)
class FakeTeller:
    """Copies each film as its own answer."""

    seconds: float = 0.0

    def __call__(self, films: Sequence[Path], out: Path, press: Press) -> Outcome:
        time.sleep(self.seconds)
        told = []
        for film in films:
            digest = sha256_file(film)
            objects = out / "objects" / digest[:12]
            objects.mkdir(parents=True)
            (objects / "report.dcm").write_bytes(film.read_bytes())
            (out / "stories" / digest[:12]).mkdir(parents=True)
            told.append(ToldFilm(film.name, f"study-{digest[:12]}", digest, "fake", "0" * 64, "fake 1", digest[:12]))
        return Outcome(tuple(told))


def refuse(films: Sequence[Path], out: Path, press: Press) -> Outcome:
    return Outcome((), tuple(RefusedFilm(film.name, "GateRefusal", "not a chest") for film in films))


def die(films: Sequence[Path], out: Path, press: Press) -> Outcome:
    os._exit(9)


def hang(films: Sequence[Path], out: Path, press: Press) -> Outcome:
    time.sleep(60)
    raise AssertionError


def break_down(films: Sequence[Path], out: Path, press: Press) -> Outcome:
    raise RuntimeError("a fault of ours")
