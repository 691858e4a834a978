"""The figures of stories: checked, read and measured, over real films and phantoms, in English and German, for every reader.

    python benchmarks/story_figures.py DATA [--real 300] [--phantoms 500] [--seed 0] [--samples 100] [--out FILE.json]
                                            [--keep FOLDER] [--minutes 60] [--untold]

DATA holds nih/, nih128/, covid/ and kermany/; of each as many films are drawn (by the seed, of frontal ones that the gate lets
through) as make up `--real`; phantoms are drawn beside them. Each study is told from its archive to all readers, ours and those
that come as files, in both languages; every page is read back by the checker and held against the evidence and the other pages.
The shipped student learned from all of these films but covid/: what it names here says how stories read, not how right they
are (results/shipped/told.json says that, out of fold). `--keep` leaves the archives, and finds them there the next time.
After `--minutes` no further study is begun; the figures say how many there are. `--samples auto` is what `storyxai tell` draws
where nobody says otherwise: LIME's maps are steadier than by the 100 that keep a run short. `--untold` counts what is named and
which maps are shown, and writes no page.
"""

from __future__ import annotations

import argparse
import csv
import json
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypeAlias

import numpy as np

from storyxai.errors import StoryxaiError
from storyxai.evidence.archive import read_archive, write_archive
from storyxai.evidence.gather import GatherSettings, gather
from storyxai.evidence.record import as_record
from storyxai.explain.contract import ExplainedModel
from storyxai.files import write_whole
from storyxai.html_tree import Element, parse_html
from storyxai.imaging.read import find_images, read_image
from storyxai.pages.story import render_html
from storyxai.phantoms.generate import generate_phantom
from storyxai.programs.models import SHIPPED_MODEL, open_model
from storyxai.proof.checking import Proof, Reader, check_page, contradictions
from storyxai.provenance import canonical_json
from storyxai.story.audiences.own import own_words
from storyxai.story.audiences.registry import BUILT_IN, find_audience, known_audiences
from storyxai.story.citations import check_page as check_citations
from storyxai.story.readability import flesch_kincaid_grade, wiener_sachtext_grade
from storyxai.story.tell import tell
from storyxai.types import Evidence, Image, Story

ORIGINS = ("nih", "nih128", "covid", "kermany")
LANGUAGES = ("en", "de")
GRADES = {"en": flesch_kincaid_grade, "de": wiener_sachtext_grade}
PHANTOM_SEED = 8_000_000
TIMED_EVERY, KEPT_EVERY = 5, 20
"""Every so many studies the telling is timed; every so many the figures are written."""
Study: TypeAlias = "tuple[str, str, Path]"
UNSEEN = frozenset({"script", "style", "template", "noscript", "sup"})


@dataclass
class Found:
    """What was counted: sums by name, values by name, and each problem in words."""

    counts: Counter[str] = field(default_factory=Counter)
    values: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    problems: list[str] = field(default_factory=list)


def normal_names(data: Path) -> frozenset[str]:
    """The films of which the sets state that they show no finding."""
    names = {path.name for path in (data / "kermany" / "images" / "NORMAL").glob("*")}
    for origin in ("nih", "nih128"):
        with (data / origin / "Data_Entry_2017_v2020.csv").open(newline="") as rows:
            names |= {Path(row["Image Index"]).stem for row in csv.DictReader(rows) if row["Finding Labels"] == "No Finding"}
    return frozenset(names)


def films(folder: Path, count: int, seed: int) -> Iterator[Path]:
    """The images of a set in an order drawn by the seed; ten times as many as wanted, since a gate refuses some."""
    images = folder / "images" if (folder / "images").is_dir() else folder
    paths = sorted(find_images([images]))
    order = np.random.default_rng(seed).permutation(len(paths))
    yield from (paths[place] for place in order[: 10 * count])


def archived(model: ExplainedModel, image: Image, folder: Path, samples: int | None) -> Evidence:
    """The evidence of an image as an archive holds it."""
    if not (folder / "evidence.json").is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_archive(gather(model, image, settings=GatherSettings(samples)), folder)
    return read_archive(folder)


def of_origin(asked: argparse.Namespace, origin: str, model: ExplainedModel, folder: Path, found: Found) -> Iterator[Study]:
    """The studies of one set, as many as are wanted of it; what the gate refuses is counted."""
    wanted = asked.real // len(ORIGINS)
    for path in films(asked.data / origin, wanted, asked.seed):
        if not wanted:
            return
        place = folder / f"{origin}-{path.stem}"
        try:
            archived(model, read_image(path), place, asked.samples)
        except StoryxaiError:
            found.counts[f"{origin}: refused"] += 1
            continue
        wanted -= 1
        yield origin, path.name, place


def of_phantoms(asked: argparse.Namespace, model: ExplainedModel, folder: Path, found: Found) -> Iterator[Study]:
    """The studies of phantoms."""
    for number in range(asked.phantoms):
        place = folder / f"phantom-{number}"
        try:
            archived(model, generate_phantom(PHANTOM_SEED + number, size=256).image, place, asked.samples)
        except StoryxaiError:
            found.counts["phantom: refused"] += 1
            continue
        yield "phantom", f"phantom-{number}", place


def studies(asked: argparse.Namespace, folder: Path, found: Found) -> Iterator[Study]:
    """Origin, file name and archive of every study that is told: the sets and the phantoms take turns."""
    model = open_model(SHIPPED_MODEL)
    sources = [of_origin(asked, origin, model, folder, found) for origin in ORIGINS]
    turns = [*sources, *[of_phantoms(asked, model, folder, found)] * round(len(ORIGINS) * asked.phantoms / max(1, asked.real))]
    while turns:
        for source in list(turns):
            study = next(source, None)
            if study is None:
                turns = [one for one in turns if one is not source]
            else:
                yield study


@cache
def reader_of(audience: str, language: str) -> Reader | None:
    """What the checker is told of a reader: the words of one from a file."""
    if audience in BUILT_IN:
        return None
    known = find_audience(audience)
    sentences, texts = own_words(known, language)
    return Reader(sentences, texts)


def unfolded(element: Element) -> Iterator[str]:
    """The text that stands on a page before anything is opened and without its script, notes' numbers left out."""
    for child in element.children:
        if isinstance(child, str):
            yield child
        elif child.tag == "details" and "open" not in child.attributes:
            yield from (text for one in child.all("summary")[:1] for text in unfolded(one))
        elif child.tag not in UNSEEN and "hidden" not in child.attributes and "of-focus" not in child.classes:
            yield from unfolded(child)
            yield " "


def words_in(text: str) -> int:
    """Words of a text, numbers among them."""
    return sum(any(letter.isalnum() for letter in word) for word in text.split())


def told(evidence: Evidence, language: str, found: Found) -> list[tuple[Story, bytes]]:
    """Every reader's page."""
    pages = []
    for audience in known_audiences():
        story = tell(evidence, audience, language)
        pages.append((story, render_html(story, evidence)))
        found.values["page, bytes"].append(len(pages[-1][1]))
    return pages


def checked(pages: Iterable[tuple[Story, bytes]], evidence: Evidence, found: Found, name: str) -> list[Proof]:
    """Count what the checker finds on the pages."""
    proofs, record = [], as_record(evidence)
    for story, page in pages:
        proof = check_page(page, evidence, reader_of(story.audience, story.language))
        proofs.append(proof)
        citations = check_citations(page, record)
        found.counts.update({"pages": 1, "sentences": len(proof.page.said), "false alarms": len(proof.problems),
                             "citations that do not hold": len(citations)})  # fmt: skip
        found.problems += [f"{name} {story.audience} {story.language}: {one}" for one in (*proof.problems, *citations)]
    return proofs


def read(pages: Iterable[tuple[Story, bytes]], found: Found, group: str) -> None:
    """Measure how long the clinician's and the patient's pages are, and how plain the patient's."""
    for story, page in pages:
        kind, main = f"{story.audience}, {story.language}", parse_html(page).first("main")
        if story.audience == "clinician" and main is not None:
            sentences = [sentence.text for sentence in story.sections[0].sentences]
            chips = [one.text() for one in main.all("a", "chip")]
            found.values[f"{group}: {kind}, words of bottom line and chips"].append(words_in(" ".join([*sentences, *chips])))
            found.values[f"{group}: {kind}, words unfolded"].append(words_in(" ".join(unfolded(main))))
        if story.audience == "patient" and main is not None:
            text = " ".join(sentence.text for section in story.sections for sentence in section.sentences)
            found.values[f"{group}: {kind}, grade"].append(GRADES[story.language](text))
            found.values[f"{group}: {kind}, words"].append(words_in(" ".join(unfolded(main))))


def named(evidence: Evidence, found: Found, origin: str, normal: bool) -> None:
    """Count what a story names."""
    record = as_record(evidence)
    tiers = [item["tier"] for item in record["findings"].values()]
    groups = ["all", origin, *(["real"] if origin != "phantom" else [])]
    for group in groups:
        found.values[f"{group}: named findings"].append(len(record["named"]))
        found.values[f"{group}: cannot tell, share"].append(tiers.count("cannot_tell") / len(tiers))
        for one in evidence.heatmaps:
            if one.finding in record["named"]:
                maps = f"{group}: maps of named findings by {one.method}"
                found.values[f"{maps}, shown, share"].append(float(one.shown))
                found.values[f"{maps}, shown without doubt, share"].append(float(one.shown and not one.doubtful))
        if normal:
            found.values[f"{group}: normal films with nothing named, share"].append(float(not record["named"]))


def timed(folder: Path, found: Found) -> None:
    """Measure the processor's seconds from archive to the pages of all readers, in English."""
    start = time.process_time()
    evidence = read_archive(folder)
    for audience in known_audiences():
        render_html(tell(evidence, audience), evidence)
    found.values["seconds from archive, all readers"].append(time.process_time() - start)


def summed(found: Found) -> dict[str, object]:
    """Medians, means and largest values beside the counts."""
    figures = {
        name: {"n": len(values), "median": round(statistics.median(values), 4), "mean": round(statistics.fmean(values), 4),
               "max": round(max(values), 4)}
        for name, values in sorted(found.values.items())
    }  # fmt: skip
    return {"counts": dict(sorted(found.counts.items())), "figures": figures, "problems": found.problems}


def judged(origin: str, name: str, folder: Path, found: Found, *, normal: bool, tells: bool = True) -> None:
    """Count what one study names and, where it `tells`, tell it in both languages, check and measure it."""
    evidence, proofs = read_archive(folder), []
    found.counts.update({"studies": 1, f"{origin}: studies": 1})
    named(evidence, found, origin, normal)
    for language in LANGUAGES if tells else ():
        try:
            pages = told(evidence, language, found)
        except StoryxaiError as error:
            found.counts["not told"] += 1
            found.problems.append(f"{name} {language}: {error}")
            continue
        proofs += checked(pages, evidence, found, name)
        read(pages, found, "phantom" if origin == "phantom" else "real")
    against = contradictions(proofs)
    found.counts["contradictions"] += len(against)
    found.problems += [f"{name}: {one}" for one in against]
    if tells and found.counts["studies"] % TIMED_EVERY == 1:
        timed(folder, found)


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--real", type=int, default=300)
    parser.add_argument("--phantoms", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--samples", type=lambda text: None if text == "auto" else int(text), default=100)
    parser.add_argument("--untold", action="store_true")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    asked = parser.parse_args()
    found, normal, start = Found(), normal_names(asked.data), time.monotonic()

    def keep() -> None:
        if asked.out:
            asked.out.parent.mkdir(parents=True, exist_ok=True)
            write_whole(canonical_json(summed(found)), asked.out)

    with tempfile.TemporaryDirectory() as scratch:
        for origin, name, folder in studies(asked, asked.keep or Path(scratch), found):
            known = bool({name, Path(name).stem} & normal)
            judged(origin, name, folder, found, normal=known, tells=not asked.untold)
            if found.counts["studies"] % KEPT_EVERY == 0:
                keep()
                print(found.counts["studies"], "studies,", len(found.problems), "problems", file=sys.stderr, flush=True)
            if time.monotonic() - start > 60 * asked.minutes:
                break
    keep()
    print(json.dumps(summed(found), indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
