"""The phantom's pictures, masks, boxes, facts and words tell one and the same truth."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture
from scipy import ndimage

from storyxai.errors import InputError, OutputError
from storyxai.modalities.chest_radiograph.labeler import label_report
from storyxai.phantoms import generate as module
from storyxai.phantoms.film import line_integral
from storyxai.phantoms.findings import Insertion, aerated, insert
from storyxai.phantoms.generate import FINDINGS, Phantom, generate_phantom, write_phantoms
from storyxai.phantoms.thorax import Anatomy, Grid, build_anatomy, splat
from storyxai.provenance import sha256_bytes

SMALL = 96


@pytest.fixture(scope="module")
def many() -> list[Phantom]:
    return [generate_phantom(seed, size=SMALL) for seed in range(5000, 5150)]


def generator(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def healthy(size: int = 128, seed: int = 1) -> Anatomy:
    body = module._body("PA", (), generator(seed))
    return build_anatomy(body, module._grid(body, size, generator(seed)), generator(seed))


# The picture

def test_one_seed_is_one_film_bit_for_bit() -> None:
    first = generate_phantom(7, size=128)
    generate_phantom(8, size=128)
    again = generate_phantom(7, size=128)
    assert first.image.pixels.tobytes() == again.image.pixels.tobytes()
    assert (first.report, first.boxes, first.facts) == (again.report, again.boxes, again.facts)
    assert first.image.sha256 == sha256_bytes(first.image.pixels.tobytes())
    assert first.image.sha256 != generate_phantom(8, size=128).image.sha256


def test_the_global_generator_is_neither_read_nor_moved() -> None:
    np.random.seed(1)  # noqa: NPY002
    before = np.random.get_state()[1].copy()  # type: ignore[union-attr,index]  # noqa: NPY002
    first = generate_phantom(3, size=64).image.sha256
    assert (np.random.get_state()[1] == before).all()  # type: ignore[index]  # noqa: NPY002
    np.random.seed(2)  # noqa: NPY002
    assert generate_phantom(3, size=64).image.sha256 == first


def test_every_size_shows_the_same_patient() -> None:
    for seed in range(40, 52):
        small, large = generate_phantom(seed, size=96), generate_phantom(seed, size=192)
        assert small.labels == large.labels
        assert small.cardiothoracic_ratio == large.cardiothoracic_ratio
        for name, mask in large.masks.items():
            fine = small.masks[name].repeat(2, axis=0).repeat(2, axis=1)
            assert 2 * (mask & fine).sum() / (mask.sum() + fine.sum()) > 0.96, (seed, name)


def test_pixels_are_a_film(many: list[Phantom]) -> None:
    for one in many:
        pixels = one.image.pixels
        assert pixels.dtype == np.float32
        assert pixels.shape == (SMALL, SMALL)
        assert float(pixels.min()) >= 0
        assert float(pixels.max()) <= 1
        lungs = one.masks["left_lung"] | one.masks["right_lung"]
        belly = pixels[-12:-6, SMALL // 3 : -SMALL // 3]
        clear = lungs & ~np.logical_or.reduce([*one.sign_masks.values(), one.masks["heart"]])
        assert np.median(belly) > np.median(pixels[clear]) + 0.1, one.seed  # bright = dense


@pytest.mark.real
def test_grey_levels_lie_where_real_films_have_them(real_data: Path) -> None:
    def levels(pixels: np.ndarray) -> np.ndarray:
        return np.quantile(pixels, [0.1, 0.25, 0.5, 0.75, 0.9])

    files = sorted((real_data / "nih" / "images").glob("*.jpg"))[::30]
    real = np.mean([levels(np.asarray(Picture.open(file).convert("L")) / 255) for file in files], axis=0)
    ours = np.mean([levels(generate_phantom(seed, size=128).image.pixels) for seed in range(40)], axis=0)
    assert np.abs(real - ours).max() < 0.12, (real, ours)


# Physics

def test_splat_keeps_the_mass_and_its_centre() -> None:
    grid = Grid.of(64, 128.0, 0.0, 0.0)
    x, y, mass = generator(0).uniform(-50, 50, 30), generator(1).uniform(10, 110, 30), generator(2).uniform(1, 2, 30)
    drawn = splat(grid, x, y, mass)
    assert drawn.sum() == pytest.approx(mass.sum(), rel=1e-5)
    assert (drawn * grid.x_mm).sum() / drawn.sum() == pytest.approx((mass * x).sum() / mass.sum(), abs=1e-3)
    assert (drawn * grid.y_mm).sum() / drawn.sum() == pytest.approx((mass * y).sum() / mass.sum(), abs=1e-3)
    assert splat(grid, np.array([500.0]), np.array([5.0]), np.array([1.0])).sum() == 0


def test_a_lung_chord_is_the_sum_of_what_fills_it() -> None:
    anatomy = healthy()
    for side in ("left", "right"):
        lung = anatomy.lungs[side]
        assert (lung.chord_mm <= lung.whole_mm + 1e-4).all()
        assert (aerated(anatomy, side) <= lung.chord_mm + 1e-4).all()
        assert (aerated(anatomy, side) <= (lung.whole_mm - anatomy.heart_mm).clip(0) + 1e-4).all()
        above = np.broadcast_to(anatomy.grid.y_mm < anatomy.body.dome_mm[side] - 1, lung.chord_mm.shape)
        np.testing.assert_array_equal(lung.chord_mm[above], lung.whole_mm[above])


@pytest.mark.parametrize("name", [name for name in FINDINGS if name != "Cardiomegaly"])
@pytest.mark.parametrize("severity", [0.05, 0.5, 1.0])
def test_each_finding_changes_the_rays_where_its_mask_is(name: str, severity: float) -> None:
    anatomy = healthy()
    shadow = insert(anatomy, Insertion(name, ("left",), "mid", severity), generator(3))
    without = line_integral(anatomy, (), generator(4), generator(5))
    change = line_integral(anatomy, (shadow,), generator(4), generator(5)) - without
    ((side, mask),) = shadow.masks
    assert side == "left"
    assert mask.any()
    assert not (mask & ~anatomy.lungs["left"].mask).any()
    visible = mask & (aerated(anatomy, "left") > 40)
    sign = -1.0 if name == "Pneumothorax" else 1.0
    assert sign * float(change[visible].mean()) > 0.05
    assert float(np.abs(change[visible]).mean()) > 5 * float(np.abs(change[anatomy.lungs["right"].mask]).mean())


def test_no_vessel_is_drawn_in_the_air_of_a_pneumothorax() -> None:
    anatomy = healthy(size=192)
    shadow = insert(anatomy, Insertion("Pneumothorax", ("left",), "", 0.7), generator(3))
    assert shadow.vessel_gain is not None
    ((_, mask),) = shadow.masks
    inner = ndimage.binary_erosion(mask, iterations=3)
    assert (anatomy.vessels_mm[inner] > 0.5).any()
    assert float(shadow.vessel_gain[inner].max()) < 1e-6


@pytest.mark.parametrize("name", ["Effusion", "Pneumothorax", "Consolidation", "Mass", "Atelectasis"])
def test_more_severe_is_larger(name: str) -> None:
    anatomy = healthy()
    areas = []
    for severity in (0.1, 0.5, 1.0):
        shadows = [insert(anatomy, Insertion(name, ("right",), "mid", severity), generator(seed)) for seed in range(6)]
        areas.append(np.mean([shadow.masks[0][1].sum() for shadow in shadows]))
    assert areas[0] < areas[1] < areas[2]


# The truth

def test_left_is_on_the_right_of_the_picture(many: list[Phantom]) -> None:
    for one in many[:40]:
        left, right = (np.flatnonzero(one.masks[name].any(axis=0)) for name in ("left_lung", "right_lung"))
        assert right.max() < left.min()
        assert not (one.masks["left_lung"] & one.masks["right_lung"]).any()
        columns = np.flatnonzero(one.masks["heart"].any(axis=0))
        middle = (right.max() + left.min()) / 2
        assert columns.max() - middle > middle - columns.min(), "the heart lies more to the left"


def test_even_the_largest_heart_stays_inside_the_chest() -> None:
    for seed in (9062, 9118, 9121, 9195):  # ratios about 0.7
        one = generate_phantom(seed, size=SMALL)
        chest = np.flatnonzero((one.masks["left_lung"] | one.masks["right_lung"]).any(axis=0))
        heart = np.flatnonzero(one.masks["heart"].any(axis=0))
        assert chest[0] < heart[0]
        assert heart[-1] < chest[-1]


def test_retrocardiac_lung_is_in_the_mask(many: list[Phantom]) -> None:
    for one in many[:40]:
        lungs = one.masks["left_lung"] | one.masks["right_lung"]
        assert (lungs & one.masks["heart"]).sum() > 0.4 * one.masks["heart"].sum()


def test_the_ratio_is_what_the_masks_measure() -> None:
    def width(mask: np.ndarray) -> int:
        columns = np.flatnonzero(mask.any(axis=0))
        return int(columns[-1] - columns[0] + 1)

    for seed in range(300, 320):
        one = generate_phantom(seed)
        measured = width(one.masks["heart"]) / width(one.masks["left_lung"] | one.masks["right_lung"])
        assert measured == pytest.approx(one.cardiothoracic_ratio, abs=0.02), seed


def test_cardiomegaly_is_the_ratio_above_the_limit_of_the_view(many: list[Phantom]) -> None:
    for one in many:
        limit = {"PA": 0.50, "AP": 0.55}[one.image.view]
        assert (one.cardiothoracic_ratio > limit) == (one.labels["Cardiomegaly"] == 1.0), one.seed


def test_boxes_are_the_tight_frames_of_the_lesions(many: list[Phantom]) -> None:
    for one in many:
        assert {box.finding for box in one.boxes} == set(one.sign_masks) == set(one.severity)
        for finding, mask in one.sign_masks.items():
            painted = np.zeros_like(mask)
            for box in (box for box in one.boxes if box.finding == finding):
                assert box.score == 1.0
                window = np.s_[int(box.y) : int(box.y + box.height), int(box.x) : int(box.x + box.width)]
                inside = mask[window]
                assert inside[0].any()
                assert inside[-1].any()
                assert inside[:, 0].any()
                assert inside[:, -1].any()
                painted[window] = True
            assert not (mask & ~painted).any()


def test_facts_say_where_the_lesions_are(many: list[Phantom]) -> None:
    for one in many:
        assert tuple(fact.finding for fact in one.facts) == FINDINGS
        for fact in one.facts:
            assert fact.present == (one.labels[fact.finding] == 1.0) == (fact.finding in one.severity)
            if not fact.present:
                assert (fact.side, fact.zone, fact.severity) == ("", "", "")
                continue
            mask = one.sign_masks[fact.finding]
            touched = {side for side in ("left", "right") if (mask & one.masks[f"{side}_lung"]).any()}
            if fact.side:
                assert touched == ({"left", "right"} if fact.side == "bilateral" else {fact.side})
            if fact.zone and fact.side in ("left", "right"):
                rows = np.flatnonzero(one.masks[f"{fact.side}_lung"].any(axis=1))
                centre = np.flatnonzero(mask.any(axis=1)).mean()
                third = int(3 * (centre - rows[0]) / len(rows))
                assert fact.zone == ("upper", "mid", "lower")[third]
            limits = {"mild": (0, 1 / 3), "moderate": (1 / 3, 2 / 3), "severe": (2 / 3, 1)}[fact.severity]
            assert limits[0] <= one.severity[fact.finding] <= limits[1]


def test_the_report_states_every_finding_that_is_there(many: list[Phantom]) -> None:
    for one in many:
        read = label_report(one.report)
        for name, truth in one.labels.items():
            assert (read[name] == 1.0) == (truth == 1.0), (one.seed, name, one.report)


def test_prevalences_are_the_planned_ones() -> None:
    rng, count = generator(0), 6000
    views = ["AP" if rng.random() < 0.35 else "PA" for _ in range(count)]
    plans = [module._plan(view, rng) for view in views]
    assert 0.31 < sum(not plan for plan in plans) / count < 0.39
    for name in FINDINGS:
        share = sum(any(item.finding == name for item in plan) for plan in plans) / count
        assert 0.12 < share < 0.18, (name, share)
    found = {view: [len(plan) for plan, own in zip(plans, views, strict=True) if own == view] for view in ("PA", "AP")}
    assert np.mean(found["AP"]) > np.mean(found["PA"])


def test_portable_films_differ_as_they_do_in_hospitals(many: list[Phantom]) -> None:
    def mean(view: str, value: object) -> float:
        return float(np.mean([value(one) for one in many if one.image.view == view]))  # type: ignore[operator]

    assert mean("AP", lambda one: one.cardiothoracic_ratio) > mean("PA", lambda one: one.cardiothoracic_ratio) + 0.02
    assert mean("AP", lambda one: len(one.devices)) > mean("PA", lambda one: len(one.devices))


# Files

def test_written_phantoms_read_back(tmp_path: Path) -> None:
    out, seen = tmp_path / "deep" / "set", []
    write_phantoms(out, count=3, seed=11, size=64, progress=seen.append)
    assert seen == [1, 2, 3]
    table = json.loads((out / "phantoms.json").read_bytes())
    assert [row["id"] for row in table["phantoms"]] == ["phantom-11", "phantom-12", "phantom-13"]
    for row in table["phantoms"]:
        one = generate_phantom(row["seed"], size=64)
        grey = np.asarray(Picture.open(out / "images" / f"{row['id']}.png"))
        assert grey.dtype == np.uint8
        assert np.abs(grey / 255 - one.image.pixels).max() <= 0.5 / 255 + 1e-6
        for name, mask in one.masks.items():
            assert ((np.asarray(Picture.open(out / "masks" / f"{row['id']}_{name}.png")) > 0) == mask).all()
        for name, mask in one.sign_masks.items():
            assert ((np.asarray(Picture.open(out / "lesions" / f"{row['id']}__{name}.png")) > 0) == mask).all()
        assert row["labels"] == one.labels
        assert tuple(row["report"]) == one.report
        assert math.isclose(row["cardiothoracic_ratio"], one.cardiothoracic_ratio, rel_tol=1e-5)
        assert len(row["boxes"]) == len(one.boxes)
    again = tmp_path / "again"
    write_phantoms(again, count=3, seed=11, size=64)
    assert (again / "phantoms.json").read_bytes() == (out / "phantoms.json").read_bytes()


def test_nothing_half_written_stays(tmp_path: Path) -> None:
    def stop(done: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path / "set", count=5, seed=0, size=64, progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here first")
    for out in (tmp_path / "file", tmp_path / "file" / "below", tmp_path):
        with pytest.raises(OutputError, match=str(out)):
            write_phantoms(out, count=1, seed=0, size=64)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("seed", "size"), [(-1, 64), (0, 63), (0, 0)])
def test_what_cannot_be_made_says_how_to_mend_it(seed: int, size: int) -> None:
    with pytest.raises(InputError, match="size of 64 or more"):
        generate_phantom(seed, size=size)


def test_no_phantoms_are_not_a_set(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="ask for 1 or more"):
        write_phantoms(tmp_path / "set", count=0, seed=0)
