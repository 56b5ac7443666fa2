"""Options that several commands share, and the objects that they select."""

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from wordlight.terminal import fail

if TYPE_CHECKING:
    import torch

    from model.decoding.options import DecodingOptions
    from model.runtime.captioner import Captioner

# A parser, or a group of its options.
Options = argparse._ActionsContainer

# For fewer pictures, compiling the network with OpenVINO takes longer than it saves.
_WORTH_COMPILING = 32


class AddCommand(Protocol):
    """Add a command to the command line and return its parser. The docstring of `run` is the help text."""

    def __call__(self, name: str, run: Callable[[argparse.Namespace], int]) -> argparse.ArgumentParser: ...


def positive_number(text: str) -> int:
    """Convert an argument to a whole number of at least 1."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"invalid number value: {text!r}: must be at least 1")
    return number


def add_json_option(parser: Options) -> None:
    """Add --json."""
    parser.add_argument("--json", action="store_true", help="print one JSON object per line")


def add_model_options(parser: Options) -> None:
    """Add --model, --device, --engine and --precision."""
    parser.add_argument("--model", type=Path, metavar="DIR", help="folder of the captioner (default: the shipped one)")
    add_device_option(parser)
    parser.add_argument(
        "--engine",
        choices=["auto", "pytorch", "openvino"],
        default="auto",
        help="library that runs the encoder (default: OpenVINO on a CPU, PyTorch elsewhere and for few pictures)",
    )
    parser.add_argument(
        "--precision",
        choices=["fp32", "bf16"],
        default="fp32",
        help="precision of matrix products; bf16 is faster on processors that support it and changes some captions "
        "(default fp32)",
    )


def add_decoding_options(parser: Options) -> None:
    """Add --beam and --consensus."""
    parser.add_argument(
        "--beam", type=int, metavar="N", help="beam size; 1 is greedy search (default 3; with --consensus 20)"
    )
    parser.add_argument(
        "--consensus",
        action="store_true",
        help="choose the beam that agrees most with the others: better captions at half the speed",
    )


def add_device_option(parser: Options) -> None:
    """Add --device."""
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, ... (default: a GPU if there is one)")


def add_data_option(parser: Options, contents: str) -> None:
    """Add --data; `contents` says what the folder must hold."""
    parser.add_argument("--data", type=Path, required=True, metavar="DIR", help=contents)


def add_runs_options(parser: Options) -> None:
    """Add --runs and --device."""
    parser.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="folder of runs (default runs)")
    add_device_option(parser)


def load_captioner(arguments: argparse.Namespace, pictures: int | None = None) -> "Captioner":
    """Load the selected captioner, for this number of pictures if it is known. Ends the command on failure."""
    from model.runtime.captioner import SHIPPED, CaptionerNotLoadable
    from model.runtime.inference import EngineUnavailable, load_for_inference

    few = pictures is not None and pictures < _WORTH_COMPILING
    folder, device = arguments.model or SHIPPED, device_of(arguments)
    try:
        return load_for_inference(folder, device, arguments.engine, arguments.precision, translate=not few)
    except (CaptionerNotLoadable, EngineUnavailable) as error:
        fail(str(error))


def decoding_options(arguments: argparse.Namespace) -> "DecodingOptions":
    """Return the decoding options that --beam and --consensus select. Ends the command on failure."""
    from jobs.options import CONSENSUS_BEAMS
    from model.decoding.options import DecodingOptions, Strategy

    strategy = Strategy.CONSENSUS if arguments.consensus else Strategy.BEAM
    beams = arguments.beam
    if beams is None:
        beams = CONSENSUS_BEAMS if arguments.consensus else DecodingOptions().beam_size
    try:
        return DecodingOptions(strategy=strategy, beam_size=beams)
    except ValueError as error:
        fail(f"--beam {arguments.beam}: {error}")


def device_of(arguments: argparse.Namespace) -> "torch.device":
    """Return the selected device. Ends the command if it is not available."""
    from model.runtime.device import DeviceUnavailable, choose_device

    try:
        return choose_device(arguments.device)
    except DeviceUnavailable as error:
        fail(str(error))
