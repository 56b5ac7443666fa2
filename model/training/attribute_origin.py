"""The captioner with attributes that a run begins with. In: a recipe and captions; out: a captioner, its words found.

Which words may be found is read off the captions, and how they look is learnt before the decoder learns anything.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch

from model.attributes import Attributes
from model.captioner import Captioner
from model.decoder import Decoder
from model.encoder import load_imagenet_lite2
from model.training.dataset import Sample
from model.training.detection import train_detector
from model.training.recipe import Recipe
from model.training.visible import VisibleWords
from model.vocabulary import Vocabulary


def make_attributed(recipe: Recipe, samples: Sequence[Sample], vocabulary: Vocabulary) -> Captioner:
    """An untrained captioner on ImageNet's encoder, which knows the words that it may find."""
    visible = _visible(recipe, samples, vocabulary)
    assert recipe.attributes is not None
    attributes = recipe.attributes.model_copy(update={"words": len(visible.words), "learnt": visible.learnt})
    decoder = recipe.captioner.decoder.model_copy(update={"attributes": attributes})
    captioner = Captioner(recipe.captioner.model_copy(update={"decoder": decoder}), vocabulary)
    found = _attributes(captioner)
    found.detector.name_classes(visible.word_of_class)
    number, forms = {word: token for token, word in enumerate(vocabulary.words)}, visible.forms_in(vocabulary)
    # A ski may be seen where captions have only said "skis".
    tokens = [number[word] if word in number else forms.index(place) for place, word in enumerate(visible.words)]
    found.token_of_word.copy_(torch.tensor(tokens))
    if recipe.captioner.encoder == "tf_efficientnet_lite2":
        load_imagenet_lite2(captioner.encoder, found.detector.classifier)
    return captioner


def teach_attributes(
    captioner: Captioner, samples: Sequence[Sample], activations: npt.NDArray[np.float16], recipe: Recipe
) -> None:
    """Train the word detector, on what the encoder's trunk said of `samples`."""
    train_detector(
        captioner,
        _attributes(captioner).detector,
        samples,
        _visible(recipe, samples, captioner.vocabulary),
        activations,
        recipe.detection,
        recipe.seed,
    )


def _visible(recipe: Recipe, samples: Sequence[Sample], vocabulary: Vocabulary) -> VisibleWords:
    return VisibleWords.of(samples, vocabulary, recipe.detection.min_images)


def _attributes(captioner: Captioner) -> Attributes:
    assert isinstance(captioner.decoder, Decoder)
    assert captioner.decoder.attributes is not None
    return captioner.decoder.attributes
