"""The captioner: encoder, decoder and vocabulary, with saving and loading.

A saved captioner is a folder of three files: `captioner.safetensors` (weights), `config.json` and `vocabulary.json`.
Loading never unpickles.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from model.decoding.caption import Caption
from model.decoding.confidence import ConfidenceConfig, confidence
from model.decoding.generate import generate
from model.decoding.options import DecodingOptions
from model.decoding.streaming import DecodingListener
from model.decoding.teacher_forcing import score
from model.network.adaptive import AdaptiveConfig, AdaptiveDecoder, Features
from model.network.decoder import Decoder, DecoderConfig, StepDecoder
from model.network.encoded_images import EncodedImages
from model.network.encoder import Encoder
from model.network.word_detector import WordDetector
from model.runtime.engines.pytorch import Engine
from model.runtime.pixels import as_stored, normalise, to_pixels
from model.text.characters import VOCABULARIES, TokenName
from model.text.vocabulary import Vocabulary, style_token

SHIPPED = Path(__file__).parents[1] / "shipped"

# Weights are stored in half precision, which does not change captions (tests/model/runtime). Computation is in
# float32.
STORAGE_DTYPE = torch.float16


# An annotation grid (B, C, R, R), or the features of the adaptive decoder.
EncoderOutput = torch.Tensor | Features


def _kind_of(decoder: object) -> str:
    """Return the tag of a decoder configuration."""
    kind = decoder.get("kind") if isinstance(decoder, dict) else getattr(decoder, "kind", None)
    return "adaptive" if kind == "adaptive" else "recurrent"


class CaptionerConfig(BaseModel):
    """The configuration of the network: everything needed to build it before its weights are loaded."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "wordlight"
    encoder: str = "tf_efficientnet_lite2"
    image_size: int = Field(260, ge=32)
    # The side of the training images on disk, if they are small square JPEG files.
    stored_size: int | None = Field(None, ge=32)
    # What a token is: a word or a character.
    tokens: TokenName = "word"
    decoder: Annotated[
        Annotated[DecoderConfig, Tag("recurrent")] | Annotated[AdaptiveConfig, Tag("adaptive")],
        Discriminator(_kind_of),
    ] = DecoderConfig()
    # Set by calibration (model/evaluation/calibration.py).
    confidence: ConfidenceConfig | None = None

    @model_validator(mode="before")
    @classmethod
    def _ignore_removed_options(cls, config: Any) -> Any:
        """Accept configurations of version 0.1: drop removed options that have these values."""
        if not isinstance(config, dict):
            return config
        supported = {name: value for name, value in config.items() if (name, value) != ("output_stride", 32)}
        if isinstance(decoder := supported.get("decoder"), dict):
            removed = {"arrangement": "stacked", "sentinel": False, "tied": True, "attributes": None}
            supported["decoder"] = {n: v for n, v in decoder.items() if n not in removed or v != removed[n]}
        return supported


class CaptionerNotLoadable(Exception):
    """The folder holds no captioner that this version can load. The message is one line with the reason."""


class EncoderMissing(Exception):
    """The captioner was loaded without its encoder, and has no engine that replaces it."""


class Captioner(nn.Module):
    """A captioner: images to captions with attention."""

    encoder: Encoder

    def __init__(
        self,
        config: CaptionerConfig,
        vocabulary: Vocabulary,
        tail_stages: int = 0,
        *,
        channels: Sequence[int] | None = None,
    ) -> None:
        """Build the network with random weights.

        `channels` are the channels of the grid and, for the adaptive decoder, of the trunk. If they are given, no
        encoder is built.
        """
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.version = "untrained"
        # Faster replacements for the encoder and the decoder, set by prepare_for_inference.
        self.engine: Engine | None = None
        self.step_decoder: StepDecoder | None = None
        # A faster replacement for the encoder's tail, set by training (model/training/fast_tail.py).
        self.tail: Callable[[torch.Tensor], torch.Tensor] | None = None
        self.decoder: Decoder | AdaptiveDecoder
        self.detector: WordDetector | None = None
        decoder = config.decoder
        if isinstance(decoder, AdaptiveConfig):
            if channels is None:
                self.encoder = Encoder(config.encoder, decoder.tail_stages, general=decoder.classes > 0)
                channels = self.encoder.channels, self.encoder.trunk_channels
                self.detector = WordDetector(channels[0], decoder.words, decoder.learnt, decoder.classes)
            of_grid, of_fine = channels
            self.decoder = AdaptiveDecoder(decoder, of_grid, of_fine, decoder.words, len(vocabulary))
        else:
            if channels is None:
                self.encoder = Encoder(config.encoder, tail_stages)
                channels = (self.encoder.channels,)
            self.decoder = Decoder(decoder, channels[0], len(vocabulary))

    @property
    def has_encoder(self) -> bool:
        """Whether the captioner has its own encoder."""
        return "encoder" in self._modules

    @property
    def device(self) -> torch.device:
        """The device of the weights."""
        return self.decoder.output_bias.device

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """Convert an upright RGB image to uint8 pixels (3, S, S) for `encode`. Thread-safe; CPU only."""
        if self.config.stored_size:
            image = as_stored(image, self.config.stored_size)
        return to_pixels(image, self.config.image_size)

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> EncodedImages:
        """Encode prepared pixels (B, 3, S, S) for `generate` and `score`."""
        return self.engine.encode(pixels) if self.engine is not None else self.encode_in_pytorch(pixels)

    def encode_in_pytorch(self, pixels: torch.Tensor) -> EncodedImages:
        """Encode with the PyTorch modules, without an engine. Raises EncoderMissing."""
        if not self.has_encoder:
            raise EncoderMissing
        return self.encode_features(self.extract_features(self.encoder.trunk(normalise(pixels.to(self.device)))))

    def extract_features(self, activations: torch.Tensor) -> EncoderOutput:
        """Compute the encoder output from the activations of its trunk (B, C', R', R')."""
        grid = self.extract_grid(activations)
        if self.detector is None:
            return grid
        if self.encoder.general is None:
            logits = self.detector.logits(grid)
            return Features(activations, grid, logits.detach().sigmoid(), logits)
        with torch.no_grad():
            words = self.detector(self.encoder.general_tail(activations))
        return Features(activations, grid, words)

    def extract_grid(self, activations: torch.Tensor) -> torch.Tensor:
        """Compute the annotation grid (B, C, R, R) of the tail from the activations of the trunk (B, C', R', R')."""
        return (self.tail or self.encoder.tail)(activations)

    def encode_features(self, features: EncoderOutput) -> EncodedImages:
        """Encode encoder output."""
        if isinstance(self.decoder, AdaptiveDecoder):
            assert isinstance(features, Features)
            return self.decoder.encode(features)
        assert isinstance(features, torch.Tensor)
        return self.decoder.encode(features)

    def generate(
        self,
        encoded: EncodedImages,
        options: DecodingOptions,
        *,
        seeds: Sequence[int | None] | None = None,
        listener: DecodingListener | None = None,
    ) -> list[list[Caption]]:
        """Generate the captions of each image: best first or, when sampling, in the order drawn.

        `seeds`, one for each image, make sampling reproducible: an image gets the same sentences in every batch. Images
        that the listener abandons get no captions. Raises ValueError for a style that the captioner does not have.
        """
        if options.style is not None:
            encoded = self._with_style(encoded, options.style)
        generated = generate(
            self.step_decoder or self.decoder, self.vocabulary, encoded, options, seeds=seeds, listener=listener
        )
        return [[self._with_confidence(caption) for caption in captions] for captions in generated]

    def score(self, encoded: EncodedImages, sentences: Sequence[str]) -> list[Caption]:
        """Score one sentence for each image as if the captioner had generated it.

        The log-probability includes the decision to end. Raises ValueError for a sentence without words.
        """
        return [
            self._with_confidence(caption)
            for caption in score(self.step_decoder or self.decoder, self.vocabulary, encoded, sentences)
        ]

    def _with_style(self, encoded: EncodedImages, style: str) -> EncodedImages:
        """Return the encoding for sentences in a style."""
        token = self.vocabulary.token(style_token(style))
        if token is None:
            raise ValueError(f"the captioner has no style {style!r}")
        return replace(encoded, first=torch.full((encoded.images, 1), token, device=encoded.annotations.device))

    def _with_confidence(self, caption: Caption) -> Caption:
        """Return the caption with its confidence."""
        if self.config.confidence is None:
            return caption
        probability = confidence(caption, self.config.confidence)
        confident = probability >= self.config.confidence.threshold
        return replace(caption, confidence=round(probability, 4), confident=confident)

    def caption_pixels(self, pixels: torch.Tensor, options: DecodingOptions) -> list[list[Caption]]:
        """Caption prepared pixels (B, 3, S, S)."""
        return self.generate(self.encode(pixels), options)

    def caption(self, images: Sequence[Image.Image], options: DecodingOptions | None = None) -> list[list[Caption]]:
        """Caption upright RGB images in one batch. They must fit into the memory of the device together."""
        if not images:
            return []
        pixels = torch.stack([self.prepare(image) for image in images])
        return self.caption_pixels(pixels, options or DecodingOptions())

    def save(self, folder: Path) -> None:
        """Write the three files into `folder`, which is created if missing."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: tensor.to(STORAGE_DTYPE).contiguous() if tensor.is_floating_point() else tensor
            for name, tensor in self.state_dict().items()
            if not name.endswith("num_batches_tracked")  # not needed for inference
        }
        save_file(tensors, folder / "captioner.safetensors")
        (folder / "config.json").write_text(self.config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        self.vocabulary.save(folder / "vocabulary.json")

    @classmethod
    def load(cls, folder: Path = SHIPPED, device: str | torch.device = "cpu", *, encoder: bool = True) -> "Captioner":
        """Load what `save` wrote, ready for inference on `device`.

        Without `encoder`, loading takes less time and memory, but the captioner needs an engine to encode. Raises
        CaptionerNotLoadable if a file is missing or damaged, or does not fit the others.
        """
        weights = folder / "captioner.safetensors"
        try:
            config = CaptionerConfig.model_validate_json((folder / "config.json").read_bytes())
            vocabulary = VOCABULARIES[config.tokens].load(folder / "vocabulary.json")
            decoder = AdaptiveDecoder if isinstance(config.decoder, AdaptiveConfig) else Decoder
            with safe_open(weights, framework="pt") as file:
                names = [name for name in file.keys() if encoder or name.startswith("decoder.")]  # noqa: SIM118
                tensors = {name: file.get_tensor(name) for name in names}
            channels = None if encoder else [tensors[f"decoder.{name}"].shape[1] for name in decoder.channel_weights]
            captioner = cls(config, vocabulary, channels=channels)
            missing, unexpected = captioner.load_state_dict(tensors, strict=False)
            missing = [name for name in missing if not name.endswith("num_batches_tracked")]
            if missing or unexpected:
                raise CaptionerNotLoadable(f"{weights} does not fit its config: {(missing + unexpected)[0]}")
        except OSError as error:
            raise CaptionerNotLoadable(f"no captioner in {folder}: {error.strerror or error}") from error
        except ValidationError as error:
            first = error.errors()[0]
            where = ".".join(map(str, first["loc"])) or "config.json"
            raise CaptionerNotLoadable(f"the captioner in {folder} is damaged: {where}: {first['msg']}") from error
        except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
            # The first line of PyTorch's message says that weights do not fit, the second names them.
            why = " ".join(str(error).splitlines()[:2]).replace("\t", "")
            raise CaptionerNotLoadable(f"the captioner in {folder} is damaged: {why}") from error
        contents = b"".join(path.read_bytes() for path in (weights, folder / "config.json", folder / "vocabulary.json"))
        captioner.version = hashlib.sha256(contents).hexdigest()[:12]
        return captioner.to(device).eval()
