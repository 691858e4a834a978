"""Phantom radiographs a second on one core. Run: OMP_NUM_THREADS=1 python benchmarks/phantom_speed.py [COUNT] [SIZE]"""

from __future__ import annotations

import sys
import time

from storyxai.phantoms.generate import generate_phantom


def main(count: int = 100, size: int = 256) -> float:
    """Images a second of processor time, after one image to warm up."""
    generate_phantom(0, size=size)
    start = time.process_time()
    for seed in range(1, count + 1):
        generate_phantom(seed, size=size)
    return count / (time.process_time() - start)


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:3]]
    print(f"{main(*given):.1f} phantoms/s/core")
