"""The decoder as a language model first: it learns to write from text alone, before it is shown any picture.

In: a new decoder and sentences; out: the same decoder, trained. Where the picture would be there is nothing, so what
looks at pictures learns nothing from this. It must not know of images.
"""

from collections.abc import Iterable, Iterator

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import nn
from tqdm import tqdm

from model.decoder import Decoder
from model.training.batches import pad_captions
from model.training.loss import caption_loss
from model.vocabulary import UNKNOWN, Vocabulary


class PretrainingRecipe(BaseModel):
    """Settings of learning to write from text alone."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    files: list[str] = ["flickr30k.txt.gz", "coco.txt.gz"]  # in the folder text/ of the data
    sentences_per_step: int = Field(160, ge=1)
    steps: int = Field(1000, ge=1)  # or until every sentence was read once
    learning_rate: float = Field(1.5e-3, gt=0)  # at its highest


def pretrain(
    decoder: Decoder,
    vocabulary: Vocabulary,
    sentences: Iterable[str],
    recipe: PretrainingRecipe,
    *,
    max_words: int,
    seed: int,
) -> float:
    """Train `decoder` on those of `sentences` of which at most one word is unknown; longer ones are cut.

    Returns the mean loss of the last tenth of the steps, in nats a word.
    """
    lines = (vocabulary.encode(sentence) for sentence in sentences)
    tokens = [line for line in lines if line and line.count(UNKNOWN) <= 1]
    batches = list(_batches(tokens, recipe.sentences_per_step, seed))[: recipe.steps]
    optimiser = torch.optim.AdamW(decoder.parameters(), recipe.learning_rate, betas=(0.9, 0.98))
    rate = torch.optim.lr_scheduler.OneCycleLR(
        optimiser, recipe.learning_rate, total_steps=len(batches), pct_start=0.1, cycle_momentum=False
    )
    torch.manual_seed(seed)
    decoder.train()
    losses = []
    for batch in tqdm(batches, desc="language model", unit="step", mininterval=1):
        inputs, targets = (
            tensor.to(decoder.output_bias.device) for tensor in pad_captions([[t] for t in batch], max_words)
        )
        logits, attention = decoder(decoder.blank(len(batch)), inputs)
        loss = caption_loss(logits, attention, targets, label_smoothing=0.0, doubly_stochastic=0.0)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        optimiser.step()
        rate.step()
        losses.append(loss.item())
    return float(np.mean(losses[-max(1, len(losses) // 10) :]))


def _batches(tokens: list[list[int]], size: int, seed: int) -> Iterator[list[list[int]]]:
    """All of `tokens` once, in a random order, but those of nearly the same length together, to pad little."""
    chance = np.random.default_rng(seed)
    order = sorted(chance.permutation(len(tokens)).tolist(), key=lambda number: len(tokens[number]))
    starts = np.arange(0, len(order), size)
    for start in chance.permutation(starts).tolist():
        yield [tokens[number] for number in order[start : start + size]]
