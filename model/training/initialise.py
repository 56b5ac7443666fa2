"""The captioner that a run begins with. In: a recipe and the captions to learn; out: a captioner.

New, with an encoder that knows ImageNet, or another run's.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from model.adaptive import AdaptiveConfig
from model.captioner import STORED, Captioner, CaptionerNotLoadable
from model.characters import VOCABULARIES
from model.encoder import Encoder, load_imagenet_lite2
from model.training.adaptive_origin import AdaptiveOrigin
from model.training.attribute_origin import make_attributed
from model.training.dataset import Sample
from model.training.recipe import Recipe


class OriginUnusable(Exception):
    """There is no captioner where the recipe says that one is, or it is of other sizes. The message is one line."""


def make_origin(recipe: Recipe, samples: list[Sample], sentences: list[list[str]]) -> AdaptiveOrigin | None:
    """What a captioner with adaptive attention begins with, where the recipe wants a new one."""
    if recipe.start_from is None and isinstance(recipe.captioner.decoder, AdaptiveConfig):
        return AdaptiveOrigin(recipe, samples, sentences)
    return None


def make_captioner(
    recipe: Recipe, samples: list[Sample], runs: Path, origin: AdaptiveOrigin | None = None
) -> Captioner:
    """An untrained captioner or, with `start_from`, a copy of the one it names. `runs` is the folder of runs.

    The version of a captioner that was copied is that of the original. Raises OriginUnusable.
    """
    torch.manual_seed(recipe.seed)
    if origin is not None:
        return origin.make(_load(recipe.encoder_from, runs)[1] if recipe.encoder_from else None)
    if recipe.start_from is None:
        words = (caption for sample in samples for caption in sample.captions)
        vocabulary = VOCABULARIES[recipe.captioner.tokens].from_sentences(words, recipe.min_word_count)
        if recipe.attributes is not None:
            return make_attributed(recipe, samples, vocabulary)
        captioner = Captioner(recipe.captioner, vocabulary, recipe.tail_stages)
        if recipe.captioner.encoder == "tf_efficientnet_lite2":
            load_imagenet_lite2(captioner.encoder)
        return captioner
    folder, original = _load(recipe.start_from, runs)
    adaptive = isinstance(recipe.captioner.decoder, AdaptiveConfig)  # whose sizes are known once it is trained
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


def load_teachers(names: Sequence[str], student: Captioner, runs: Path) -> list[Captioner]:
    """The captioners that `names` name, for `student` to learn from. Raises OriginUnusable."""
    teachers = []
    for name in names:
        folder, teacher = _load(name, runs)
        if teacher.vocabulary.words != student.vocabulary.words:
            raise OriginUnusable(f"teachers: {folder} has another vocabulary")
        if not _sees_like(teacher.encoder, student.encoder):
            raise OriginUnusable(f"teachers: {folder} has another encoder")
        teachers.append(teacher.requires_grad_(False))
    return teachers


def _sees_like(encoder: Encoder, other: Encoder) -> bool:
    """Whether two encoders are one, but for the rounding of a saved captioner."""
    own, others = (
        {name: tensor.to(STORED) for name, tensor in one.state_dict().items() if tensor.is_floating_point()}
        for one in (encoder, other)
    )
    alike = own.keys() == others.keys() and encoder.output_stride == other.output_stride
    return alike and all(torch.equal(tensor, others[name]) for name, tensor in own.items())


def _restore_imagenet(captioner: Captioner) -> None:
    """Replace stages of the encoder that are ImageNet's but for the rounding of a saved captioner by ImageNet's own.

    What was computed for the untouched trunk (activations.py) is then good for this run too.
    """
    if captioner.config.encoder != "tf_efficientnet_lite2":
        return
    imagenet = Encoder(captioner.config.encoder)
    load_imagenet_lite2(imagenet)
    for stage, original in zip(captioner.encoder.stages, imagenet.stages, strict=True):
        pairs = zip(stage.parameters(), original.parameters(), strict=True)
        if all(torch.equal(own, exact.to(STORED).to(own.dtype)) for own, exact in pairs):
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
