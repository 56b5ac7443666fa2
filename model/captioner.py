"""The captioner: encoder, decoder and vocabulary as one thing that can be saved, loaded and asked for captions.

In: images; out: captions. A saved captioner is a folder of three files: `captioner.safetensors` (weights),
`config.json` and `vocabulary.json`. Nothing in it is ever unpickled.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Self

import torch
from PIL import Image
from pydantic import BaseModel, ConfigDict, Discriminator, Field, Tag, ValidationError, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

from model.adaptive import AdaptiveConfig, AdaptiveDecoder, Sight
from model.caption import Caption
from model.characters import VOCABULARIES, TokenName
from model.confidence import ConfidenceConfig, confidence
from model.decoder import Decoder, DecoderConfig, Stepping
from model.encoder import Encoder, OutputStride
from model.engines.engine import Engine
from model.memory import Memory
from model.options import DecodingOptions
from model.pixels import as_stored, normalise, to_pixels
from model.scoring import score
from model.vocabulary import Vocabulary, style_token
from model.watch import Watch
from model.word_detector import WordDetector
from model.writing import write

SHIPPED = Path(__file__).parent / "shipped"

# Weights are stored in half the space; the captions stay the same (tests/test_captioner.py), and all computing is in
# float32.
STORED = torch.float16


# An annotation grid (B, C, R, R), or all that the decoder with adaptive attention wants.
Seen = torch.Tensor | Sight


def _kind_of(decoder: object) -> str:
    """Which of the two kinds of decoder a configuration is of."""
    kind = decoder.get("kind") if isinstance(decoder, dict) else getattr(decoder, "kind", None)
    return "adaptive" if kind == "adaptive" else "recurrent"


class CaptionerConfig(BaseModel):
    """What must be known to build the network before its weights can be filled in."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "wordlight"
    encoder: str = "tf_efficientnet_lite2"
    image_size: int = Field(260, ge=32)
    output_stride: OutputStride = 32  # of the encoder: with 16 its grid is twice as fine
    # The side of the training images as they lie on disk, where those are small JPEG files; None: anything.
    stored_size: int | None = Field(None, ge=32)
    # What it writes: words, or characters that make words.
    tokens: TokenName = "word"
    decoder: Annotated[
        Annotated[DecoderConfig, Tag("recurrent")] | Annotated[AdaptiveConfig, Tag("adaptive")],
        Discriminator(_kind_of),
    ] = DecoderConfig()
    # How likely a caption is to be right, once that was measured (model/evaluation/calibration.py).
    confidence: ConfidenceConfig | None = None

    @model_validator(mode="after")
    def _one_fine_grid(self) -> Self:
        if self.output_stride != 32 and isinstance(self.decoder, AdaptiveConfig):
            raise ValueError("the adaptive decoder has a fine grid of its own: its output_stride is 32")
        return self

    @model_validator(mode="after")
    def _attributes_are_words(self) -> Self:
        if self.tokens != "word" and isinstance(self.decoder, DecoderConfig) and self.decoder.attributes:
            raise ValueError("attributes are words: a captioner of characters cannot have them")
        return self


class CaptionerNotLoadable(Exception):
    """The folder does not hold a captioner that this program can load. The message is one line that says why."""


class EncoderMissing(Exception):
    """The captioner was loaded without its encoder, and has no engine that computes it."""


class Captioner(nn.Module):
    """Images in, captions with attention out."""

    encoder: Encoder

    def __init__(
        self,
        config: CaptionerConfig,
        vocabulary: Vocabulary,
        tail_stages: int = 0,
        *,
        channels: Sequence[int] | None = None,
    ) -> None:
        """Without an encoder if the `channels` that it would have are given: of the grid and, maybe, of the trunk."""
        super().__init__()
        self.config = config
        self.vocabulary = vocabulary
        self.version = "untrained"
        # What computes the encoder, and what writes with the decoder, where not these modules themselves.
        self.engine: Engine | None = None
        self.writer: Stepping | None = None
        # What computes the encoder's tail in training, where not the encoder itself.
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
                self.encoder = Encoder(config.encoder, tail_stages, output_stride=config.output_stride)
                channels = (self.encoder.channels,)
            self.decoder = Decoder(decoder, channels[0], len(vocabulary))

    @property
    def sees(self) -> bool:
        """Whether it has an encoder of its own."""
        return "encoder" in self._modules

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.decoder.output_bias.device

    def prepare(self, image: Image.Image) -> torch.Tensor:
        """An upright RGB image to the uint8 pixels (3, S, S) that `caption_pixels` takes. Thread-safe, CPU only."""
        if self.config.stored_size:
            image = as_stored(image, self.config.stored_size)
        return to_pixels(image, self.config.image_size)

    @torch.inference_mode()
    def encode(self, pixels: torch.Tensor) -> Memory:
        """Prepared pixels (B, 3, S, S) to all that must be known of the images, to `write` and to `score`."""
        return self.engine.encode(pixels) if self.engine is not None else self.look(pixels)

    def look(self, pixels: torch.Tensor) -> Memory:
        """As `encode`, by these modules themselves. Raises EncoderMissing."""
        if not self.sees:
            raise EncoderMissing
        return self.memorise(self.see(self.encoder.trunk(normalise(pixels.to(self.device)))))

    def see(self, activations: torch.Tensor) -> Seen:
        """The encoder's trunk's activations (B, C', R', R') to what `memorise` takes."""
        grid = self.see_grid(activations)
        if self.detector is None:
            return grid
        if self.encoder.general is None:
            logits = self.detector.logits(grid)
            return Sight(activations, grid, logits.detach().sigmoid(), logits)
        with torch.no_grad():
            words = self.detector(self.encoder.general_tail(activations))
        return Sight(activations, grid, words)

    def see_grid(self, activations: torch.Tensor) -> torch.Tensor:
        """The encoder's trunk's activations to the grid of its tail (B, C, R, R)."""
        return (self.tail or self.encoder.tail)(activations)

    def memorise(self, seen: Seen) -> Memory:
        """What the encoder sees to all that must be known of the images."""
        if isinstance(self.decoder, AdaptiveDecoder):
            assert isinstance(seen, Sight)
            return self.decoder.memorise(seen)
        assert isinstance(seen, torch.Tensor)
        return self.decoder.memorise(seen)

    def write(
        self,
        memory: Memory,
        options: DecodingOptions,
        *,
        seeds: Sequence[int | None] | None = None,
        watch: Watch | None = None,
    ) -> list[list[Caption]]:
        """The captions of each image: best first or, when sampling, in the order drawn.

        `seeds`, one for each image, make what is sampled repeatable; an image gets the same sentences in every batch.
        Images that the watch gave up get no captions.
        """
        memory = self._in_style(memory, options.style)
        written = write(self.writer or self.decoder, self.vocabulary, memory, options, seeds=seeds, watch=watch)
        return [[self._judged(caption) for caption in captions] for captions in written]

    def score(self, memory: Memory, sentences: Sequence[str]) -> list[Caption]:
        """One sentence for each image, as if the captioner had written it: with log-probabilities and attention.

        The log-probability includes the decision to end. Raises ValueError for a sentence without any word.
        """
        return [
            self._judged(caption) for caption in score(self.writer or self.decoder, self.vocabulary, memory, sentences)
        ]

    def _in_style(self, memory: Memory, style: str | None) -> Memory:
        """The memory for sentences of a style. Raises ValueError for one that the captioner does not know."""
        if style is None:
            return memory
        token = self.vocabulary.token(style_token(style))
        if token is None:
            raise ValueError(f"the captioner knows no style {style!r}")
        first = torch.full((memory.images, 1), token, device=memory.annotations.device)
        return replace(memory, first=first)

    def _judged(self, caption: Caption) -> Caption:
        """The caption with its confidence."""
        if self.config.confidence is None:
            return caption
        sureness = confidence(caption, self.config.confidence)
        return replace(caption, confidence=round(sureness, 4), sure=sureness >= self.config.confidence.threshold)

    def caption_pixels(self, pixels: torch.Tensor, options: DecodingOptions) -> list[list[Caption]]:
        """Prepared pixels (B, 3, S, S) to the captions of each image."""
        return self.write(self.encode(pixels), options)

    def caption(self, images: Sequence[Image.Image], options: DecodingOptions | None = None) -> list[list[Caption]]:
        """Caption upright RGB images in one batch; all of them must fit the device's memory together."""
        if not images:
            return []
        pixels = torch.stack([self.prepare(image) for image in images])
        return self.caption_pixels(pixels, options or DecodingOptions())

    def save(self, folder: Path) -> None:
        """Write the three files into `folder`, which is made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        tensors = {
            name: tensor.to(STORED).contiguous() if tensor.is_floating_point() else tensor
            for name, tensor in self.state_dict().items()
            if not name.endswith("num_batches_tracked")  # counts batches of a training that is over
        }
        save_file(tensors, folder / "captioner.safetensors")
        (folder / "config.json").write_text(self.config.model_dump_json(indent=2) + "\n", encoding="utf-8")
        self.vocabulary.save(folder / "vocabulary.json")

    @classmethod
    def load(cls, folder: Path = SHIPPED, device: str | torch.device = "cpu", *, encoder: bool = True) -> "Captioner":
        """Read what `save` wrote, ready to caption on `device`.

        Without its `encoder` it takes less time and memory, but needs an engine that has one. Raises
        CaptionerNotLoadable when a file is missing, damaged, or does not fit the others.
        """
        weights = folder / "captioner.safetensors"
        try:
            config = CaptionerConfig.model_validate_json((folder / "config.json").read_bytes())
            vocabulary = VOCABULARIES[config.tokens].load(folder / "vocabulary.json")
            decoder = AdaptiveDecoder if isinstance(config.decoder, AdaptiveConfig) else Decoder
            with safe_open(weights, framework="pt") as file:
                names = [name for name in file.keys() if encoder or name.startswith("decoder.")]  # noqa: SIM118
                tensors = {name: file.get_tensor(name) for name in names}
            channels = None if encoder else [tensors[f"decoder.{name}"].shape[1] for name in decoder.of_channels]
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
            # PyTorch's first line only says that weights do not fit, the second which.
            why = " ".join(str(error).splitlines()[:2]).replace("\t", "")
            raise CaptionerNotLoadable(f"the captioner in {folder} is damaged: {why}") from error
        contents = b"".join(path.read_bytes() for path in (weights, folder / "config.json", folder / "vocabulary.json"))
        captioner.version = hashlib.sha256(contents).hexdigest()[:12]
        return captioner.to(device).eval()
