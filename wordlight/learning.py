"""The commands that train captioners and measure them. Each imports what it needs when it is called."""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from wordlight.captioners import (
    add_decoding_options,
    add_device_option,
    add_model_options,
    decoding_options,
    device_of,
    load_captioner,
)
from wordlight.datasets import add_dataset
from wordlight.failure import fail


class AddCommand(Protocol):
    """Adds a command to the command line, and returns its parser."""

    def __call__(self, name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser: ...


def add_learning(command: AddCommand) -> None:
    """Add the commands."""
    add_dataset(command)
    train = command("train", _train)
    train.add_argument("recipe", help="name of a recipe in model/training/recipes, or path of a TOML file")
    train.add_argument(
        "--data",
        type=Path,
        action="append",
        required=True,
        metavar="DIR",
        help="folder of a data set; given several times, it learns from all of them together",
    )
    train.add_argument("--run", type=Path, metavar="DIR", dest="folder", help="run folder (default runs/RECIPE)")
    train.add_argument("--json", action="store_true", help="the result as JSON")
    add_device_option(train)

    evaluate = command("evaluate", _evaluate)
    _add_data(evaluate, "folder that has flickr8k/ and coco-dev/ in it")
    evaluate.add_argument("--split", default="test", help="split to caption: train, val, test (default) or coco-dev")
    evaluate.add_argument(
        "--attention", action="store_true", help="whether attention falls on what a word names (coco-dev's boxes)"
    )
    evaluate.add_argument(
        "--honesty",
        action="store_true",
        help="what it names that is not there (coco-dev), calibrated confidence (val), agreement with people",
    )
    evaluate.add_argument("--figures", type=Path, metavar="DIR", help="with --honesty: draw reliability.svg into DIR")
    add_decoding_options(evaluate)
    add_model_options(evaluate)

    family = command("family", _family)
    _add_data(family, "folder of the data set")
    family.add_argument("--split", default="test", help="split to score on (default test)")
    add_decoding_options(family)
    _add_runs(family)

    levers = command("levers", _levers)
    _add_data(levers, "folder that has flickr8k/, coco-dev/ and text/ in it")
    add_decoding_options(levers)
    levers.add_argument("--trained", action="store_true", help="train nothing: a table of what has been trained")
    _add_runs(levers)

    gradients = command("gradients", _gradients)
    _add_data(gradients, "folder of the data set")
    _add_runs(gradients)


def _add_data(parser: argparse.ArgumentParser, what: str) -> None:
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help=what)


def _add_runs(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of runs (default runs)")
    add_device_option(parser)


def _train(arguments: argparse.Namespace) -> int:
    """train a captioner; a run that was interrupted goes on where it was"""
    from model.training.dataset import DatasetUnusable
    from model.training.origin import OriginUnusable
    from model.training.processes import joined
    from model.training.recipe import Recipe, RecipeUnusable
    from model.training.state import RunMismatch
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
            known = {"cider": round(float(best), 4), "split": "val", "captioner": str(folder / "best")}
            print(json.dumps(known) if arguments.json else plain)
    return 0


def _evaluate(arguments: argparse.Namespace) -> int:
    """measure a captioner: captions, attention, honesty; the last line is JSON"""
    from model.evaluation.evaluate import Evaluation
    from model.evaluation.scores import JavaMissing, require_java
    from model.evaluation.table import format_table, rounded
    from model.training.dataset import DatasetUnusable

    try:
        require_java()
        evaluation = Evaluation(load_captioner(arguments), arguments.data, decoding_options(arguments))
        evaluation.require(arguments.split, attention=arguments.attention, honesty=arguments.honesty)
        scores = evaluation.quality(arguments.split)
        if arguments.attention:
            scores |= evaluation.attention()
        if arguments.honesty:
            scores |= evaluation.honesty()
    except (DatasetUnusable, JavaMissing) as error:
        fail(str(error))
    scores = rounded(scores)
    if arguments.figures and arguments.honesty:
        from model.evaluation.figures import draw_reliability

        draw_reliability(scores["reliability"], arguments.figures / "reliability.svg")
    print(format_table(scores))
    print(json.dumps(scores))
    return 0


def _family(arguments: argparse.Namespace) -> int:
    """train the nine captioners of the family that are not trained yet, and put their scores into docs/family.md"""
    from model.evaluation.family import family_recipes, format_family, score_family, train_family, write_table
    from model.evaluation.scores import JavaMissing, require_java
    from model.training.dataset import DatasetUnusable
    from model.training.state import RunMismatch

    device, recipes = device_of(arguments), family_recipes()
    try:
        require_java()
        train_family(recipes, arguments.data, arguments.runs, device)
        members = score_family(
            recipes, arguments.data, arguments.runs, [arguments.split], decoding_options(arguments), device
        )
    except (DatasetUnusable, JavaMissing, RunMismatch) as error:
        fail(str(error))
    table = format_family(members, [arguments.split])
    write_table(table)
    print(table)
    print(json.dumps([member.as_dict() for member in members]))
    return 0


def _levers(arguments: argparse.Namespace) -> int:
    """train one captioner with one thing changed at a time, and put what each gave into docs/levers.md"""
    from model.captioner import CaptionerNotLoadable
    from model.evaluation.family import train_family, write_table
    from model.evaluation.levers import DOCUMENT, format_levers, lever_recipes, score_levers, trained
    from model.evaluation.scores import JavaMissing, require_java
    from model.training.dataset import DatasetUnusable
    from model.training.origin import OriginUnusable
    from model.training.state import RunMismatch

    device, recipes = device_of(arguments), lever_recipes()
    try:
        require_java()
        if not arguments.trained:
            train_family(recipes, arguments.data, arguments.runs, device)
        names = trained(recipes, arguments.runs)
        levers = score_levers(names, arguments.data, arguments.runs, decoding_options(arguments), device)
    except (CaptionerNotLoadable, DatasetUnusable, JavaMissing, OriginUnusable, RunMismatch) as error:
        fail(str(error))
    table = format_levers(levers)
    write_table(table, DOCUMENT)
    print(table)
    print(json.dumps([lever.as_dict() for lever in levers]))
    return 0


def _gradients(arguments: argparse.Namespace) -> int:
    """measure how far back gradients reach in the family's captioners, and draw docs/gradients.svg"""
    from model.captioner import CaptionerNotLoadable
    from model.evaluation.gradients import draw, measure
    from model.training.dataset import DatasetUnusable

    try:
        curves = measure(arguments.data, arguments.runs, device_of(arguments))
    except (CaptionerNotLoadable, DatasetUnusable) as error:
        fail(f"{error} (the family is trained by `wordlight family`)")
    draw(curves)
    print(json.dumps([curve.as_dict() for curve in curves]))
    return 0
