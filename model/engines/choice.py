"""Which engine, and how exactly. In: a captioner and a choice; out: the same captioner, made ready.

It must not know what an engine does.
"""

from typing import Literal

from model.adaptive import AdaptiveDecoder
from model.captioner import Captioner
from model.engines.engine import DTYPES, Engine, Precision
from model.engines.pytorch import PyTorch
from model.prepared import PreparedDecoder

EngineName = Literal["auto", "pytorch", "openvino"]


class EngineUnavailable(Exception):
    """The engine cannot run here. The message is one line."""


def make_ready(captioner: Captioner, name: EngineName = "auto", precision: Precision = "fp32") -> Captioner:
    """Make `captioner` as fast as it can be, for good: its weights must not change any more. Returns it.

    "auto" is OpenVINO on a CPU, where it is installed, and PyTorch elsewhere. With "bf16" products are computed in
    bfloat16, which is faster on processors that have instructions for it, and some captions come out differently.
    Raises EngineUnavailable.
    """
    captioner.engine = _engine(captioner, name, precision)
    if isinstance(captioner.decoder, AdaptiveDecoder):
        captioner.writer = PreparedDecoder(captioner.decoder, DTYPES[precision])
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
    return PyTorch(captioner.look, device, precision)
