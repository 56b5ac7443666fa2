"""Choose an engine, and load captioners that are ready to write fast."""

from pathlib import Path
from typing import Literal

import torch

from model.network.adaptive import AdaptiveDecoder
from model.runtime.captioner import Captioner, EncoderMissing
from model.runtime.cuda_graph import CudaGraphDecoder
from model.runtime.engines.engine import DTYPES, Engine, Precision, PyTorch
from model.runtime.fused_decoder import FusedDecoder

EngineName = Literal["auto", "pytorch", "openvino"]


class EngineUnavailable(Exception):
    """The engine cannot run here. The message is one line."""


def load_for_inference(
    folder: Path,
    device: str | torch.device = "cpu",
    name: EngineName = "auto",
    precision: Precision = "fp32",
    *,
    translate: bool = True,
    cuda_graphs: bool = False,
) -> Captioner:
    """Load the captioner in `folder` and make it ready: see prepare_for_inference.

    The encoder is not loaded if the engine has kept its own translation of it. Without `translate`, an engine that
    would have to translate it first, which takes seconds, is used only if it is asked for by name. Raises
    CaptionerNotLoadable, too.
    """
    if torch.device(device).type == "cpu" and name != "pytorch":
        try:
            return prepare_for_inference(Captioner.load(folder, device, encoder=False), name, precision)
        except EncoderMissing:
            name = name if translate or name != "auto" else "pytorch"
    return prepare_for_inference(Captioner.load(folder, device), name, precision, cuda_graphs=cuda_graphs)


def prepare_for_inference(
    captioner: Captioner, name: EngineName = "auto", precision: Precision = "fp32", *, cuda_graphs: bool = False
) -> Captioner:
    """Make `captioner` fast, and return it. Its weights must not change afterwards.

    "auto" is OpenVINO on a CPU, if it is installed, and PyTorch otherwise. "bf16" computes products in bfloat16, which
    is faster on processors with instructions for it, and changes some captions. `cuda_graphs` records the decoder's
    steps on a GPU. Raises EngineUnavailable, and EncoderMissing if there is neither an encoder nor a translation of it.
    """
    captioner.engine = _engine(captioner, name, precision)
    if isinstance(captioner.decoder, AdaptiveDecoder):
        fused = FusedDecoder(captioner.decoder, DTYPES[precision])
        recorded_decoder = cuda_graphs and captioner.device.type == "cuda"
        captioner.writer = CudaGraphDecoder(fused) if recorded_decoder else fused
    return captioner


def _engine(captioner: Captioner, name: EngineName, precision: Precision) -> Engine:
    device = captioner.device
    if name == "openvino" and device.type != "cpu":
        raise EngineUnavailable(f"OpenVINO is for the CPU here, not for {device}")
    if name != "pytorch" and device.type == "cpu":
        try:
            from model.runtime.engines.openvino import OpenVINO
        except ImportError as error:
            if name == "openvino":
                raise EngineUnavailable("OpenVINO is not installed (pip install openvino)") from error
        else:
            return OpenVINO(captioner, precision)
    if not captioner.has_encoder:
        raise EncoderMissing
    return PyTorch(captioner.encode_in_pytorch, device, precision)
