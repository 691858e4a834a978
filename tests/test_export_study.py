"""`storyxai export`: a study that does not hold together leaves in no form, and nothing is half-written."""

from __future__ import annotations

import json
import shutil
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("highdicom", reason="highdicom absent: install storyxai[hospital]")
pytest.importorskip("fhir.resources", reason="fhir.resources absent: install storyxai[hospital]")

from pydicom import dcmread

from evidence_example import example_evidence
from storyxai import cli
from storyxai.errors import InputError
from storyxai.evidence.archive import read_archive, write_archive
from storyxai.export.browser import VARIABLE
from storyxai.pages.story import render_html
from storyxai.programs import verify as verifying
from storyxai.programs.export import FORMS, Making, export_study
from storyxai.provenance import sha256_file, software_versions
from storyxai.story.tell import tell


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Path:
    example = example_evidence()
    here = software_versions("numpy", "scipy", "pillow")
    version = software_versions("storyxai")["storyxai"]
    evidence = replace(example, provenance={**example.provenance, "packages": here, "version": version})
    folder = write_archive(evidence, tmp_path_factory.mktemp("told") / "study")
    for audience in ("clinician", "patient"):
        (folder / f"{audience}.html").write_bytes(render_html(tell(evidence, audience), evidence))
    return folder


@pytest.fixture
def study(told: Path, tmp_path: Path) -> Path:
    """A study of the test's own, which it may alter."""
    return shutil.copytree(told, tmp_path / "study")


@pytest.fixture(autouse=True)
def no_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "no-such-browser")


def test_a_sound_study_is_exported_twice_to_the_same_place(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    done = export_study(study, out, to="dicom")
    assert sorted(done.files) == sorted(path.name for path in out.iterdir())
    assert any("no PDF of the clinician's page" in remark for remark in done.remarks)
    assert "2 maps that failed their checks were not exported" in done.remarks
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    export_study(study, out, to="dicom")
    assert before == {path.name: path.read_bytes() for path in out.iterdir()}


def test_the_patients_page_stays_until_it_is_signed(study: Path, tmp_path: Path) -> None:
    export_study(study, tmp_path / "out", to="fhir")
    bundle = json.loads((tmp_path / "out" / "bundle.json").read_bytes())
    documents = [e["resource"] for e in bundle["entry"] if e["resource"]["resourceType"] == "DocumentReference"]
    assert [one["type"]["text"] for one in documents] == ["Explanation for the clinician"]


def alter_page(study: Path) -> None:
    page = study / "clinician.html"
    page.write_bytes(page.read_bytes().replace(b"Research use only", b"For clinical use", 1))


def drop_a_map(study: Path) -> None:
    with np.load(study / "arrays.npz") as file:
        kept = {name: file[name] for name in file.files if "grad_cam" not in name}
    np.savez(study / "arrays.npz", **kept)


def alter_a_number(study: Path) -> None:
    evidence = study / "evidence.json"
    evidence.write_bytes(evidence.read_bytes().replace(b"0.83", b"0.13"))


def drop_evidence(study: Path) -> None:
    (study / "evidence.json").unlink()


@pytest.mark.parametrize("spoil", [alter_page, drop_a_map, alter_a_number, drop_evidence])
@pytest.mark.parametrize("form", ["dicom", "fhir"])
def test_a_spoilt_study_is_refused_and_nothing_is_written(study: Path, tmp_path: Path, spoil: object, form: str) -> None:
    spoil(study)  # type: ignore[operator]
    with pytest.raises(InputError):
        export_study(study, tmp_path / "out", to=form)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("spoil", [None, alter_page, drop_a_map, alter_a_number, drop_evidence])
def test_what_was_just_told_is_verified_without_being_drawn_again(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, spoil: object
) -> None:
    """Files that are no longer as they were written are verified whole, and refused."""
    making = Making({path.name: sha256_file(path) for path in study.iterdir()})
    drawn = list[str]()
    monkeypatch.setattr(verifying, "_drawn_otherwise", lambda *_: drawn.append("drawn") or "")
    if spoil is None:
        export_study(study, tmp_path / "out", to="fhir", making=making)
        assert drawn == []
        (study / "evidence.json.bak").touch()
        export_study(study, tmp_path / "again", to="fhir", making=making)
        assert drawn == ["drawn", "drawn"]
    else:
        spoil(study)  # type: ignore[operator]
        with pytest.raises(InputError):
            export_study(study, tmp_path / "out", to="fhir", making=making)
        assert not (tmp_path / "out").exists()


def test_evidence_at_hand_is_not_read_again_and_gives_the_same_objects(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export_study(study, tmp_path / "read", to="fhir")
    making = Making({path.name: sha256_file(path) for path in study.iterdir()}, read_archive(study))
    monkeypatch.setattr(verifying, "read_archive", lambda _: pytest.fail("the archive was read again"))
    export_study(study, tmp_path / "held", to="fhir", making=making)
    assert (tmp_path / "held" / "bundle.json").read_bytes() == (tmp_path / "read" / "bundle.json").read_bytes()


def test_a_page_that_says_what_the_evidence_does_not_is_refused_even_where_this_process_wrote_it(
    study: Path, tmp_path: Path
) -> None:
    page = study / "clinician.html"
    page.write_bytes(page.read_bytes().replace(b"Research use only", b"For clinical use"))
    making = Making({path.name: sha256_file(path) for path in study.iterdir()})
    with pytest.raises(InputError, match="For clinical use"):
        export_study(study, tmp_path / "out", to="dicom", making=making)
    assert not (tmp_path / "out").exists()


def test_without_the_pdf_every_other_object_is_the_same(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "true")  # a browser is there, and not asked
    export_study(study, tmp_path / "with", to="dicom", making=Making(pdf=lambda _: b"%PDF-1.7\n%%EOF\n"))
    done = export_study(study, tmp_path / "without", to="dicom", making=Making(pdf=None))
    every, rest = ({path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("with", "without"))
    assert every.pop("clinician.dcm") and every == rest
    assert "no PDF of the clinician's page: none was asked for" in done.remarks


def test_the_page_that_was_found_sound_is_the_one_whose_pdf_goes_out(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Printing begins before the study is verified: what was printed of other bytes is not used."""
    monkeypatch.setenv(VARIABLE, "true")
    page, printed = study / "clinician.html", list[bytes]()
    sound = page.read_bytes()

    def pdf(given: bytes) -> bytes:
        page.write_bytes(sound)  # what is verified is another page than the one that is printed
        printed.append(given)
        return b"%PDF of " + (b"what was sound" if given == sound else b"another page")

    for first in (sound, b"another page"):
        page.write_bytes(first)
        monkeypatch.setattr("storyxai.programs.export.verify_held", lambda study: _when(printed, study))
        export_study(study, tmp_path / f"out-{len(first)}", to="dicom", making=Making(pdf=pdf))
        assert printed == list(dict.fromkeys([first, sound]))
        printed.clear()
        written = dcmread(tmp_path / f"out-{len(first)}" / "clinician.dcm").EncapsulatedDocument
        assert written.rstrip(b"\0") == b"%PDF of what was sound"


def _when(printed: list[bytes], study: Path) -> verifying.Held:
    """What is found of the study once its page has been printed."""
    ends = time.monotonic() + 60
    while not printed and time.monotonic() < ends:
        time.sleep(0.01)
    return verifying.verify_held(study)


def test_all_forms_are_written_at_once_each_as_it_is_alone(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked, whole = list[Path](), verifying.verify_held
    monkeypatch.setattr("storyxai.programs.export.verify_held", lambda study: looked.append(study) or whole(study))
    done = export_study(study, tmp_path / "all", to="all")
    assert len(looked) == 1 and {name.partition("/")[0] for name in done.files} == set(FORMS)
    for form in FORMS:
        alone = export_study(study, tmp_path / form, to=form)
        assert sorted(f"{form}/{name}" for name in alone.files) == sorted(n for n in done.files if n.startswith(f"{form}/"))
        for name in alone.files:
            assert (tmp_path / form / name).read_bytes() == (tmp_path / "all" / form / name).read_bytes()
    (tmp_path / "all" / "dicom" / "map-99.dcm").write_bytes(b"of another study")
    with pytest.raises(InputError, match=r"holds map-99\.dcm"):
        export_study(study, tmp_path / "all", to="all")


def test_another_file_than_the_film_is_refused(study: Path, tmp_path: Path) -> None:
    film = tmp_path / "film.dcm"
    film.write_bytes(b"\0" * 128 + b"DICM")
    with pytest.raises(InputError, match="is not the file that the study was told from"):
        export_study(study, tmp_path / "out", to="dicom", source=film)
    with pytest.raises(InputError, match="cannot be read"):
        export_study(study, tmp_path / "out", to="dicom", source=tmp_path / "nowhere.dcm")
    assert not (tmp_path / "out").exists()


def test_objects_of_another_export_are_not_mixed_with(study: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "map-99.dcm").write_bytes(b"of another study")
    with pytest.raises(InputError, match=r"holds map-99\.dcm"):
        export_study(study, out, to="dicom")
    assert [path.name for path in out.iterdir()] == ["map-99.dcm"]


def test_an_unknown_form_names_the_nearest(
    study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["storyxai", "export", str(study), "--to", "dicon", "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit) as left:
        cli.main()
    assert left.value.code == 2
    assert "did you mean 'dicom'" in capsys.readouterr().err
