"""What the readers of data sets do with broken tables, lists, reports and recipes; fuzz_reading.py runs it.

Small sound sets are built in the published layouts; one file of a set is broken and the set is imported: read, split,
written as Parquet, read back. Anything but a table or a typed error that names a mend is a crash.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
import tarfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fuzz_reading import MUTATIONS, Report, note_outcome
from storyxai.data.importing import ImportOptions, import_source
from storyxai.data.sources.nih import read_densenet_targets
from storyxai.data.table import read_table
from storyxai.errors import InputError
from storyxai.modalities.chest_radiograph.findings import NAMES
from storyxai.training.recipe_file import read_recipe

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "toy.toml"
DENSENET = "densenet121_predictions.csv"
TOKEN = re.compile(rb"[^\s,;<>\"'=|{}\[\]:]+")
AWKWARD = (
    b"", b"nan", b"-1", b"0", b"1e999", b"-1e999", b"Infinity", b"NaN", b"null", b"true", b"[]", b"{}", b"9" * 400,
    b"-" + b"9" * 30, b"\xff\xfe", b"\\u0000", b"\\ud800", b"\x00", b'"', b"\\", b"../../../x", b"/", b".", b"..", b"x" * 300,
    b"a/" * 3000, b"1" * 5000, "\u0661\u0662".encode(), b"\r\n", b"&a;", b"<!DOCTYPE a [<!ENTITY a 'b'>]>", b"[" * 4000,
    b"2020-13-45T00:00:00Z", b"1_0",
    b"inf", b"1 2 3", b"1,2", b"%s%n", b"=cmd()", b"Mass", b"No Finding", b"Nodule/Mass",
)  # fmt: skip


@dataclass(frozen=True)
class Sound:
    """A sound small set: its files by path below the folder, which of them is broken, and how the set is read."""

    name: str
    files: dict[str, bytes]
    broken: str
    read: Callable[[Path], None]


def imported(source: str, place: str = "") -> Callable[[Path], None]:
    """A reader that imports `place` below the set's folder as `source`, and asks the written table for everything."""

    def read(folder: Path) -> None:
        out = folder.parent / "table.parquet"
        import_source(source, folder / place, out, ImportOptions(compare_pictures=False))
        table = read_table(out)
        table.labels()
        ages = table.frame["age_years"].dropna()
        assert ((ages >= 0) & (ages <= 120)).all(), "an age that nobody has"
        assert table.frame["patient_id"].all() and table.frame["study_id"].all(), "a row of nobody"
        for row in table.frame.to_dict("records"):
            table.boxes_of({str(key): cell for key, cell in row.items()}, height=64, width=64)

    return read


ENTRIES = (
    b"Image Index,Finding Labels,Follow-up #,Patient ID,Patient Age,Patient Gender,View Position\n"
    b"00000001_000.png,Cardiomegaly|Effusion,0,1,58,M,PA\n00000001_001.png,No Finding,1,1,058Y,M,AP\n"
    b"00000002_000.png,Pneumonia,0,2,411,F,PA\n"
)
NIH = {
    "Data_Entry_2017_v2020.csv": ENTRIES, "images/00000001_000.png": b"x", "images/00000001_001.png": b"x",
    "images/00000002_000.png": b"x", "train_val_list.txt": b"00000001_000.png\n00000001_001.png\n",
    "BBox_List_2017.csv": b"Image Index,Finding Label,Bbox [x,y,w,h],,,\n00000001_000.png,Infiltrate,512,256,128,64,,,\n",
    "rsna_boxes.csv": b"Image Index,x,y,width,height,class\n00000001_001.png,,,,,Normal\n"
                      b"00000002_000.png,100,200,300,400,Lung Opacity\n",
}  # fmt: skip
CHANCES = f"Image Index,{','.join(f'prob_{name}' for name in NAMES)}\na.png,{','.join(['0.25'] * 14)}\n".encode()
MANIFEST = (
    b"image,patient_id,study_id,pleural effusion,label_Mass,age_years,split,view,notes\na.png,1,s1,1,,40,train,PA,x\n"
    b"b.png,2,s2,0,-1,,test,AP,\n"
)
SEMICOLONS = b"sep=;\r\n" + MANIFEST.replace(b",", b";").replace(b";40;", b";40,5;").replace(b"\n", b"\r\n")
KAGGLE = (
    b"image_id,class_name,class_id,rad_id,x_min,y_min,x_max,y_max\nx1,Pleural effusion,10,R8,1,2,30,40\n"
    b"x1,No finding,14,R10,,,,\nx2,Nodule/Mass,14,R8,1,2,3,4\n"
)
VOTES = b"image_id,rad_id,Cardiomegaly,Nodule/Mass,ILD,Pleural effusion\nx1,R8,1,0,0,1\nx1,R9,1,0,1,0\n"
COCO = json.dumps({
    "images": [
        {"id": 1, "file_name": "a.png", "width": 128, "height": 128, "patient_id": "p"}, {"id": 2, "file_name": "b.png"},
    ],
    "categories": [{"id": 7, "name": "Pleural Effusion"}, {"id": 8, "name": "rib"}],
    "annotations": [{"id": 1, "image_id": 1, "category_id": 7, "bbox": [64, 32, 16, 8]}],
}).encode()  # fmt: skip
XML = (
    b'<?xml version="1.0" encoding="utf-8"?><eCitation><uId id="CXR1"/><licenseURL>http://x/by</licenseURL><Abstract>'
    b'<AbstractText Label="FINDINGS">Clear XXXX.</AbstractText></Abstract><MeSH><major>Opacity/lung/base</major>'
    b'<major>Pleural Effusion/left</major></MeSH><parentImage id="a"/></eCitation>'
)
CHEXPERT = b"Path,Sex,Age,Frontal/Lateral,AP/PA,No Finding,Edema,Pleural Effusion,Fracture\n" + b"".join(
    b"C/train/patient%d/study1/view1_frontal.jpg,Male,40,Frontal,PA,,1.0,-1.0,1.0\n" % n for n in (1, 2)
)
PADCHEST = (
    b"ImageID,StudyDate_DICOM,StudyID,PatientID,PatientBirth,PatientSex_DICOM,Projection,Labels,Report,MethodLabel\n"
    b"a.png,20140915,S1,P1,1930.0,F,PA,\"['pleural effusion', ' scoliosis ']\",derram .,Physician\n"
)
COVID = (
    b"patientid,sex,age,finding,view,modality,filename,license,clinical_notes\n"
    b"2,M,65,COVID-19,PA,X-ray,a.png,CC BY,two words\n3,F,,No Finding,AP,X-ray,b.png,,\n"
)
PAIRS = b"image,mask,how,patient_id,width,height,v7_id\nimages/NORMAL/IM-0117-0001.jpg,masks/a.png,unique,IM-0117,9,9,1\n"
SIIM = b"ImageId, EncodedPixels\na, 2053 3 1021 2\na, 0 1\nb, -1\n"
RSNA = b"patientId,x,y,width,height,Target\na,,,,,0\nb,264.0,152.0,213.0,379.0,1\n"
RUNS = b"Image Index,Dice RCA (Mean),Left Lung,Right Lung,Heart,Height,Width\na.png,0.65,644 2 708 1,674 4,,64,64\n"
JSRT = b"JPCLN001.IMG\t5\t14\t53\tFemale\t1634\t692\tmalignant\tl.upper lobe\tlung cancer\n"
MIMIC = {
    "mimic-cxr-2.0.0-metadata.csv": b"dicom_id,subject_id,study_id,ViewPosition\na,10,50,PA\nb,11,51,LL\n",
    "mimic-cxr-2.0.0-split.csv": b"dicom_id,study_id,subject_id,split\na,50,10,train\nb,51,11,test\n",
    "mimic-cxr-2.0.0-chexpert.csv": b"subject_id,study_id,Edema,Pneumonia\n10,50,1.0,-1.0\n11,51,,0.0\n",
    "f/a.jpg": b"x", "f/b.jpg": b"x", "f/s50.txt": b" FINDINGS: \n Large.\n IMPRESSION:\n None.\n",
}  # fmt: skip
PHANTOMS = json.dumps({"format": 1, "size": 96, "phantoms": [{
    "id": "phantom-3", "patient_id": "p3", "view": "PA", "sex": "F", "age_years": 50, "labels": {"Mass": 1.0},
    "boxes": [{"finding": "Mass", "x": 1, "y": 2, "width": 3, "height": 4}], "report": ["Clear."],
    "cardiothoracic_ratio": 0.45,
}]}).encode()  # fmt: skip


def targets() -> tuple[Sound, ...]:
    """All sound sets."""
    two = XML.replace(b"CXR1", b"CXR2").replace(b'"a"', b'"b"')
    pictures, films = {"a.png": b"x", "b.png": b"x"}, {"d/a.dcm": b"x", "d/b.dcm": b"x"}
    vindr = {"train/x1.dicom": b"x", "train/x2.dicom": b"x"}
    frontal = {f"train/patient{n}/study1/view1_frontal.jpg": b"x" for n in (1, 2)}
    reading = "ClinicalReadings/CHNCXR_0001_0.txt"

    def sound(source: str, broken: str, data: bytes, others: dict[str, bytes], *, name: str = "") -> Sound:
        return Sound(name or source, {broken: data, **others}, broken, imported(source))

    return (
        *(sound("nih", path, NIH[path], NIH, name=f"nih {path}") for path in NIH if path.endswith(("csv", "txt"))),
        *(sound("mimic-cxr-jpg", path, MIMIC[path], MIMIC, name=path) for path in MIMIC if not path.endswith("jpg")),
        Sound("densenet", {DENSENET: CHANCES}, DENSENET, lambda at: _done(read_densenet_targets(at))),
        sound("manifest", "mine.csv", MANIFEST, pictures),
        sound("manifest", "mine.csv", SEMICOLONS, pictures, name="manifest of semicolons"),
        sound("manifest", "mine.csv", SEMICOLONS.decode().encode("utf-16"), pictures, name="manifest in UTF-16"),
        sound("manifest", "mine.csv.gz", gzip.compress(MANIFEST, mtime=0), pictures, name="manifest.gz"),
        sound("vindr", "train.csv", KAGGLE, vindr, name="vindr kaggle"),
        sound("vindr", "annotations/image_labels_train.csv", VOTES, vindr, name="vindr votes"),
        sound("coco", "all.json", COCO, pictures),
        sound("openi", "1.xml", XML, {"2.xml": two, **pictures}),
        sound("openi", "NLMCXR_reports.tgz", _tgz({"1.xml": XML, "2.xml": two}), {}, name="openi.tgz"),
        sound("chexpert", "train.csv", CHEXPERT, frontal),
        sound("padchest", "PADCHEST_chest_x_ray_images_labels_160K.csv", PADCHEST, pictures),
        sound("covid", "metadata.csv", COVID, {"images/a.png": b"x", "images/b.png": b"x"}),
        sound("kermany", "pairs.csv", PAIRS, {"images/NORMAL/IM-0117-0001.jpg": b"x", "masks/a.png": b"x"}),
        sound("siim", "train-rle.csv", SIIM, films),
        sound("rsna", "stage_2_train_labels.csv", RSNA, films),
        sound("chexmask", "ChestX-Ray8.csv", RUNS, pictures),
        sound("jsrt", "CLNDAT_EN.txt", JSRT, {"JPCLN001.png": b"x"}),
        sound("shenzhen", reading, b"male 45yrs\nnormal", {"CXR_png/CHNCXR_0001_0.png": b"x"}),
        sound("phantom", "phantoms.json", PHANTOMS, {"images/phantom-3.png": b"x"}),
        Sound("recipe", {"toy.toml": RECIPE.read_bytes()}, "toy.toml", lambda at: _done(read_recipe(at / "toy.toml"))),
    )


def _done(_: object) -> None:
    """What a reader gave is not looked at."""


def _tgz(members: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", mtime=0) as packed, tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def _swap_token(data: bytes, rng: np.random.Generator) -> bytes:
    """One word, number or name replaced by an awkward one, or by another of the same file."""
    words = list(TOKEN.finditer(data))
    if not words:
        return data
    at = words[rng.integers(len(words))]
    other = words[rng.integers(len(words))][0] if rng.random() < 0.3 else AWKWARD[rng.integers(len(AWKWARD))]
    return data[: at.start()] + other + data[at.end() :]


def _swap_lines(data: bytes, rng: np.random.Generator) -> bytes:
    """A line twice, gone, or in another place."""
    lines = data.split(b"\n")
    at, to = rng.integers(len(lines), size=2)
    kept = lines[:at] + lines[at + 1 :] if rng.random() < 0.5 else lines
    return b"\n".join([*kept[:to], *([lines[at]] if rng.random() < 0.7 else []), *kept[to:]])


def mutant(sound: bytes, *, seed: int, number: int) -> bytes:
    """Broken file `number` of run `seed`: the same numbers give the same bytes."""
    rng = np.random.default_rng([seed, number, 1])
    packed = sound[:2] == b"\x1f\x8b" and rng.random() < 0.8
    data = gzip.decompress(sound) if packed else sound
    for _ in range(int(rng.integers(1, 4))):
        kind = rng.random()
        if kind < 0.6:
            data = _swap_token(data, rng)
        elif kind < 0.75:
            data = _swap_lines(data, rng)
        elif data:
            data = bytes(MUTATIONS[rng.integers(len(MUTATIONS))](bytearray(data), rng))
    return gzip.compress(data, mtime=0) if packed else data


def lay_out(target: Sound, place: Path) -> Path:
    """The folder that holds the set's sound files, in a new folder below `place`."""
    folder = place / target.name.replace("/", "_") / "set"
    for name, data in target.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return folder


def run(count: int, seed: int, *, folder: Path, limit_s: float = float("inf")) -> Report:
    """Breaks and reads `count` files (fewer when `limit_s` is over), every set in turn; a culprit stays in `folder`."""
    report, every, begun = Report(), targets(), time.perf_counter()
    places = [lay_out(target, folder) for target in every]
    for number in range(count):
        if time.perf_counter() - begun > limit_s:
            break
        target, place = every[number % len(every)], places[number % len(every)]
        data = mutant(target.files[target.broken], seed=seed, number=number)
        (place / target.broken).write_bytes(data)
        name = f"{seed}_{number}_{target.name.replace('/', '_')}"
        if note_outcome(report, name, lambda target=target, place=place: target.read(place), InputError):  # type: ignore[misc]
            (folder / f"culprit_{name.replace(' ', '_')}").write_bytes(data)
    return report


if __name__ == "__main__":
    sys.exit("run fuzz_reading.py --kinds tables")
