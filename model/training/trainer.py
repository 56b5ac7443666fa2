"""The training loop: teacher forcing, averaged weights, early stopping on the CIDEr of captions written freely.

In: a recipe, a data folder and a run folder; out: in the run folder the best captioner (`best/`), a checkpoint to
resume from, and TensorBoard logs. Only the splits `train` and `val` are ever read.
"""

import hashlib
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter
from tqdm import tqdm

from model.captioner import Captioner
from model.characters import VOCABULARIES
from model.encoder import load_imagenet_lite2
from model.evaluation.scores import quick_cider
from model.options import DecodingOptions, Strategy
from model.training.activations import trunk_activations
from model.training.batches import Batch, Batches
from model.training.checkpoint import read_checkpoint, read_record, with_prefix, without_prefix, write_checkpoint
from model.training.dataset import Sample, load_split
from model.training.loss import caption_loss
from model.training.optimiser import make_average, make_optimiser, rate_factor, trained_parameters
from model.training.recipe import Recipe
from model.training.stopwatch import Stopwatch

log = logging.getLogger(__name__)

_VALIDATION_BATCH = 64
_GREEDY = DecodingOptions(strategy=Strategy.GREEDY, repeatable=None)


class RunMismatch(Exception):
    """The run folder holds a run of another recipe, or of other data. The message is one line."""


class Trainer:
    """One training run. Making one loads the data and, where the run folder has a checkpoint, goes on from it."""

    def __init__(self, recipe: Recipe, data: Path, run: Path, device: torch.device) -> None:
        self.recipe, self.run, self.device = recipe, run, device
        self.train_samples, self.val_samples = load_split(data, "train"), load_split(data, "val")
        vocabulary = VOCABULARIES[recipe.captioner.tokens].from_sentences(
            (caption for sample in self.train_samples for caption in sample.captions), recipe.min_word_count
        )
        self.checkpoint = run / "checkpoint.safetensors"
        if self.checkpoint.is_file():
            self._check_same_run()  # before the work that follows
        torch.manual_seed(recipe.seed)
        self.captioner = Captioner(recipe.captioner, vocabulary, recipe.tail_stages)
        if recipe.captioner.encoder == "tf_efficientnet_lite2":
            load_imagenet_lite2(self.captioner.encoder)
        self.captioner.to(device)
        self.batches = Batches(
            self.train_samples,
            vocabulary,
            views=recipe.views,
            size=recipe.images_per_step,
            max_words=recipe.max_words,
            seed=recipe.seed,
        )
        self.train_activations = self._activations(self.train_samples, recipe.views)
        self.val_activations = self._activations(self.val_samples, 1)
        self.optimiser = make_optimiser(self.captioner, recipe)
        self.rates = [group["lr"] for group in self.optimiser.param_groups]
        self.average = make_average(self.captioner, recipe.ema)
        self.epoch, self.step = 0, 0  # the batch that is next
        self.best_cider, self.best_epoch = -1.0, -1
        self.stopwatch = Stopwatch()  # of training, validation included
        if self.checkpoint.is_file():
            self._resume()

    def fit(self) -> float:
        """Train until the recipe's end or until patience is over. Returns the best CIDEr on `val`."""
        self.run.mkdir(parents=True, exist_ok=True)
        self.stopwatch.start()
        with SummaryWriter(str(self.run / "logs")) as writer:
            while self.epoch < self.recipe.epochs and self.epoch - self.best_epoch <= self.recipe.patience:
                self._train_epoch(writer)
                cider = self.validate()
                writer.add_scalar("val/cider", cider, self.epoch)
                log.info("epoch %d: CIDEr on val %.4f (best so far %.4f)", self.epoch, cider, self.best_cider)
                if cider > self.best_cider:
                    self.best_cider, self.best_epoch = cider, self.epoch
                    cast(Captioner, self.average.module).save(self.run / "best")
                self.epoch, self.step = self.epoch + 1, 0
                self._save()
        return self.best_cider

    @torch.inference_mode()
    def validate(self) -> float:
        """CIDEr of what the averaged weights say of `val` in greedy search, without being told any true word."""
        captioner = cast(Captioner, self.average.module)
        captions: dict[str, str] = {}
        for start in range(0, len(self.val_samples), _VALIDATION_BATCH):
            images = np.arange(start, min(start + _VALIDATION_BATCH, len(self.val_samples)))
            with self._autocast():
                grid = self._grid(captioner, self.val_activations, np.zeros_like(images), images)
                written = captioner.write(captioner.decoder.memorise(grid), _GREEDY)
            for image, (caption,) in zip(images, written, strict=True):
                captions[self.val_samples[image].name] = caption.text
        return quick_cider(captions, {sample.name: sample.captions for sample in self.val_samples})

    def _train_epoch(self, writer: SummaryWriter) -> None:
        self.captioner.train()
        for batch in self._progress():
            loss = self._train_step(batch)
            self.step += 1
            step = self.epoch * len(self.batches) + self.step
            writer.add_scalar("train/loss", loss, step)
            if self.step % self.recipe.checkpoint_steps == 0:
                self._save()

    def _progress(self) -> Iterator[Batch]:
        rest = self.batches.epoch(self.epoch, first=self.step)
        return iter(
            tqdm(
                rest,
                desc=f"epoch {self.epoch}",
                total=len(self.batches),
                initial=self.step,
                unit="step",
                mininterval=1,
            )
        )

    def _train_step(self, batch: Batch) -> float:
        recipe = self.recipe
        factor = rate_factor(
            self.epoch * len(self.batches) + self.step, recipe.epochs * len(self.batches), recipe.warmup_steps
        )
        for group, rate in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = rate * factor
        with self._autocast():
            grid = self._grid(self.captioner, self.train_activations, batch.views, batch.images)
            memory = self.captioner.decoder.memorise(grid)
            logits, attention = self.captioner.decoder(memory, batch.inputs.to(self.device))
            loss = caption_loss(
                logits,
                attention,
                batch.targets.to(self.device),
                label_smoothing=recipe.label_smoothing,
                doubly_stochastic=recipe.doubly_stochastic,
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained_parameters(self.captioner), recipe.gradient_norm)
        self.optimiser.step()
        self.average.update_parameters(self.captioner)
        return loss.item()

    def _grid(
        self,
        captioner: Captioner,
        activations: npt.NDArray[np.float16],
        views: npt.NDArray[np.int64],
        images: npt.NDArray[np.int64],
    ) -> torch.Tensor:
        """The annotation grids (B, C, R, R) of images in the given views: the tail over what the trunk said."""
        trunk = torch.from_numpy(activations[views, images]).to(self.device)
        return captioner.encoder.tail(trunk.float())

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

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.recipe.bfloat16)

    def _save(self) -> None:
        optimiser = self.optimiser.state_dict()
        tensors = with_prefix("captioner", self.captioner.state_dict())
        tensors |= with_prefix("average", self.average.state_dict())
        for number, state in optimiser["state"].items():
            tensors |= with_prefix(f"optimiser.{number}", state)
        tensors["chance"] = torch.get_rng_state()
        if self.device.type == "cuda":
            tensors["chance_cuda"] = torch.cuda.get_rng_state(self.device)
        record = {
            "run": self._identity(),
            "epoch": self.epoch,
            "step": self.step,
            "best_cider": self.best_cider,
            "best_epoch": self.best_epoch,
            "time": self.stopwatch.read(),
        }
        write_checkpoint(self.checkpoint, tensors, record)

    def _identity(self) -> dict[str, Any]:
        """What makes a run this one: the recipe, and the words that it learns."""
        captions = repr([(sample.name, sample.captions) for sample in self.train_samples])
        return {
            "recipe": self.recipe.model_dump(mode="json"),
            "captions": hashlib.sha256(captions.encode()).hexdigest(),
        }

    def _check_same_run(self) -> None:
        if read_record(self.checkpoint)["run"] != self._identity():
            raise RunMismatch(f"{self.run} holds a run of another recipe or data: choose another --run, or remove it")

    def _resume(self) -> None:
        tensors, record = read_checkpoint(self.checkpoint)
        self.captioner.load_state_dict(without_prefix("captioner", tensors))
        self.average.load_state_dict(without_prefix("average", tensors))
        optimiser = self.optimiser.state_dict()
        states = without_prefix("optimiser", tensors)
        numbers = {name.partition(".")[0] for name in states}
        optimiser["state"] = {int(number): without_prefix(number, states) for number in numbers}
        self.optimiser.load_state_dict(optimiser)
        torch.set_rng_state(tensors["chance"])
        if self.device.type == "cuda":
            torch.cuda.set_rng_state(tensors["chance_cuda"], self.device)
        self.epoch, self.step = record["epoch"], record["step"]
        self.best_cider, self.best_epoch = record["best_cider"], record["best_epoch"]
        self.stopwatch.resume(record["time"])
        log.info("going on from epoch %d, step %d", self.epoch, self.step)
