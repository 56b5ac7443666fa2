"""Self-critical sequence training (Rennie et al., 2017): make captions with a high CIDEr-D more probable.

For each image some captions are sampled. Each becomes more or less probable by how much its reward exceeds a baseline:
REINFORCE (Williams, 1992).
"""

from collections.abc import Sequence
from dataclasses import replace

import torch

from model.decoding.beam_search import beam_search
from model.decoding.constraints import Constraints
from model.decoding.sampling import sample, uniform_numbers
from model.network.decoder import BaseDecoder
from model.network.encoded_images import EncodedImages
from model.runtime.captioner import Captioner, EncoderOutput
from model.text.vocabulary import END, PAD, Vocabulary, split_words
from model.training.batches import Batch, pad_captions
from model.training.cider import CiderD, References
from model.training.dataset import Sample
from model.training.likelihood import Objective
from model.training.recipe import SelfCriticalRecipe
from model.training.views import is_mirrored, view_caption


class SelfCritical:
    """The objective: `weight` of the self-critical loss and 1 - `weight` of `likelihood`.

    Captions are sampled without a gradient and then scored by teacher forcing with one. Both passes run without
    dropout: a caption must become more probable under the distribution that it was drawn from, which is also the one
    that is used later. The likelihood keeps its dropout.
    """

    figures: Sequence[str] = ("loss", "reward", "likelihood_loss")

    def __init__(self, recipe: SelfCriticalRecipe, reward: "Reward", likelihood: Objective, max_words: int) -> None:
        self._recipe, self._reward, self._likelihood, self._max_words = recipe, reward, likelihood, max_words

    def shares(self, captioner: Captioner, seen: EncoderOutput, part: Batch, epoch: int) -> dict[str, torch.Tensor]:
        """See Objective. "reward" is the mean reward of the sampled captions."""
        recipe, decoder, whole = self._recipe, captioner.decoder, part.whole
        likelihood = self._likelihood.shares(captioner, seen, part, epoch)["loss"]
        decoder.eval()
        first = part.inputs[:, 0, :1]  # <start>, or the token of the image's style
        encoded = replace(captioner.encode_features(seen), first=first)
        device = encoded.annotations.device
        sampled = self._sample(decoder, encoded, part)
        rewards = self._rewards(part, sampled).to(device)  # (B, R)
        padded = pad_captions(sampled, self._max_words, first.flatten().tolist())
        inputs, targets = (tensor.to(device) for tensor in padded)
        logits, _ = decoder(encoded, inputs)
        advantages = rewards - self._baseline(decoder, encoded, part, rewards)
        decoder.train()
        logprobs = sampled_logprobs(logits / recipe.temperature, targets).sum(dim=2)  # (B, R)
        # Per word, to be as large as the likelihood's loss. The length is that of people's captions: division by a
        # sampled caption's own length would make long captions cheaper.
        samples, length = whole.images * recipe.samples, whole.words / whole.captions
        critical = -(advantages * logprobs).sum() / (samples * length)
        return {
            "loss": recipe.weight * critical + (1 - recipe.weight) * likelihood,
            "reward": rewards.sum() / samples,
            "likelihood_loss": likelihood.detach(),
        }

    def _sample(self, decoder: BaseDecoder, encoded: EncodedImages, part: Batch) -> list[list[list[int]]]:
        """Sample token ids, by image and sample. A caption that has not ended has `max_words` + 1 tokens."""
        uniform = uniform_numbers(part.seeds.tolist(), self._recipe.samples, self._max_words + 1)
        with _no_autocast_cache(encoded):
            found = sample(decoder, encoded, uniform=uniform, temperature=self._recipe.temperature)
        return [[hypothesis.tokens for hypothesis in hypotheses] for hypotheses in found]

    def _baseline(
        self, decoder: BaseDecoder, encoded: EncodedImages, part: Batch, rewards: torch.Tensor
    ) -> torch.Tensor:
        """Compute the baseline of the samples' `rewards` (B, R): (B, R), or (B, 1) if all samples share it."""
        if self._recipe.baseline == "others":
            others = rewards.shape[1] - 1
            return (rewards.sum(dim=1, keepdim=True) - rewards) / others
        with _no_autocast_cache(encoded):
            found = beam_search(decoder, encoded, beam_size=1, max_words=self._max_words + 1)
        greedy = [[hypothesis.tokens for hypothesis in hypotheses] for hypotheses in found]
        return self._rewards(part, greedy).to(rewards.device)

    def _rewards(self, part: Batch, captions: list[list[list[int]]]) -> torch.Tensor:
        """Compute the reward (B, R) of each caption."""
        limit = self._max_words
        return torch.tensor(
            [
                [self._reward(image, view, tokens[:limit], ended=len(tokens) <= limit) for tokens in rows]
                for image, view, rows in zip(part.images.tolist(), part.views.tolist(), captions, strict=True)
            ]
        )


def sampled_logprobs(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Compute the log-probabilities (B, R, T) with which `targets` (B, R, T) were drawn; 0 for <pad>.

    Sampling follows decoding/constraints.py, so forbidden words have no part in the distribution of `logits`
    (B, R, T, V).
    """
    steps, vocabulary_size = logits.shape[2:]
    forbidden = torch.zeros(1, steps, vocabulary_size, device=logits.device)
    constraints = Constraints(None, logits.device)
    tokens = torch.empty(1, steps, steps, dtype=torch.long, device=logits.device)
    constraints.apply(forbidden[:, :1], tokens[:, :1, :0])
    constraints.apply(forbidden[:, 1:], tokens[:, 1:, :1])
    logprobs = (logits + forbidden).log_softmax(dim=3).gather(3, targets.unsqueeze(3)).squeeze(3)
    return logprobs.masked_fill(targets == PAD, 0.0)


def _no_autocast_cache(encoded: EncodedImages) -> torch.autocast:
    """Keep autocast as it is, but without its cache: weights that are cast without a gradient would stay without."""
    device = encoded.annotations.device.type
    return torch.autocast(device, enabled=torch.is_autocast_enabled(device), cache_enabled=False)


class Reward:
    """CIDEr-D against the captions of a training image, with the document frequencies of the training split.

    With `count_end`, <end> is a word like any other. Without it, a caption that stops after "with a" loses no more
    than one that ends well, because missing n-grams cost little, and training soon exploits that.
    """

    def __init__(self, samples: Sequence[Sample], vocabulary: Vocabulary, *, count_end: bool) -> None:
        self._vocabulary, self._count_end = vocabulary, count_end
        self._samples = samples
        # Words outside the vocabulary stay different words here: as <unk> they would all be the same.
        self._unknown: dict[str, int] = {}
        documents = [self._references(sample.captions) for sample in samples]
        self._cider = CiderD(documents, len(vocabulary) + len(self._unknown))
        self._prepared: dict[tuple[int, bool], References] = {}

    def __call__(self, image: int, view: int, words: Sequence[int], *, ended: bool) -> float:
        """Score `words`, token ids without <end>, as a caption of `view` of training image number `image`."""
        key = (image, is_mirrored(view))
        if key not in self._prepared:
            captions = [view_caption(caption, view) for caption in self._samples[image].captions]
            self._prepared[key] = self._cider.prepare(self._references(captions))
        return self._cider.score([*words, END] if ended and self._count_end else words, self._prepared[key])

    def _references(self, captions: Sequence[str]) -> list[list[int]]:
        end = [END] if self._count_end else []
        return [[*map(self._token, split_words(caption)), *end] for caption in captions]

    def _token(self, word: str) -> int:
        known = self._vocabulary.token(word)
        if known is not None:
            return known
        return self._unknown.setdefault(word, len(self._vocabulary) + len(self._unknown))
