"""How long stories are and what they name: words unfolded, named findings, share of cannot tell, and the patient's grade.

    python benchmarks/story_words.py FOLDER... [--count 30] [--show]

Each folder holds images, of which `--count` are spread over it; medians and means over them are printed as JSON. `--show`
prints the bottom line and the patient's words of every image, to be read in a row.
"""

from __future__ import annotations

import argparse
import json
import statistics
from pathlib import Path

from storyxai.errors import StoryxaiError
from storyxai.evidence.gather import GatherSettings, gather
from storyxai.evidence.record import as_record
from storyxai.imaging.read import find_images, read_image
from storyxai.programs.models import SHIPPED_MODEL, open_model
from storyxai.story.citations import contradictions
from storyxai.story.readability import flesch_kincaid_grade
from storyxai.story.tell import tell
from storyxai.types import Evidence, Section


def text(sections: tuple[Section, ...]) -> str:
    """The sentences of some sections as one text."""
    return " ".join(sentence.text for section in sections for sentence in section.sentences)


def measured(evidence: Evidence, *, show: bool) -> dict[str, float]:
    """The figures of one image."""
    record, (clinician, patient) = as_record(evidence), (tell(evidence, reader) for reader in ("clinician", "patient"))
    bottom, plain = text(clinician.sections[:1]), text(patient.sections)
    if show:
        print(f"{evidence.image.source}\n  {bottom}\n  {text(patient.sections[1:2])}\n")
    tiers = [item["tier"] for item in record["findings"].values()]
    return {
        "bottom line": len(bottom.split()), "chips": 3 * len(record["named"]), "named": len(record["named"]),
        "cannot tell": tiers.count("cannot_tell") / len(tiers), "clinician in all": len(text(clinician.sections).split()),
        "patient": len(plain.split()) + sum(len(section.heading.split()) for section in patient.sections),
        "grade": flesch_kincaid_grade(plain), "contradictions": len(contradictions([clinician, patient])),
    }


def over(folder: Path, count: int, *, show: bool) -> dict[str, float]:
    """Medians over the images of a folder; of what is counted in few, means and shares."""
    paths, model, found = find_images([folder]), open_model(SHIPPED_MODEL), []
    for path in paths[:: max(1, len(paths) // count)][:count]:
        try:
            evidence = gather(model, read_image(path), methods=["grad_cam"], settings=GatherSettings(samples=100))
        except StoryxaiError as error:
            print(f"{path.name}: {error}")
            continue
        found.append(measured(evidence, show=show))
    middle = {f"{key}, median": round(statistics.median(one[key] for one in found), 2) for key in found[0]}
    return middle | {
        "images": len(found), "named, mean": round(statistics.fmean(one["named"] for one in found), 2),
        "nothing named": round(sum(not one["named"] for one in found) / len(found), 2),
        "cannot tell, mean": round(statistics.fmean(one["cannot tell"] for one in found), 3),
        "grade, highest": round(max(one["grade"] for one in found), 1),
        "patient, most words": max(one["patient"] for one in found),
        "bottom line, most words": max(one["bottom line"] for one in found),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--show", action="store_true")
    asked = parser.parse_args()
    print(json.dumps({str(folder): over(folder, asked.count, show=asked.show) for folder in asked.folders}, indent=1))
