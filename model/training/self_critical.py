"""Self-critical sequence training (Rennie et al., 2017): captions that people would score higher become more probable.

In: a part of a batch; out: its loss. For each image some captions are sampled, and each is made more or less probable
by how much better its reward is than a baseline: REINFORCE (Williams, 1992). It must not know how rewards come about.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from model.captioner import Captioner, Seen
from model.decoder import AnyDecoder
from model.memory import Memory
from model.rules import Rules
from model.sampling import sample, uniform_numbers
from model.search import beam_search
from model.training.batches import Batch, pad_captions
from model.training.objective import Objective
from model.training.recipe import SelfCriticalRecipe
from model.training.reward import Reward
from model.vocabulary import PAD


class SelfCritical:
    """The objective: `weight` of the self-critical loss and 1 - `weight` of `likelihood`.

    Captions are sampled without a gradient, and then told to the decoder once more to get one. Both passes are without
    dropout: a caption must be made more probable under the distribution that it was drawn from, and that should be the
    one of later use. The likelihood has its dropout as ever.
    """

    figures: Sequence[str] = ("loss", "reward", "likelihood_loss")

    def __init__(self, recipe: SelfCriticalRecipe, reward: Reward, likelihood: Objective, max_words: int) -> None:
        self._recipe, self._reward, self._likelihood, self._max_words = recipe, reward, likelihood, max_words

    def shares(self, captioner: Captioner, seen: Seen, part: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """As Objective.shares has it: the loss, the mean reward of what was sampled, and the likelihood's loss."""
        recipe, decoder, whole = self._recipe, captioner.decoder, part.whole
        likelihood = self._likelihood.shares(captioner, seen, part, epoch)["loss"]
        decoder.eval()
        first = part.inputs[:, 0, :1]  # <start>, or the token of the style that its captions are in
        memory = replace(captioner.memorise(seen), first=first)
        device = memory.annotations.device
        sampled = self._sample(decoder, memory, part)
        rewards = self._rewards(part, sampled).to(device)  # (B, R)
        inputs, targets = (
            tensor.to(device) for tensor in pad_captions(sampled, self._max_words, first.flatten().tolist())
        )
        logits, _ = decoder(memory, inputs)
        advantages = rewards - self._baseline(decoder, memory, part, rewards)
        decoder.train()
        logprobs = sampled_logprobs(logits / recipe.temperature, targets).sum(dim=2)  # (B, R)
        # As if a word, to be of the likelihood's size; but by the length of people's captions, since to divide by the
        # sampled one's own would make long captions cheaper.
        samples, length = whole.images * recipe.samples, whole.words / whole.captions
        critical = -(advantages * logprobs).sum() / (samples * length)
        return {
            "loss": recipe.weight * critical + (1 - recipe.weight) * likelihood,
            "reward": rewards.sum() / samples,
            "likelihood_loss": likelihood.detach(),
        }

    def _sample(self, decoder: AnyDecoder, memory: Memory, part: Batch) -> list[list[list[int]]]:
        """Token ids by image and sample; those that have not ended are one word longer than `max_words`."""
        uniform = uniform_numbers(part.seeds.tolist(), self._recipe.samples, self._max_words + 1)
        with _no_autocast_cache(memory):
            found = sample(decoder, memory, uniform=uniform, temperature=self._recipe.temperature)
        return [[hypothesis.tokens for hypothesis in hypotheses] for hypotheses in found]

    def _baseline(self, decoder: AnyDecoder, memory: Memory, part: Batch, rewards: torch.Tensor) -> torch.Tensor:
        """What the samples' `rewards` (B, R) are measured against: (B, R), or (B, 1) where it is the same for all."""
        if self._recipe.baseline == "others":
            others = rewards.shape[1] - 1
            return (rewards.sum(dim=1, keepdim=True) - rewards) / others
        with _no_autocast_cache(memory):
            found = beam_search(decoder, memory, beams=1, max_words=self._max_words + 1)
        greedy = [[hypothesis.tokens for hypothesis in hypotheses] for hypotheses in found]
        return self._rewards(part, greedy).to(rewards.device)

    def _rewards(self, part: Batch, captions: list[list[list[int]]]) -> torch.Tensor:
        """(B, R)"""
        limit = self._max_words
        return torch.tensor(
            [
                [self._reward(image, view, tokens[:limit], ended=len(tokens) <= limit) for tokens in rows]
                for image, view, rows in zip(part.images.tolist(), part.views.tolist(), captions, strict=True)
            ]
        )


def sampled_logprobs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Log-probabilities (B, R, T) of `targets` (B, R, T) under `logits` (B, R, T, V), as they were drawn; 0 for <pad>.

    Sampling keeps to model/rules.py, so the words that may not be said have no part in the distribution.
    """
    steps, vocabulary_size = logits.shape[2:]
    forbidden = torch.zeros(1, steps, vocabulary_size, device=logits.device)
    rules, said = Rules(None, logits.device), torch.empty(1, steps, steps, dtype=torch.long, device=logits.device)
    rules.apply(forbidden[:, :1], said[:, :1, :0])
    rules.apply(forbidden[:, 1:], said[:, 1:, :1])
    logprobs = (logits + forbidden).log_softmax(dim=3).gather(3, targets.unsqueeze(3)).squeeze(3)
    return logprobs.masked_fill(targets == PAD, 0.0)


def _no_autocast_cache(memory: Memory) -> torch.autocast:
    """Autocast as it is, but that weights cast to bfloat16 are not kept: cast without a gradient, they have none."""
    device = memory.annotations.device.type
    return torch.autocast(device, enabled=torch.is_autocast_enabled(device), cache_enabled=False)
