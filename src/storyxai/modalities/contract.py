"""What a kind of image is, as one value: words and codes of its findings, structures, regions, gate, filling and report.

A model's card names its modality; the core asks the value and names no organ. `registry` finds one by its key.
`chest_radiograph` is an example with everything; a modality of two findings and no structure needs a key and the findings.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, NamedTuple, Protocol, TypeAlias

import numpy as np

from storyxai.errors import InputError, UnknownNameError
from storyxai.types import Array, Concept, Image, Mask, Remark

__all__ = [
    "Acquisition", "Code", "FindingTerm", "Gate", "GateRule", "LabelReport", "MeasureGate", "MeasureImage", "Modality",
    "NameHardRules", "NeutralFilling", "Pair", "Place", "ReadDraft", "ReportGrammar", "Structure", "Survey", "SurveyImage",
    "WhatIf", "folded_name",
]

SAY_NOTHING = frozenset({
    "normal", "abnormal", "no finding", "no findings", "none", "nothing", "healthy", "negative", "positive", "other", "others",
})
"""Names of findings that any model may have: they say of no kind of image that it reads it."""
MANY = 3
"""So many findings of one kind of image are no chance."""


@dataclass(frozen=True)
class Code:
    """A code and the scheme that gives it its meaning, by DICOM's designator: "SCT" (SNOMED CT), "RADLEX", ...

    `meaning` is the concept's own name in that scheme, "" where it was not looked up: a report's phrase is not always that.
    """

    value: str
    scheme: str
    meaning: str = ""


@dataclass(frozen=True)
class FindingTerm:
    """One finding.

    `phrase` is how a report says it; `lay` is a noun phrase a patient of ten years' schooling reads; `look_alikes` are
    other causes of the same sign; `synonyms` are names other data sets give it (compared without case or marks);
    `codes` were verified by hand; `focal` says that it has a place smaller than a structure.
    """

    name: str
    phrase: str = ""
    lay: str = ""
    look_alikes: tuple[str, ...] = ()
    synonyms: tuple[str, ...] = ()
    codes: tuple[Code, ...] = ()
    focal: bool = True

    def __post_init__(self) -> None:
        plain = self.name.replace("_", " ").lower()
        object.__setattr__(self, "phrase", self.phrase or plain)
        object.__setattr__(self, "lay", self.lay or self.phrase)

    def code(self, scheme: str) -> str:
        """The finding's code in `scheme`, "" where none was verified."""
        return next((code.value for code in self.codes if code.scheme == scheme), "")

    @property
    def snomed(self) -> str:
        return self.code("SCT")

    @property
    def radlex(self) -> str:
        return self.code("RADLEX")


@dataclass(frozen=True)
class Structure:
    """Something that a model can draw: an organ, a lesion.

    `fault` looks at all drawn masks (original frame) and says why this one is no such structure, nothing where it is
    one; a mask with a fault is shown to nobody. `one_piece`: only the largest connected piece of a drawing is kept. One with
    `codes` is an organ by name; one without is something that was seen. `shown_with` are findings that it goes with: where none
    of them reaches its threshold a drawing of it is shown to nobody, and the clinician is told.
    """

    name: str
    phrase: str = ""
    lay: str = ""
    one_piece: bool = True
    codes: tuple[Code, ...] = ()
    fault: Callable[[Mapping[str, Mask]], Remark | str] | None = None
    shown_with: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        plain = self.name.replace("_", " ").lower()
        object.__setattr__(self, "phrase", self.phrase or plain)
        object.__setattr__(self, "lay", self.lay or f"the {self.phrase}")


@dataclass(frozen=True)
class Pair:
    """The first two structures of a modality, the patient's left and right one, which data sets also draw as one.

    `name` is that of both together; `synonyms` are other names that tables give them.
    """

    name: str
    synonyms: tuple[str, ...] = ()


class Place(NamedTuple):
    """Where the evidence of a finding is to be looked for: the region that a map is checked against.

    Shapes: `region` bool, every `stride`-th pixel of the original frame; None where it cannot be told, and `about` says
    why, otherwise what the region is. `check` is the name under which records hold the check, `away` why a map that fails it
    is withheld. `extent` is how wide the finding is at most, as a share of the picture's longer side; None where that is open.
    """

    check: str
    region: Mask | None
    stride: int
    about: Remark
    away: Remark = Remark("away")
    extent: float | None = None


class Survey(Protocol):
    """The regions of one image, found once and asked for every map."""

    def image_concepts(self) -> tuple[Concept, ...]:
        """What is measured on the image as a whole."""
        ...

    def map_concepts(self, values: Array, finding: str) -> tuple[Concept, ...]:
        """What is measured of a finding's map. Shapes: values [H, W], original frame."""
        ...

    def place(self, finding: str) -> Place | None:
        """Where the finding's evidence is to be looked for; None where that may be anywhere in the image."""
        ...


class MeasureImage(Protocol):
    """The function of a modality that measures what needs the image's own values, such as its colours."""

    def __call__(self, image: Image, masks: Mapping[str, Mask], *, mask_pixel: float) -> tuple[Concept, ...]:
        """Concepts of the whole image. Shapes: masks bool [H, W], original frame; `mask_pixel` as for the survey."""
        ...


class SurveyImage(Protocol):
    """The function of a modality that finds the regions of one image."""

    def __call__(
        self, masks: Mapping[str, Mask], *, spacing_mm: tuple[float, float] | None, mask_pixel: float
    ) -> Survey:
        """The survey. Shapes: masks bool [H, W]; `mask_pixel` is the side of one pixel of the model's masks in theirs."""
        ...


@dataclass(frozen=True)
class NeutralFilling:
    """What a hidden region is painted with, so that hiding it removes evidence and adds none.

    In the drawn `structures` together the value that the share `quantile` of their pixels lies below, channel by channel;
    elsewhere a blur. `key` names it in options and records; `mixed` names what covers a region that may lie partly in the
    structures. With `around` the value is taken from a ring around the structures.
    """

    key: str
    structures: tuple[str, ...]
    quantile: float
    mixed: str
    around: bool = False


@dataclass(frozen=True)
class WhatIf:
    """A structure that is hidden to see what the model then says. `fill` names the part of the filling that covers it."""

    structure: str
    region: str
    fill: str = "blur"


@dataclass(frozen=True)
class GateRule:
    """One rule: passed while the value is not beyond `limit` (`low` tells on which side); `hard` rules refuse.

    `fine` and `seen` say the outcome in words, `mend` what to do, `obtained` where the limit comes from. With `sides` a failed
    rule puts left and right in doubt, so that stories name no side.
    """

    name: str
    limit: float
    low: bool
    hard: bool
    fine: str
    seen: str
    mend: str
    obtained: str
    sides: bool = False


MeasureGate: TypeAlias = Callable[[Image, Mapping[str, Mask] | None], Mapping[str, float | None]]
NameHardRules: TypeAlias = Callable[[Image, frozenset[str]], frozenset[str]]


@dataclass(frozen=True)
class Gate:
    """Which images a model of this modality may speak about.

    `measure(image, masks)` gives the value of each rule by name, None where it cannot be asked yet (`masks` are None before
    the model has looked). `tell` chooses among the failed hard rules those that say best what is wrong; None: all.
    """

    rules: tuple[GateRule, ...]
    measure: MeasureGate
    tell: NameHardRules | None = None


LabelReport: TypeAlias = Callable[[str | Sequence[str]], dict[str, float]]
ReadDraft: TypeAlias = Callable[[Sequence[str]], tuple[Remark, ...]]
"""What each sentence of a draft states; a remark without a code where it cannot be read."""


class ReportGrammar(Protocol):
    """Reports of this modality: their words, and reports written from labels."""

    max_tokens: int

    def vocabulary(self) -> tuple[str, ...]:
        """Every token that a report can hold, sorted."""
        ...

    def tokenize(self, text: str | Sequence[str]) -> list[str]:
        """The tokens of a report (one text, or its sentences)."""
        ...

    def detokenize(self, tokens: Sequence[str]) -> list[str]:
        """The sentences of a row of tokens."""
        ...

    def write(self, labels: Mapping[str, float], rng: np.random.Generator, *, view: str) -> tuple[str, ...]:
        """A report that is true to the labels: 0.5 or more is present, less is absent, nan is not mentioned."""
        ...


@dataclass(frozen=True)
class Acquisition:
    """How images of this kind are taken.

    `channels` 1 (grey) or 3 (RGB); `bright_is_dense` for radiographs; `modalities` DICOM's codes of the modality (empty:
    projections, CR or DX), `sop_classes` the UIDs of DICOM's kinds of objects, `views` the accepted views, `body_parts` DICOM's
    body parts (each empty: any).
    """

    channels: Literal[1, 3] = 1
    bright_is_dense: bool = True
    modalities: tuple[str, ...] = ()
    sop_classes: tuple[str, ...] = ()
    views: tuple[str, ...] = ()
    body_parts: tuple[str, ...] = ()

    @property
    def colour(self) -> bool:
        """Whether images are read with their colours."""
        return self.channels == 3


@dataclass(frozen=True)
class Modality:
    """One kind of image. `findings` in the order of a model's logits.

    `survey` None: the whole image is one region and nothing is measured in it but the extent of a map. `measure` adds
    what is measured on the image's own values. `gate` None: only
    what holds for any image (size, contrast). `filling` None: a blur. `grammar` and `labeller` None: no reports; `read_draft`
    None: other languages quote a draft as the model wrote it. `words` are the modality's own by language and key, looked up
    before the catalogue's (`storyxai.modalities.words` lists them). `limits` and `cannot_see` stand in the card of every
    student of the modality: where it ends, and what it was not made to find.
    `pair` says that the first two structures belong together, `beside_pair` which findings are not expected to show inside
    them; `searched` are the findings whose absence is stated by a reader
    who marked everything that data sets of this kind mark and found nothing (`boxes_complete`). `normal_report` is what is
    written of an image that shows nothing: what a writer earns who looks at none. `asked_first` are the findings that a reader
    asks for before all others: that the first of them is unlikely is said even where others are named. `shared_names` are names
    and synonyms that images of other kinds use too, and that therefore say of no model what it reads.
    """

    key: str
    findings: tuple[FindingTerm, ...]
    name: str = ""
    structures: tuple[Structure, ...] = ()
    pair: Pair | None = None
    beside_pair: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()
    survey: SurveyImage | None = None
    measure: MeasureImage | None = None
    gate: Gate | None = None
    filling: NeutralFilling | None = None
    what_ifs: tuple[WhatIf, ...] = ()
    grammar: ReportGrammar | None = None
    labeller: LabelReport | None = None
    read_draft: ReadDraft | None = None
    acquisition: Acquisition = Acquisition()
    words: Mapping[str, Mapping[str, str]] = field(default_factory=dict, hash=False)
    limits: tuple[str, ...] = ()
    cannot_see: tuple[str, ...] = ()
    normal_report: str = ""
    asked_first: tuple[str, ...] = ()
    shared_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", self.name or self.key.replace("_", " "))
        what = f"modality '{self.key}'"
        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.key):
            raise InputError(what, "has a key that is no plain name", mend="use small letters, digits and _")
        if not self.findings:
            raise InputError(what, "has no finding", mend="give one or more [[findings]]")
        for kind, names in (("finding", self.names), ("structure", self.structure_names)):
            if twice := sorted({name for name in names if names.count(name) > 1}):
                raise InputError(what, f"has the {kind} {twice[0]} twice", mend="keep one of them")
        if self.pair and len(self.structures) < 2:
            why = f"has the pair {self.pair.name} and fewer than two structures"
            raise InputError(what, why, mend="name its left and its right side first")
        shown_with = (name for structure in self.structures for name in structure.shown_with)
        for name in (*self.searched, *self.beside_pair, *self.asked_first, *shown_with):
            if name not in self.names:
                raise UnknownNameError(f"{what}: finding", name, self.names)
        for name in (*(what_if.structure for what_if in self.what_ifs), *(self.filling.structures if self.filling else ())):
            if name not in self.structure_names:
                raise UnknownNameError(f"{what}: structure", name, self.structure_names)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the findings, in order."""
        return tuple(term.name for term in self.findings)

    @property
    def structure_names(self) -> tuple[str, ...]:
        """The names of the structures, in order."""
        return tuple(structure.name for structure in self.structures)

    def match(self, text: str) -> str | None:
        """The finding that `text` (a name or synonym, any case, spaces or underscores) stands for, or None.

        A name as it stands is itself: "a|b" and "a,b" fold to one.
        """
        return text if text in self.names else self._by_folded.get(folded_name(text))

    def reads(self, names: Sequence[str]) -> bool:
        """Whether a model of findings with these names reads images of this kind.

        It does where it knows three or more of them, or more than half, by names that no other kind of image uses; names that
        say that nothing was found do not count.
        """
        said = [name for name in names if folded_name(name) not in SAY_NOTHING]
        shared = {folded_name(name) for name in self.shared_names}
        known = [name for name in said if self.match(name) is not None]
        own = [name for name in known if folded_name(name) not in shared]
        return len(own) >= MANY or (bool(own) and 2 * len(known) > len(said))

    def term(self, name: str) -> FindingTerm:
        """The term called `name`. Raises: UnknownNameError naming the nearest finding."""
        matched = self.match(name)
        if matched is None:
            raise UnknownNameError("finding", name, self.names)
        return self.findings[self.names.index(matched)]

    def describe(self, name: str) -> FindingTerm:
        """The term called `name`, or for a finding that is not in the vocabulary one of its name alone."""
        matched = self.match(name)
        return FindingTerm(name) if matched is None else self.findings[self.names.index(matched)]

    @cached_property
    def _by_folded(self) -> Mapping[str, str]:
        return {folded_name(alias): term.name for term in self.findings for alias in (term.name, *term.synonyms)}


def folded_name(text: str) -> str:
    """`text` in small letters of any alphabet and digits with single spaces: how names are compared."""
    return re.sub(r"[\W_]+", " ", text.casefold()).strip()


