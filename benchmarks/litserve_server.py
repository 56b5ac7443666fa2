"""Serve our captioner with LitServe, with batching. rival_models.py starts it.

A request is JSON with a JPEG file in base64, as in LitServe's examples; the response is the caption with its attention.
"""

import argparse
import base64
import io
from pathlib import Path
from typing import Any

import litserve
import torch
from engines import load
from PIL import Image

from model.decoding.caption import Caption
from model.decoding.options import DecodingOptions

# Long enough to batch requests that arrive together, and short compared with one batch.
_GATHER_SECONDS = 0.01


class CaptioningAPI(litserve.LitAPI):  # type: ignore[misc]
    """The captioner as LitServe calls it, in a process of LitServe's."""

    def __init__(self, model: Path, engine: str, threads: int, most: int) -> None:
        super().__init__(max_batch_size=most, batch_timeout=_GATHER_SECONDS)
        self._model, self._engine, self._threads = model, engine, threads

    def setup(self, device: str) -> None:
        """Load the captioner."""
        torch.set_num_threads(self._threads)
        self._captioner = load(self._engine, self._model, device)

    def decode_request(self, request: dict[str, str], **_: Any) -> torch.Tensor:
        """Turn a request into pixels (3, S, S)."""
        with Image.open(io.BytesIO(base64.b64decode(request["image"]))) as image:
            return self._captioner.prepare(image.convert("RGB"))

    def batch(self, inputs: list[torch.Tensor]) -> torch.Tensor:
        """Stack to pixels (B, 3, S, S)."""
        return torch.stack(inputs)

    def predict(self, x: torch.Tensor, **_: Any) -> list[list[Caption]]:
        """Return the captions of each picture."""
        return self._captioner.caption_pixels(x, DecodingOptions())

    def unbatch(self, output: list[list[Caption]]) -> list[list[Caption]]:
        """Return the output as it is: one list for each picture."""
        return output

    def encode_response(self, output: list[Caption], **_: Any) -> dict[str, Any]:
        """Return the best caption of a picture."""
        return output[0].as_dict()


def main() -> None:
    """Serve until terminated."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, metavar="DIR")
    parser.add_argument("--engine", required=True, metavar="NAME")
    parser.add_argument("--threads", type=int, required=True, metavar="N")
    parser.add_argument("--most", type=int, required=True, metavar="N", help="pictures in a batch")
    parser.add_argument("--port", type=int, required=True, metavar="N")
    arguments = parser.parse_args()
    api = CaptioningAPI(arguments.model, arguments.engine, arguments.threads, arguments.most)
    server = litserve.LitServer(api, accelerator="cpu", timeout=False)
    server.run(host="127.0.0.1", port=arguments.port, log_level="warning", generate_client_file=False)


if __name__ == "__main__":
    main()
