"""Files of a user's own that open thousands of brackets: refused in one sentence, as other damage is, and no RecursionError."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from storyxai.errors import StoryxaiError
from storyxai.modalities.registry import read_modality
from storyxai.models.card import CARD_NAME, read_card
from storyxai.node.settings import read_settings
from storyxai.programs.models import read_prevalence
from storyxai.story.audiences.own import read_audience
from storyxai.training.recipe_file import read_recipe

DEEP = 20_000


@pytest.mark.parametrize(("name", "read"), [
    ("mine.toml", read_recipe), ("mine.toml", read_settings), ("mine.toml", read_modality), ("mine.toml", read_audience),
    ("mine.toml", lambda path: read_prevalence(str(path))), (CARD_NAME, lambda path: read_card(path.parent)),
])  # fmt: skip
def test_brackets_without_end_are_damage_like_any_other(tmp_path: Path, name: str, read: Callable[[Path], object]) -> None:
    path = tmp_path / name
    path.write_text(("" if name.endswith("json") else "name = ") + "[" * DEEP, encoding="utf-8")
    with pytest.raises(StoryxaiError, match=name) as refused:
        read(path)
    assert "\n" not in str(refused.value) and refused.value.exit_status == 2
