"""Load captioners for inference with the fastest engine and decoder."""

from pathlib import Path
from typing import Literal

import torch

from model.network.adaptive import AdaptiveDecoder
from model.runtime.captioner import Captioner, EncoderMissing
from model.runtime.cuda_graph import CudaGraphDecoder
from model.runtime.engines.pytorch import DTYPES, Engine, Precision, PyTorch
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
    """Load the captioner in `folder` and prepare it: see prepare_for_inference.

    If the engine has cached its translation of the encoder, the encoder is not loaded. A translation takes seconds:
    with `translate=False`, an engine that needs one is used only if `name` asks for it. Raises CaptionerNotLoadable and
    EngineUnavailable.
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
    """Make `captioner` fast: give it an engine and a fused decoder. Returns the captioner.

    Its weights must not change afterwards. "auto" is OpenVINO on a CPU, if it is installed, and PyTorch otherwise.
    "bf16" computes products in bfloat16: it is faster on processors with bfloat16 instructions and changes some
    captions. `cuda_graphs` records the decoder's steps on a GPU. Raises EngineUnavailable, and EncoderMissing if there
    is neither an encoder nor a cached translation of it.
    """
    captioner.engine = _engine(captioner, name, precision)
    if isinstance(captioner.decoder, AdaptiveDecoder):
        fused = FusedDecoder(captioner.decoder, DTYPES[precision])
        use_graphs = cuda_graphs and captioner.device.type == "cuda"
        captioner.step_decoder = CudaGraphDecoder(fused) if use_graphs else fused
    return captioner


def _engine(captioner: Captioner, name: EngineName, precision: Precision) -> Engine:
    """Create the engine `name`."""
    device = captioner.device
    if name == "openvino" and device.type != "cpu":
        raise EngineUnavailable(f"OpenVINO runs on the CPU only, not on {device}")
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
