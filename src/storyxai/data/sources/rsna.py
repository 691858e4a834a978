"""RSNA Pneumonia Detection Challenge: NIH films as DICOM, with radiologists' boxes of lung opacity."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

from storyxai.data.reading import code_of, image_files, number, read_csv, require_folder, shown
from storyxai.data.sources import SOURCES
from storyxai.data.table import BoxNote, Skipped, StudyRow, StudyTable
from storyxai.errors import TableError

FRAME = 1024.0


def read_rsna(folder: Path) -> StudyTable:
    """One row per image of `stage_2_train_labels.csv` (patientId,x,y,width,height,Target; one line a box).

    Labels: Target, the challenge's "possible pneumonia", becomes Pneumonia 1 or 0; nothing else is stated. The class of
    `stage_2_detailed_class_info.csv` goes to `notes`. Boxes are in the 1024 frame of the films and complete. The films
    are NIH's: do not test on one set what was learned from the other. Test images have no labels and are skipped.
    Source: Shih et al., Radiology: Artificial Intelligence 2019;1(1):e180041. Raises: TableError.
    """
    require_folder(folder, "stage_2_train_labels.csv")
    path = folder / "stage_2_train_labels.csv"
    frame = read_csv(path, columns=("patientId", "x", "y", "width", "height", "Target"))
    boxes: dict[str, list[BoxNote]] = defaultdict(list)
    target: dict[str, str] = {}
    skipped: list[Skipped] = []
    for line in frame.to_dict("records"):
        name = str(line["patientId"])
        if target.setdefault(name, str(line["Target"])) != str(line["Target"]):
            raise TableError(path.name, f"gives '{shown(name)}' two targets", mend="fetch the file again")
        code_of(str(line["Target"]), f"{path.name}, '{shown(name)}'", "Target")
        x, y, width, height = (number(str(line[key])) for key in ("x", "y", "width", "height"))
        if width <= 0 or height <= 0:
            skipped.append(Skipped(f"a box of {shown(name)}", "has no area", "mend or remove it; the image is kept"))
        elif width > 0 and height > 0:
            boxes[name].append(BoxNote("Pneumonia", x, y, width, height, FRAME, FRAME, "RSNA readers", "rsna"))
    classes: dict[str, str] = {}
    if (folder / "stage_2_detailed_class_info.csv").is_file():
        info = read_csv(folder / "stage_2_detailed_class_info.csv", columns=("patientId", "class"))
        classes = dict(zip(info["patientId"], info["class"], strict=True))
    images = {Path(name).stem: name for name in image_files(folder)}
    skipped += [Skipped(name, "is in the labels but not in the folder") for name in sorted(set(target) - set(images))]
    skipped += [Skipped(images[name], "is an image without labels") for name in sorted(set(images) - set(target))]
    rows = [
        StudyRow(
            f"rsna-{name}", f"rsna-{name}", images[name], "rsna", license=SOURCES["rsna"].licence,
            labels={"Pneumonia": number(target[name])}, boxes=tuple(boxes[name]), boxes_complete=True,
            notes=(f"RSNA: {classes[name]}",) if name in classes else (),
        )
        for name in sorted(set(target) & set(images))
    ]
    return StudyTable.from_rows(rows, root=folder, skipped=skipped)
