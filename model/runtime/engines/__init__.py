"""Engines compute the encoder: PyTorch, the reference, or OpenVINO, which is faster on a CPU."""

import sys

# On import, OpenVINO reports its use to its makers through this package, if present. Our users have not agreed to that.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
