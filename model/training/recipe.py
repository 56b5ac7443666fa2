"""A recipe: what decides how a training run goes, as a TOML file. On one machine, equal recipes give equal weights."""

import tomllib
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from model.captioner import CaptionerConfig

RECIPES = Path(__file__).parent / "recipes"


class RecipeUnusable(Exception):
    """There is no such recipe, or it says something that no recipe can. The message is one line."""


class Recipe(BaseModel):
    """See recipes/*.toml for what each setting does in practice; fields not given keep these values."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    captioner: CaptionerConfig = CaptionerConfig()
    seed: int = 1
    min_word_count: int = Field(5, ge=1)
    max_words: int = Field(22, ge=1)  # longer training captions are cut, whatever the tokens are
    # The encoder. 0: frozen, as ImageNet left it; n: its last n stages are trained too.
    tail_stages: int = Field(0, ge=0)
    # How many versions of each training image the run sees: as it is, its mirror image, then random crops.
    views: int = Field(2, ge=1)
    # Optimisation.
    epochs: int = Field(20, ge=1)
    images_per_step: int = Field(32, ge=1)  # each with all its captions
    learning_rate: float = Field(5e-4, gt=0)
    tail_learning_rate: float = Field(5e-5, gt=0)
    warmup_steps: int = Field(100, ge=0)
    weight_decay: float = Field(0.01, ge=0)
    gradient_norm: float = Field(1.0, gt=0)
    label_smoothing: float = Field(0.1, ge=0, lt=1)
    doubly_stochastic: float = Field(0.1, ge=0)  # weight of Show, Attend and Tell's eq. 14 term
    ema: float = Field(0.999, ge=0, lt=1)  # decay of the averaged weights, which are the ones validated and shipped
    bfloat16: bool = True
    # Stopping: epochs without a better CIDEr on `val` before the run ends.
    patience: int = Field(4, ge=1)
    checkpoint_steps: int = Field(100, ge=1)

    @classmethod
    def load(cls, name: str) -> "Recipe":
        """Read the recipe `name`: a path to a TOML file, or the name of one of ours, such as "family/lstm".

        A file may say that it `extends` another recipe, by its name: it then holds only what is different. Raises
        RecipeUnusable.
        """
        path = Path(name) if name.endswith(".toml") else RECIPES / f"{name}.toml"
        try:
            return cls.model_validate(_settings(path))
        except ValidationError as error:
            first = error.errors()[0]
            raise RecipeUnusable(f"{path}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from error


def _settings(path: Path) -> dict[str, Any]:
    """What the file at `path`, and the one of our recipes that it extends, say."""
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        ours = ", ".join(sorted(str(recipe.relative_to(RECIPES).with_suffix("")) for recipe in RECIPES.rglob("*.toml")))
        raise RecipeUnusable(f"no recipe {path}: {error.strerror} (ours: {ours})") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise RecipeUnusable(f"{path}: {error}") from error
    if "extends" not in settings:
        return settings
    return _merged(_settings(RECIPES / f"{settings.pop('extends')}.toml"), settings)


def _merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """`base` with `changes`, table by table."""
    tables = {
        name: _merged(base[name], change)
        for name, change in changes.items()
        if isinstance(change, dict) and isinstance(base.get(name), dict)
    }
    return base | changes | tables
