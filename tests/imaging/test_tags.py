"""What people write in the tags of view, body part and age, and how it is understood."""

from __future__ import annotations

from typing import Any

import pytest
from pydicom.dataset import Dataset

from storyxai.imaging.tags import age_years, body_part, view

# What is written here breaks the rules of DICOM on purpose, and pydicom says so.
pytestmark = pytest.mark.filterwarnings("ignore:Invalid value for VR", "ignore:The value length")


def header(**tags: Any) -> Dataset:
    dataset = Dataset()
    for name, value in tags.items():
        setattr(dataset, name, value)
    return dataset


def code(value: str, meaning: str = "", **inner: Any) -> Dataset:
    item = header(CodeValue=value, CodingSchemeDesignator="SCT", **inner)
    if meaning:
        item.CodeMeaning = meaning
    return item


@pytest.mark.parametrize(("written", "meant"), [
    *((name, "LATERAL") for name in (
        "LL", "RL", "LLAT", "RLAT", "LAT", "LATERAL", "LATERAL LEFT", "LEFT LATERAL", "LT LAT", "L LAT", "L-LAT", "Lat.",
        "R_LATERAL", "LATERAL_L", "LATERALE", "LATERAL RT", "L", "R", "XTABLE LATERAL", "CROSS-TABLE LAT", "X LAT", "PROFIL",
        "SEITLICH", "SWIMMERS", "latero-lateral", "LATERAL UPRIGHT", "LAT LEFT",
        "Thorax seitl.", "seitl. rechts", "perfil izquierdo", "latérale gauche", "zijdelings", "sidebillede", "sidobild",
        "boczne", "bočná", "oldalirányú", "боковая", "侧位", "側面", "측면", "πλάγια", "HBL",
        "ThoraxLateral", "ChestLat", "PROF", "bok", "Thorax Seite", "dwars", "sivukuva", "胸部侧位", "Boční",
    )),
    *((name, "OTHER") for name in ("LAO", "RAO", "LPO", "RPO", "OBLIQUE", "OBL", "AP OBLIQUE", "LEFT ANT OBLIQUE", "RLO")),
    *((name, "OTHER") for name in ("LLD", "RLD", "AP LLD", "DECUBITUS", "LEFT LATERAL DECUBITUS", "DECUB", "LAT DECUB")),
    *((name, "PA") for name in ("PA", "P.A.", "P-A", "P/A", "PA UPRIGHT", "POSTERO-ANTERIOR", "Posteroanterior", "PA1")),
    *((name, "AP") for name in ("AP", "A.P.", "AP SUPINE", "AP PORTABLE", "AP_HORIZONTAL", "ANTERO-POSTERIOR", "APSUPINE")),
    *((name, "unknown") for name in ("", "UNKNOWN", "CHEST", "BILATERAL", "LATERALITY", "FRONTAL", "PALM", "APEX")),
])  # fmt: skip
def test_view_positions_as_people_write_them(written: str, meant: str) -> None:
    assert view(header(ViewPosition=written))[0] == meant


@pytest.mark.parametrize(("item", "meant"), [
    (code("399067008"), "LATERAL"), (code("R-102CD"), "LATERAL"), (code("399198007"), "LATERAL"), (code("R-10236"), "LATERAL"),
    (code("272479007"), "PA"), (code("R-10214"), "PA"), (code("399348003"), "AP"), (code("R-10206"), "AP"),
    (code("R-10220"), "OTHER"), (code("399182000"), "OTHER"), (code("X1", "Left lateral projection"), "LATERAL"),
    (code("X1", "postero-anterior"), "PA"), (code("X1", "Lateral-medial"), "LATERAL"), (code("X1", "something"), "unknown"),
    (code("399348003", ViewModifierCodeSequence=[code("X2", "left lateral decubitus")]), "OTHER"),
])  # fmt: skip
def test_view_codes(item: Dataset, meant: str) -> None:
    assert view(header(ViewCodeSequence=[item]))[0] == meant


@pytest.mark.parametrize(("tags", "meant"), [
    ({"PatientOrientation": ["A", "F"]}, "LATERAL"), ({"PatientOrientation": ["PL", "F"]}, "LATERAL"),
    ({"PatientOrientation": ["F", "A"]}, "LATERAL"), ({"PatientOrientation": ["L", "F"]}, "unknown"),
    ({"PatientPosition": "HFDL"}, "OTHER"), ({"PatientPosition": "HFS"}, "unknown"),
    ({"SeriesDescription": "Thorax lat. li."}, "LATERAL"), ({"SeriesDescription": "CHEST PA"}, "PA"),
    ({"ProtocolName": "Chest_LLAT"}, "LATERAL"), ({"AcquisitionDeviceProcessingDescription": "CHEST,LAT"}, "LATERAL"),
    ({"SeriesDescription": "胸部側面"}, "LATERAL"), ({"SeriesDescription": "Prof. Yan"}, "unknown"),
    *(({"SeriesDescription": both}, "unknown") for both in (
        "Thorax face et profil", "RX torax frente y perfil", "Chest frontal and lateral", "胸部正侧位", "正面 側面",
    )),
    ({"SeriesDescription": "Thorax postéro-antérieur"}, "PA"), ({"ProtocolName": "CHESTPA"}, "PA"),
    ({"SeriesDescription": "CHEST PA AND LATERAL"}, "unknown"), ({"SeriesDescription": "XR CHEST 2 VIEWS"}, "unknown"),
    ({"StudyDescription": "CHEST PA/LAT"}, "unknown"), ({"StudyDescription": "Chest lateral"}, "LATERAL"),
    ({"StudyDescription": "Chest PA"}, "unknown"),
    ({"ViewPosition": "PA", "SeriesDescription": "LATERAL"}, "PA"),
    ({"ViewPosition": "", "ProtocolName": "AP DECUBITUS"}, "OTHER"),
])  # fmt: skip
def test_views_from_elsewhere_where_none_is_stated(tags: dict[str, Any], meant: str) -> None:
    assert view(header(**tags))[0] == meant


def test_a_file_that_says_both_is_not_frontal_and_the_doubt_is_noted() -> None:
    both = header(ViewPosition="PA", ViewCodeSequence=[code("399067008")])
    assert view(both) == ("LATERAL", ("view: the file contradicts itself (LATERAL and PA)",))
    assert view(header(ViewPosition="PA", PatientOrientation=["L", "F"])) == ("PA", ())
    assert view(header(ViewPosition="AP", SeriesDescription="Chest lateral")) == (
        "AP", ("view: the file contradicts itself (LATERAL and AP)",),
    )  # fmt: skip
    assert view(header(ViewPosition="LLD")) == ("OTHER", ("view: decubitus",))


def test_free_text_is_not_passed_on() -> None:
    found, notes = view(header(SeriesDescription="Doe^Jane chest lateral"))
    assert found == "LATERAL" and notes == ("view LATERAL from the name of the series or protocol",)
    assert body_part(header(SeriesDescription="Doe^Jane left knee")) == "KNEE"


@pytest.mark.parametrize(("tags", "part"), [
    ({"BodyPartExamined": "Chest"}, "CHEST"), ({"BodyPartExamined": "CHEST PA"}, "CHEST PA"), ({}, ""),
    ({"AnatomicRegionSequence": [code("51185008")]}, "CHEST"), ({"AnatomicRegionSequence": [code("T-D8700")]}, "HAND"),
    ({"AnatomicRegionSequence": [code("72696002", "Knee")]}, "KNEE"), ({"SeriesDescription": "ABDOMEN AP"}, "ABDOMEN"),
    ({"ProtocolName": "Thorax PA"}, "THORAX"), ({"SeriesDescription": "Chester Hospital"}, ""),
    ({"BodyPartExamined": "", "AnatomicRegionSequence": [code("69536005")]}, "HEAD"),
])  # fmt: skip
def test_body_parts_stated_coded_or_named(tags: dict[str, Any], part: str) -> None:
    assert body_part(header(**tags)) == part


@pytest.mark.parametrize(("written", "years"), [
    ("064Y", 64), ("64Y", 64), (" 64Y", 64), ("018M", 1.5), ("026W", 26 / 52.18), ("010D", 10 / 365.25), ("000D", 0),
    *((text, None) for text in ("", "000Y", "000M", "000W", "999Y", "150Y", "123Y", "064", "6.5Y", "-12Y", "064X", "ABCY")),
])  # fmt: skip
def test_ages_and_what_stands_for_none(written: str, years: float | None) -> None:
    assert age_years(written) == (years if years is None else pytest.approx(years))
