"""Who captions in `benchmarks/rivals.py`, all alike: JPEG files in, captions out. It must not know of time.

The rivals from `transformers` are built from their configurations, with random weights, since nothing can be downloaded
where we measure; their speed does not depend on the values. But it does on the length of what they write, and random
weights never end a sentence, or at once: so they write exactly as many tokens as they are told, which should be what a
real caption takes. Words are not spelt out, because the tokenisers' files cannot be had either: that costs next to
nothing.
"""

import io
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from engines import load
from litserve_client import LitServe
from PIL import Image

from model.options import DecodingOptions


@dataclass(frozen=True, slots=True)
class Setting:
    """What all of them are told."""

    model: Path
    engine: str
    threads: int
    tokens: int  # that a rival with random weights writes
    most: int  # pictures in a batch of LitServe's
    toy: bool  # far too small rivals, to try the program


class Rival(Protocol):
    """One of those who are compared."""

    def caption(self, files: Sequence[bytes], at_once: int) -> None:
        """Caption JPEG files, `at_once` of them at a time."""

    def processes(self) -> list[int]:
        """Whose memory it takes, as process ids."""

    def close(self) -> None:
        """End what it has started."""


class _InProcess:
    """What needs nobody but this process."""

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
    """Our captioner: beam 3, with attention."""

    def __init__(self, setting: Setting) -> None:
        self._captioner = load(setting.engine, setting.model)

    def _caption(self, images: list[Image.Image]) -> None:
        self._captioner.caption(images, DecodingOptions())


class BlipBase(_InProcess):
    """BLIP-base (Li et al., 2022), whose default generation is greedy."""

    def __init__(self, setting: Setting) -> None:
        from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor

        # The default range, 1e-10, makes numbers so small that a CPU is slow at them; trained weights are not.
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


def _litserve(setting: Setting) -> LitServe:
    return LitServe(setting.model, setting.engine, setting.threads, setting.most)


RIVALS: dict[str, Callable[[Setting], Rival]] = {
    "wordlight": Wordlight,
    "litserve": _litserve,
    "blip-base": BlipBase,
    "vit-gpt2": VitGpt2,
}
