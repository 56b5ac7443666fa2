"""Engines compute the encoder: PyTorch, the reference, and OpenVINO, which is faster on a CPU."""

import sys

# On import, OpenVINO sends usage data through this package if it is installed. Our users have not agreed to that.
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
