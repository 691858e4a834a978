"""What the node's processes do with a study: tell each film with a model that stays open, and export it as DICOM objects."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from storyxai.errors import GateRefusal, OutputError, ReadError
from storyxai.explain.contract import ExplainedModel
from storyxai.imaging.dicom_file import is_dicom
from storyxai.node.press import Press
from storyxai.node.workers import Outcome, RefusedFilm, ToldFilm
from storyxai.programs.export import Making, export_held
from storyxai.programs.log import subject_in
from storyxai.programs.models import open_model
from storyxai.programs.tell import TellOptions, tell_held

PAGE = "clinician.html"
"""The page that goes out as PDF too."""


@dataclass
class StudyTeller:
    """Tells films as `storyxai tell` does and exports each as `storyxai export --to dicom` does, the film as its source.

    The model stays open. The clinician's page is printed by the press while the study is verified and its other objects
    are made; without `pdf` none is.
    """

    options: TellOptions
    pdf: bool = True
    _model: ExplainedModel | None = field(default=None, init=False, repr=False)

    def __call__(self, films: Sequence[Path], out: Path, press: Press) -> Outcome:
        """What came of the films; stories/ and objects/ in `out`. Raises: StoryxaiError for a fault of ours."""
        self._model = self._model or open_model(self.options.model)
        told, refused = [], []
        for film in films:
            try:
                told.append(self._tell(self._model, film, out, press))
            except (GateRefusal, ReadError) as error:
                refused.append(RefusedFilm(film.name, type(error).__name__, str(error)))
        return Outcome(tuple(told), tuple(refused))

    def _tell(self, model: ExplainedModel, film: Path, out: Path, press: Press) -> ToldFilm:
        done, kept = tell_held(model, film, out / "stories", self.options)
        objects = out / "objects" / done.folder.name
        source = film if _is_dicom(film) else None
        page = done.folder / PAGE
        printed = press.begin(page.read_bytes()) if self.pdf and page.is_file() else None
        making = Making(done.written, kept, None if printed is None else lambda _: printed())
        exported, evidence = export_held(done.folder, objects, to="dicom", source=source, making=making)
        if not exported.files:
            raise OutputError(str(objects), "is empty", mend="report this: an export without objects")
        about = subject_in(evidence)
        return ToldFilm(
            film.name, about.study, about.evidence_sha256, about.model, about.weights_sha256, about.software, objects.name
        )


def _is_dicom(path: Path) -> bool:
    with path.open("rb") as stream:
        return is_dicom(stream.read(256))
