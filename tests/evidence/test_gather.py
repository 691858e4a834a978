"""Which findings a story dwells on."""

from __future__ import annotations

from storyxai.evidence.gather import MOST_TOLD, told_findings
from storyxai.types import Finding


def finding(name: str, state: str, probability: float = 0.5) -> Finding:
    interval = {"present": (0.4, 0.9), "indeterminate": (0.1, 0.9), "absent": (0.0, 0.2)}[state]
    return Finding(name, probability, interval, 0.3)


def test_no_present_finding_is_left_without_its_second_witness() -> None:
    """A present finding beyond the most told would be shown a map that only one method vouches for."""
    many = tuple(finding(f"F{i}", "present") for i in range(MOST_TOLD + 3))
    assert set(told_findings(many)) == {f.name for f in many}


def test_indeterminate_findings_fill_up_and_absent_ones_are_not_told() -> None:
    few = (finding("P", "present"), *(finding(f"U{i}", "indeterminate", 0.2 + 0.01 * i) for i in range(8)))
    told = told_findings((*few, finding("A", "absent", 0.1)))
    assert len(told) == MOST_TOLD and told[0] == "P" and told[1] == "U7"
