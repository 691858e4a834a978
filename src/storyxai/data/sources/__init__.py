"""The published sets by name: who reads each, and under which licence and within which limits one learns from it.

Another package brings its own in the entry point group `storyxai.sources`; the value is a `Source`, or its reader alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from storyxai.errors import InputError, UnknownNameError

__all__ = ["GROUP", "SOURCES", "Source", "known_sources", "may_be_passed_on", "reader_of", "source_named", "source_of"]

GROUP = "storyxai.sources"
_MINED = "labels were mined from report text and hold errors; what was learnt from them holds those errors too."


@dataclass(frozen=True)
class Source:
    """A set of images that a student can learn from.

    `reader` goes from the set's folder to a `StudyTable`: a function, or "module:function" to be imported when it is asked
    for; "" where no reader comes with the package. `licence` "" says that nobody stated it here, or that each image has its
    own. `attribution` is what must be said with the images or what was learned from them. `limits` are sentences that hold
    for whoever learned from the set. `weights_may_be_shipped` says whether the terms let weights trained on it be passed on;
    None: each image's own licence decides, or nobody stated it.
    """

    key: str
    name: str
    reader: str | Callable[..., Any] = ""
    licence: str = ""
    citation: str = ""
    attribution: str = ""
    limits: tuple[str, ...] = ()
    synthetic: bool = False
    weights_may_be_shipped: bool | None = None


OURS: tuple[Source, ...] = (
    Source(
        "nih", "NIH ChestX-ray14 (Wang et al. 2017; NIH Clinical Center)", "storyxai.data.sources.nih:read_nih",
        "NIH Clinical Center: free use with attribution", "Wang X et al., CVPR 2017",
        "The images were provided by the NIH Clinical Center (nihcc.app.box.com/v/ChestXray-NIHCC).",
        (f"NIH {_MINED}",), weights_may_be_shipped=True,
    ),
    Source(
        "kermany", "Kermany et al. 2018, children (CC BY 4.0), with v7 Labs lung masks (CC BY 4.0)",
        "storyxai.data.sources.kermany:read_kermany", "CC BY 4.0", "Kermany D et al., Cell 2018;172(5):1122-1131",
        "Images: doi 10.17632/rscbjbr9sj.2. Masks: v7 Labs.",
        ("Kermany's films are of children of one hospital, and children and adults differ.",), weights_may_be_shipped=True,
    ),
    Source(
        "covid", "COVID-19 Image Data Collection (Cohen et al. 2020), with v7 Labs lung masks (CC BY 4.0)",
        "storyxai.data.sources.covid:read_covid", "", "Cohen JP et al., arXiv:2006.11988",
        "Each image is of the publication that the collection names. Masks: v7 Labs.",
        ("The COVID-19 collection's films were taken from publications, which show what is striking.",),
    ),
    Source(
        "covid-cc-by", "COVID-19 Image Data Collection, films under CC BY alone, with v7 Labs lung masks (CC BY 4.0)",
        "storyxai.data.sources.covid:read_covid_cc_by", "", "Cohen JP et al., arXiv:2006.11988",
        "Each image is of the publication that the collection names. Masks: v7 Labs.",
        ("The COVID-19 collection's films were taken from publications, which show what is striking.",),
    ),
    Source(
        "openi", "Open-i, Indiana University chest X-ray collection", "storyxai.data.sources.openi:read_openi",
        "CC BY-NC-ND 4.0", "Demner-Fushman D et al., JAMIA 2016;23(2):304-310", weights_may_be_shipped=False,
    ),
    Source(
        "phantom", "storyxai phantoms (synthetic)", "storyxai.data.sources.phantom:read_phantom", "Apache-2.0",
        limits=("Synthetic images are drawn, not taken: what was learnt from them alone may not hold on images of people.",),
        synthetic=True, weights_may_be_shipped=True,
    ),
    Source(
        "chexpert", "CheXpert", "storyxai.data.sources.chexpert:read_chexpert",
        "Stanford University Dataset Research Use Agreement", "Irvin J et al., AAAI 2019",
        limits=(f"CheXpert's {_MINED}",), weights_may_be_shipped=False,
    ),
    Source(
        "mimic-cxr-jpg", "MIMIC-CXR-JPG", "storyxai.data.sources.mimic_cxr_jpg:read_mimic_cxr_jpg",
        "PhysioNet Credentialed Health Data License 1.5.0", "Johnson AEW et al., arXiv:1901.07042",
        limits=(f"MIMIC-CXR's {_MINED}",), weights_may_be_shipped=False,
    ),
    Source(
        "padchest", "PadChest", "storyxai.data.sources.padchest:read_padchest", "PadChest Dataset Research Use Agreement",
        "Bustos A et al., Medical Image Analysis 2020;66:101797",
        limits=("Three in four of PadChest's labels were given by a network that read the reports, and hold its errors.",),
        weights_may_be_shipped=False,
    ),
    Source(
        "vindr", "VinDr-CXR", "storyxai.data.sources.vindr:read_vindr", "PhysioNet Credentialed Health Data License 1.5.0",
        "Nguyen HQ et al., Scientific Data 2022;9:429", weights_may_be_shipped=False,
    ),
    Source(
        "rsna", "RSNA Pneumonia Detection Challenge (films of NIH)", "storyxai.data.sources.rsna:read_rsna",
        "RSNA challenge terms: non-commercial use, with citation",
        "Shih G et al., Radiology: Artificial Intelligence 2019;1(1):e180041",
        limits=("RSNA's boxes mark opacities that may be pneumonia, not pneumonia that was proven.",),
        weights_may_be_shipped=False,
    ),
    Source(
        "siim", "SIIM-ACR Pneumothorax (films of NIH)", "storyxai.data.sources.siim:read_siim",
        "SIIM-ACR challenge terms: non-commercial research", "SIIM-ACR Pneumothorax Segmentation, 2019",
        weights_may_be_shipped=False,
    ),
    Source(
        "montgomery", "Montgomery County tuberculosis set", "storyxai.data.sources.tuberculosis:read_montgomery",
        "NLM: free for research, with citation", "Jaeger S et al., Quantitative Imaging in Medicine and Surgery 2014;4(6):475",
        weights_may_be_shipped=False,
    ),
    Source(
        "shenzhen", "Shenzhen tuberculosis set", "storyxai.data.sources.tuberculosis:read_shenzhen",
        "NLM: free for research, with citation", "Jaeger S et al., Quantitative Imaging in Medicine and Surgery 2014;4(6):475",
        weights_may_be_shipped=False,
    ),
    Source(
        "jsrt", "JSRT", "storyxai.data.sources.jsrt:read_jsrt", "JSRT: free for research, with citation",
        "Shiraishi J et al., American Journal of Roentgenology 2000;174:71-74", weights_may_be_shipped=False,
    ),
    Source(
        "chexmask", "CheXmask (masks; the films are of other sets)", "storyxai.data.sources.chexmask:read_chexmask",
        "CC BY 4.0 (masks)", "Gaggion N et al., Scientific Data 2024;11:511",
        limits=("CheXmask's outlines were drawn by a network, not by hand.",), weights_may_be_shipped=False,
    ),
    Source("manifest", "a table of one's own", "storyxai.data.sources.manifest:read_manifest"),
    Source("coco", "a COCO file of one's own", "storyxai.data.sources.coco:read_coco"),
    Source("dicom-folder", "a folder of DICOM files", "storyxai.data.sources.dicom_folder:read_dicom_folder"),
    Source(
        "ph2", "PH2, dermoscopy", "storyxai.data.sources.ph2:read_ph2", "PH2: research and education, with citation",
        "Mendonca T et al., EMBC 2013",
        limits=("PH2 has lesions of light skin from one hospital under one dermatoscope.",), weights_may_be_shipped=False,
    ),
    Source(
        "ham10000", "HAM10000, dermoscopy", "storyxai.data.sources.isic:read_ham10000", "CC BY-NC 4.0",
        "Tschandl P et al., Scientific Data 2018;5:180161",
        limits=("HAM10000 states a diagnosis and no criteria; half of it was never looked at under a microscope.",),
        weights_may_be_shipped=False,
    ),
    Source(
        "isic", "ISIC challenges, dermoscopy", "storyxai.data.sources.isic:read_isic",
        "ISIC: each image's own (CC0, CC BY, CC BY-NC)", "Codella N et al., arXiv:1902.03368", weights_may_be_shipped=False,
    ),
    Source(
        "busi", "BUSI, breast ultrasound", "", "BUSI: terms not settled", "Al-Dhabyani W et al., Data in Brief 2020;28:104863",
        limits=("BUSI names no patients: pictures of one woman may stand on both sides of any split.",),
        weights_may_be_shipped=False,
    ),
)
SOURCES: Mapping[str, Source] = {source.key: source for source in OURS}
_READ_HERE = frozenset(source.key for source in OURS if source.reader)
"""Of a set that we name and do not read, such as one whose terms we only state, another package's reader is the source."""


def known_sources() -> tuple[str, ...]:
    """The names of all sets that can be read, ours first, no reader loaded."""
    ours = [source.key for source in OURS if source.reader]
    return (*ours, *sorted({point.name for point in entry_points(group=GROUP)} - _READ_HERE))


def source_named(key: str) -> Source:
    """The set of that name.

    Raises: UnknownNameError, naming the nearest; InputError where another package's entry is none.
    """
    points = tuple(entry_points(group=GROUP, name=key))
    if key not in _READ_HERE and points:
        return _load(points[0])
    if key not in _READ_HERE:
        raise UnknownNameError("source", key, known_sources())
    return SOURCES[key]


def source_of(domain: str) -> Source | None:
    """The set called `domain`, or that it is a part of ("nih128"); None where we know of none.

    One whose package does not load is not known: what was learned for hours is written all the same.
    """
    if domain not in _READ_HERE and any(point.name == domain for point in entry_points(group=GROUP)):
        with suppress(InputError):
            return source_named(domain)
    parts = (name for name in SOURCES if re.fullmatch(rf"{name}([^a-z].*)?", domain))
    return SOURCES.get(max(parts, key=len, default=""))


def reader_of(source: Source) -> Callable[..., Any]:
    """The function that reads the set. Raises: InputError where it cannot be loaded."""
    if callable(source.reader):
        return source.reader
    module, _, function = source.reader.partition(":")
    try:
        return getattr(import_module(module), function)  # type: ignore[no-any-return]
    except (ImportError, AttributeError, ValueError) as error:
        why = f"has no reader at {source.reader or 'all'} ({error})"
        raise InputError(f"source '{source.key}'", why, mend="mend or remove the package that brings it") from error


def may_be_passed_on(source: Source, licences: Iterable[str]) -> bool | None:
    """Whether weights trained on images of the set under these licences may be passed on; None: nobody stated it.

    Of a set whose images each have their own licence all must be CC BY or CC0.
    """
    if source.weights_may_be_shipped is not None or source.licence:
        return source.weights_may_be_shipped
    stated = [licence.strip() for licence in licences]
    if not any(stated):
        return None
    return all(licence == "CC BY" or licence.startswith(("CC BY ", "CC0")) for licence in stated)


def _load(point: EntryPoint) -> Source:
    package = point.dist.name if point.dist is not None else point.value
    mend = f"mend or remove the package {package}"
    try:
        loaded = point.load()
    except Exception as error:  # another's module may raise anything when it is imported
        why = f"cannot be loaded from {point.value} ({type(error).__name__}: {error})"
        raise InputError(f"source '{point.name}'", why, mend=mend) from error
    if isinstance(loaded, Source):
        return replace(loaded, key=point.name)
    if not callable(loaded):
        raise InputError(f"source '{point.name}'", f"{point.value} is neither a Source nor a reader", mend=mend)
    return Source(point.name, point.name, loaded)
