"""The training loop: steps, averaged weights, early stopping on the CIDEr of captions written freely.

In: a recipe, a data folder and a run folder; out: in the run folder the best captioner (`best/`), a checkpoint to
resume from, and TensorBoard logs. Only the splits `train` and `val` are ever read. It must not know what the loss is.
"""

import hashlib
import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import chain
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from model.adaptive import AdaptiveConfig, AdaptiveDecoder
from model.captioner import Captioner
from model.decoder import Decoder
from model.training.activations import trunk_activations
from model.training.adaptive_likelihood import AdaptiveLikelihood
from model.training.attribute_origin import teach_attributes
from model.training.batches import Batches
from model.training.dataset import Sample, load_split
from model.training.detection import Truth
from model.training.distillation import Distillation
from model.training.fast_tail import make_tail
from model.training.likelihood import Likelihood
from model.training.loading import load_parts
from model.training.objective import Objective
from model.training.optimiser import freeze, make_average, make_optimiser
from model.training.origin import load_teachers, make_captioner, make_origin
from model.training.prefetch import Prefetch
from model.training.pretraining import pretrain
from model.training.processes import Processes
from model.training.recipe import Recipe
from model.training.reward import Reward
from model.training.self_critical import SelfCritical
from model.training.state import Position, RunState, check_same_run
from model.training.step import Stepper
from model.training.stopwatch import Stopwatch
from model.training.text import Imagination, read_sentences
from model.training.validation import Validation
from model.training.visible import VisibleWords
from model.training.word_vectors import begin_with_word_vectors

log = logging.getLogger(__name__)

CHECKPOINT = "checkpoint.safetensors"  # in a run's folder


class Trainer:
    """One training run. Making one loads the data and, where the run folder has a checkpoint, goes on from it."""

    def __init__(
        self,
        recipe: Recipe,
        data: Path | Sequence[Path],
        run: Path,
        device: torch.device,
        processes: Processes | None = None,
    ) -> None:
        """Of several `processes`, each makes its own trainer. Raises DatasetUnusable, OriginUnusable, RunMismatch."""
        self.recipe, self.run = recipe, run
        self.processes = processes or Processes(device)
        folders = [data] if isinstance(data, Path) else list(data)
        self.train_samples = [sample for folder in folders for sample in load_split(folder, "train")]
        sentences = read_sentences(folders[0], recipe.text.files) if recipe.text else []
        self.origin = make_origin(recipe, self.train_samples, sentences)
        self.captioner = make_captioner(recipe, self.train_samples, run.parent, self.origin)
        checkpoint, identity = run / CHECKPOINT, self._identity()
        check_same_run(checkpoint, identity)  # before the work that follows
        self.captioner.to(self.processes.device)
        freeze(self.captioner, recipe)
        self.processes.share(self.captioner)
        self.batches = Batches(
            self.train_samples,
            self.captioner.vocabulary,
            views=recipe.views,
            size=recipe.images_per_step,
            max_words=recipe.max_words,
            seed=recipe.seed,
        )
        self.activations = self._activations(self.train_samples, recipe.views)
        self._hasten(self.captioner)
        self.validations = [self._validation(load_split(folder, "val")) for folder in folders]
        self.imagination = self._imagination(sentences)
        if not checkpoint.is_file():
            self._prepare(folders[0])
        optimiser, self.average = make_optimiser(self.captioner, recipe), make_average(self.captioner, recipe.ema)
        self._hasten(cast(Captioner, self.average.module))
        self.stepper = Stepper(
            recipe,
            self._objective(),
            self.captioner,
            self.average,
            optimiser,
            self.processes,
            steps_per_epoch=len(self.batches),
        )
        self.position = Position()
        self.state = RunState(checkpoint, identity, self.captioner, self.average, optimiser, self.position, Stopwatch())
        if checkpoint.is_file():
            self.state.restore()
            log.info("going on from epoch %d, step %d", self.position.epoch, self.position.step)

    def fit(self) -> float:
        """Train until the recipe's end or until patience is over. Returns the best CIDEr on `val`."""
        at, recipe, averaged = self.position, self.recipe, cast(Captioner, self.average.module)
        self.state.stopwatch.start()
        self.run.mkdir(parents=True, exist_ok=True)
        with SummaryWriter(str(self.run / "logs")) if self.processes.is_first else nullcontext() as writer:
            while at.epoch < recipe.epochs and at.epoch - at.best_epoch <= recipe.patience:
                waiting = self._train_epoch(writer)
                ciders = [validation.cider(averaged) for validation in self.validations]
                cider = sum(ciders) / len(ciders)
                if cider > at.best_cider:
                    at.best_cider, at.best_epoch = cider, at.epoch
                    if self.processes.is_first:
                        averaged.save(self.run / "best")
                if writer is not None:
                    writer.add_scalar("val/cider", cider, at.epoch)
                    log.info(
                        "epoch %d: CIDEr on val %s (best so far %.4f); %.1f %% of the time was waiting for data",
                        at.epoch,
                        ", ".join(f"{cider:.4f}" for cider in ciders),
                        at.best_cider,
                        100 * waiting,
                    )
                at.epoch, at.step = at.epoch + 1, 0
                self._save()
        return at.best_cider

    def _train_epoch(self, writer: SummaryWriter | None) -> float:
        """The rest of the epoch. Returns the share of the time that went by in waiting for data."""
        at = self.position
        self.captioner.train()
        batches = self.batches.epoch(at.epoch, first=at.step)
        loaded = Prefetch(load_parts(batches, self.activations, self.processes, accumulate=self.recipe.accumulate))
        began = time.perf_counter()
        for parts in tqdm(
            loaded,
            desc=f"epoch {at.epoch}",
            total=len(self.batches),
            initial=at.step,
            unit="step",
            mininterval=1,
            disable=not self.processes.is_first,
        ):
            figures = self.stepper.step(parts, at.epoch, at.step)
            at.step += 1
            if writer is not None:
                for name, figure in figures.items():
                    writer.add_scalar(f"train/{name}", figure, at.epoch * len(self.batches) + at.step)
            if at.step % self.recipe.checkpoint_steps == 0:
                self._save()
        return loaded.waited / (time.perf_counter() - began)

    def _prepare(self, data: Path) -> None:
        """All that a new captioner learns before the first step."""
        recipe, vocabulary = self.recipe, self.captioner.vocabulary
        if self.origin:
            self.origin.prepare(self.captioner, self.activations)
        if recipe.attributes:
            teach_attributes(self.captioner, self.train_samples, self.activations, recipe)
        decoder = cast(Decoder, self.captioner.decoder)  # for all that follows the recipe asks for this kind
        if recipe.word_vectors:
            captions = [caption for sample in self.train_samples for caption in sample.captions]
            text = chain(captions, *read_sentences(data, recipe.word_vectors.files))
            begin_with_word_vectors(decoder.embedding, vocabulary, text, recipe.word_vectors)
        if recipe.pretraining:
            text = chain(*read_sentences(data, recipe.pretraining.files))
            pretrain(decoder, vocabulary, text, recipe.pretraining, max_words=recipe.max_words, seed=recipe.seed)

    def _objective(self) -> Objective:
        likelihood, recipe = self._likelihood(), self.recipe.self_critical
        if recipe is None:
            return likelihood
        reward = Reward(self.train_samples, self.captioner.vocabulary, count_end=recipe.count_end)
        return SelfCritical(recipe, reward, likelihood, self.recipe.max_words)

    def _likelihood(self) -> Objective:
        if isinstance(self.captioner.decoder, AdaptiveDecoder):
            return AdaptiveLikelihood(self.recipe, self.captioner.vocabulary, self.imagination, self._truth())
        likelihood, distillation = Likelihood(self.recipe), self.recipe.distillation
        if distillation is None:
            return likelihood
        teachers = load_teachers(distillation.teachers, self.captioner, self.run.parent)
        return Distillation(distillation.weight, [t.to(self.processes.device) for t in teachers], likelihood)

    def _truth(self) -> Truth | None:
        """What is in the training images, where the detector is a head on the tail and is trained with it."""
        config, vocabulary = self.captioner.config.decoder, self.captioner.vocabulary
        if not isinstance(config, AdaptiveConfig) or config.classes or not self.recipe.tail_learning_rate:
            return None
        visible = VisibleWords.of(self.train_samples, vocabulary, self.recipe.detection.min_images, classes=False)
        return Truth(self.train_samples, visible, frozenset(vocabulary.words))

    def _imagination(self, sentences: list[list[str]]) -> Imagination | None:
        decoder, detector, text = self.captioner.decoder, self.captioner.detector, self.recipe.text
        if text is None or detector is None or not isinstance(decoder, AdaptiveDecoder):
            return None
        return Imagination(
            sentences,
            self.captioner.vocabulary,
            decoder.seen_as.tolist(),
            sorted(set(detector.word_of_class.tolist()) - {detector.words}),
            detector.words,
            text,
            self.recipe.max_words,
        )

    def _validation(self, samples: list[Sample]) -> Validation:
        return Validation(self.recipe, samples, self._activations(samples, 1), self.processes)

    def _hasten(self, captioner: Captioner) -> None:
        """Compute the tail as is fastest."""
        if self.processes.device.type == "cpu" and isinstance(captioner.decoder, AdaptiveDecoder):
            captioner.tail = make_tail(captioner.encoder, self.activations.shape[-1])

    def _activations(self, samples: list[Sample], views: int) -> npt.NDArray[np.float16]:
        return trunk_activations(
            self.captioner.encoder,
            samples,
            image_size=self.recipe.captioner.image_size,
            views=views,
            seed=self.recipe.seed,
            bfloat16=self.recipe.bfloat16,
            cache=self.run.parent / "activations",
        )

    def _save(self) -> None:
        if self.processes.is_first:
            self.state.save()

    def _identity(self) -> dict[str, Any]:
        """What makes a run this one: the recipe, what it starts from, and the words that it learns."""
        captions = repr([(sample.name, sample.captions) for sample in self.train_samples])
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "origin": self.captioner.version,
            "captions": hashlib.sha256(captions.encode()).hexdigest(),
        }
