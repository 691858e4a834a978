"""CheXpert: labels mined from reports, uncertain ones kept as such."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from storyxai.data.labels import labels_from_codes
from storyxai.data.reading import age_of, code_of, is_there, number, read_csv, require_folder
from storyxai.data.sources import SOURCES
from storyxai.data.table import Skipped, StudyRow, StudyTable
from storyxai.errors import TableError
from storyxai.imaging.views import view_of
from storyxai.modalities.chest_radiograph.findings import match_name

ABOUT = ("Path", "Sex", "Age", "Frontal/Lateral", "AP/PA")
PARTS: Mapping[str, str] = {"train.csv": "train", "valid.csv": "val", "test.csv": "test"}


def read_chexpert(folder: Path) -> StudyTable:
    """One row per image of `train.csv`, `valid.csv` and `test.csv` that is in the folder.

    `Path` begins with the name of the release ("CheXpert-v1.0-small/train/patient00001/study1/view1_frontal.jpg"),
    which need not be the folder's. Labels: 1 present, 0 absent, -1 uncertain (nan, named in `uncertain`), blank not
    stated; "No Finding" states nothing more. Names outside our vocabulary that are present go to `notes`. Sex
    "Unknown" and age 0 (the de-identified) are not stated. The publisher's valid part becomes official_split "val".
    Source: Irvin et al., AAAI 2019; stanfordmlgroup.github.io/competitions/chexpert. Raises: TableError.
    """
    require_folder(folder)
    rows, skipped = [], []
    present = [name for name in PARTS if (folder / name).is_file()]
    if not present:
        raise TableError(str(folder), "holds neither train.csv nor valid.csv", mend="name the unpacked CheXpert folder")
    for name in present:
        frame = read_csv(folder / name, columns=("Path",))
        for line, cells in enumerate(frame.to_dict("records"), start=2):
            path = str(cells["Path"]).replace("\\", "/")
            place = re.search(r"(?:^|/)((?:train|valid|test)/(patient\d+)/(study\d+)/([^/]+))$", path)
            if place is None:
                skipped.append(Skipped(path, "has a path that tells no patient and study"))
            elif not is_there(folder / place[1]):
                skipped.append(Skipped(path, f"is in {name} but not in the folder"))
            else:
                said = {str(key): str(cell) for key, cell in cells.items()}
                rows.append(_row(said, place, PARTS[name], f"{name}, line {line}"))
    return StudyTable.from_rows(rows, root=folder, skipped=skipped)


def _view(cells: Mapping[str, str], stem: str) -> str:
    """What the columns say; without them (test.csv has none) the file's name ("view2_lateral")."""
    stated = [view_of(cells.get(name, "")) for name in ("Frontal/Lateral", "AP/PA")] + [view_of(stem.partition("_")[2])]
    return next((view for view in ("LATERAL", "OTHER", "PA", "AP") if view in stated), "unknown")


def _row(cells: Mapping[str, str], place: re.Match[str], part: str, where: str) -> StudyRow:
    codes = {
        key: code_of(cell, where, key) if match_name(key) else number(cell) for key, cell in cells.items() if key not in ABOUT
    }
    labels, uncertain, others = labels_from_codes(codes)
    view = _view(cells, Path(place[4]).stem)
    study = f"chexpert-{place[2]}-{place[3]}"
    age = age_of(cells.get("Age", ""))
    return StudyRow(
        study, f"chexpert-{place[2]}", place[1], "chexpert", image_id=f"{study}-{Path(place[4]).stem}", view=view,
        sex={"Male": "M", "Female": "F"}.get(cells.get("Sex", ""), ""), age_years=age if age > 0 else float("nan"),
        official_split=part, license=SOURCES["chexpert"].licence, labels=labels, uncertain=uncertain,
        notes=tuple(f"also stated: {name}" for name in others),
    )
