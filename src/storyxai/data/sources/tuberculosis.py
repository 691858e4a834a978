"""The Montgomery County and Shenzhen tuberculosis sets: films, one-line readings, lung masks."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from storyxai.data.reading import age_of, require_folder
from storyxai.data.sources import SOURCES
from storyxai.data.table import Skipped, StudyRow, StudyTable
from storyxai.errors import TableError

LARGEST_READING_BYTES = 100_000
PER_YEAR: Mapping[str, float] = {"y": 1, "m": 12, "d": 365.25}
Reading = tuple[str, float, str]  # sex, age_years, text


def read_montgomery(folder: Path) -> StudyTable:
    """One row per image of `CXR_png/MCUCXR_<n>_<0|1>.png`, with left and right lung masks.

    Readings: `ClinicalReadings/<name>.txt` ("Patient's Sex: F", "Patient's Age: 027Y", then free text). Masks:
    `ManualMask/leftMask` and `rightMask`, lung behind the heart left out; which lung is which is as the folders say.
    Labels: a film whose name ends in 0 is normal by the set's definition for tuberculosis only, so nothing is stated;
    the ending and the reading go to `notes` and `findings_text`. Each image is one patient.
    Source: Jaeger et al., Quantitative Imaging in Medicine and Surgery 2014;4(6):475-477. Raises: TableError.
    """
    masks = {"left_lung": "ManualMask/leftMask/{}.png", "right_lung": "ManualMask/rightMask/{}.png"}
    return _read(folder, source="montgomery", prefix="MCUCXR", masks=masks, parse=_montgomery_reading)


def read_shenzhen(folder: Path) -> StudyTable:
    """One row per image of `CXR_png/CHNCXR_<n>_<0|1>.png`; union masks in `mask/` (or `masks/`) `<name>_mask.png`.

    Readings: `ClinicalReadings/<name>.txt`, its first line in many spellings ("male 45yrs", "Female, 30 yrs", "femal
    24yrs", "male 16month", "female 64days"), then free text. Labels and patients: as `read_montgomery`.
    Source: Jaeger et al. 2014; masks Stirenko et al., arXiv:1803.01199. Raises: TableError.
    """
    place = "masks" if (folder / "masks").is_dir() else "mask"
    return _read(folder, source="shenzhen", prefix="CHNCXR", masks={"lungs": place + "/{}_mask.png"},
                 parse=_shenzhen_reading)


def _read(
    folder: Path, *, source: str, prefix: str, masks: Mapping[str, str], parse: Callable[[str], Reading]
) -> StudyTable:
    require_folder(folder, "CXR_png")
    rows, skipped = [], []
    for path in sorted((folder / "CXR_png").iterdir()):
        name = path.stem
        end = re.fullmatch(prefix + r"_(\d+)_([01])", name)
        if end is None or path.suffix != ".png":
            if path.name != "Thumbs.db":
                skipped.append(Skipped(f"CXR_png/{path.name}", "is not named like an image of this set"))
            continue
        sex, age, text = parse(_text(folder / "ClinicalReadings" / f"{name}.txt"))
        found = {key: form.format(name) for key, form in masks.items() if (folder / form.format(name)).is_file()}
        rows.append(StudyRow(
            f"{source}-{name}", f"{source}-{end[1]}", f"CXR_png/{path.name}", source, view="PA", sex=sex, age_years=age,
            license=SOURCES[source].licence, masks=found, findings_text=text,
            notes=("normal by the set's name" if end[2] == "0" else "tuberculosis by the set's name",),
        ))
    if not rows:
        raise TableError(str(folder), f"holds no {prefix} image in CXR_png", mend="name the unpacked data set")
    return StudyTable.from_rows(rows, root=folder, skipped=skipped)


def _text(path: Path) -> str:
    if not path.is_file() or path.stat().st_size > LARGEST_READING_BYTES:
        return ""
    return path.read_text(encoding="utf-8", errors="replace")


def _montgomery_reading(text: str) -> Reading:
    sex = re.search(r"Sex:\s*([MF])", text)
    age = re.search(r"Age:\s*(\d+)\s*Y", text)
    rest = [line for line in text.splitlines() if not re.match(r"\s*Patient's (Sex|Age):", line)]
    return sex[1] if sex else "", age_of(age[1]) if age else float("nan"), " ".join(" ".join(rest).split())


def _shenzhen_reading(text: str) -> Reading:
    first, _, rest = text.strip().partition("\n")
    sex = re.match(r"\s*(fem|m)", first, re.IGNORECASE)
    age = re.search(r"(\d+)\s*(y|m|d)", first, re.IGNORECASE)
    years = age_of(str(float(age[1]) / PER_YEAR[age[2].lower()])) if age else float("nan")
    return ("F" if len(sex[1]) == 3 else "M") if sex else "", years, " ".join(rest.split())
