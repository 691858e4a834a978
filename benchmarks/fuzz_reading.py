"""What reading does with broken files: python fuzz_reading.py [COUNT] [--kinds pictures|tables|all] [--guided SECONDS]

Takes sound small files of every kind that is read, breaks them at random (seeded) and reads them. Anything but an Image
or a ReadError is a crash; anything above two seconds of processor time is slow; one above a minute ends the run with a
traceback. Files that crash or are slow are kept, with their number. With --guided atheris chooses the bytes by the branches
they reach.
"""

from __future__ import annotations

import argparse
import faulthandler
import io
import os
import resource
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as PillowImage

from storyxai.errors import InputError, ReadError
from storyxai.imaging.read import read_image

SLOW_S = 2.0
HUNG_S = 60.0
LONGEST_REFUSAL = 1000
Mutation = Callable[[bytearray, np.random.Generator], bytearray]


@dataclass
class Report:
    """Counts of outcomes, the numbers of files that crashed or were slow, and the costliest figures."""

    outcomes: Counter[str] = field(default_factory=Counter)
    crashes: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    peak_mib: float = 0.0


def seeds() -> dict[str, bytes]:
    """Sound small files by name; those that begin with "apart" are decoded in a process of their own."""
    grey = (np.add.outer(np.arange(80), 2 * np.arange(72)) % 251).astype(np.uint8)
    deep = grey.astype(np.uint16) * 200
    film = PillowImage.fromarray(grey)
    exif = PillowImage.Exif()
    exif[0x0112] = 6
    return {
        "grey.png": _saved(film, "PNG"),
        "deep.png": _saved(PillowImage.fromarray(deep), "PNG"),
        "palette.png": _saved(film.convert("P"), "PNG", transparency=3),
        "rgba.png": _saved(film.convert("RGBA"), "PNG"),
        "grey.jpg": _saved(film, "JPEG", exif=exif),
        "progressive.jpg": _saved(film.convert("RGB"), "JPEG", progressive=True),
        "ink.jpg": _saved(film.convert("CMYK"), "JPEG"),
        "deep.tif": _saved(PillowImage.fromarray(deep), "TIFF"),
        "apart_lzw.tif": _saved(film, "TIFF", compression="tiff_lzw"),
        "plain.dcm": dicom_bytes(deep, "1.2.840.10008.1.2.1"),
        "implicit.dcm": dicom_bytes(deep, "1.2.840.10008.1.2"),
        "big_endian.dcm": dicom_bytes(deep, "1.2.840.10008.1.2.2"),
        "bare.dcm": dicom_bytes(deep, "1.2.840.10008.1.2.1")[132:],
        "shutter.dcm": dicom_bytes(deep, "1.2.840.10008.1.2.1", **_SHUTTERS),
        "tables.dcm": dicom_bytes(grey.astype(np.uint16), "1.2.840.10008.1.2.1", tables=True),
        "apart_jpeg.dcm": dicom_bytes(grey, "1.2.840.10008.1.2.4.50", frame=_saved(film, "JPEG")),
        "apart_rle.dcm": dicom_bytes(grey, "1.2.840.10008.1.2.5", frame=_rle(grey)),
        "apart_jpeg2000.dcm": dicom_bytes(grey, "1.2.840.10008.1.2.4.90", frame=_saved(film, "JPEG2000", no_jp2=True)),
    }


_SHUTTERS: dict[str, object] = {
    "ShutterShape": ["RECTANGULAR", "CIRCULAR", "POLYGONAL"], "ShutterPresentationValue": 100, "PixelPaddingRangeLimit": 3,
    "ShutterLeftVerticalEdge": 3, "ShutterRightVerticalEdge": 70, "ShutterUpperHorizontalEdge": 2,
    "ShutterLowerHorizontalEdge": 78, "CenterOfCircularShutter": [40, 36], "RadiusOfCircularShutter": 45,
    "VerticesOfThePolygonalShutter": [2, 2, 2, 70, 78, 70, 78, 2], "SeriesDescription": "CHEST PA",
}  # fmt: skip


def _saved(picture: PillowImage.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def _rle(grey: np.ndarray) -> bytes:
    """Literal runs only, each row in runs of at most 128 bytes."""
    rows = b"".join(bytes([grey.shape[1] - 1]) + row.tobytes() for row in grey)
    return struct.pack("<16I", 1, 64, *[0] * 14) + rows + b"\0" * (len(rows) % 2)


def dicom_bytes(stored: np.ndarray, syntax: str, *, tables: bool = False, frame: bytes = b"", **more: object) -> bytes:
    """A small computed radiograph of these stored values as a DICOM file, `frame` in place of plain pixels, `more` elements."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.encaps import encapsulate
    from pydicom.uid import UID

    film = Dataset()
    film.SOPClassUID, film.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.1", "1.2.3.4"
    film.Modality, film.PatientSex, film.PatientAge, film.ViewPosition = "CR", "F", "045Y", "PA"
    film.PatientOrientation = ["L", "F"]
    film.Rows, film.Columns = stored.shape
    film.SamplesPerPixel, film.PixelRepresentation = 1, 0
    film.PhotometricInterpretation = "MONOCHROME1"
    film.BitsAllocated = film.BitsStored = 8 * stored.dtype.itemsize
    film.HighBit = film.BitsStored - 1
    film.PixelSpacing, film.PixelPaddingValue = [0.14, 0.14], 0
    if tables:
        item = Dataset()
        item.add_new("LUTDescriptor", "US", [256, 0, 16])
        item.add_new("LUTData", "OW", np.arange(256, dtype="<u2").tobytes())
        film.ModalityLUTSequence, film.VOILUTSequence = [item], [item]
    else:
        film.WindowCenter, film.WindowWidth, film.RescaleSlope, film.RescaleIntercept = 25000, 50000, 1, 0
    for name, value in more.items():
        setattr(film, name, value)
    order = ">" if syntax.endswith("1.2.2") else "<"
    film.PixelData = encapsulate([frame]) if frame else stored.astype(f"{order}u{stored.dtype.itemsize}").tobytes()
    film["PixelData"].VR = "OB" if frame else "OW"
    film["PixelData"].is_undefined_length = bool(frame)
    film.file_meta = FileMetaDataset()
    film.file_meta.TransferSyntaxUID = UID(syntax)
    out = io.BytesIO()
    film.save_as(out, enforce_file_format=True)
    return out.getvalue()


def _flip_bits(data: bytearray, rng: np.random.Generator) -> bytearray:
    for at in rng.integers(0, len(data), rng.integers(1, 9)):
        data[at] ^= 1 << int(rng.integers(8))
    return data


def _set_number(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Overwrites 1, 2 or 4 bytes by an awkward number."""
    width = int(rng.choice([1, 2, 4]))
    awkward = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF]
    number = int(rng.choice(awkward)) % (1 << 8 * width)
    at = int(rng.integers(0, max(1, len(data) - width)))
    data[at : at + width] = number.to_bytes(width, "little" if rng.random() < 0.5 else "big")
    return data


def _cut(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: int(rng.integers(0, len(data)))]


def _remove(data: bytearray, rng: np.random.Generator) -> bytearray:
    at = int(rng.integers(0, len(data)))
    del data[at : at + int(rng.integers(1, 64))]
    return data


def _repeat(data: bytearray, rng: np.random.Generator) -> bytearray:
    at, length = int(rng.integers(0, len(data))), int(rng.integers(1, 256))
    return data[:at] + data[at : at + length] * int(rng.integers(2, 50)) + data[at + length :]


def _scatter(data: bytearray, rng: np.random.Generator) -> bytearray:
    at, length = int(rng.integers(0, len(data))), int(rng.integers(1, 32))
    data[at : at + length] = rng.bytes(length)
    return data


MUTATIONS: tuple[Mutation, ...] = (_flip_bits, _set_number, _set_number, _cut, _remove, _repeat, _scatter)


def mutant(sound: dict[str, bytes], number: int, seed: int, *, apart_share: float) -> tuple[str, bytes]:
    """Broken file `number` of run `seed`: the same numbers give the same bytes."""
    rng = np.random.default_rng([seed, number])
    apart = bool(rng.random() < apart_share)
    names = [name for name in sound if name.startswith("apart") == apart]
    name = names[rng.integers(len(names))]
    data = bytearray(sound[name])
    if rng.random() < 0.05:
        other = sound[list(sound)[rng.integers(len(sound))]]
        data = data[: int(rng.integers(1, len(data)))] + other[int(rng.integers(0, len(other))) :]
    for _ in range(int(rng.integers(1, 4))):
        # Headers are short beside pixels and hold most of what can go wrong: half of the changes fall there.
        head = min(len(data), 600) if rng.random() < 0.5 else len(data)
        change = MUTATIONS[rng.integers(len(MUTATIONS))]
        if head:
            data = change(data[:head], rng) + data[head:]
    return name, bytes(data)


def run(count: int, seed: int, *, folder: Path, apart_share: float = 0.01, limit_s: float = float("inf")) -> Report:
    """Reads `count` broken files (fewer when `limit_s` is over) and reports; culprits stay in `folder`."""
    report, sound, begun = Report(), seeds(), time.perf_counter()
    for number in range(count):
        if time.perf_counter() - begun > limit_s:
            break
        name, data = mutant(sound, number, seed, apart_share=apart_share)
        path = folder / f"{seed}_{number}_{name}"
        path.write_bytes(data)
        if not note_outcome(report, path.name, lambda path=path: read_image(path), ReadError):  # type: ignore[misc]
            path.unlink()
    return report


def note_outcome(report: Report, name: str, read: Callable[[], object], typed: type[InputError]) -> bool:
    """Whether the file `name` is a culprit: its reading crashed, was slow, or was refused without a mend."""
    wrong = ""
    faulthandler.dump_traceback_later(HUNG_S, exit=True)
    start = _spent_s()
    try:
        read()
        report.outcomes["read"] += 1
    except typed as refused:
        report.outcomes["refused"] += 1
        if not refused.mend or "\n" in str(refused) or len(str(refused)) > LONGEST_REFUSAL:
            wrong = f"unclear refusal {str(refused)[:300]!r}"
    except BaseException as crash:  # whatever else comes out is what this program looks for
        if isinstance(crash, KeyboardInterrupt):
            raise
        report.outcomes["crashed"] += 1
        wrong = f"{type(crash).__name__}: {str(crash)[:300]}"
    took = _spent_s() - start
    faulthandler.cancel_dump_traceback_later()
    report.slowest_s = max(report.slowest_s, took)
    report.peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    if wrong:
        report.crashes.append(f"{name}: {wrong}")
    if took > SLOW_S:
        report.slow.append(f"{name}: {took:.1f} s")
    return bool(wrong) or took > SLOW_S


def _spent_s() -> float:
    """Processor time of this process and the decoders it waited for: a busy machine makes no file slow."""
    return sum(os.times()[:4])


def tell_report(kind: str, seed: int, report: Report) -> bool:
    """Whether all went well; prints what came of the files."""
    total = sum(report.outcomes.values())
    sys.stdout.write(f"{kind}: {total} files, seed {seed}: {dict(report.outcomes)}; ")
    sys.stdout.write(f"slowest {report.slowest_s:.2f} s of processor time, peak memory {report.peak_mib:.0f} MiB\n")
    for line in [*report.crashes, *report.slow]:
        sys.stdout.write(f"  {line}\n")
    return not (report.crashes or report.slow)


def main() -> int:
    """Prints what came of the broken files; status 1 when one crashed or was slow."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=2000)
    parser.add_argument("--kinds", choices=("pictures", "tables", "all"), default="all", help="all: half of each")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="folder for culprits (left out: a temporary one)")
    parser.add_argument("--limit-s", type=float, default=float("inf"), help="of pictures and of tables each")
    parser.add_argument("--guided", type=float, default=0.0, metavar="SECONDS", help="let atheris choose the bytes")
    chosen = parser.parse_args()
    if chosen.guided:
        import fuzz_guided

        return int(fuzz_guided.main(chosen.kinds, seconds=chosen.guided, keep=chosen.keep))
    fine = True
    with tempfile.TemporaryDirectory() as temporary:
        folder = chosen.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        share = 2 if chosen.kinds == "all" else 1
        if chosen.kinds != "tables":
            done = run(chosen.count // share, chosen.seed, folder=folder, limit_s=chosen.limit_s)
            fine = tell_report("pictures", chosen.seed, done)
        if chosen.kinds != "pictures":
            import fuzz_tables

            done = fuzz_tables.run(chosen.count // share, chosen.seed, folder=folder, limit_s=chosen.limit_s)
            fine = tell_report("tables", chosen.seed, done) and fine
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
