"""A worker that kills itself when it captions a white picture.

Run as a program, with the environment of a worker.
"""

import os
import signal
import sys

import torch

from model.runtime.captioner import Captioner
from worker.main import run
from worker.settings import WorkerSettings

_encode = Captioner.encode


def _encode_or_die(self: Captioner, pixels: torch.Tensor) -> object:
    if (pixels.flatten(1).min(dim=1).values > 250).any():
        os.kill(os.getpid(), signal.SIGKILL)
    return _encode(self, pixels)


if __name__ == "__main__":
    Captioner.encode = _encode_or_die  # type: ignore[method-assign, assignment]
    sys.exit(run(WorkerSettings()))
