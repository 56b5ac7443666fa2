"""The captioner with adaptive attention that a run begins with. In: a recipe, captions and text; out: a captioner.

Its encoder has learnt from captions before, in another run; its word detector is trained here, before the decoder.
"""

from collections import Counter
from itertools import chain

import numpy as np
import numpy.typing as npt
import torch

from model.adaptive import AdaptiveConfig, AdaptiveDecoder
from model.captioner import Captioner
from model.encoder import load_imagenet_lite2
from model.training.dataset import Sample
from model.training.detection import train_detector
from model.training.recipe import Recipe
from model.training.visible import VisibleWords, class_words
from model.vocabulary import SPECIALS, Vocabulary, split_words, style_token
from model.word_detector import anywhere

_TEXT_SHARE = 0.3  # of a word of text against one of a caption, where the frequency of words matters
_NEVER = -30.0  # the logarithm of how often a style token is said: it only begins a sentence
_LOOKED_AT = 600  # images, to find out how often a word is seen as a rule


class AdaptiveOrigin:
    """All that depends on the words to learn, and the steps that make a captioner ready to be trained."""

    def __init__(self, recipe: Recipe, samples: list[Sample], sentences: list[list[str]]) -> None:
        assert isinstance(recipe.captioner.decoder, AdaptiveConfig)
        self._recipe, self._samples = recipe, samples
        self._said = Counter(word for s in samples for caption in s.captions for word in split_words(caption))
        self._written = Counter(word for line in chain.from_iterable(sentences) for word in split_words(line))
        self.vocabulary = self._vocabulary()
        classes = recipe.captioner.decoder.classes > 0
        self.visible = VisibleWords.of(samples, self.vocabulary, recipe.detection.min_images, classes=classes)
        decoder = recipe.captioner.decoder.model_copy(
            update={
                "words": len(self.visible.words),
                "learnt": self.visible.learnt,
                "labels": self.visible.labels,
            }
        )
        self.config = recipe.captioner.model_copy(update={"decoder": decoder})

    def make(self, encoder: Captioner | None) -> Captioner:
        """An untrained captioner, whose encoder's tail is that of `encoder`; None: ImageNet's."""
        captioner = Captioner(self.config, self.vocabulary)
        decoder, detector = captioner.decoder, captioner.detector
        assert isinstance(decoder, AdaptiveDecoder)
        assert detector is not None
        if detector.classifier is not None:
            detector.name_classes(self.visible.word_of_class)
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
        """Train the word detector, and note how often it sees a word as a rule."""
        decoder, detector = captioner.decoder, captioner.detector
        assert isinstance(decoder, AdaptiveDecoder)
        assert detector is not None
        recipe = self._recipe
        train_detector(
            captioner,
            detector,
            self._samples,
            self.visible,
            activations,
            recipe.detection,
            recipe.seed,
            bfloat16=recipe.bfloat16,
        )
        chosen = range(0, len(self._samples), max(1, len(self._samples) // _LOOKED_AT))
        see = captioner.encoder.general_tail if captioner.encoder.general is not None else captioner.encoder.tail
        with torch.inference_mode():
            scores = torch.cat([detector(see(torch.from_numpy(activations[0, [i]]).float())) for i in chosen])
        decoder.usual_here.copy_(scores.mean(dim=(0, 1)).clamp_min(1e-4))
        decoder.usual_anywhere.copy_(anywhere(scores).mean(dim=0).clamp_min(1e-3))

    def _vocabulary(self) -> Vocabulary:
        """What captions say often enough, or text; of the words for ImageNet's classes, what is said at all often."""
        recipe, named = self._recipe, class_words().keys()
        styles = {sample.style for sample in self._samples}
        styles = styles - {recipe.default_style} if recipe.default_style in styles else set()
        total = self._said + self._written
        text = recipe.text
        kept = [
            word
            for word, count in total.items()
            if self._said[word] >= recipe.min_word_count
            or (text is not None and count >= (text.min_named_count if word in named else text.min_count))
        ]
        return Vocabulary([*sorted(kept, key=lambda word: (-total[word], word)), *map(style_token, sorted(styles))])

    def _frequencies(self) -> torch.Tensor:
        """The logarithm of how often each word is used (V,), around 0: what to say of nothing in particular."""
        words = self.vocabulary.words
        counts = torch.tensor([self._said[word] + _TEXT_SHARE * self._written[word] for word in words])
        logarithms = counts.clamp_min(0.5).log()
        logarithms[: len(SPECIALS)] = counts.clamp_min(0.5).log().min()
        logarithms -= logarithms.mean()
        logarithms[[word.startswith("<") and token >= len(SPECIALS) for token, word in enumerate(words)]] = _NEVER
        return logarithms
