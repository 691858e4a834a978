"""How many radiographs are read a second, by kind and worker count: python reading_speed.py [--workers N] [--told FILM]

JPEG: films of NIH ChestX-ray14 (real data beside the checkout; left out where absent). DICOM: made here, 2048 x 2048,
16 bits, uncompressed and as 8-bit PNG. Memory is the worst worker's. With --told (a frontal chest film, any size) a cold
`storyxai tell` of that film as DICOM of 2048 x 2048 pixels is held against one of 512 x 512, in processor time, in turns.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from types import ModuleType

import numpy as np
from PIL import Image as PillowImage

from storyxai.imaging.read import read_image

ROOT = Path(__file__).resolve().parents[1]


def _read_all(paths: list[Path]) -> float:
    """Reads the files; the worker's peak memory in MiB."""
    for path in paths:
        read_image(path)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measured(paths: list[Path], workers: int) -> tuple[float, float]:
    """Files a second over all workers, their start left out, and the peak memory of the worst in MiB."""
    parts = [paths[worker::workers] for worker in range(workers)]
    with ProcessPoolExecutor(workers) as pool:
        list(pool.map(_read_all, [part[:1] for part in parts]))
        start = time.perf_counter()
        peaks = list(pool.map(_read_all, parts))
        return len(paths) / (time.perf_counter() - start), max(peaks)


def _fuzzer() -> ModuleType:
    """The neighbour script, which knows how to write small DICOM files."""
    spec = importlib.util.spec_from_file_location("fuzz_reading", Path(__file__).with_name("fuzz_reading.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz_reading"] = module
    spec.loader.exec_module(module)
    return module


def told_ratio(film: Path, *, rounds: int = 3) -> tuple[float, float]:
    """The least processor seconds of a cold `tell` of the film at 512 and at 2048 pixels a side, taken in turns."""
    least = {512: float("inf"), 2048: float("inf")}
    picture = PillowImage.open(film).convert("L")
    with tempfile.TemporaryDirectory() as temporary:
        for _ in range(rounds):
            for side in least:
                path, out = Path(temporary) / f"{side}.dcm", Path(temporary) / "out"
                stored = np.asarray(picture.resize((side, side), PillowImage.Resampling.BICUBIC)).astype(np.uint16) * 16
                path.write_bytes(_fuzzer().dicom_bytes(
                    stored, "1.2.840.10008.1.2.1", PhotometricInterpretation="MONOCHROME2", BitsStored=12, HighBit=11,
                    WindowCenter=2048, WindowWidth=4096,
                ))  # fmt: skip
                before = os.times()
                subprocess.run([sys.executable, "-m", "storyxai", "tell", path, "--out", out], check=True, capture_output=True)
                after = os.times()
                shutil.rmtree(out)
                spent = after.children_user + after.children_system - before.children_user - before.children_system
                least[side] = min(least[side], spent)
    return least[512], least[2048]


def main() -> None:
    """Prints one line per kind of file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--told", type=Path, help="a film to be told at two sizes; nothing else is measured then")
    chosen = parser.parse_args()
    if chosen.told:
        small, large = told_ratio(chosen.told)
        sys.stdout.write(f"cold tell, processor time: {small:.2f} s at 512, {large:.2f} s at 2048: ratio {large / small:.2f}\n")
        return
    rng = np.random.default_rng(0)
    rows: list[tuple[str, list[Path]]] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        smooth = np.add.outer(np.arange(2048), np.arange(2048)) * 10
        stored = (smooth + rng.integers(0, 500, smooth.shape)).astype(np.uint16)
        (folder / "film.dcm").write_bytes(_fuzzer().dicom_bytes(stored, "1.2.840.10008.1.2.1"))
        PillowImage.fromarray((stored[:1024, :1024] >> 7).astype(np.uint8)).save(folder / "film.png")
        rows.append(("DICOM 2048 x 2048 x 16", [folder / "film.dcm"] * chosen.count))
        rows.append(("PNG 1024 x 1024 x 8", [folder / "film.png"] * chosen.count))
        films = sorted((ROOT.parent / "shared" / "data" / "nih" / "images").glob("*.jpg"))[: 10 * chosen.count]
        if films:
            rows.append(("NIH JPEG, longest side 512", films))
        for name, paths in rows:
            rate, peak = measured(paths, chosen.workers)
            sys.stdout.write(f"{name:28} {rate:7.1f} a second, {chosen.workers} workers, peak {peak:.0f} MiB\n")


if __name__ == "__main__":
    main()
