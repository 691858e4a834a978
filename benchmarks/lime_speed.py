"""How long LIME takes beside the model's own time, and how steady it is: python benchmarks/lime_speed.py.

The model is a stand-in that costs next to nothing, so the figures are those of LIME itself (perturbed images, solve).
"""

from __future__ import annotations

import argparse
import resource
import sys
import time

import numpy as np
from scipy.ndimage import gaussian_filter

from storyxai.explain.cam import grad_cam, grid_head_gradients
from storyxai.explain.lime import lime
from storyxai.explain.superpixels import slic_segments


def main() -> None:
    """Prints one line per figure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--size", type=int, default=224, help="side of the model's image, pixels")
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--superpixels", type=int, default=60)
    parser.add_argument("--findings", type=int, default=14)
    parser.add_argument("--batch", type=int, default=64)
    given = parser.parse_args()

    rng = np.random.default_rng(0)
    noise = gaussian_filter(rng.random((given.size, given.size)), given.size / 32)
    image = ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)
    weights, others = rng.normal(size=(2, 64, given.findings)).astype(np.float32) / 8
    model_seconds = 0.0

    def predict(batch: np.ndarray) -> np.ndarray:
        nonlocal model_seconds
        started = time.perf_counter()
        cells = batch[:, 0, :: given.size // 8, :: given.size // 8][:, :8, :8].reshape(len(batch), 64)
        # A product of two sums: not linear in the superpixels, so that LIME has something to miss.
        logits = np.einsum("bk,kf->bf", cells, weights) * np.einsum("bk,kf->bf", cells, others)
        model_seconds += time.perf_counter() - started
        return logits

    slic_segments(image, count=given.superpixels)  # the first call imports scikit-image
    started = time.perf_counter()
    segments = slic_segments(image, count=given.superpixels)
    report("superpixels", time.perf_counter() - started, f"{segments.max() + 1} at {given.size} x {given.size}")

    started = time.perf_counter()
    first = lime(predict, image, segments, samples=given.samples, batch=given.batch)
    report("lime without the model", time.perf_counter() - started - model_seconds, f"{given.samples} samples")
    again = lime(predict, image, segments, samples=given.samples, batch=max(1, given.batch // 3))
    same = first.coefficients.tobytes() == again.coefficients.tobytes()
    other = lime(predict, image, segments, samples=given.samples, seed=1, batch=given.batch)
    pairs = zip(first.coefficients, other.coefficients, strict=True)
    seen = np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])
    line(f"same bytes with another batch size: {same}")
    line(f"correlation of two seeds: {seen:.3f}, foretold {first.reliability.mean():.3f}; r2 {first.r2.mean():.3f}")

    features = rng.normal(size=(256, 14, 14)).astype(np.float32)
    head = [rng.normal(size=shape).astype(np.float32) for shape in ((96, 256), (96,), (given.findings, 96))]
    started = time.perf_counter()
    _, gradients = grid_head_gradients(features, *head, np.zeros(given.findings, np.float32), 5.0)
    grad_cam(features, gradients)
    report("grad-cam of all findings", time.perf_counter() - started, f"{given.findings} findings, 256 x 14 x 14")
    line(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MiB")


def report(what: str, seconds: float, about: str) -> None:
    """One line with a duration."""
    line(f"{what}: {1000 * seconds:.0f} ms ({about})")


def line(text: str) -> None:
    """One line of the report."""
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    main()
