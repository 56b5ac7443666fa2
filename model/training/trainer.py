"""The training loop: steps, validation, checkpoints, early stopping.

The run folder gets the best captioner (`best/`), a checkpoint to resume from, and TensorBoard logs. Training reads the
splits `train` and `val` only.
"""

import hashlib
import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from model.decoding.options import DecodingOptions, Strategy
from model.network.adaptive import AdaptiveConfig, AdaptiveDecoder
from model.runtime.captioner import Captioner
from model.text.vocabulary import Vocabulary
from model.training.activations import trunk_activations
from model.training.batches import Batches, Prefetch, load_parts
from model.training.checkpoint import CHECKPOINT, Position, RunState, Stopwatch, check_same_run
from model.training.cider import quick_cider
from model.training.dataset import Sample, load_split
from model.training.detection import ImageWords
from model.training.fast_tail import make_tail
from model.training.initialise import AdaptiveOrigin, make_captioner, visible_words
from model.training.likelihood import AdaptiveLikelihood, Likelihood, Objective
from model.training.optimiser import Stepper, autocast, freeze, make_average, make_optimiser
from model.training.processes import Processes
from model.training.recipe import Recipe
from model.training.self_critical import Reward, SelfCritical
from model.training.text import Imagination, read_sentences

log = logging.getLogger(__name__)

_VALIDATION_BATCH = 64
_GREEDY = DecodingOptions(strategy=Strategy.GREEDY, repeatable=None)


class Trainer:
    """One training run. The constructor loads the data and resumes from a checkpoint in the run folder."""

    def __init__(
        self,
        recipe: Recipe,
        data: Path | Sequence[Path],
        run: Path,
        device: torch.device,
        processes: Processes | None = None,
    ) -> None:
        """`data` are one or more folders of data sets. The recipe's text is in the first.

        Each of several `processes` makes its own trainer. Raises DatasetUnusable, OriginUnusable, RunMismatch.
        """
        self.recipe, self.run = recipe, run
        self.processes = processes or Processes(device)
        folders = [data] if isinstance(data, Path) else list(data)
        self.train_samples = [sample for folder in folders for sample in load_split(folder, "train")]
        val_samples = [load_split(folder, "val") for folder in folders]
        sentences = read_sentences(folders[0], recipe.text.files) if recipe.text else []
        self.origin = AdaptiveOrigin.of(recipe, self.train_samples, sentences)
        self.captioner = make_captioner(recipe, self.train_samples, run.parent, self.origin)
        checkpoint, identity = run / CHECKPOINT, self._identity()
        check_same_run(checkpoint, identity)  # before anything slow
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
        self.validations = [self._validation(samples) for samples in val_samples]
        self._use_fast_tail(self.captioner)
        self.imagination = self._imagination(sentences)
        if self.origin and not checkpoint.is_file():
            self.origin.prepare(self.captioner, self.activations)
        optimiser, self.average = make_optimiser(self.captioner, recipe), make_average(self.captioner, recipe.ema)
        self._use_fast_tail(cast(Captioner, self.average.module))
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
            log.info("resuming at epoch %d, step %d", self.position.epoch, self.position.step)

    def fit(self) -> float:
        """Train until the recipe's last epoch or until its patience ends.

        Returns the best CIDEr on `val`, the mean over the data sets.
        """
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
                        "epoch %d: CIDEr on val %s (best so far %.4f); waited for data %.1f %% of the time",
                        at.epoch,
                        ", ".join(f"{cider:.4f}" for cider in ciders),
                        at.best_cider,
                        100 * waiting,
                    )
                at.epoch, at.step = at.epoch + 1, 0
                self._save()
        return at.best_cider

    def _train_epoch(self, writer: SummaryWriter | None) -> float:
        """Train the rest of the epoch. Returns the share of the time that was spent waiting for data."""
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

    def _objective(self) -> Objective:
        adaptive = isinstance(self.captioner.decoder, AdaptiveDecoder)
        likelihood: Objective = Likelihood(self.recipe)
        if adaptive:
            likelihood = AdaptiveLikelihood(
                self.recipe, self.captioner.vocabulary, self.imagination, self._image_words()
            )
        recipe = self.recipe.self_critical
        if recipe is None:
            return likelihood
        reward = Reward(self.train_samples, self.captioner.vocabulary, count_end=recipe.count_end)
        return SelfCritical(recipe, reward, likelihood, self.recipe.max_words)

    def _image_words(self) -> ImageWords | None:
        """Return what the word detector learns, if it works on a tail that is trained."""
        config, vocabulary = self.captioner.config.decoder, self.captioner.vocabulary
        if not isinstance(config, AdaptiveConfig) or config.classes or not self.recipe.tail_learning_rate:
            return None
        return ImageWords(self.train_samples, visible_words(self.recipe, self.train_samples, vocabulary), vocabulary)

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

    def _validation(self, samples: list[Sample]) -> "Validation":
        return Validation(
            self.recipe, self.captioner.vocabulary, samples, self._activations(samples, 1), self.processes
        )

    def _use_fast_tail(self, captioner: Captioner) -> None:
        """On a CPU, compute the tail as matrix products."""
        if self.processes.device.type == "cpu":
            dtype = torch.bfloat16 if self.recipe.bfloat16 else torch.float32
            captioner.tail = make_tail(captioner.encoder, self.activations.shape[-1], dtype)

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
        """Return what tells this run from others: the recipe, the captioner it starts from, and the captions."""
        captions = repr([(sample.name, sample.captions) for sample in self.train_samples])
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "origin": self.captioner.version,
            "captions": hashlib.sha256(captions.encode()).hexdigest(),
        }


class Validation:
    """Captions the images of `val` of one data set by greedy search, in its style. The processes share the work.

    `activations` (1, images, C', R', R') are those of the images.
    """

    def __init__(
        self,
        recipe: Recipe,
        vocabulary: Vocabulary,
        samples: list[Sample],
        activations: npt.NDArray[np.float16],
        processes: Processes,
    ) -> None:
        self._recipe, self._samples, self._activations, self._processes = recipe, samples, activations, processes
        style = samples[0].style
        self._options = replace(_GREEDY, style=style if style in vocabulary.styles else None)

    @torch.inference_mode()
    def cider(self, captioner: Captioner) -> float:
        """Compute CIDEr-D, on our own tokens, of freely written captions. All processes get the same number."""
        vocabulary = captioner.vocabulary
        most = vocabulary.max_tokens(_GREEDY.max_words)
        tokens = torch.zeros(len(self._samples), most, dtype=torch.long)  # <pad>, which no caption contains
        mine = np.arange(len(self._samples))[self._processes.rank :: self._processes.count]
        chunks = [mine[start : start + _VALIDATION_BATCH] for start in range(0, len(mine), _VALIDATION_BATCH)]
        for images, trunk in Prefetch((chunk, torch.from_numpy(self._activations[0, chunk])) for chunk in chunks):
            with autocast(self._recipe, self._processes.device):
                encoded = captioner.encode_features(
                    captioner.extract_features(trunk.to(self._processes.device).float())
                )
                written = captioner.generate(encoded, self._options)
            for image, (caption,) in zip(images, written, strict=True):
                said = vocabulary.encode(caption.text)
                tokens[image, : len(said)] = torch.tensor(said)
        tokens = tokens.to(self._processes.device)
        self._processes.sum(tokens)  # in all processes but one a row is 0
        captions = {
            sample.name: vocabulary.decode([token for token in row if token])
            for sample, row in zip(self._samples, tokens.tolist(), strict=True)
        }
        references = {sample.name: sample.captions for sample in self._samples}
        return self._processes.agree(quick_cider(captions, references))
