"""storyxai: a chest radiograph and a model become stories, each sentence backed by checked evidence.

Research use only - not for diagnostic use.
"""

from __future__ import annotations

__all__ = ["__version__"]

__version__ = "0.1.0"
