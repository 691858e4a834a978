"""The checker over many studies: false alarms on clean pages, and planted faults that pass.

    python benchmarks/check_pages.py [FOLDER...] [--count 40] [--phantoms 12] [--language en] [--samples 100]

Each folder holds images, of which `--count` are spread over it; phantoms are drawn beside them. Every study is told to all
four readers and read back; in each page three kinds of fault are planted (a digit altered, a negation, a sentence dropped).
Printed as JSON: pages, sentences, false alarms, contradictions, faults planted and caught.
"""

from __future__ import annotations

import argparse
import json
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from storyxai.errors import StoryxaiError
from storyxai.evidence.gather import GatherSettings, gather
from storyxai.evidence.record import as_archived
from storyxai.imaging.read import find_images, read_image
from storyxai.pages.story import render_html
from storyxai.phantoms.generate import generate_phantom
from storyxai.programs.models import SHIPPED_MODEL, open_model
from storyxai.proof.checking import check_page, contradictions
from storyxai.story.tell import AUDIENCES, tell
from storyxai.types import Evidence, Image

SENTENCE = re.compile(r'<p><span class="s">.*?</p>\n', re.DOTALL)
NEGATED = re.compile(r"(<span class=\"s\">[^<]*?)\b(is|are|lies|may|might) ")


def spoilt(page: str) -> Iterator[tuple[str, str]]:
    """The page with one fault each, by its kind. A number that altered prints the same value is no fault."""
    told = [match for match in SENTENCE.finditer(page) if re.search(r">[^<]*0\.\d\d", match[0])]
    if told:
        middle = told[len(told) // 2][0]
        digit = re.search(r"0\.(\d)", middle)
        if digit:
            other = f"0.{(int(digit[1]) + 3) % 10}"
            yield "digit", page.replace(middle, middle.replace(digit[0], other, 1), 1)
    if NEGATED.search(page):
        yield "negation", NEGATED.sub(r"\1\2 not ", page, count=1)
    sentences = SENTENCE.findall(page)
    yield "dropped", page.replace(sentences[len(sentences) // 3], "", 1)


def images(folders: list[Path], count: int, phantoms: int) -> Iterator[Image]:
    """The images to be told."""
    for folder in folders:
        paths = find_images([folder])
        yield from map(read_image, paths[:: max(1, len(paths) // count)][:count])
    yield from (generate_phantom(seed, size=256).image for seed in range(phantoms))


def checked(evidence: Evidence, language: str, found: Counter[str]) -> None:
    """Count what the checker finds in the pages of one study, clean and spoilt."""
    proofs = []
    for audience in AUDIENCES:
        page = render_html(tell(evidence, audience, language), evidence)
        proof = check_page(page, evidence)
        proofs.append(proof)
        found.update({"pages": 1, "sentences": len(proof.page.said), "false alarms": len(proof.problems)})
        for problem in proof.problems:
            print(f"{evidence.image.source} {audience}: {problem}")
        for kind, edited in spoilt(page.decode()):
            found.update({f"{kind}: planted": 1, f"{kind}: caught": bool(check_page(edited.encode(), evidence).problems)})
    found.update({"studies": 1, "contradictions": len(contradictions(proofs))})


def main() -> None:
    """Run from the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--phantoms", type=int, default=12)
    parser.add_argument("--language", default="en")
    parser.add_argument("--samples", type=int, default=100)
    given = parser.parse_args()
    model, found = open_model(SHIPPED_MODEL), Counter[str]()
    for image in images(given.folders, given.count, given.phantoms):
        try:
            evidence = as_archived(gather(model, image, settings=GatherSettings(given.samples)))
        except StoryxaiError as error:
            found.update({"refused": 1})
            print(f"{image.source}: {error}")
            continue
        checked(evidence, given.language, found)
    print(json.dumps(dict(sorted(found.items())), indent=2))


if __name__ == "__main__":
    main()
