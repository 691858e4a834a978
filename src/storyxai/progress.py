"""How long work says how far it is: one call per step done, to whoever listens."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as progress(step, done, total): what is being done, in words, and how much of it is over."""
