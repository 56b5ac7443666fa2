"""Which captioner a command uses, where, and how it decodes: the options for that, and what they stand for."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from wordlight.failure import fail

if TYPE_CHECKING:
    import torch

    from model.captioner import Captioner
    from model.options import DecodingOptions

# A parser, or a group of one.
Options = argparse._ActionsContainer

# Fewer pictures are captioned sooner than OpenVINO is ready for them.
_WORTH_TRANSLATING = 32


def add_model_options(parser: Options) -> None:
    """--model, --device, --engine and --precision."""
    parser.add_argument("--model", type=Path, metavar="DIR", help="folder of a captioner (default: the shipped one)")
    add_device_option(parser)
    parser.add_argument(
        "--engine",
        choices=["auto", "pytorch", "openvino"],
        default="auto",
        help="what computes the encoder (default: OpenVINO on a CPU, unless the pictures are few)",
    )
    parser.add_argument(
        "--precision",
        choices=["fp32", "bf16"],
        default="fp32",
        help="of products; bf16 is faster where the processor knows it, and some captions differ (default fp32)",
    )


def add_decoding_options(parser: Options) -> None:
    """--beam, --consensus and --style, for decoding_options."""
    parser.add_argument(
        "--beam", type=int, metavar="N", help="beam size; 1 is greedy search (default 3; with --consensus 20)"
    )
    parser.add_argument(
        "--consensus",
        action="store_true",
        help="of the beams, the sentence that agrees most with all of them: better captions, at half the speed",
    )
    parser.add_argument(
        "--style", metavar="DATASET", help="as those who captioned a data set would write, where the captioner knows it"
    )


def add_device_option(parser: Options) -> None:
    """--device."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU where there is one)")


def load_captioner(arguments: argparse.Namespace, pictures: int | None = None) -> "Captioner":
    """The captioner that was asked for, to caption so many pictures; ends the command where there is none."""
    from model.captioner import SHIPPED, CaptionerNotLoadable
    from model.engines.choice import EngineUnavailable, load_ready

    few = pictures is not None and pictures < _WORTH_TRANSLATING
    folder, device = arguments.model or SHIPPED, device_of(arguments)
    try:
        return load_ready(folder, device, arguments.engine, arguments.precision, translate=not few)
    except (CaptionerNotLoadable, EngineUnavailable) as error:
        fail(str(error))


def decoding_options(arguments: argparse.Namespace) -> "DecodingOptions":
    """What --beam, --consensus and --style say."""
    from jobs.options import CONSENSUS_BEAMS
    from model.options import DecodingOptions, Strategy

    strategy = Strategy.CONSENSUS if arguments.consensus else Strategy.BEAM
    beams = arguments.beam
    if beams is None:
        beams = CONSENSUS_BEAMS if arguments.consensus else DecodingOptions().beam_size
    try:
        return DecodingOptions(strategy=strategy, beam_size=beams, style=arguments.style)
    except ValueError as error:
        fail(f"--beam {arguments.beam}: {error}")


def device_of(arguments: argparse.Namespace) -> "torch.device":
    """The device that was asked for; ends the command where there is none."""
    from model.device import DeviceUnavailable, choose_device

    try:
        return choose_device(arguments.device)
    except DeviceUnavailable as error:
        fail(str(error))
