"""`wordlight evaluate`: measures a captioner."""

import argparse
import json
from pathlib import Path

from wordlight.commands.options import (
    AddCommand,
    add_data_option,
    add_decoding_options,
    add_model_options,
    decoding_options,
    load_captioner,
)
from wordlight.terminal import fail


def add_evaluate(command: AddCommand) -> None:
    """Add the command."""
    evaluate = command("evaluate", _evaluate)
    add_data_option(evaluate, "folder that holds flickr8k/ and coco-dev/")
    evaluate.add_argument("--split", default="test", help="split to caption: train, val, test (default) or coco-dev")
    evaluate.add_argument(
        "--attention", action="store_true", help="measure whether heatmaps fall on named objects (boxes of coco-dev)"
    )
    evaluate.add_argument(
        "--honesty",
        action="store_true",
        help="measure named objects that are absent (coco-dev), calibration (val) and agreement with human judgements",
    )
    evaluate.add_argument("--figures", type=Path, metavar="DIR", help="with --honesty: draw reliability.svg into DIR")
    add_decoding_options(evaluate)
    add_model_options(evaluate)


def _evaluate(arguments: argparse.Namespace) -> int:
    """measure captions, attention and honesty of a captioner; the last line is JSON"""
    from model.evaluation.evaluate import Evaluation
    from model.evaluation.report import format_table, rounded
    from model.evaluation.scores import JavaMissing, require_java
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
        from model.evaluation.report import draw_reliability

        draw_reliability(scores["reliability"], arguments.figures / "reliability.svg")
    print(format_table(scores))
    print(json.dumps(scores))
    return 0
