"""`import storyxai as sx`: the names are there, cost nothing until they are used, and are what their types say."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Picture

import storyxai as sx
from evidence_example import example_evidence, normal_evidence
from storyxai.errors import CitationError, InputError, WeightsError
from storyxai.pages.story import render_html
from storyxai.story.citations import story_of_page
from storyxai.story.tell import tell

FACE = Path(sx.__file__)


def test_the_types_of_the_face_are_what_is_loaded() -> None:
    """Two lists that must agree: what a type checker reads and what __getattr__ imports."""
    (block,) = [node for node in ast.parse(FACE.read_text()).body if isinstance(node, ast.If)]
    typed = {
        alias.asname or alias.name: f"{node.module}:{alias.name}"
        for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert typed.pop("explain") == "storyxai.evidence.gather:explain_finding"
    assert typed == sx._PLACES
    assert set(sx.__all__) == {*typed, "explain", "__version__"}
    assert dir(sx) == sorted(sx.__all__)
    assert len(sx.__all__) <= 16


@pytest.mark.parametrize("name", [name for name in sx.__all__ if name != "__version__"])
def test_every_name_can_be_had(name: str) -> None:
    assert callable(getattr(sx, name))


def test_the_command_says_its_help_without_numpy() -> None:
    code = "import sys, storyxai.cli; print([m for m in ('numpy', 'torch', 'onnxruntime') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_picture_that_is_no_dicom_is_read_without_pydicom(tmp_path: Path) -> None:
    Picture.new("L", (64, 64)).save(tmp_path / "film.png")
    code = "import sys; from storyxai.programs import tell; tell.read_image(sys.argv[1]); print('pydicom' in sys.modules)"
    call = [sys.executable, "-c", code, tmp_path / "film.png"]
    assert subprocess.run(call, capture_output=True, text=True, check=True).stdout == "False\n"


def test_the_face_alone_loads_nothing_not_even_numpy() -> None:
    code = "import sys, storyxai as sx; dir(sx); print('numpy' in sys.modules, [m for m in sys.modules if 'storyxai.' in m])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False []\n"


@pytest.mark.parametrize("first", ["import storyxai.explain.cam", "import storyxai; storyxai.gather", "pass"])
def test_explain_is_room_and_verb_whatever_was_loaded_before(first: str) -> None:
    code = f"{first}\nimport storyxai as sx, storyxai.explain.cam as cam; print(callable(sx.explain), sx.explain.cam is cam)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "True True\n"


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'storyxai' has no attribute 'explian'"):
        _ = sx.explian


def test_a_story_is_drawn_with_the_evidence_that_it_was_told_from(tmp_path: Path) -> None:
    evidence = example_evidence()
    story = tell(evidence, "clinician")
    page = sx.render(story, str(tmp_path / "new" / "story.html"))
    assert page.read_bytes() == render_html(story, evidence)
    read = story_of_page(page.read_bytes())
    assert read == story and read.evidence is None
    with pytest.raises(InputError, match=r"does not know its evidence .* give evidence="):
        sx.render(read, tmp_path / "again.html")
    other = example_evidence()
    assert sx.render(read, tmp_path / "again.html", evidence=other).read_bytes() == page.read_bytes()


def test_a_story_is_not_drawn_with_another_ones_evidence(tmp_path: Path) -> None:
    with pytest.raises(CitationError, match="other evidence"):
        sx.render(tell(example_evidence(), "clinician"), tmp_path / "x.html", evidence=normal_evidence())
    assert not list(tmp_path.iterdir())


def test_what_people_give_in_place_of_a_model_an_image_or_a_story_is_named_with_the_mend(tmp_path: Path) -> None:
    model = sx.FunctionModel(lambda images: images.mean(axis=(1, 2, 3))[:, None], ["one"])
    image = sx.read(np.linspace(0, 1, 64 * 64).reshape(64, 64))
    for call, what, mend in (
        (lambda: sx.gather(lambda images: images, image), "model: is a function", r"wrap it .*TorchModel\(net, findings"),
        (lambda: sx.gather(model, "film.png"), "image: is a str", r"read\("),
        (lambda: sx.gather(model, image.pixels), "image: is a ndarray", r"read\("),
        (lambda: sx.explain(model, image.pixels, finding="one", method="lime"), "image: is a ndarray", r"read\("),
        (lambda: sx.tell(image, "clinician"), "evidence: is a Image", r"gather\("),
        (lambda: sx.render(example_evidence(), tmp_path / "x.html"), "story: is a Evidence", r"tell\("),
    ):
        with pytest.raises(InputError, match=f"{what}.*{mend}"):
            call()


def test_a_console_shows_one_line_of_images_maps_and_evidence() -> None:
    evidence = example_evidence()
    for thing in (evidence, evidence.image, evidence.heatmaps[0]):
        assert len(repr(thing)) < 400 and "array(" not in repr(thing) and "\n" not in repr(thing)
    assert f"maps shown: {sum(one.shown for one in evidence.heatmaps)} of {len(evidence.heatmaps)}" in repr(evidence)


def test_paths_may_be_texts(tmp_path: Path) -> None:
    """As notebooks write them: verify("study") ended in a TypeError."""
    study = str(tmp_path / "study")
    sx.save_evidence(example_evidence(), study)
    evidence = sx.load_evidence(study)
    sx.render(sx.tell(evidence, "auditor"), f"{study}/auditor.html")
    assert sx.verify(study).problems == ()
    with pytest.raises(WeightsError, match="has no card"):
        sx.load_student(study)


@pytest.mark.parametrize(("given", "what"), [
    ({"samples": "100"}, "samples"), ({"samples": 1.5}, "samples"), ({"samples": True}, "samples"), ({"seed": -1}, "seed"),
    ({"seed": "a"}, "seed"), ({"modality": "chest_radiograph"}, "modality"), ({"indication": None}, "indication"),
    ({"seconds": "1"}, "seconds"),
])  # fmt: skip
def test_settings_of_another_kind_are_refused_at_once(given: dict[str, object], what: str) -> None:
    with pytest.raises(InputError, match=f"{what}: is "):
        sx.GatherSettings(**given)  # type: ignore[arg-type]


def test_what_is_no_method_or_no_settings_is_refused() -> None:
    image = sx.read(np.tile(np.linspace(0, 1, 128, dtype=np.float32), (128, 1)))
    model = sx.FunctionModel(lambda images: images.mean((2, 3)) - 1.0, ["finding"])
    for methods in (None, 3, [3], [dict]):
        with pytest.raises(InputError, match=r"methods: holds .* no method"):
            sx.gather(model, image, methods=methods)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="settings: is a dict"):
        sx.gather(model, image, settings={"samples": 100})  # type: ignore[arg-type]
    for audience, language in ((None, "en"), ("auditor", None)):
        with pytest.raises(InputError, match="is a NoneType — give its name"):
            sx.tell(example_evidence(), audience, language)  # type: ignore[arg-type]


def test_arrays_of_other_byte_orders_and_tensors_that_ask_for_gradients_are_read() -> None:
    words = np.arange(128 * 128, dtype=np.uint16).reshape(128, 128)
    assert np.array_equal(sx.read(words.astype(">u2")).pixels, sx.read(words).pixels)
    torch = pytest.importorskip("torch")
    tensor = torch.linspace(0, 1, 128).repeat(128, 1).requires_grad_(True)
    assert np.array_equal(sx.read(tensor).pixels, tensor.detach().numpy())
