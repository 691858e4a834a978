"""Open-i, the Indiana University chest X-ray collection: XML reports, coded by hand, joined to images where given."""

from __future__ import annotations

import tarfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from storyxai.data.reading import image_files, require_folder
from storyxai.data.reports import ReportSections, report_sections, unsectioned
from storyxai.data.table import Skipped, StudyRow, StudyTable
from storyxai.errors import TableError
from storyxai.modalities.chest_radiograph.findings import NAMES

LARGEST_REPORT_BYTES = 1_000_000
MOST_REPORTS = 100_000
HEADINGS: Mapping[str, tuple[str, ...]] = {
    "cardiomegaly": ("Cardiomegaly",), "pulmonary atelectasis": ("Atelectasis",), "pleural effusion": ("Effusion",),
    "infiltrate": ("Infiltration",), "mass": ("Mass",), "nodule": ("Nodule",), "pneumonia": ("Pneumonia",),
    "pneumothorax": ("Pneumothorax",), "hydropneumothorax": ("Pneumothorax", "Effusion"),
    "hemopneumothorax": ("Pneumothorax", "Effusion"), "consolidation": ("Consolidation",),
    "pulmonary edema": ("Edema",), "emphysema": ("Emphysema",), "pulmonary emphysema": ("Emphysema",),
    "bullous emphysema": ("Emphysema",), "pulmonary fibrosis": ("Fibrosis",), "hernia, hiatal": ("Hernia",),
    "hernia, diaphragmatic": ("Hernia",),
}
# A heading that names a shadow without its kind: what it may stand for is then not stated rather than absent.
VAGUE: Mapping[str, tuple[str, ...]] = {
    "opacity": ("Infiltration", "Consolidation", "Pneumonia", "Atelectasis", "Mass", "Nodule"),
    "airspace disease": ("Infiltration", "Consolidation", "Pneumonia", "Edema"),
    "density": ("Infiltration", "Consolidation", "Mass", "Nodule"),
    "volume loss": ("Atelectasis",), "markings": ("Edema", "Fibrosis"), "pulmonary congestion": ("Edema",),
    "cardiac shadow": ("Cardiomegaly",), "lung diseases, interstitial": ("Fibrosis", "Edema"),
    "cicatrix": ("Fibrosis",), "costophrenic angle": ("Effusion", "Pleural_Thickening"), "granuloma": ("Nodule",),
    "pulmonary disease, chronic obstructive": ("Emphysema",), "lung, hyperlucent": ("Emphysema",),
    "lung": ("Emphysema",),
}
ELSEWHERE = ("breast", "mediastinum", "neck", "abdomen", "spine", "ribs", "soft tissue")


def read_openi(folder: Path) -> StudyTable:
    """One row per image of a report, or one without an image where none of the report's images is in the folder.

    Layout: `NLMCXR_reports.tgz`, or its `ecgen-radiology/<n>.xml`; images anywhere below the folder under the names the
    reports give (`CXR1_1_IM-0001-3001.png`). The archive is read in memory, nothing is unpacked.
    Labels: the MeSH headings coded by hand (`major`). "normal" makes all 0. Otherwise a heading that is one of our
    findings makes it 1 and the others are 0, for the coding was meant to be complete; but a heading that names a shadow
    without its kind ("Opacity") leaves what it may stand for not stated, and "No Indexing" or unsatisfactory technique
    leaves everything unlisted not stated. No patient is told: each report counts as its own patient.
    The view is not told. "XXXX" is the publisher's de-identification and stays.
    Source: Demner-Fushman et al., JAMIA 2016;23(2):304-310; openi.nlm.nih.gov/faq. Raises: TableError.
    """
    require_folder(folder)
    images = {Path(name).stem: name for name in image_files(folder)}
    used: set[str] = set()
    rows, skipped = [], []
    for name, data in _reports(folder):
        report = _parsed(data)
        if isinstance(report, str):
            skipped.append(Skipped(name, report))
            continue
        found = _rows(report, name, images, skipped)
        used.update(Path(row.image).stem for row in found if row.image)
        rows += found
    strays = [path for stem, path in sorted(images.items()) if stem not in used]
    skipped += [Skipped(path, "is an image that no report names") for path in strays]
    return StudyTable.from_rows(rows, root=folder, skipped=skipped)


def _reports(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Name and bytes of every report; b"" for one that is too large."""
    archive = folder / "NLMCXR_reports.tgz"
    if not archive.is_file():
        paths = sorted(folder.glob("**/*.xml"))
        if not paths:
            raise TableError(str(folder), "holds neither NLMCXR_reports.tgz nor .xml reports", mend="name their folder")
        for path in paths:
            yield path.name, path.read_bytes() if path.stat().st_size <= LARGEST_REPORT_BYTES else b""
        return
    try:
        with tarfile.open(archive, "r|gz") as bundle:
            for count, member in enumerate(bundle):
                if count > MOST_REPORTS:
                    raise TableError(archive.name, f"holds over {MOST_REPORTS} files", mend="fetch the published one")
                if member.isreg() and member.name.endswith(".xml"):
                    stream = bundle.extractfile(member) if member.size <= LARGEST_REPORT_BYTES else None
                    yield Path(member.name).name, stream.read() if stream else b""
    except (tarfile.TarError, OSError, EOFError, zlib.error) as error:
        raise TableError(archive.name, f"cannot be read ({error})", mend="fetch the file again") from error


def _parsed(data: bytes) -> Any:
    """The report's root element, or why there is none."""
    from xml.etree.ElementTree import ParseError

    from defusedxml import DefusedXmlException, ElementTree

    if not data:
        return "is empty or larger than 1 MB"
    try:
        root = ElementTree.fromstring(data, forbid_dtd=True)
    except (ParseError, DefusedXmlException, ValueError, LookupError) as error:  # LookupError: an unknown encoding
        return f"cannot be read as XML ({type(error).__name__})"
    return root if root.find("uId") is not None else "holds no uId"


def _rows(root: Any, name: str, images: Mapping[str, str], skipped: list[Skipped]) -> list[StudyRow]:
    uid = str(root.find("uId").get("id") or Path(name).stem)
    report = _sections(root)
    if report.unsectioned:
        skipped.append(unsectioned(name, report))
    tags = [" ".join((part.text or "").split()) for part in root.findall("MeSH/major")]
    labels, uncertain = _labels(tags)
    named = [str(part.get("id")) for part in root.findall("parentImage")]
    here = [images[name] for name in named if name in images]
    notes = [f"coded: {tag}" for tag in tags]
    if len(here) < len(named):
        notes.append(f"{len(named) - len(here)} of {len(named)} images of this report are not in the folder")
    return [
        StudyRow(
            f"openi-{uid}", f"openi-{uid}", image, "openi", image_id=f"openi-{Path(image).stem}" if image else "",
            license=(root.findtext("licenseURL") or "").strip(), labels=labels, uncertain=uncertain,
            findings_text=report.findings, impression_text=report.impression,
            notes=(*notes, *report.notes()),
        )
        for image in here or [""]
    ]


def _sections(root: Any) -> ReportSections:
    """The report's elements put together as one text under their labels, and cut as any report is.

    An element without a label stands before all headings.
    """
    parts = [(str(part.get("Label") or "").strip(), "".join(part.itertext())) for part in root.iter("AbstractText")]
    bare = [body for label, body in parts if not label]
    return report_sections("\n".join([*bare, *(f"{label}: {body}" for label, body in parts if label)]))


def _labels(tags: list[str]) -> tuple[dict[str, float], tuple[str, ...]]:
    parts = [[part.strip() for part in tag.casefold().split("/")] for tag in tags]
    headings = {part[0] for part in parts}
    if headings == {"normal"}:
        return dict.fromkeys(NAMES, 0.0), ()
    present: set[str] = set()
    doubtful: set[str] = set()
    unread = not tags or headings & {"no indexing", "technical quality of image unsatisfactory"}
    open_: set[str] = set(NAMES) if unread else set()
    for heading, *details in parts:
        found = HEADINGS.get(heading, ())
        if heading == "thickening" and any("pleura" in detail for detail in details):
            found = ("Pleural_Thickening",)
        if heading == "cardiac shadow" and "enlarged" in details:
            found = ("Cardiomegaly",)
        if found and not any(place in detail for place in ELSEWHERE for detail in details):
            (doubtful if "questionable" in details else present).update(found)
        open_.update(VAGUE.get(heading, ()))
    labels = {name: 1.0 for name in NAMES if name in present}
    labels |= {name: 0.0 for name in NAMES if name not in present | doubtful | open_}
    return labels, tuple(name for name in NAMES if name in doubtful - present)
