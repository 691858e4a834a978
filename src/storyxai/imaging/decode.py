"""Decoding of compressed frames in a process that can be lost.

Run as a script this file is that process: it needs numpy, pydicom and the codecs only, gives itself limits of memory and
time, reads one frame on standard input and writes the pixels to standard output. A codec that crashes, hangs or eats
memory takes nobody with it, and what it writes to the console is caught.
"""

from __future__ import annotations

import io
import json
import math
import os
import signal
import subprocess
import sys
from typing import Any

import numpy as np
from numpy.typing import NDArray

MEMORY_LIMIT_BYTES = 3 << 29
# On top of what the pixels need. A hanging codec burns its processor time first; the wall time is very long, since a
# sound file must not be refused because the machine is busy.
GRACE_S = 600.0
_GRACE_CPU_S = 10
_DAMAGE = (ValueError, RuntimeError, MemoryError, OSError, LookupError, TypeError, AttributeError, SyntaxError)
_DTYPES = ("uint8", "int8", "uint16", "int16")
_TIFF = "tiff"


class DecodeError(ValueError):
    """Pixel data that could not be found or decoded within the limits; `mend` says what to do."""

    def __init__(self, why: str, *, mend: str = "export the image again, uncompressed if possible") -> None:
        self.mend = mend
        super().__init__(why)


def decode_apart(
    frame: bytes, *, syntax: str, rows: int, columns: int, bits: tuple[int, int], signed: bool, colours: str = ""
) -> NDArray[Any]:
    """The pixels of one compressed frame, decoded by pydicom in a process of its own.

    Shapes: [rows, columns], 8 or 16 bits, signed as pydicom decides; with `colours` (the photometric interpretation) red, green
    and blue, [rows, columns, 3]. `bits` is Bits Allocated and Bits Stored.
    Raises: DecodeError when the decoder fails, crashes, runs out of its limits or gives another size.
    """
    about: dict[str, str | int] = {"syntax": syntax, "bits_allocated": bits[0], "bits_stored": bits[1]}
    about["pixel_representation"] = int(signed)
    if colours:
        about |= {"photometric_interpretation": colours, "samples_per_pixel": 3, "planar_configuration": 0}
    shape = (rows, columns, 3) if colours else (rows, columns)
    name, body = _served(frame, rows=rows, columns=columns, about=about)
    if name not in _DTYPES or len(body) != math.prod(shape) * np.dtype(name).itemsize:
        raise DecodeError(f"its pixel data hold another size than the {columns} x {rows} pixels of the header")
    return np.frombuffer(body, dtype=name).reshape(shape)


def unpack_tiff_apart(data: bytes, *, rows: int, columns: int) -> bytes:
    """A compressed TIFF file as an uncompressed one, unpacked in a process of its own.

    libtiff has a long history of faults and writes its complaints straight to the console. Raises: DecodeError.
    """
    return _served(data, rows=rows, columns=columns, about={"syntax": _TIFF})[1]


def _served(data: bytes, *, rows: int, columns: int, about: dict[str, str | int]) -> tuple[str, bytes]:
    """What the process of its own answers: the name of a dtype, and the pixels' bytes."""
    pixels_s = rows * columns / 4e6
    limit_s, cpu_s = GRACE_S + pixels_s, _GRACE_CPU_S + int(pixels_s)
    order = json.dumps({"rows": rows, "columns": columns, "cpu_s": cpu_s, **about})
    # -P keeps this folder off the child's path, where read.py or values.py could stand in for a library's module.
    call = [sys.executable, "-P", __file__]
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    try:
        done = subprocess.run(
            call,
            input=order.encode() + b"\n" + data,
            capture_output=True,
            timeout=limit_s,
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise DecodeError(f"its pixel data were not decoded within {limit_s:.0f} s") from late
    if done.returncode == 3:
        said = " ".join(done.stderr.decode("utf-8", "replace").split()).rpartition("available plugins: ")[2]
        raise DecodeError(f"its pixel data cannot be decoded ({said[:160].strip()})")
    if sys.platform != "win32" and done.returncode == -signal.SIGXCPU:
        raise DecodeError(f"its pixel data were not decoded within {cpu_s} s of the processor's time")
    if done.returncode != 0:
        raise DecodeError(f"its pixel data made the decoder stop (status {done.returncode})")
    name, _, body = done.stdout.partition(b"\n")
    return name.decode("ascii", "replace"), body


def _decode(data: bytes, *, syntax: str, **about: Any) -> NDArray[Any]:
    if syntax == _TIFF:
        return np.frombuffer(_unpacked_tiff(data), dtype=np.uint8)
    from pydicom.encaps import encapsulate
    from pydicom.pixels import get_decoder
    from pydicom.uid import RLELossless

    one_frame = {"number_of_frames": 1, "samples_per_pixel": 1, "photometric_interpretation": "MONOCHROME2", **about}
    # One decoder each: where it fails the file is damaged, and a more lenient one would show something.
    plugin = "pydicom" if syntax == RLELossless else "pylibjpeg"
    pixels, _ = get_decoder(syntax).as_array(
        encapsulate([data]), raw=one_frame["samples_per_pixel"] == 1, pixel_keyword="PixelData", decoding_plugin=plugin,
        **one_frame,
    )
    return np.asarray(pixels)


def _unpacked_tiff(data: bytes) -> bytes:
    from PIL import Image as PillowImage

    picture = PillowImage.open(io.BytesIO(data), formats=("TIFF",))
    picture.load()
    kept = {}
    if picture.mode.startswith("I;16"):
        # Pillow turns white-is-zero itself on loading 8 bits, but not 16.
        kept[262] = dict(picture.getexif()).get(262, 1)
    out = io.BytesIO()
    picture.save(out, "TIFF", compression="raw", tiffinfo=kept)
    return out.getvalue()


def _limit_self(cpu_s: int) -> None:
    try:
        import resource
    except ImportError:  # not on Windows: there the caller's time limit stands alone
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_LIMIT_BYTES, MEMORY_LIMIT_BYTES))
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))  # the softer limit says why it ends
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _serve() -> int:
    order = json.loads(sys.stdin.buffer.readline())
    _limit_self(order.pop("cpu_s"))
    try:
        pixels = _decode(sys.stdin.buffer.read(), **order)
    except _DAMAGE as damage:
        sys.stderr.write(f"{type(damage).__name__}: {damage}"[-400:])
        return 3
    sys.stdout.buffer.write(pixels.dtype.name.encode() + b"\n")
    sys.stdout.buffer.write(np.ascontiguousarray(pixels).tobytes())
    return 0


if __name__ == "__main__":
    sys.exit(_serve())
