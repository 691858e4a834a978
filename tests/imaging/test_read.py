"""Reading pictures: right values, notes for what was changed, and one clear sentence for every file that is no good."""

from __future__ import annotations

import hashlib
import io
import os
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

from storyxai.errors import InputError, ReadError
from storyxai.imaging.read import find_images, read_image


def stepped() -> np.ndarray:
    return (np.add.outer(np.arange(70), 2 * np.arange(90)) % 256).astype(np.uint8)


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_eight_bits_are_divided_by_255_and_nothing_else(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"film.{suffix}"
    Picture.fromarray(stepped()).save(path)
    image = read_image(path)
    assert (image.pixels == (stepped() / 255).astype(np.float32)).all()
    assert (image.pixels.dtype, image.pixels.flags.c_contiguous) == (np.float32, True)
    assert image.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert (image.source, image.view, image.spacing_mm, image.notes) == (path.name, "unknown", None, ())


def test_the_same_grey_by_other_ways(tmp_path: Path) -> None:
    """Palette, RGB, opaque RGBA, grey + alpha and one more: the same grey values, and no word of colour."""
    grey = Picture.fromarray(stepped())
    ways = {mode: grey.convert(mode) for mode in ("P", "RGB", "RGBA", "LA")}
    for mode, picture in ways.items():
        path = tmp_path / f"{mode}.png"
        picture.save(path)
        image = read_image(path)
        assert image.pixels == pytest.approx(stepped() / 255, abs=1 / 255), mode
        assert image.notes == (), mode


def test_jpeg_and_cmyk(tmp_path: Path) -> None:
    smooth = np.linspace(0, 255, 80 * 80).reshape(80, 80).astype(np.uint8)
    Picture.fromarray(smooth).save(tmp_path / "film.jpg", quality=95)
    assert read_image(tmp_path / "film.jpg").pixels == pytest.approx(smooth / 255, abs=0.02)
    ink = np.zeros((80, 80, 4), np.uint8)
    ink[..., 3] = 255 - smooth
    Picture.fromarray(ink, mode="CMYK").save(tmp_path / "ink.jpg", quality=95)
    assert read_image(tmp_path / "ink.jpg").pixels == pytest.approx(smooth / 255, abs=0.03)


def test_clear_parts_lie_on_black_and_colour_is_noted(tmp_path: Path) -> None:
    picture = np.full((64, 64, 4), 200, np.uint8)
    picture[..., 3] = 255
    picture[:16, :, 3] = 0
    picture[32:, :, 1] = 20
    Picture.fromarray(picture).save(tmp_path / "clear.png")
    image = read_image(tmp_path / "clear.png")
    assert (image.pixels[:16] == 0).all() and image.pixels[20, 0] == pytest.approx(200 / 255, abs=1e-6)
    assert image.notes == ("transparent parts were laid on black", "colour: 50.0% of the pixels are coloured")


def test_sixteen_bits_by_their_robust_range(tmp_path: Path) -> None:
    """0.5 % at each end are cut: with 10,000 equally spaced values the range is known on paper."""
    stored = (20000 + np.arange(10000)).astype(np.uint16).reshape(100, 100)
    for name in ("film.png", "film.tif"):
        Picture.fromarray(stored).save(tmp_path / name)
        grey = read_image(tmp_path / name).pixels.ravel()
        assert (grey[:49] == 0).all() and (grey[9951:] == 1).all()
        assert grey[5000] == pytest.approx((5000 - 49) / (9949 - 49), abs=2e-4)
    flat = np.full((64, 64), 777, np.uint16)
    Picture.fromarray(flat).save(tmp_path / "flat.png")
    assert (read_image(tmp_path / "flat.png").pixels == 0).all()


def test_white_stored_as_zero_is_inverted(tmp_path: Path) -> None:
    stored = np.arange(64 * 64, dtype=np.uint16).reshape(64, 64)
    Picture.fromarray(stored).save(tmp_path / "a.tif")
    Picture.fromarray(stored).save(tmp_path / "b.tif", tiffinfo={262: 0})
    usual, turned = read_image(tmp_path / "a.tif"), read_image(tmp_path / "b.tif")
    assert turned.pixels == pytest.approx(1 - usual.pixels, abs=1e-6)
    assert "inverted: white was stored as zero" in turned.notes


@pytest.mark.parametrize("white_is_zero", [False, True])
def test_a_compressed_tiff_reads_like_a_plain_one(tmp_path: Path, white_is_zero: bool) -> None:
    for stored in (stepped(), stepped().astype(np.uint16) * 100):
        about = {262: 0} if white_is_zero else {}
        for name, packing in (("plain.tif", "raw"), ("packed.tif", "tiff_lzw")):
            Picture.fromarray(stored).save(tmp_path / name, compression=packing, tiffinfo={274: 3, **about})
        plain, packed = read_image(tmp_path / "plain.tif"), read_image(tmp_path / "packed.tif")
        assert (plain.pixels == packed.pixels).all()
        assert plain.notes == packed.notes and "turned as its EXIF orientation 3 says" in plain.notes


def plain_tiff(values: np.ndarray, *, white_is_zero: bool = False, planes: bool = False) -> bytes:
    """An uncompressed little-endian TIFF with its sample format said, colours first in separate planes."""
    height, width = values.shape[-2:]
    samples = values.shape[0] if planes else 1
    size, kind = values.dtype.itemsize, {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
    plane, begin = height * width * size, 1000
    several = samples > 1  # two or more words stand elsewhere
    more = struct.pack(f"<{samples}H", *[8 * size] * samples).ljust(20) + struct.pack(
        f"<{2 * samples}I", *(begin + plane * number for number in range(samples)), *[plane] * samples
    )
    tags = [
        (256, 4, 1, width), (257, 4, 1, height), (258, 3, samples, 800 if several else 8 * size), (259, 3, 1, 1),
        (262, 3, 1, 2 if several else int(not white_is_zero)), (273, 4, samples, 820 if several else begin),
        (277, 3, 1, samples),
        (278, 4, 1, height), (279, 4, samples, 820 + 4 * samples if several else plane), (284, 3, 1, 2 if planes else 1),
        (339, 3, 1, kind),
    ]
    head = b"II*\0" + struct.pack("<IH", 8, len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags) + b"\0" * 4
    return (head.ljust(800, b"\0") + more).ljust(begin, b"\0") + values.astype(f"<{values.dtype.kind}{size}").tobytes()


@pytest.mark.parametrize(("dtype", "white_is_zero"), [
    ("uint16", False), ("int16", False), ("uint32", False), ("float32", False), ("uint16", True), ("float32", True),
])  # fmt: skip
def test_deep_tiffs_of_every_kind_of_number(tmp_path: Path, dtype: str, white_is_zero: bool) -> None:
    """Floats whose white is 0 came out inverted, and 32 unsigned bits with their upper half black, without a word."""
    steps = np.linspace(0, 1, 64 * 80).reshape(64, 80)
    top = 1 if dtype == "float32" else np.iinfo(dtype).max
    (tmp_path / "film.tif").write_bytes(plain_tiff(((1 - steps if white_is_zero else steps) * top).astype(dtype),
                                                   white_is_zero=white_is_zero))  # fmt: skip
    image = read_image(tmp_path / "film.tif")
    assert image.pixels == pytest.approx(np.clip((steps - 0.005) / 0.99, 0, 1), abs=2e-3)
    assert any("inverted" in note for note in image.notes) == white_is_zero
    # 32 bits were called 16.
    assert any(note.startswith("16-bit values") for note in image.notes) == dtype.endswith("int16")


@pytest.mark.parametrize(("values", "planes", "said"), [
    (np.full((3, 64, 64), 5000, np.uint16), True, "separate planes"),
    (np.full((64, 64), 5, np.int8), False, "signed values of 8"),
])  # fmt: skip
def test_tiffs_that_would_be_misread_are_refused(tmp_path: Path, values: np.ndarray, planes: bool, said: str) -> None:
    (tmp_path / "film.tif").write_bytes(plain_tiff(values, planes=planes))
    with pytest.raises(ReadError, match=said) as refused:
        read_image(tmp_path / "film.tif")
    assert refused.value.mend


def test_a_grey_that_stands_for_clear_lies_on_black_too(tmp_path: Path) -> None:
    grey = np.full((64, 64), 200, np.uint8)
    grey[:8] = 255
    Picture.fromarray(grey).save(tmp_path / "film.png", transparency=255)
    image = read_image(tmp_path / "film.png")
    assert (image.pixels[:8] == 0).all() and image.pixels[8:] == pytest.approx(200 / 255)
    assert image.notes == ("transparent parts were laid on black",)


def test_a_broken_compressed_tiff_is_quiet(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    data = saved(Picture.fromarray(stepped()), "TIFF", compression="tiff_lzw")
    (tmp_path / "broken.tif").write_bytes(data[:60] + b"\xff" * 300 + data[360:])
    with pytest.raises(ReadError, match="damaged"):
        read_image(tmp_path / "broken.tif")
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_brings_the_picture_upright(tmp_path: Path, orientation: int) -> None:
    upright = np.zeros((64, 96), np.uint8)
    upright[:32, :48] = 255
    stored = {
        1: upright, 2: upright[:, ::-1], 3: upright[::-1, ::-1], 4: upright[::-1],
        5: upright.T, 6: np.rot90(upright, 1), 7: upright[::-1, ::-1].T, 8: np.rot90(upright, -1),
    }[orientation]  # fmt: skip
    exif = Picture.Exif()
    exif[0x0112] = orientation
    Picture.fromarray(np.ascontiguousarray(stored)).save(tmp_path / "a.jpg", exif=exif, quality=100)
    image = read_image(tmp_path / "a.jpg")
    assert image.pixels == pytest.approx(upright / 255, abs=0.02)
    assert len(image.notes) == (orientation != 1)


def png_header(width: int, height: int, *, colour: int = 0) -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(b"\0" * 1000)) + chunk(b"IEND", b"")


def saved(picture: Picture.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    picture.save(out, kind, **options)
    return out.getvalue()


def bad_files() -> dict[str, tuple[bytes, str]]:
    film = Picture.fromarray(stepped())
    frames = [Picture.fromarray(np.full((80, 80), v, np.uint8)) for v in (1, 2)]
    return {
        "empty.png": (b"", "is empty"),
        "text.png": (b"these are words, not pixels\n" * 20, r"looks like text"),
        "page.jpg": (b"<!DOCTYPE html><html></html>", "HTML"),
        "noise.png": (bytes(range(256)) * 4, "no known image format"),
        "cut.png": (saved(film, "PNG")[:-40], "damaged or cut short"),
        "cut.jpg": (saved(film, "JPEG")[:-200], "damaged or cut short"),
        "cut.dcm": (b"\0" * 128 + b"DICM" + b"\2\0\0\0UL", "cut short"),
        "dot.png": (saved(film.resize((1, 1)), "PNG"), "1 x 1 pixels: too small"),
        "stamp.png": (saved(film.resize((63, 200)), "PNG"), "63 x 200 pixels: too small"),
        "huge.png": (png_header(20_000, 20_000), "far larger than any image"),
        "large.png": (png_header(9000, 9000), "9000 x 9000 pixels: larger than any image"),
        "wide.png": (png_header(5000, 5000, colour=2), "5000 x 5000 pixels: larger .* at most 21 megapixels"),
        "moving.png": (saved(frames[0], "PNG", save_all=True, append_images=frames[1:]), "several pictures"),
        "pages.tif": (saved(frames[0], "TIFF", save_all=True, append_images=frames[1:]), "several pictures"),
        "film.gif": (saved(film, "GIF"), r"\(it is a GIF picture\)"),
        "film.pgm": (saved(film, "PPM"), r"\(it is a PNM picture\)"),
        "pointer.png": (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 12\n", "pointer of Git LFS"),
        "film.bmp": (saved(film, "BMP"), r"\(it is a BMP picture\)"),
        "film.webp": (saved(film, "WEBP"), r"\(it is a WebP picture\)"),
        "film.jp2": (saved(film, "JPEG2000"), r"\(it is a JPEG 2000 picture\)"),
        "odd.tif": (b"II*\x00\x08\0\0\0\0\0", "TIFF of an unusual kind.* — save it as a plain TIFF"),
        "report.pdf": (b"%PDF-1.7 text", r"\(it is a PDF document\)"),
        "scans.jpg": (saved(film, "JPEG") + b"\xff\xda" * 100, "far too many scans"),
    }


@pytest.mark.parametrize("name", bad_files())
def test_a_bad_file_is_one_clear_sentence(tmp_path: Path, name: str) -> None:
    data, said = bad_files()[name]
    path = tmp_path / name
    path.write_bytes(data)
    start = time.perf_counter()
    with pytest.raises(ReadError, match=said) as refused:
        read_image(path)
    assert time.perf_counter() - start < 2
    assert refused.value.what == name and refused.value.mend and refused.value.exit_status == 2
    assert "\n" not in str(refused.value)


def test_a_name_that_no_record_could_hold_is_made_printable(tmp_path: Path) -> None:
    """A name of undecodable bytes ended as "our own fault: a number is not finite" when its story was written."""
    path = tmp_path / os.fsdecode(b"caf\xe9\n.png")
    path.write_bytes(saved(Picture.fromarray(stepped()), "PNG"))
    assert read_image(path).source == "caf??.png"


def test_what_is_no_file_at_all(tmp_path: Path) -> None:
    (tmp_path / "big.png").write_bytes(b"")
    os.truncate(tmp_path / "big.png", 400 << 20)
    os.mkfifo(tmp_path / "pipe.png")
    for name, said in [
        ("none.png", "no such file"), ("", "is a folder"), ("pipe.png", "not a regular file"),
        ("big.png", "larger than 256 MiB"), ("a\0b.png", "cannot be opened"), ("x" * 300, "cannot be opened"),
    ]:  # fmt: skip
        with pytest.raises(ReadError, match=said):
            read_image(tmp_path / name)


def test_find_images_lists_each_once_by_name(tmp_path: Path, dicom_file: Callable[..., Path]) -> None:
    film = Picture.fromarray(stepped())
    (tmp_path / "deep").mkdir()
    (tmp_path / ".hidden").mkdir()
    for name in ("b.png", "deep/a.JPG", "deep/c.tiff", ".hidden/d.png", ".e.png"):
        (tmp_path / name).write_bytes(saved(film, "PNG"))
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "d.BMP").write_bytes(saved(film, "BMP"))  # left out without a word, it was missed by nobody
    (tmp_path / "IM0001").write_bytes(dicom_file(stepped()).read_bytes())
    (tmp_path / "1.2.840.7").write_bytes(dicom_file(stepped()).read_bytes())
    (tmp_path / "DICOMDIR").write_bytes(dicom_file(stepped()).read_bytes())
    (tmp_path / "README").write_text("no image either")
    os.mkfifo(tmp_path / "PIPE")
    found = find_images([tmp_path, tmp_path / "b.png", tmp_path / "notes.txt"])
    names = ["1.2.840.7", "IM0001", "a.JPG", "b.png", "c.tiff", "d.BMP", "film.dcm", "notes.txt"]
    assert [path.name for path in found] == names


def test_find_images_says_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file or folder"):
        find_images([tmp_path / "none"])
    with pytest.raises(InputError, match="no image found"):
        find_images([tmp_path])


@pytest.mark.real
def test_real_films_of_every_set_are_read(real_data: Path) -> None:
    for folder in ("nih/images", "kermany/images/NORMAL", "covid/images"):
        for path in sorted((real_data / folder).iterdir())[:20]:
            image = read_image(path)
            assert max(image.pixels.shape) <= 512 and 0.1 < image.pixels.mean() < 0.9
            assert np.abs(image.pixels - np.asarray(Picture.open(path).convert("L")) / 255).max() < 1e-6


@pytest.mark.parametrize(("cast", "noted"), [((0, 0, 0), False), ((2, 0, 0), False), ((12, 4, 0), True), ((0, 6, 14), True)])
def test_a_cast_of_colour_is_noted(tmp_path: Path, cast: tuple[int, int, int], noted: bool) -> None:
    ramp = (np.add.outer(np.arange(96), np.arange(96)) % 200).astype(np.uint8)
    Picture.fromarray(ramp[..., None] + np.array(cast, dtype=np.uint8)).save(tmp_path / "cast.png")
    notes = read_image(tmp_path / "cast.png").notes
    assert any(text.startswith("tinted") for text in notes) is noted and not any("colour:" in text for text in notes)


@pytest.mark.parametrize(("start", "called"), [
    (b"\0\0\0\x18ftypheic", "HEIC"), (b"\0\0\0\x20ftypmif1", "HEIC"), (b"\0\0\0\x1cftypavif", "AVIF"),
    (b"\0\0\0\x18ftypmp42", "ISO media"), (b"\xff\x0a", "JPEG XL"), (b"8BPS", "Photoshop"), (b"\x93NUMPY", "NumPy"),
])  # fmt: skip
def test_files_that_people_try_are_called_by_their_names(tmp_path: Path, start: bytes, called: str) -> None:
    (tmp_path / "film.jpg").write_bytes(start + b"\0" * 200)
    with pytest.raises(ReadError, match=called):
        read_image(tmp_path / "film.jpg")


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def deep_png(values: np.ndarray, kind: int) -> bytes:
    """A PNG of 16 bits a channel, which Pillow does not write. Shapes: [H, W, C]; `kind` is PNG's colour type."""
    rows = b"".join(b"\0" + row.tobytes() for row in values.astype(">u2"))
    head = struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colours_of_16_bits_are_noted_and_those_of_12_refused(tmp_path: Path, kind: int, channels: int) -> None:
    """Of 12 bits in words of 16 Pillow keeps sixteen greys near black: they were read as the picture without a word."""
    path, grey = tmp_path / "film.png", np.repeat(stepped()[..., None].astype(np.uint16), channels, axis=2)
    full = grey * 257
    clear = channels in (2, 4)
    full[..., -1] = 65535 if clear else full[..., -1]
    path.write_bytes(deep_png(full, kind))
    image = read_image(path)
    assert np.array_equal(image.pixels, (stepped() / 255).astype(np.float32))
    assert image.notes == ("16-bit colours: the upper 8 bits of each were read",)
    dark = grey * 16
    dark[..., -1] = 65535 if clear else dark[..., -1]
    path.write_bytes(deep_png(dark, kind))
    with pytest.raises(ReadError, match="16-bit colours of which the upper half"):
        read_image(path)


def test_a_damaged_head_is_called_damage(tmp_path: Path) -> None:
    """A PNG whose head is damaged was called "of no known image format"."""
    path = tmp_path / "film.png"
    Picture.fromarray(stepped()).save(path)
    path.write_bytes(path.read_bytes()[:16] + b"\0\0\xff\xff" + path.read_bytes()[20:])
    with pytest.raises(ReadError, match="is damaged in its first bytes — export or copy the file again"):
        read_image(path)
