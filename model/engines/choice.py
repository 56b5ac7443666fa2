"""Which engine, and how exactly. In: a captioner and a choice; out: the same captioner, made ready.

It must not know what an engine does.
"""

from pathlib import Path
from typing import Literal

import torch

from model.adaptive import AdaptiveDecoder
from model.captioner import Captioner, EncoderMissing
from model.engines.engine import DTYPES, Engine, Precision
from model.engines.pytorch import PyTorch
from model.graph import GraphedDecoder
from model.prepared import PreparedDecoder

EngineName = Literal["auto", "pytorch", "openvino"]


class EngineUnavailable(Exception):
    """The engine cannot run here. The message is one line."""


def load_ready(
    folder: Path,
    device: str | torch.device = "cpu",
    name: EngineName = "auto",
    precision: Precision = "fp32",
    *,
    translate: bool = True,
) -> Captioner:
    """Load the captioner in `folder`, and make it ready: see make_ready.

    Where an engine has kept what it made of the encoder, that is not loaded a second time. What takes an engine seconds
    to make is not made without `translate`, unless the engine was asked for by name. Raises CaptionerNotLoadable, too.
    """
    if torch.device(device).type == "cpu" and name != "pytorch":
        try:
            return make_ready(Captioner.load(folder, device, encoder=False), name, precision)
        except EncoderMissing:
            name = name if translate or name != "auto" else "pytorch"
    return make_ready(Captioner.load(folder, device), name, precision)


def make_ready(captioner: Captioner, name: EngineName = "auto", precision: Precision = "fp32") -> Captioner:
    """Make `captioner` as fast as it can be, for good: its weights must not change any more. Returns it.

    "auto" is OpenVINO on a CPU, where it is installed, and PyTorch elsewhere. With "bf16" products are computed in
    bfloat16, which is faster on processors that have instructions for it, and some captions come out differently.
    Raises EngineUnavailable, and EncoderMissing where there is no encoder and none was kept.
    """
    captioner.engine = _engine(captioner, name, precision)
    if isinstance(captioner.decoder, AdaptiveDecoder):
        prepared = PreparedDecoder(captioner.decoder, DTYPES[precision])
        captioner.writer = GraphedDecoder(prepared) if captioner.device.type == "cuda" else prepared
    return captioner


def _engine(captioner: Captioner, name: EngineName, precision: Precision) -> Engine:
    device = captioner.device
    if name == "openvino" and device.type != "cpu":
        raise EngineUnavailable(f"OpenVINO is for the CPU here, not for {device}")
    if name != "pytorch" and device.type == "cpu":
        try:
            from model.engines.openvino import OpenVINO
        except ImportError as error:
            if name == "openvino":
                raise EngineUnavailable("OpenVINO is not installed (pip install openvino)") from error
        else:
            return OpenVINO(captioner, precision)
    if not captioner.sees:
        raise EncoderMissing
    return PyTorch(captioner.look, device, precision)
