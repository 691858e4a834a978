"""The machine-learning practitioner's story: measured performance, calibration, maps with their checks, and seeds."""

from __future__ import annotations

from storyxai.story.audiences.learned import learned_section
from storyxai.story.audiences.neighbours import near_section
from storyxai.story.teller import Teller
from storyxai.types import TIERS, Section, Sentence


def practitioner_sections(t: Teller) -> tuple[Section, ...]:
    """The sections of the practitioner's story, in the order of what a reviewer of a model asks."""
    said = t.words.heading
    in_short = [t.say("practitioner.model"), *_measured(t), *t.lacks("gap"), _map_counts(t), gaps(t, "practitioner")]
    sections = t.section(said("practitioner.in_short"), in_short)
    sections += _performance(t)
    sections += _checks(t)
    sections += _trust(t)
    sections += _maps(t)
    if t.names("model.subgroups"):
        figures = ("plot/groups", "table/subgroups")
        sections += t.section(said("practitioner.fair"), [t.say("practitioner.groups")], figures=figures)
    if t.names("model.agreement"):
        figures = ("plot/agreement", "table/agreement")
        sections += t.section(said("practitioner.students"), [t.say("practitioner.agreement")], figures=figures)
    scores = [t.say("practitioner.dice") or t.say("practitioner.dice_plain"), t.say("practitioner.report")]
    sections += t.section(said("practitioner.outlines"), scores)
    failed = [name for name, check in t.facts.gate.items() if check.passed is False]
    lines = [t.say("practitioner.gate_failed", {"G": name}) for name in failed]
    lines += [*tiers(t, "practitioner"), t.say("practitioner.logits") if t.calibrated else []]
    sections += t.section(said("practitioner.prediction"), lines, figures=("table/findings",))
    sections += t.section(said("practitioner.changes"), _changes(t))
    sections += learned_section(t) + near_section(t)
    lines = [t.say("practitioner.seed") or t.say("practitioner.seed_auto")]
    lines += [t.say(f"practitioner.{key}") for key in ("software", "weights", "input", "research")]
    sections += t.section(said("practitioner.reproduce"), lines, figures=("code/again", "table/provenance"))
    return tuple(sections)


def _measured(t: Teller) -> list[list[Sentence]]:
    """What a reviewer asks first: how well the model ranks, how well it is calibrated, how often its maps hit."""
    lines = []
    for key, measure, ends in (("best_and_worst", "auroc", (-1, 0)), ("worst_calibrated", "ece", (-1,))):
        values = {name: t.value(f"model.per_finding.{name}.{measure}") for name in t.names("model.per_finding")}
        known = sorted((value, name) for name, value in values.items() if value is not None)
        if len(known) > 1:
            some = [known[end] for end in ends]
            errors = t.words.listed(f"{t.named(name)} {t.words.printed(value, 'number')}" for value, name in some)
            cites = [f"model.per_finding.{name}.{measure}" for _, name in some]
            lines.append(t.say(f"practitioner.{key}", cites=cites, slots={"errors": errors}))
    drawn = {method for maps in t.facts.heatmaps.values() for method in maps}
    judged = [method for method in t.names("model.map_hits") if method in drawn]
    return [*lines, *(t.say("practitioner.hits", {"M": method}) for method in judged[:1])]


def _performance(t: Teller) -> list[Section]:
    """Whether the model ranks right, and whether its probabilities are calibrated, as its card measured."""
    if not t.names("model.per_finding"):
        return []
    said = t.words.heading
    lines = [t.say("practitioner.mean_auroc", {"F": name}) for name in t.told()] + [t.say("practitioner.intervals")]
    points = "plot/roc" if t.names("model.curves") else "plot/operating"
    figures = ("plot/auroc", points, "table/performance")
    sections = t.section(said("practitioner.performance"), lines, figures=figures)
    measured = [name for name in t.names("model.per_finding") if t.value(f"model.per_finding.{name}.ece") is not None]
    drawn = [*(["plot/reliability"] if t.names("model.curves") else []), *(["plot/calibration"] if len(measured) > 1 else [])]
    return sections + t.section(said("practitioner.calibrated"), [_calibration(t)], figures=drawn)


def tiers(t: Teller, audience: str) -> list[list[Sentence]]:
    """One sentence a tier, by the plain names of the findings."""
    lines = []
    for tier in TIERS:
        if found := t.findings_of(tier):
            scored = not t.calibrated and tier != "cannot_tell"
            names = t.words.listed(t.named(name) for name in found)
            cites = [f"findings.{name}.tier" for name in found]
            lines.append(t.say(f"{audience}.tier_{tier}{'_score' if scored else ''}", cites=cites, slots={"names": names}))
    return lines


def failed_checks(t: Teller, audience: str) -> list[list[Sentence]]:
    """One sentence for each check that failed, naming the maps that failed it; their numbers stand in a table."""
    failed: dict[str, list[tuple[str, str]]] = {}
    for finding, methods in t.facts.checks.items():
        for method, checks in methods.items():
            for name, check in checks.items():
                if check.passed is False and method in t.facts.heatmaps.get(finding, {}):
                    failed.setdefault(name, []).append((finding, method))
    lines = []
    for name, maps in sorted(failed.items()):
        cites = [f"checks.{finding}.{method}.{name}.passed" for finding, method in maps]
        slots = {"check": t.words.word("check", name), "maps": _maps_listed(t, maps)}
        lines.append(t.say(f"{audience}.check_failed", cites=cites, slots=slots))
    return lines


def smallest_change(t: Teller, name: str, audience: str) -> list[Sentence]:
    """The fewest parts of the image whose hiding turns the finding, or that none were found; empty where nobody looked."""
    path = f"smallest_changes.{name}"
    if t.value(path) is None:
        return []
    found = t.value(f"{path}.probability")
    key = "none" if found is None else "below" if found < t.value(f"findings.{name}.probability") else "above"
    return t.say(f"{audience}.smallest_{key}", {"F": name})


def map_trust(t: Teller, name: str, audience: str) -> list[Sentence]:
    """How often maps like the finding's first one hit, and its strongest point kept its place; empty where it is withheld."""
    method = t.value(f"consistency.{name}.method") or next(iter(t.maps(name, shown=True)), "")
    if method not in t.maps(name, shown=True):
        return []
    keys: tuple[str, ...] = ("map_trust", "map_hit", "map_steady")
    if t.value(f"heatmaps.{name}.{method}.doubtful"):
        failed = t.failed(name, method)
        keys = ("map_doubtful", "map_shared" if "label_specific" in failed else "map_apart")
        keys = ("map_coarse",) if "fine_enough" in failed else keys
    return next((said for key in keys if (said := t.say(f"{audience}.{key}", {"F": name, "M": method}))), [])


def withheld_maps(t: Teller, audience: str) -> list[list[Sentence]]:
    """One sentence for each reason that withholds maps, naming these."""
    reasons: dict[str, list[tuple[str, str]]] = {}
    for finding in t.facts.heatmaps:
        for why, methods in t.methods_by_reason(finding).items():
            reasons.setdefault(why, []).extend((finding, method) for method in methods)
    lines = []
    for why, maps in sorted(reasons.items()):
        paths = [f"heatmaps.{finding}.{method}" for finding, method in maps]
        cites = [f"{path}.{leaf}" for path in paths for leaf in ("shown", "withheld_because")]
        lines.append(t.say(f"{audience}.withheld", cites=cites, slots={"why": why, "maps": _maps_listed(t, maps)}))
    return lines


def gaps(t: Teller, audience: str) -> list[Sentence]:
    """Which figures the model's card lacks, empty where it lacks none or where there is no card, which is said elsewhere."""
    lacking = [] if "card" in t.facts.gaps else t.value("card_gaps") or []
    names = "; ".join(t.words.word("gap", name) for name in lacking)  # the names hold commas
    return t.say(f"{audience}.gaps", slots={"names": names}) if lacking else []


def _maps_listed(t: Teller, maps: list[tuple[str, str]]) -> str:
    """ "Grad-CAM of A and B; LIME of A"."""
    methods: dict[str, list[str]] = {}
    for finding, method in maps:
        methods.setdefault(method, []).append(t.named(finding))
    named = (f"{t.words.word('method', method)} {t.words.file.joins.of} {t.words.listed(names)}"
             for method, names in sorted(methods.items()))  # fmt: skip
    return "; ".join(named)


def _calibration(t: Teller) -> list[Sentence]:
    paths = {name: f"model.per_finding.{name}.ece" for name in t.told()}
    known = {name: path for name, path in paths.items() if t.value(path) is not None}
    errors = t.words.listed(f"{t.named(name)} {t.words.printed(t.value(path), 'number')}" for name, path in known.items())
    return t.say("practitioner.calibration", cites=known.values(), slots={"errors": errors}) if known else []


def _map_counts(t: Teller) -> list[Sentence]:
    counts = t.facts.counts
    slots = {"maps": "maps", "shown": "maps_shown", "withheld": "maps_withheld"}
    numbers = {slot: str(getattr(counts, name)) for slot, name in slots.items()}
    return t.say("practitioner.counts", cites=[f"counts.{name}" for name in slots.values()], slots=numbers)


def _trust(t: Teller) -> list[Section]:
    """What each map was held against: other methods, the mirrored and the turned image, the teacher, another seed."""
    lines = []
    for name in t.mapped():
        lines.append(map_trust(t, name, "practitioner"))
        lines.append(t.say("practitioner.beside_moved", {"F": name}))
        for beside in t.names(f"consistency.{name}.beside"):
            if beside not in ("mirror", "turned"):
                key = beside if beside in COMPANIONS else "method"
                lines.append(t.say(f"practitioner.beside_{key}", {"F": name, "M": beside}))
    return t.section(t.words.heading("practitioner.trust"), lines)


COMPANIONS = ("teacher", "twin")
"""Other models whose maps a map is held against."""


def _maps(t: Teller) -> list[Section]:
    lines, figures = [_lime(t)], []
    if lines[0]:
        lines.append(t.say("practitioner.lime_low"))
        lines += [t.say("practitioner.lime_stopped", {"F": name}) for name in t.mapped()]
    for name in t.mapped():
        shown = t.maps(name, shown=True)
        lines += [t.say("practitioner.range", {"F": name, "M": m}) for m in shown]
        figures += t.map_figures(name) if shown else []
    lines += withheld_maps(t, "practitioner")
    figures += ["table/maps"]
    return t.section(t.words.heading("practitioner.maps"), lines, figures=figures) if t.facts.heatmaps else []


def _lime(t: Teller) -> list[Sentence]:
    """R² of every LIME fit, its samples, and the seed and fill, which are the same for all."""
    paths = {name: f"heatmaps.{name}.lime.details" for name in t.mapped()}
    known = {name: path for name, path in paths.items() if t.value(f"{path}.r2") is not None}
    if not known:
        return []
    values = t.words.listed(f"{t.named(n)} {t.words.printed(t.value(f'{p}.r2'), 'decimal')}" for n, p in known.items())
    first = next(iter(known.values()))
    run = {leaf: t.words.printed(t.worded(f"{first}.{leaf}"), how)
           for leaf, how in (("seed", "number"), ("fill", "text"))}  # fmt: skip
    samples = {t.value(f"{path}.samples"): f"{path}.samples" for path in reversed(list(known.values()))}
    run["samples"] = t.words.listed(t.words.printed(one, "number") for one in sorted(samples))
    cites = [*(f"{path}.r2" for path in known.values()), *samples.values(), f"{first}.seed", f"{first}.fill"]
    return t.say("practitioner.lime", cites=cites, slots={"values": values, **run})


def _changes(t: Teller) -> list[list[Sentence]]:
    """The smallest change of each finding, and of which of them it is sure that none is smaller."""
    names = [name for name in t.mapped() if t.value(f"smallest_changes.{name}") is not None]
    lines = [smallest_change(t, name, "practitioner") for name in names]
    for key, sure in (("sure", True), ("open", False)):
        if some := [name for name in names if t.value(f"smallest_changes.{name}.smallest") == sure]:
            cites = [f"smallest_changes.{name}.smallest" for name in some]
            slots = {"names": t.words.listed(map(t.named, some))}
            lines.append(t.say(f"practitioner.smallest_{key}", cites=cites, slots=slots))
    return lines


def _checks(t: Teller) -> list[Section]:
    if not t.facts.checks:
        return []
    lines = [t.say("practitioner.checks_what")]
    for method in t.names("model.map_hits"):
        named = {"M": method}
        lines.append(t.say("practitioner.map_hits", named) or t.say("practitioner.map_hits_shown", named))
        lines.append(t.say("practitioner.map_hits_doubtful", named))
    for key, part in (("faithfulness", "faithfulness"), ("robustness", "robustness"), ("shuffled", "robustness")):
        lines += [t.say(f"practitioner.{key}", {"M": method}) for method in t.names(f"model.{part}")]
    lines += failed_checks(t, "practitioner")
    return t.section(t.words.heading("practitioner.checks"), lines, figures=("table/checks",))


def only_synthetic(t: Teller, audience: str) -> list[Sentence]:
    """That the model learned from synthetic images alone; empty where it learned from others too, or nobody knows."""
    learnt = t.facts.model.trained_on
    if not learnt or not all(one.synthetic for one in learnt):
        return []
    return t.say(f"{audience}.only_synthetic", cites=[f"model.trained_on.{i}.synthetic" for i in range(len(learnt))])
