"""`wordlight train`: trains a captioner."""

import argparse
import json
from pathlib import Path

from wordlight.commands.options import AddCommand, add_device_option, device_of
from wordlight.terminal import fail


def add_train(command: AddCommand) -> None:
    """Add the command."""
    train = command("train", _train)
    train.add_argument("recipe", help="name of a recipe in model/training/recipes, or path of a TOML file")
    train.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="folder of a data set; repeat it to learn from several data sets together",
    )
    train.add_argument("--run", type=Path, metavar="DIR", dest="folder", help="run folder (default runs/RECIPE)")
    train.add_argument("--json", action="store_true", help="print the result as JSON")
    add_device_option(train)


def _train(arguments: argparse.Namespace) -> int:
    """train a captioner; an interrupted run resumes where it stopped"""
    from model.training.checkpoint import RunMismatch
    from model.training.dataset import DatasetUnusable
    from model.training.initialise import OriginUnusable
    from model.training.processes import joined
    from model.training.recipe import Recipe, RecipeUnusable
    from model.training.trainer import Trainer

    folder = arguments.folder or Path("runs") / Path(arguments.recipe).stem
    with joined(device_of(arguments)) as processes:
        try:
            recipe = Recipe.load(arguments.recipe)
            trainer = Trainer(recipe, arguments.data, folder, processes.device, processes)
        except (DatasetUnusable, OriginUnusable, RecipeUnusable, RunMismatch) as error:
            fail(str(error))
        best = trainer.fit()
        if processes.is_first:
            plain = f"best CIDEr on val: {best:.4f} (greedy, own tokeniser); the captioner is in {folder / 'best'}"
            result = {"cider": round(float(best), 4), "split": "val", "captioner": str(folder / "best")}
            print(json.dumps(result) if arguments.json else plain)
    return 0
