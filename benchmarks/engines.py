"""The captioner, with its encoder in the engine asked for; and that encoder alone, which is the limit of the whole.

In: the name of an engine; out: a captioner, or a function of pixels. It must not know what is measured.
"""

import inspect
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from model.captioner import Captioner
from model.pixels import normalise

REFERENCE = "torch"


def load(engine: str, folder: Path, device: str = "cpu") -> Captioner:
    """The captioner in `folder`. The only place that knows how an engine is asked for.

    Captioners that cannot be asked for one have the reference alone.
    """
    if "engine" in inspect.signature(Captioner.load).parameters:
        return Captioner.load(folder, device, engine=engine)
    if engine == REFERENCE:
        return Captioner.load(folder, device)
    sys.exit(f"this captioner has no engine but {REFERENCE}")


def encoder_alone(engine: str, captioner: Captioner, batch: int) -> Callable[[torch.Tensor], object]:
    """The bare network, from prepared pixels (B, 3, S, S) to the annotation grid, without all else that encoding is.

    In OpenVINO it is compiled for this batch size, in the precision that OpenVINO takes to be the fastest.
    """
    encoder, size = captioner.encoder, captioner.config.image_size
    if engine == REFERENCE:

        @torch.inference_mode()
        def eager(pixels: torch.Tensor) -> torch.Tensor:
            grid: torch.Tensor = encoder(normalise(pixels.to(captioner.device)))
            return grid

        return eager
    import openvino

    network = openvino.convert_model(torch.export.export(encoder, (torch.zeros(batch, 3, size, size),)))
    compiled = openvino.Core().compile_model(network, "CPU", {"INFERENCE_NUM_THREADS": torch.get_num_threads()})
    return lambda pixels: compiled(normalise(pixels).numpy())
