"""The folder of a recipe's run."""

from __future__ import annotations

from pathlib import Path

from storyxai.errors import RecipeError
from storyxai.files import require_writable, write_whole
from storyxai.training.config import Recipe
from storyxai.training.recipe_file import read_recipe


def open_run(recipe_path: Path, out: Path) -> Recipe:
    """The recipe, a copy of it laid into the run's folder. Raises: RecipeError, also for a folder of another run."""
    recipe = read_recipe(recipe_path)
    require_writable(out)
    saved = out / "recipe.toml"
    if saved.exists() and saved.read_bytes() != recipe_path.read_bytes():
        raise RecipeError(
            str(out), f"holds a run of another recipe than {recipe_path.name}", mend="name another --out, or remove it"
        )
    write_whole(recipe_path.read_bytes(), saved)
    return recipe
