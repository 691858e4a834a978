"""The gate: may a model of this modality speak about this image? Checks, or a refusal in words."""

from __future__ import annotations

from collections.abc import Mapping

from storyxai.errors import GateRefusal
from storyxai.imaging.distance import Nearness
from storyxai.modalities.any_image import ANY_IMAGE_GATE
from storyxai.modalities.contract import GateRule, Modality
from storyxai.types import AGE, DISTANCE, TAUGHT, Check, Image, Mask, Remark


def judge(
    image: Image, modality: Modality, *, masks: Mapping[str, Mask] | None = None, near: Nearness | None = None
) -> tuple[Check, ...]:
    """One check per rule of the modality's gate, in order; `passed` is None where a rule could not be asked.

    Shapes: `masks` bool [H, W] by structure, as the model found them; None before it has looked. `near` is how near the
    model's features lie to those of its training images, where it knows them.
    """
    gate = modality.gate or ANY_IMAGE_GATE
    values, limits = dict(gate.measure(image, masks)), {rule.name: rule.limit for rule in gate.rules}
    if near is not None:
        values |= {DISTANCE: near.distance, TAUGHT: near.untaught}
        limits[DISTANCE] = near.limit
        if near.least_age is not None:
            values[AGE], limits[AGE] = image.age_years, near.least_age
    return tuple(_check(rule, values.get(rule.name), limits[rule.name]) for rule in gate.rules)


def refuse(image: Image, checks: tuple[Check, ...], modality: Modality) -> None:
    """Nothing, when no hard rule failed. Raises: GateRefusal that says what was seen and what to do (status 3)."""
    gate = modality.gate or ANY_IMAGE_GATE
    failed = frozenset(check.name for check in checks if check.passed is False)
    if not any(rule.hard and rule.name in failed for rule in gate.rules):
        return
    told = failed if gate.tell is None else gate.tell(image, failed)
    hard = [rule for rule in gate.rules if rule.hard and rule.name in told]
    if hard:
        seen = "; ".join(rule.seen for rule in hard)
        raise GateRefusal(image.source, seen, mend=" and ".join(dict.fromkeys(rule.mend for rule in hard)))


def _check(rule: GateRule, value: float | None, limit: float) -> Check:
    if value is None:
        return Check(rule.name, "", "gate", None, limit, None, Remark("gate_unstated" if rule.name == AGE else "gate_unasked"))
    passed = value >= limit if rule.low else value <= limit
    code = "gate_passed" if passed else "gate_failed" if rule.hard else "gate_warned"
    return Check(rule.name, "", "gate", float(value), limit, passed, Remark(code, {"rule": rule.name}), warns=not rule.hard)
