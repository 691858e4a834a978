"""PadChest: 174 findings from Spanish reports, by physicians for a quarter of them and by a network for the rest."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from storyxai.data.reading import image_files, number, read_csv, require_folder, shown
from storyxai.data.sources import SOURCES
from storyxai.data.table import Skipped, StudyRow, StudyTable
from storyxai.errors import TableError
from storyxai.imaging.views import view_of
from storyxai.modalities.chest_radiograph.findings import NAMES, match_name

NAMED: Mapping[str, str] = {
    "laminar atelectasis": "Atelectasis", "lobar atelectasis": "Atelectasis", "segmental atelectasis": "Atelectasis",
    "round atelectasis": "Atelectasis", "total atelectasis": "Atelectasis", "atypical pneumonia": "Pneumonia",
    "apical pleural thickening": "Pleural_Thickening", "loculated pleural effusion": "Effusion",
    "loculated fissural effusion": "Effusion", "multiple nodules": "Nodule", "hydropneumothorax": "Pneumothorax",
    "post radiotherapy changes": "Fibrosis", "fibrotic band": "Fibrosis",
}
# A report that only says "unchanged", or a film that was set aside, does not say that a finding is absent.
SILENT = frozenset({"unchanged", "exclude", "suboptimal study"})

LISTED = re.compile(r"""(['"])(.*?)\1""")
"""A name of the list, in either quotes."""
UNLISTED = frozenset({"", "nan", "[]"})


def read_padchest(folder: Path) -> StudyTable:
    """One row per image of `PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv` (.gz) that is below the folder.

    Images lie flat or in folders 0 ... 54 and are found by name; a name met twice is refused. `Labels` is a list in
    text with stray blanks and empty names; a finding not listed is 0, unless the list is empty or says "unchanged",
    "exclude" or "suboptimal study": then it is not stated. Age is the study's year less the year of birth. The report
    is in Spanish, its words stemmed by the publisher: it stands in `findings_text` and `notes` says so.
    Source: Bustos et al., Medical Image Analysis 2020;66:101797; bimcv.cipf.es/bimcv-projects/padchest. Raises:
    TableError.
    """
    require_folder(folder)
    tables = sorted(folder.glob("PADCHEST_chest_x_ray_images_labels*.csv*"))
    if not tables:
        raise TableError(str(folder), "holds no PADCHEST_chest_x_ray_images_labels_160K_01.02.19.csv",
                         mend="put it beside the images")
    frame = read_csv(tables[0], columns=(
        "ImageID", "StudyDate_DICOM", "StudyID", "PatientID", "PatientBirth", "PatientSex_DICOM", "Projection",
        "Labels", "Report", "MethodLabel",
    ))
    images: dict[str, str] = {}
    for name in image_files(folder):
        if images.setdefault(Path(name).name, name) != name:
            raise TableError(name, f"and {images[Path(name).name]} have one name", mend="keep one of them")
    rows, skipped = [], []
    for cells in frame.to_dict("records"):
        image = images.get(str(cells["ImageID"]))
        if image is None:
            skipped.append(Skipped(str(cells["ImageID"]), "is in the table but not in the folder"))
        else:
            if cells["Labels"].strip().casefold() not in UNLISTED and not LISTED.search(str(cells["Labels"])):
                why = f"has labels that are no list ('{shown(str(cells['Labels']))}'); nothing is stated of the image"
                skipped.append(Skipped(str(cells["ImageID"]), why, "write them as ['name', 'name']"))
            rows.append(_row({str(key): str(cell) for key, cell in cells.items()}, image))
    return StudyTable.from_rows(rows, root=folder, skipped=skipped)


def _view(cells: Mapping[str, str]) -> str:
    """The publisher's own projection; where it states none, the header's."""
    stated = view_of(cells["Projection"])
    return view_of(cells.get("ViewPosition_DICOM", "")) if stated == "unknown" else stated


def _row(cells: Mapping[str, str], image: str) -> StudyRow:
    listed = [name.strip().casefold() for _, name in LISTED.findall(cells["Labels"]) if name.strip()]
    found = {name: NAMED.get(name) or match_name(name) for name in listed}
    labels = {finding: 1.0 for finding in found.values() if finding is not None}
    if listed and not SILENT & set(listed):
        labels = dict.fromkeys(NAMES, 0.0) | labels
    others = [name for name, finding in found.items() if finding is None and name not in SILENT | {"normal"}]
    age = number(cells["StudyDate_DICOM"][:4]) - number(cells["PatientBirth"])
    return StudyRow(
        f"padchest-{cells['StudyID']}", f"padchest-{cells['PatientID']}", image, "padchest",
        image_id=f"padchest-{Path(image).stem}", view=_view(cells),
        sex=cells["PatientSex_DICOM"] if cells["PatientSex_DICOM"] in ("M", "F") else "",
        age_years=age if 0 <= age <= 120 else float("nan"), license=SOURCES["padchest"].licence, labels=labels,
        findings_text=cells["Report"].strip(),
        notes=(f"labels by {cells['MethodLabel'] or 'unknown'}", "report in Spanish, words stemmed",
               *(f"also stated: {name}" for name in others)),
    )
