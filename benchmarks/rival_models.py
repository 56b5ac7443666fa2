"""The candidates of rivals.py, with one interface: JPEG files in, captions out.

Those from `transformers` have their default configurations and random weights, since rivals.py downloads nothing. Their
speed depends on the length of their captions, not on the weights; but random weights do not end a sentence at a
reasonable length. So they write a fixed number of tokens, about as many as a real caption has. They do not convert
tokens to text, which takes almost no time.
"""

import asyncio
import base64
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from engines import load
from load import Client
from PIL import Image
from whole_service import ROOT, children, free_port, responds

from model.decoding.options import DecodingOptions

_START_SECONDS = 120


@dataclass(frozen=True, slots=True)
class Setting:
    """Settings for all candidates."""

    model: Path
    engine: str
    threads: int
    tokens: int  # written by models with random weights
    most: int  # LitServe's maximum batch size
    toy: bool  # tiny models, to try the program


class Rival(Protocol):
    """A candidate."""

    def caption(self, files: Sequence[bytes], at_once: int) -> None:
        """Caption JPEG files, `at_once` of them at a time."""

    def processes(self) -> list[int]:
        """Ids of the processes whose memory counts."""

    def close(self) -> None:
        """Stop all that it started."""


class _InProcess:
    """A candidate that runs in this process."""

    def caption(self, files: Sequence[bytes], at_once: int) -> None:
        """See Rival."""
        for start in range(0, len(files), at_once):
            images = [Image.open(io.BytesIO(file)).convert("RGB") for file in files[start : start + at_once]]
            self._caption(images)

    def _caption(self, images: list[Image.Image]) -> None:
        raise NotImplementedError

    def processes(self) -> list[int]:
        """See Rival."""
        return [os.getpid()]

    def close(self) -> None:
        """See Rival."""


class Wordlight(_InProcess):
    """Our captioner: three beams, with attention."""

    def __init__(self, setting: Setting) -> None:
        self._captioner = load(setting.engine, setting.model)

    def _caption(self, images: list[Image.Image]) -> None:
        self._captioner.caption(images, DecodingOptions())


class BlipBase(_InProcess):
    """BLIP-base (Li et al., 2022), whose default generation is greedy."""

    def __init__(self, setting: Setting) -> None:
        from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor

        # The default, 1e-10, gives denormal numbers, which are slow on a CPU. Trained weights are not that small.
        vision: dict[str, Any] = {"initializer_range": 0.02}
        text: dict[str, Any] = {}
        if setting.toy:
            small = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1}
            vision |= small | {"num_attention_heads": 2}
            text |= small | {"encoder_hidden_size": 32}
        config = BlipConfig(vision_config=vision, text_config=text, projection_dim=32 if setting.toy else 512)
        self._processor: Any = BlipImageProcessor()
        network: Any = BlipForConditionalGeneration
        self._network = network(config).eval()
        self._length = {"min_new_tokens": setting.tokens, "max_new_tokens": setting.tokens}

    @torch.inference_mode()
    def _caption(self, images: list[Image.Image]) -> None:
        pixels = self._processor(images=images, return_tensors="pt").pixel_values
        self._network.generate(pixel_values=pixels, **self._length)


class VitGpt2(_InProcess):
    """A ViT and a GPT-2 with cross-attention, as nlpconnect/vit-gpt2-image-captioning is used: four beams."""

    def __init__(self, setting: Setting) -> None:
        from transformers import (
            GPT2Config,
            VisionEncoderDecoderConfig,
            VisionEncoderDecoderModel,
            ViTConfig,
            ViTImageProcessor,
        )

        vision, text = ViTConfig(), GPT2Config(add_cross_attention=True)
        if setting.toy:
            vision = ViTConfig(hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2)
            text = GPT2Config(add_cross_attention=True, n_embd=32, n_layer=1, n_head=2)
        config = VisionEncoderDecoderConfig.from_encoder_decoder_configs(vision, text)
        config.decoder_start_token_id, config.pad_token_id = text.bos_token_id, text.eos_token_id
        self._processor: Any = ViTImageProcessor()
        network: Any = VisionEncoderDecoderModel
        self._network = network(config=config).eval()
        generation = self._network.generation_config
        generation.decoder_start_token_id, generation.pad_token_id = text.bos_token_id, text.eos_token_id
        generation.eos_token_id = text.eos_token_id
        self._length = {"min_new_tokens": setting.tokens, "max_new_tokens": setting.tokens, "num_beams": 4}

    @torch.inference_mode()
    def _caption(self, images: list[Image.Image]) -> None:
        pixels = self._processor(images=images, return_tensors="pt").pixel_values
        self._network.generate(pixel_values=pixels, **self._length)


class LitServe:
    """Our captioner behind LitServe, with clients over HTTP."""

    def __init__(self, setting: Setting) -> None:
        """Start the server and wait until it responds. Raises RuntimeError, with its output, if it does not."""
        self._port = free_port()
        self._folder = tempfile.TemporaryDirectory(prefix="wordlight-litserve-")
        arguments = {"model": setting.model.resolve(), "engine": setting.engine, "threads": setting.threads}
        arguments |= {"most": setting.most, "port": self._port}
        options = [part for name, value in arguments.items() for part in (f"--{name}", str(value))]
        log = Path(self._folder.name) / "log"
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).parent / "litserve_server.py"), *options],
                cwd=self._folder.name,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            give_up = time.monotonic() + _START_SECONDS
            while not responds(self._port, "/health"):
                if self._process.poll() is not None or time.monotonic() > give_up:
                    raise RuntimeError(f"LitServe did not start:\n{log.read_text(errors='replace')[-2000:]}")
                time.sleep(0.2)
        except BaseException:
            self.close()
            raise

    def caption(self, files: Sequence[bytes], at_once: int) -> None:
        """Send each file as a request, `at_once` at a time. Raises RuntimeError for a status other than 200."""
        asyncio.run(self._caption(files, at_once))

    async def _caption(self, files: Sequence[bytes], at_once: int) -> None:
        waiting = iter(files)

        async def one_after_the_other(client: Client) -> None:
            for file in waiting:
                body = json.dumps({"image": base64.b64encode(file).decode()}).encode()
                status, answer = await client.ask("POST", "/predict", body, "application/json")
                if status != 200 or b'"words"' not in answer:
                    raise RuntimeError(f"LitServe responds with {status}: {answer[:200]!r}")

        async with Client(self._port) as client:
            await asyncio.gather(*(one_after_the_other(client) for _ in range(at_once)))

    def processes(self) -> list[int]:
        """See Rival: the server and all its descendants."""
        found, unseen = [], [self._process.pid]
        while unseen:
            pid = unseen.pop()
            found.append(pid)
            unseen += children(pid)
        return found

    def close(self) -> None:
        """See Rival. The server's children stay in our process group, so they end with us, too."""
        ours = self.processes() if self._process.poll() is None else []
        self._process.terminate()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in ours:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._folder.cleanup()


RIVALS: dict[str, Callable[[Setting], Rival]] = {
    "wordlight": Wordlight,
    "litserve": LitServe,
    "blip-base": BlipBase,
    "vit-gpt2": VitGpt2,
}
