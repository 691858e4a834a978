"""Where real radiographs are, when they are there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


def real_data_folder() -> Path | None:
    """The folder of real radiographs: STORYXAI_REAL_DATA, or ../shared/data beside the checkout, or None."""
    given = os.environ.get("STORYXAI_REAL_DATA")
    folder = Path(given) if given else ROOT.parent / "shared" / "data"
    return folder if (folder / "nih" / "Data_Entry_2017_v2020.csv").is_file() else None


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real radiographs; skips, saying so, when it is absent."""
    folder = real_data_folder()
    if folder is None:
        pytest.skip("real radiographs absent: set STORYXAI_REAL_DATA to the folder that holds nih/, kermany/, covid/")
    return folder
