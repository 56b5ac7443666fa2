"""The captioner that a run starts with: a new one on an encoder trained on ImageNet, or a copy of another run's."""

from collections import Counter
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from model.network.adaptive import AdaptiveConfig, AdaptiveDecoder, Features
from model.network.encoder import Encoder, load_imagenet_lite2
from model.network.word_detector import noisy_or
from model.runtime.captioner import STORAGE_DTYPE, Captioner, CaptionerNotLoadable
from model.text.characters import VOCABULARIES
from model.text.vocabulary import SPECIALS, Vocabulary, split_words, style_token
from model.training.dataset import Sample
from model.training.detection import ImageWords, train_detector
from model.training.recipe import Recipe
from model.training.visual_vocabulary import VisibleWords, class_words

_TEXT_SHARE = 0.3  # the weight of a word of text relative to one of a caption, in word frequencies
_NEVER = -30.0  # the log frequency of style tokens, which occur only as the start of a sentence
_LOOKED_AT = 600  # images that show how often the detector sees each word


class OriginUnusable(Exception):
    """The captioner that the recipe names does not exist or has other sizes. The message is one line."""


def make_captioner(
    recipe: Recipe, samples: list[Sample], runs: Path, origin: "AdaptiveOrigin | None" = None
) -> Captioner:
    """Make an untrained captioner or, with `start_from`, copy the one that it names. `runs` is the folder of runs.

    A copy has the version of the original. Raises OriginUnusable.
    """
    torch.manual_seed(recipe.seed)
    if origin is not None:
        return origin.make(_load(recipe.encoder_from, runs)[1] if recipe.encoder_from else None)
    if recipe.start_from is None:
        words = (caption for sample in samples for caption in sample.captions)
        vocabulary = VOCABULARIES[recipe.captioner.tokens].from_sentences(words, recipe.min_word_count)
        captioner = Captioner(recipe.captioner, vocabulary, recipe.tail_stages)
        if recipe.captioner.encoder == "tf_efficientnet_lite2":
            load_imagenet_lite2(captioner.encoder)
        return captioner
    folder, original = _load(recipe.start_from, runs)
    # A recipe does not know the sizes of an adaptive decoder, which depend on the words of its training captions.
    adaptive = isinstance(recipe.captioner.decoder, AdaptiveConfig)
    config = original.config if adaptive else recipe.captioner
    captioner = Captioner(config, original.vocabulary, recipe.tail_stages)
    try:
        captioner.load_state_dict(original.state_dict())
    except RuntimeError as error:
        why = str(error).splitlines()[1].strip()
        raise OriginUnusable(f"start_from: the recipe's captioner is not like the one in {folder}: {why}") from error
    _restore_imagenet(captioner)
    captioner.version = original.version
    return captioner


class AdaptiveOrigin:
    """Makes and prepares a new captioner with adaptive attention.

    Its word detector is trained here, before the decoder. The tail of its encoder can come from another run.
    """

    def __init__(self, recipe: Recipe, samples: list[Sample], sentences: list[list[str]]) -> None:
        assert isinstance(recipe.captioner.decoder, AdaptiveConfig)
        self._recipe, self._samples = recipe, samples
        self._said = Counter(word for s in samples for caption in s.captions for word in split_words(caption))
        self._written = Counter(word for line in chain.from_iterable(sentences) for word in split_words(line))
        styles = {sample.style for sample in samples}
        self._styles = sorted(styles - {recipe.default_style}) if recipe.default_style in styles else []
        self.vocabulary = self._vocabulary()
        self.visible = visible_words(recipe, samples, self.vocabulary)
        decoder = recipe.captioner.decoder.model_copy(
            update={
                "words": len(self.visible.words),
                "learnt": self.visible.learnt,
                "labels": self.visible.labels,
            }
        )
        self.config = recipe.captioner.model_copy(update={"decoder": decoder})

    @classmethod
    def of(cls, recipe: Recipe, samples: list[Sample], sentences: list[list[str]]) -> "AdaptiveOrigin | None":
        """Return the origin if the recipe asks for a new captioner with adaptive attention, otherwise None."""
        if recipe.start_from is None and isinstance(recipe.captioner.decoder, AdaptiveConfig):
            return cls(recipe, samples, sentences)
        return None

    def make(self, encoder: Captioner | None) -> Captioner:
        """Make an untrained captioner with the encoder tail of `encoder`, or with ImageNet's."""
        captioner = Captioner(self.config, self.vocabulary)
        decoder, detector = captioner.decoder, captioner.detector
        assert isinstance(decoder, AdaptiveDecoder)
        assert detector is not None
        if detector.classifier is not None:
            detector.set_class_words(self.visible.word_of_class)
        decoder.seen_as.copy_(torch.tensor(self.visible.forms_in(self.vocabulary)))
        with torch.no_grad():
            decoder.output_bias.copy_(self._frequencies())
        if self.config.encoder == "tf_efficientnet_lite2":
            load_imagenet_lite2(captioner.encoder, detector.classifier)
        if encoder is not None:
            tail = encoder.encoder.stages[captioner.encoder.tail_from :]
            captioner.encoder.stages[captioner.encoder.tail_from :].load_state_dict(tail.state_dict())
        return captioner

    def prepare(self, captioner: Captioner, activations: npt.NDArray[np.float16]) -> None:
        """Train the word detector, and measure how often it sees each word."""
        decoder, detector = captioner.decoder, captioner.detector
        assert isinstance(decoder, AdaptiveDecoder)
        assert detector is not None
        recipe = self._recipe
        train_detector(
            captioner,
            ImageWords(self._samples, self.visible, self.vocabulary),
            activations,
            recipe.detection,
            recipe.seed,
            bfloat16=recipe.bfloat16,
        )
        chosen = range(0, len(self._samples), max(1, len(self._samples) // _LOOKED_AT))
        device = detector.learnt.weight.device
        scores = []
        with torch.inference_mode(), torch.autocast(device.type, torch.bfloat16, enabled=recipe.bfloat16):
            for i in chosen:
                features = captioner.extract_features(torch.from_numpy(activations[0, [i]]).to(device).float())
                assert isinstance(features, Features)
                scores.append(features.words)
        decoder.usual_here.copy_(torch.cat(scores).mean(dim=(0, 1)).clamp_min(1e-4))
        decoder.usual_anywhere.copy_(noisy_or(torch.cat(scores)).mean(dim=0).clamp_min(1e-3))

    def _vocabulary(self) -> Vocabulary:
        """Keep words that captions or text use often enough. Words that name a class of ImageNet need fewer uses.

        The last tokens are those of the styles other than the default.
        """
        recipe, named = self._recipe, class_words().keys()
        total = self._said + self._written
        text = recipe.text
        kept = [
            word
            for word, count in total.items()
            if self._said[word] >= recipe.min_word_count
            or (text is not None and count >= (text.min_named_count if word in named else text.min_count))
        ]
        return Vocabulary([*sorted(kept, key=lambda word: (-total[word], word)), *map(style_token, self._styles)])

    def _frequencies(self) -> torch.Tensor:
        """Compute log word frequencies (V,), with mean 0: the output bias before training."""
        words = self.vocabulary.words
        counts = torch.tensor([self._said[word] + _TEXT_SHARE * self._written[word] for word in words])
        logarithms = counts.clamp_min(0.5).log()
        logarithms[: len(SPECIALS)] = counts.clamp_min(0.5).log().min()
        logarithms -= logarithms.mean()
        logarithms[len(words) - len(self._styles) :] = _NEVER
        return logarithms


def visible_words(recipe: Recipe, samples: Sequence[Sample], vocabulary: Vocabulary) -> VisibleWords:
    """Collect the words of the detector of a captioner with adaptive attention."""
    assert isinstance(recipe.captioner.decoder, AdaptiveConfig)
    classes = recipe.captioner.decoder.classes > 0
    return VisibleWords.of(samples, vocabulary, recipe.detection.min_images, classes=classes)


def _restore_imagenet(captioner: Captioner) -> None:
    """Undo the rounding of saved weights in encoder stages that are otherwise ImageNet's.

    The run can then use activations that were computed for the original trunk (activations.py).
    """
    if captioner.config.encoder != "tf_efficientnet_lite2":
        return
    imagenet = Encoder(captioner.config.encoder)
    load_imagenet_lite2(imagenet)
    for stage, original in zip(captioner.encoder.stages, imagenet.stages, strict=True):
        pairs = zip(stage.parameters(), original.parameters(), strict=True)
        if all(torch.equal(own, exact.to(STORAGE_DTYPE).to(own.dtype)) for own, exact in pairs):
            stage.load_state_dict(original.state_dict())


def _load(name: str, runs: Path) -> tuple[Path, Captioner]:
    folder = _find(name, runs)
    try:
        return folder, Captioner.load(folder)
    except CaptionerNotLoadable as error:
        raise OriginUnusable(f"cannot start from {name}: {error}") from error


def _find(name: str, runs: Path) -> Path:
    places = [Path(name), Path(name) / "best", runs / name / "best"]
    for folder in places:
        if (folder / "config.json").is_file():
            return folder
    raise OriginUnusable(f"{name}: no captioner in {', '.join(map(str, places))}")
