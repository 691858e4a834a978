"""Reports as people write them, cut into sections without losing a word."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from storyxai.data.table import Skipped

_FINDINGS = ("FINDINGS AND IMPRESSION", "FINDINGS/IMPRESSION", "FINDINGS & IMPRESSION", "FINDINGS", "FINDING", "OBSERVATIONS")
_IMPRESSION = ("IMPRESSIONS", "IMPRESSION", "CONCLUSIONS", "CONCLUSION", "OPINION", "INTERPRETATION", "SUMMARY")
_OTHER = (
    "INDICATION FOR STUDY", "INDICATIONS", "INDICATION", "CLINICAL INFORMATION", "CLINICAL HISTORY", "CLINICAL INDICATION",
    "CLINICAL DATA", "HISTORY", "REASON FOR EXAMINATION", "REASON FOR EXAM", "REASON FOR STUDY", "REASON", "COMPARISONS",
    "COMPARISON", "TECHNIQUE", "EXAMINATION", "EXAM", "STUDY", "PROCEDURE", "VIEWS", "NOTIFICATIONS", "NOTIFICATION",
    "RECOMMENDATIONS", "RECOMMENDATION", "WET READ", "ADDENDUM", "TYPE OF EXAMINATION",
)
_SECTION = dict.fromkeys(_FINDINGS, "findings") | dict.fromkeys(_IMPRESSION, "impression") | dict.fromkeys(_OTHER, "")
_NAMES = "|".join(re.escape(name).replace(r"\ ", r"\s+") for name in sorted(_SECTION, key=len, reverse=True))
# A heading stands at a line's start, alone on a line, in capitals, or as the first word after a sentence.
_HEADING = re.compile(rf"(?<![^\W_])(?P<name>{_NAMES})(?P<end>[ \t]*:|[ \t]*(?=\n|$))", re.IGNORECASE)
_FURNITURE = re.compile(r"^[^\w\n]*(?:FINAL REPORT|PRELIMINARY REPORT|REPORT)[^\w\n]*$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True)
class ReportSections:
    """A report's findings and impression, the headings of the other sections, and text that stands in no section.

    Every word of the report is in `findings`, `impression`, `unsectioned`, or under one of the `others`.
    """

    findings: str
    impression: str
    others: tuple[str, ...]
    unsectioned: str

    def notes(self) -> tuple[str, ...]:
        """What a reader of the row must know of the report, the text without a section word by word."""
        kept = (f"report sections left aside: {', '.join(self.others)}",) if self.others else ()
        return (*kept, f"report text without a section: {self.unsectioned}") if self.unsectioned else kept


def unsectioned(name: str, report: ReportSections) -> Skipped:
    """How many words of a report stand in no section, for the list of what was left out."""
    words = len(report.unsectioned.split())
    return Skipped(name, f"has report text without a section ({words} words), kept in the row's notes")


def report_sections(text: str) -> ReportSections:
    """The sections of a report.

    Headings may be in capitals or not, at a line's start or inside a line, with a colon or alone on their line; a section
    that comes twice is joined, and a heading of both ("FINDINGS AND IMPRESSION") counts as findings. Headings of organs
    (an organ, "ET TUBE:") belong to the section they stand in. A report with neither findings nor impression has its last
    paragraph as findings.
    """
    plain = _FURNITURE.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    marks = [found for found in _HEADING.finditer(plain) if _is_heading(plain, found)]
    parts: dict[str, list[str]] = defaultdict(list)
    others: list[str] = []
    before = _line(plain[: marks[0].start()] if marks else plain)
    stops = [*(mark.start() for mark in marks[1:]), len(plain)]
    for mark, stop in zip(marks, stops, strict=False):
        body = _line(plain[mark.end() : stop])
        name = _line(mark["name"]).upper()
        if not _SECTION[name]:
            others.append(name)
        elif body:
            parts[_SECTION[name]].append(body)
    if not parts:
        return _without_headings(plain, tuple(dict.fromkeys(others)))
    findings, impression = (" ".join(parts[name]) for name in ("findings", "impression"))
    return ReportSections(findings, impression, tuple(dict.fromkeys(others)), before)


def _is_heading(text: str, found: re.Match[str]) -> bool:
    before = text[text.rfind("\n", 0, found.start()) + 1 : found.start()]
    alone_or_colon = ":" in found["end"]
    if not before.strip(" \t*#-_"):
        return True
    if not alone_or_colon:
        return False
    return found["name"].isupper() or (found["name"][0].isupper() and before.rstrip()[-1:] in ".;:!?)")


def _without_headings(plain: str, others: tuple[str, ...]) -> ReportSections:
    """The last paragraph is what the report says; what stands before it is in no section."""
    blocks = [block for block in re.split(r"\n[ \t]*\n", plain) if block.strip()]
    bare = [block for block in blocks if not _HEADING.match(block.lstrip(" \t*#-_\n"))]
    if not bare or bare[-1] is not blocks[-1]:
        return ReportSections("", "", others, _line(" ".join(bare)))
    return ReportSections(_line(bare[-1]), "", others, _line(" ".join(bare[:-1])))


def _line(text: str) -> str:
    return " ".join(text.split())
