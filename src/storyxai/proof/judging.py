"""Whether what a sentence claims is what the record holds: values, names, tiers, outcomes of checks, lists and counts."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from storyxai.errors import CitationError
from storyxai.evidence.paths import finding_in, resolve
from storyxai.evidence.schema import EvidenceRecord
from storyxai.proof.lexicon import Lexicon, find_phrases, strings_in, words_of
from storyxai.proof.printing import is_frequency, prints, prints_bounded, prints_number
from storyxai.proof.remarks import is_remark, is_remarks
from storyxai.proof.required import refused
from storyxai.proof.templates import Claim, Reading

__all__ = ["OUTCOMES", "problems_of", "tier_said", "tiers_cited"]

OUTCOMES: Final[Mapping[str, tuple[str, bool]]] = {
    "agree": ("methods_agree.passed", True),
    "disagree": ("methods_agree.passed", False),
    "short_disagree": ("methods_agree.passed", False),
    "short_apart": ("methods_agree.passed", False),
    "short_no_map": ("shown", False),
    "all_withheld": ("shown", False),
    "no_place": ("shown", False),
    "withheld": ("shown", False),
    "short_report": ("report_agrees.passed", False),
    "short_report_many": ("report_agrees.passed", False),
    "report_line_backed": ("report_agrees.passed", True),
    "report_said_backed": ("report_agrees.passed", True),
    "report_line_against": ("report_agrees.passed", False),
    "report_said_against": ("report_agrees.passed", False),
    "report_contradicts": ("report_agrees.passed", False),
    "gate_all": ("passed", True),
    "gate_failed": ("passed", False),
    "gate": ("passed", False),
    "gate_untaught": ("passed", False),
    "check_failed": ("passed", False),
    "side_doubt": ("passed", False),
    "forced": ("settings.forced", True),
    "synthetic": ("synthetic", True),
    "map_doubtful": ("doubtful", True),
    "map_apart": ("doubtful", True),
    "map_shared": ("label_specific.passed", False),
    "map_coarse": ("fine_enough.passed", False),
    "smallest_sure": ("smallest", True),
    "smallest_open": ("smallest", False),
}
"""What a sentence of that name says of what it cites: the end of the path, and the value that must stand there."""
UNSAID: Final[Mapping[str, Callable[[EvidenceRecord], bool]]] = {
    "clinician.forced": refused,
    "view_unknown": lambda facts: facts.study.image.view in ("", "unknown"),
    "view_ap": lambda facts: facts.study.image.view == "AP",
    "spacing_unknown": lambda facts: facts.study.image.spacing_mm is None,
    "spacing_detector": lambda facts: facts.study.image.spacing_kind == "detector",
    "nothing_withheld": lambda facts: facts.counts.maps_withheld == 0,
    "cannot_any": lambda facts: bool(facts.doubts) or not _of_tiers(facts, ("likely", "possible", "unlikely")),
    "cannot_all": lambda facts: not _of_tiers(facts, ("likely", "possible", "unlikely")),
    "none": lambda facts: set(_of_tiers(facts, ("unlikely",))) == set(facts.findings),
    "none_sure": lambda facts: not [f for f in facts.named if facts.findings[f].tier in ("likely", "possible")],
    "normal_all": lambda facts: not facts.named and set(_of_tiers(facts, ("unlikely",))) == set(facts.findings),
    "normal": lambda facts: not facts.named,
    "cannot": lambda facts: bool(_of_tiers(facts, ("cannot_tell",))),
    "more": lambda facts: len(facts.named) > 1,
    "only_synthetic": lambda facts: bool(sets := facts.model.trained_on) and all(one.synthetic for one in sets),
}
"""What must hold of the record where a sentence of that name or key stands and nothing that it prints says so."""
COUNTS: Final[Mapping[str, str]] = {
    "counts.maps": "maps", "counts.shown": "maps_shown", "counts.withheld": "maps_withheld",
    "gate_counts.asked": "gate_asked", "gate_counts.passed": "gate_passed",
    "checks_passed.count": "checks_passed", "checks_failed.count": "checks_failed", "checks_unasked.count": "checks_unasked",
}  # fmt: skip
"""Where the record counts what a sentence's slot counts."""
UNNAMED: Final = {
    "more_likely": "likely", "more_possible": "possible", "more_cannot_tell": "cannot_tell", "more_scored": "likely",
    "rest_possible": "possible", "rest_cannot_tell": "cannot_tell",
    "others_unlikely": "unlikely", "others_scored": "unlikely",
}  # fmt: skip
"""Sentences that count the findings of a tier that are not named in text."""
WHOLE_TIER: Final = {"normal": "unlikely", "normal_all": "unlikely", "scores_low": "unlikely"}


def problems_of(reading: Reading, cites: Sequence[str], lexicon: Lexicon) -> list[str]:
    """What is wrong with the sentence when it is read so, one line each; empty where the record backs all of it."""
    record = lexicon.record
    problems = [f"does not cite {path}, which it speaks of" for path in reading.missing]
    lost = [path for path in cites if _value(record, path) is None]
    problems += [f"cites {path}, which leads nowhere" for path in lost]
    if problems:
        return problems
    for claim in reading.claims:
        problems += _claim_problem(claim, reading, cites, lexicon)
    problems += _tier_problems(reading, cites, lexicon)
    problems += _outcome_problems(reading, cites, lexicon)
    problems += _movement_problems(reading, lexicon.facts)
    problems += _learned_problems(reading, cites, record)
    return problems


def tiers_cited(cites: Iterable[str]) -> list[str]:
    """The findings whose tier is among what is cited."""
    found = (re.fullmatch(r"findings\.(.+)\.tier", path) for path in cites)
    return [match[1] for match in found if match]


def tier_said(reading: Reading, lexicon: Lexicon) -> str:
    """The tier that the form's own words put its findings in, "" where they put them in none."""
    said = {hit.what for hit in find_phrases(reading.form.literal, lexicon.tiers)}
    return said.pop() if len(said) == 1 else ""


def _claim_problem(claim: Claim, reading: Reading, cites: Sequence[str], lexicon: Lexicon) -> list[str]:
    if claim.slot:
        return _slot_problems(claim, reading, cites, lexicon)
    if claim.variable:
        return _name_problem(claim, reading.names[claim.variable], lexicon)
    value = _value(lexicon.record, claim.path)
    if value is None:
        return [f"prints {claim.path}, which the record does not hold"]
    parts = claim.path.split(".")
    if parts[0] == "terms" and len(parts) == 3:
        value = lexicon.term(parts[1], parts[2])
    if prints(claim.text, value, claim.how, lexicon, claim.path):
        return []
    return [f"prints “{claim.text}” where {claim.path} is {_short(value)}"]


def _name_problem(claim: Claim, name: str, lexicon: Lexicon) -> list[str]:
    known = lexicon.methods.get(name, (name,)) if claim.variable == "M" else lexicon.findings.get(name, (name,))
    if any(" ".join(claim.text.split()).casefold() == one.casefold() for one in known):
        return []
    return [f"names “{claim.text}” but cites {name}"]


def _tier_problems(reading: Reading, cites: Sequence[str], lexicon: Lexicon) -> Iterator[str]:
    said = tier_said(reading, lexicon)
    for finding in tiers_cited(cites) if said else ():
        tier = lexicon.facts.findings[finding].tier
        if tier != said:
            yield f"says {said.replace('_', ' ')} of {finding}, which is {tier.replace('_', ' ')} on record"


def _outcome_problems(reading: Reading, cites: Sequence[str], lexicon: Lexicon) -> Iterator[str]:
    name = reading.form.name
    if (holds := UNSAID.get(reading.form.key, UNSAID.get(name))) and not holds(lexicon.facts):
        yield f"is not so: the record does not bear out “{reading.form.key}”"
    if name not in OUTCOMES:
        return
    end, meant = OUTCOMES[name]
    found = [path for path in cites if path.endswith(f".{end}")]
    if not found:
        yield f"cites nothing that says whether it is so (…{end})"
    for path in found:
        if _value(lexicon.record, path) is not meant:
            yield f"says the opposite of {path}"


def _movement_problems(reading: Reading, facts: EvidenceRecord) -> Iterator[str]:
    """Whether a what-if that is said to fall or rise does, and across the line."""
    kind, _, way = reading.form.name.removeprefix("again_").rpartition("_")
    if kind not in ("what_if", "smallest") or way not in ("below", "above", "same"):
        return
    finding = reading.names["F"]
    before, limit = facts.findings[finding].probability, facts.findings[finding].threshold
    if kind == "smallest":
        change = facts.smallest_changes[finding]
        after, limit = change.probability, change.limit
    else:
        after = facts.counterfactuals[finding][int(reading.names["I"])].probability
    if after is None:  # a change that nobody measured moves nothing
        yield "tells of a number that the record does not hold"
        return
    holds = {"below": before >= limit > after, "above": before < limit <= after, "same": abs(before - after) < 0.011}
    if not holds[way]:
        yield "says that the number moves as it does not"


def _learned_problems(reading: Reading, cites: Sequence[str], record: Mapping[str, object]) -> Iterator[str]:
    """Whether concepts that are said to count, to speak against or to be chance were found so."""
    kind, _, verdict = reading.form.name.partition("_")
    for path in cites if kind == "learned" and verdict in ("rests_on", "speaks_against", "chance", "unseen") else ():
        room, _, rest = path.partition(".")
        item = _value(record, f"{room}.{rest.rpartition('.')[0]}")
        if room == "learned" and isinstance(item, Mapping) and item["verdict"] != verdict:
            yield f"says {verdict.replace('_', ' ')} of {item['name']}, which is {item['verdict'].replace('_', ' ')} on record"


def _slot_problems(claim: Claim, reading: Reading, cites: Sequence[str], lexicon: Lexicon) -> list[str]:
    judges = {
        "names": _names_problems, "errors": _names_problems, "values": _names_problems, "count": _count_problems,
        "maps": _maps_problems, "why": _quoted_problems, "check": _check_problems, "quantity": _quantity_problems,
    }  # fmt: skip
    if f"{reading.form.name}.{claim.slot}" in COUNTS:
        return list(_counted_problems(claim, reading, lexicon))
    return list(judges.get(claim.slot, _loose_problems)(claim, reading, cites, lexicon))


def _counted_problems(claim: Claim, reading: Reading, lexicon: Lexicon) -> Iterator[str]:
    meant = getattr(lexicon.facts.counts, COUNTS[f"{reading.form.name}.{claim.slot}"])
    if _counted(claim.text, lexicon) != meant:
        yield f"counts {claim.text} where the record counts {meant}"


def _count_problems(claim: Claim, reading: Reading, cites: Sequence[str], lexicon: Lexicon) -> Iterator[str]:
    name, facts = reading.form.name, lexicon.facts
    if name in UNNAMED:
        meant = [one for one in _of_tiers(facts, (UNNAMED[name],)) if one not in facts.named]
    elif name in WHOLE_TIER:
        meant = _of_tiers(facts, (WHOLE_TIER[name],))
    elif name == "gate_all":
        meant = [one for one, check in facts.gate.items() if check.passed is not None]
    else:
        meant = tiers_cited(cites) or [path for path in cites if path.endswith(".passed")] or list(cites)
    if _counted(claim.text, lexicon) != len(meant):
        yield f"counts {claim.text} where the record has {len(meant)}"


def _names_problems(claim: Claim, reading: Reading, cites: Sequence[str], lexicon: Lexicon) -> Iterator[str]:
    """Whether a list of findings names those that are cited, each with its number and its place."""
    # Concepts that a finding rests on are listed, and not the finding.
    listed = [path for path in cites if not path.startswith("learned.")]
    about = [one for one in _findings_cited(listed, lexicon.facts) if one != reading.names.get("F")]
    if not about:
        yield from _loose_problems(claim, reading, cites, lexicon)
        return
    hits = find_phrases(claim.text, lexicon.findings)
    named = [hit.what for hit in hits]
    yield from (f"names {one}, which it does not cite" for one in dict.fromkeys(named) if one not in about)
    yield from (f"cites {one} and does not name it" for one in about if one not in named)
    meant = _meant(reading, lexicon)
    if meant is not None:
        yield from (f"leaves out {one}" for one in meant if one not in about)
        yield from (f"lists {one}, which is not among them on record" for one in about if one not in meant)
    if odd := [word for word in words_of(claim.text[: hits[0].start] if hits else "") if word not in lexicon.joins]:
        yield f"says “{' '.join(odd)}” before the first finding"
    for hit, following in zip(hits, [*hits[1:], None], strict=False):
        text = claim.text[hit.end : following.start if following else None]
        yield from _item_problems(hit.what, text, reading, cites, lexicon)


LEFT_OPEN: Final = ("verdict_cannot_tell", "also_cannot_tell")
"""Forms that name findings of which the model cannot tell: no number stands there, and one would be cited by no path."""


def _item_problems(finding: str, text: str, reading: Reading, cites: Sequence[str], lexicon: Lexicon) -> Iterator[str]:
    """Whether what stands behind a finding's name in a list is its number and its place."""
    paths = [path for path in cites if finding in _findings_cited([path], lexicon.facts)]
    place = _place_problems(finding, text, paths, lexicon)
    yield from place
    numbers = lexicon.numbers(text)
    values = [float(value) for path in paths for value in _numbers_of(_value(lexicon.record, path))]
    if numbers and not _numbers_back(text, values, lexicon):
        recorded = ", ".join(f"{value:g}" for value in values) or "no number"
        yield f"prints “{text.strip(' ,;')}” of {finding}, and the record has {recorded}"
    numbered = reading.form.name.startswith(("verdict_", "also_", "scores_high"))
    if not numbers and numbered and reading.form.name not in LEFT_OPEN:
        yield f"names {finding} without its number"
    known = {word for path in paths for text_ in strings_in(_value(lexicon.record, path)) for word in words_of(text_)}
    known |= {word for table in ("zone", "zones", "side", "lay_side") for said in lexicon.file.tables.get(table, {}).values()
              for word in words_of(said)}  # fmt: skip
    if odd := [word for word in words_of(text) if word not in lexicon.joins and word not in known]:
        yield f"says “{' '.join(odd)}” of {finding}, which nothing backs"


def _place_problems(finding: str, text: str, paths: Collection[str], lexicon: Lexicon) -> list[str]:
    """Whether the zones and the side that are told are those cited."""
    record, problems = lexicon.record, []
    told, bare = lexicon.zones_in(text)
    meant = {z.strip() for path in paths if path.endswith(".zones.value") for z in str(_value(record, path)).split(",")}
    if told != meant:
        problems.append(f"puts {finding} in {_list(told)} where the record has {_list(meant)}")
    sides = lexicon.file.sides
    said = {hit.what for hit in find_phrases(bare, sides)}
    sided = {str(_value(record, path)) for path in paths if path.endswith(".side.value")} & set(sides)
    if said != sided:
        problems.append(f"puts {finding} {_list(said)} where the record has {_list(sided)}")
    return problems


def _meant(reading: Reading, lexicon: Lexicon) -> list[str] | None:
    """The findings that a list of this form must hold, by the record; None where the record does not say."""
    facts, name = lexicon.facts, reading.form.name
    if name.startswith(("verdict_", "also_")):
        tier = name.partition("_")[2]
        return [one for one in facts.named if facts.findings[one].tier == tier]
    if name.startswith("tier_"):
        return _of_tiers(facts, (name.removeprefix("tier_").removesuffix("_score"),))
    if name in EXTREMES:
        return _extremes(facts, *EXTREMES[name])
    if name == "no_figures":
        measured = facts.model.per_finding
        return [one for one in facts.findings if one not in measured or measured[one].auroc is None]
    return None


EXTREMES: Final[Mapping[str, tuple[str, bool]]] = {"best_and_worst": ("auroc", True), "worst_calibrated": ("ece", False)}
"""Sentences that name the findings at the ends of a measure: its name on the card, and whether both ends are named."""


def _extremes(facts: EvidenceRecord, measure: str, both: bool) -> list[str]:
    """The finding with the highest value of a measure, and where `both` the one with the lowest."""
    values = {name: getattr(item, measure) for name, item in facts.model.per_finding.items()}
    known = sorted((value, name) for name, value in values.items() if value is not None)
    return [name for _, name in dict.fromkeys([*known[-1:], *(known[:1] if both else [])])]


def _maps_problems(claim: Claim, reading: Reading, cites: Sequence[str], lexicon: Lexicon) -> Iterator[str]:
    """Whether "Grad-CAM of A and B; LIME of A" names the maps that are cited."""
    phrases = {f"M:{key}": names for key, names in lexicon.methods.items()}
    by_name = {name.casefold(): key for key, names in lexicon.methods.items() for name in names}
    phrases |= {f"F:{key}": names for key, names in lexicon.findings.items()}
    method, said = "", set()
    for hit in find_phrases(claim.text, phrases):
        kind, _, name = hit.what.partition(":")
        # A finding may bear a method's name ("occlusion"): what a part begins with is the method.
        written = claim.text[hit.start : hit.end].casefold()
        if claim.text[: hit.start].rstrip()[-1:] in ("", ";") and written in by_name:
            kind, name = "M", by_name[written]
        method = name if kind == "M" else method
        if kind == "F":
            said.add((name, method))
    meant = set()
    for path in cites:
        found = re.fullmatch(r"(?:checks|heatmaps)\.(.+)\.(\w+)\.(?:shown|withheld_because|\w+\.passed)", path)
        if found:
            meant.add((found[1], found[2]))
    # A finding called "of" or "and" is not meant wherever that word stands.
    said = {(f, m) for f, m in said if (f, m) in meant or not lexicon.joins.issuperset(words_of(f))}
    yield from (f"names the {m} map of {f}, which it does not cite" for f, m in sorted(said - meant))
    yield from (f"cites the {m} map of {f} and does not name it" for f, m in sorted(meant - said))
    for finding, kind in sorted(meant):
        why = _value(lexicon.record, f"heatmaps.{finding}.{kind}.withheld_because")
        reasons = [one.text for one in reading.claims if one.slot == "why"]
        if reasons and why is not None and not prints(reasons[0], why, "text", lexicon):
            yield f"gives another reason for the {kind} map of {finding} than the record"


def _quoted_problems(claim: Claim, reading: Reading, cites: Sequence[str], lexicon: Lexicon) -> Iterator[str]:
    values = [_value(lexicon.record, path) for path in cites]
    texts = [value for value in values if isinstance(value, str) or is_remark(value) or is_remarks(value)]
    if not any(prints(claim.text, text, "text", lexicon) for text in texts):
        yield f"says “{claim.text}”, which is no text that it cites"


def _check_problems(claim: Claim, reading: Reading, cites: Sequence[str], lexicon: Lexicon) -> Iterator[str]:
    names = {match[1] for path in cites if (match := re.fullmatch(r"checks\..+\.(\w+)\.passed", path))}
    if not any(claim.text.casefold() == lexicon.table("check", name).casefold() for name in names) or len(names) != 1:
        yield f"speaks of the check “{claim.text}” and cites {_list(names)}"


def _quantity_problems(claim: Claim, reading: Reading, cites: Sequence[str], lexicon: Lexicon) -> Iterator[str]:
    joins = lexicon.file.joins
    meant = joins.score if "calibration" in lexicon.facts.gaps else joins.probability
    if claim.text.casefold() != meant.casefold():
        yield f"calls the model's number “{claim.text}” where it is a {meant}"


def _loose_problems(claim: Claim, reading: Reading, cites: Sequence[str], lexicon: Lexicon) -> Iterator[str]:
    """Whether a slot of no known kind holds nothing but words that are worded or cited, and numbers that are cited."""
    values = [_value(lexicon.record, path) for path in cites]
    texts = {text for value in values for text in strings_in(value)}
    worded = {said for text in texts for said in lexicon.tables_of(text) | lexicon.said_of(text)}
    known = {word for text in texts | worded for word in words_of(text)} | lexicon.joins
    if odd := [word for word in words_of(claim.text) if word not in known]:
        yield f"says “{' '.join(odd)}”, which nothing that it cites backs"
    rest = _without(claim.text, [*texts, *worded])
    numbers = [float(number) for value in values for number in _numbers_of(value)]
    if lexicon.numbers(rest) and not _numbers_back(rest, numbers, lexicon):
        yield f"prints “{claim.text}”, a number that it does not cite"


def _numbers_back(text: str, values: Sequence[float], lexicon: Lexicon) -> bool:
    """Whether every number in `text` prints one of the values, alone or as "k in 100"."""
    numbers = lexicon.numbers(text)
    shares = [value for value in values if 0 <= value <= 1]
    whole = [int(number.value) for number in numbers if not number.decimals]
    for base in {10, 100, 1000} & set(whole) if len(whole) == len(numbers) == 2 else ():
        inner = text[min(n.start for n in numbers) : max(n.end for n in numbers)]
        if any(_is_share(text, inner, share, base, lexicon) for share in shares):
            return True
    return all(
        any(prints_number(n, v, scale=100) if n.percent else prints_bounded(text, n, v, lexicon) for v in values)
        for n in numbers
    )


def _is_share(text: str, inner: str, share: float, base: int, lexicon: Lexicon) -> bool:
    joins = lexicon.file.joins
    for form in (joins.about, joins.more_than, joins.fewer_than):
        pattern = re.escape(form).replace(r"\{\}", r"\d+")
        if found := re.search(pattern, text, re.IGNORECASE):
            return is_frequency(found[0], share, base, lexicon)
    # "12 in 100", without the word "about".
    return base == 100 and joins.of_hundred.format(round(share * 100)) == inner and 0 < share < 1


def _counted(text: str, lexicon: Lexicon) -> int | None:
    if text.casefold() == lexicon.file.joins.one.casefold():
        return 1
    numbers = lexicon.numbers(text)
    return int(numbers[0].value) if len(numbers) == 1 and not words_of(text) else None


def _findings_cited(cites: Iterable[str], facts: EvidenceRecord) -> list[str]:
    return list(dict.fromkeys(name for path in cites if (name := finding_in(path, facts.terms))))


def _of_tiers(facts: EvidenceRecord, tiers: Collection[str]) -> list[str]:
    return [name for name, item in facts.findings.items() if item.tier in tiers]


def _numbers_of(value: Any) -> list[float]:
    if isinstance(value, bool):
        return []
    if isinstance(value, int | float):
        return [float(value)]
    return [number for item in value for number in _numbers_of(item)] if isinstance(value, list) else []


def _without(text: str, phrases: Iterable[str]) -> str:
    for phrase in sorted(phrases, key=len, reverse=True):
        text = re.sub(re.escape(phrase), " ", text, flags=re.IGNORECASE) if phrase else text
    return text


def _value(record: Mapping[str, object], path: str) -> Any:
    try:
        return resolve(record, path)
    except CitationError:
        return None


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) < 80 else f"{text[:77]}..."


def _list(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "none"
