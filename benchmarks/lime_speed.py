"""What LIME costs beside the forward passes that it asks for, and what it takes to stop by itself, with the shipped student.

Bare passes and LIME alternate, so that both see the same machine; the figure is the median ratio over the rounds.
"""

from __future__ import annotations

import argparse
import resource
import statistics
import sys
import time

import numpy as np
from scipy.ndimage import gaussian_filter

from storyxai.explain.contract import Budget
from storyxai.explain.lime import lime
from storyxai.explain.superpixels import slic_segments
from storyxai.models.runtime import load_student


def main() -> None:
    """Prints one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--superpixels", type=int, default=60)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    student = load_student()
    noise = gaussian_filter(np.random.default_rng(0).random(student.input_size), student.size / 32)
    image = ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)[None]
    batch = np.repeat(image[None], given.batch, axis=0)
    student.logits(batch)
    slic_segments(image, count=given.superpixels)  # the first call imports scikit-image
    ratios = []
    for _ in range(given.rounds):
        started = time.perf_counter()
        for start in range(0, given.samples, given.batch):
            student.logits(batch[: min(given.batch, given.samples - start)])
        bare = time.perf_counter() - started
        started = time.perf_counter()
        segments = slic_segments(image, count=given.superpixels)
        lime(student.logits, image, segments, budget=Budget(samples=given.samples, batch=given.batch))
        whole = time.perf_counter() - started
        ratios.append(whole / bare)
        line(f"{given.samples} bare passes {bare:.2f} s, superpixels and LIME {whole:.2f} s: {whole / bare:.2f}")
    line(f"median ratio {statistics.median(ratios):.2f} (batch {given.batch}, {segments.max() + 1} superpixels)")
    started = time.perf_counter()
    found = lime(student.logits, image, segments, budget=Budget(samples=None, batch=given.batch))
    reasons = {reason: found.stopped.count(reason) for reason in sorted(set(found.stopped))}
    line(f"stopping by itself: {found.samples.tolist()} samples, {reasons}, {time.perf_counter() - started:.1f} s")
    line(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def line(text: str) -> None:
    """One line of the report."""
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
