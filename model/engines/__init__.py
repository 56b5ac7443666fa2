"""What computes the encoder: PyTorch, the reference, or something faster."""

import sys

# OpenVINO's package tells its makers of its use, from its import on, where this one can be imported. Nobody has asked
# those who use Wordlight.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
