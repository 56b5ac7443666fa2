"""The captioner, with its encoder in the engine asked for; and that encoder alone, which is the limit of the whole.

In: the name of an engine; out: a captioner, or a function of pixels. It must not know what is measured.
"""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch

from model.captioner import SHIPPED, Captioner
from model.engines.choice import EngineName, EngineUnavailable, make_ready
from model.engines.engine import Precision
from model.pixels import normalise

# Eager PyTorch in float32, all of it, as it is trained.
REFERENCE = "eager"
_READY: dict[str, tuple[EngineName, Precision]] = {
    **{name: (name, "fp32") for name in get_args(EngineName)},
    **{f"{name}-bf16": (name, "bf16") for name in get_args(EngineName)},
}
ENGINES = (REFERENCE, *_READY)


def add_options(parser: argparse.ArgumentParser) -> None:
    """--model, --data, --device and --threads."""
    parser.add_argument("--model", type=Path, default=SHIPPED, metavar="DIR", help="default: the shipped captioner")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a data set, or a folder of JPEG files")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="default: cpu")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="default: PyTorch chooses")


def load(engine: str, folder: Path, device: str = "cpu") -> Captioner:
    """The captioner in `folder`, ready for one of ENGINES. Ends the program, in one line, if that cannot run here."""
    captioner = Captioner.load(folder, device)
    if engine == REFERENCE:
        return captioner
    try:
        return make_ready(captioner, *_READY[engine])
    except EngineUnavailable as error:
        sys.exit(str(error))


def encoder_alone(engine: str, captioner: Captioner, batch: int) -> Callable[[torch.Tensor], object]:
    """The bare network, from prepared pixels (B, 3, S, S) to the annotation grid, without all else that encoding is.

    In the engine and the precision of `captioner`. In OpenVINO it is compiled for this batch size.
    """
    encoder, size = captioner.encoder, captioner.config.image_size
    half = engine.endswith("-bf16")
    if captioner.engine is None or captioner.engine.name != "openvino":

        @torch.inference_mode()
        def in_pytorch(pixels: torch.Tensor) -> torch.Tensor:
            with torch.autocast(captioner.device.type, torch.bfloat16, enabled=half):
                grid: torch.Tensor = encoder(normalise(pixels.to(captioner.device)))
            return grid

        return in_pytorch
    import openvino

    network = openvino.convert_model(torch.export.export(encoder, (torch.zeros(batch, 3, size, size),)))
    settings = {
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "INFERENCE_PRECISION_HINT": "bf16" if half else "f32",
        "PERFORMANCE_HINT": "LATENCY",
    }
    request = openvino.Core().compile_model(network, "CPU", settings).create_infer_request()
    return lambda pixels: request.infer([normalise(pixels).numpy()], share_inputs=True)
