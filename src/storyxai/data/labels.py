"""Labels in the words of each data set become labels in ours.

A label is 1 (stated as present), 0 (stated as absent) or nan (not stated). Uncertain is not a number: the label is nan
and the finding's name stands in the row's `uncertain`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

from storyxai.modalities.registry import modality_named


def labels_from_list(names: Iterable[str]) -> tuple[dict[str, float], tuple[str, ...]]:
    """Labels where a list names everything that is present, and the names that are no finding of the default modality.

    Every finding that is not listed is 0. "No Finding" lists nothing.
    """
    kind = modality_named()
    labels = dict.fromkeys(kind.names, 0.0)
    unknown = []
    for name in names:
        matched = kind.match(name)
        if matched is not None:
            labels[matched] = 1.0
        elif name.strip() and name.casefold().replace("_", " ").strip() not in ("no finding", "normal"):
            unknown.append(name.strip())
    return labels, tuple(unknown)


def labels_from_codes(codes: Mapping[str, float]) -> tuple[dict[str, float], tuple[str, ...], tuple[str, ...]]:
    """Labels, uncertain findings and present names that are no finding, from 1 / 0 / -1 / nan by name.

    Findings are those of the default modality. -1 is uncertain; nan is not stated. "No Finding" = 1 states
    nothing that the single columns do not: it is left out, because a report without a finding does not say that each
    single one is absent. Two names of one finding: present wins over uncertain, uncertain over absent.
    """
    kind, rank = modality_named(), {0.0: 1, -1.0: 2, 1.0: 3}
    strongest: dict[str, float] = {}
    others = []
    for name, code in codes.items():
        if math.isnan(code) or code not in rank:
            continue
        matched = kind.match(name)
        if matched is None:
            if code == 1.0 and name.casefold() != "no finding":
                others.append(name)
        elif rank[code] > rank.get(strongest.get(matched, math.nan), 0):
            strongest[matched] = code
    labels = {name: code for name, code in strongest.items() if code >= 0}
    return labels, tuple(name for name in kind.names if strongest.get(name) == -1.0), tuple(others)
