"""The captioner in a chosen engine, and its bare encoder, which bounds the speed of the whole."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import torch

from model.runtime.captioner import SHIPPED, Captioner
from model.runtime.engines.pytorch import Precision
from model.runtime.inference import EngineName, EngineUnavailable, prepare_for_inference
from model.runtime.pixels import normalise

# Eager PyTorch in float32, as in training.
REFERENCE = "eager"
_READY: dict[str, tuple[EngineName, Precision]] = {
    **{name: (name, "fp32") for name in get_args(EngineName)},
    **{f"{name}-bf16": (name, "bf16") for name in get_args(EngineName)},
}
ENGINES = (REFERENCE, *_READY)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add --model, --data, --device and --threads."""
    parser.add_argument("--model", type=Path, default=SHIPPED, metavar="DIR", help="default: the shipped captioner")
    parser.add_argument("--data", type=Path, metavar="DIR", help="a data set, or a folder of JPEG files")
    parser.add_argument("--device", default="cpu", metavar="NAME", help="default: cpu")
    parser.add_argument("--threads", type=int, default=0, metavar="N", help="default: PyTorch chooses")


def load(engine: str, folder: Path, device: str = "cpu") -> Captioner:
    """Load the captioner in `folder` for one of ENGINES. Exits with one line if that engine cannot run here."""
    captioner = Captioner.load(folder, device)
    if engine == REFERENCE:
        return captioner
    try:
        return prepare_for_inference(captioner, *_READY[engine])
    except EngineUnavailable as error:
        sys.exit(str(error))


def encoder_alone(engine: str, captioner: Captioner, batch: int) -> Callable[[torch.Tensor], object]:
    """Return the bare network, from pixels (B, 3, S, S) to the annotation grid, without the rest of `encode`.

    It has the engine and the precision of `captioner`. OpenVINO compiles it for this batch size.
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
