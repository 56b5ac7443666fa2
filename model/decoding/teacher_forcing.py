"""Teacher forcing: the decoder is told the words, whatever it would have said, and we see what it makes of them.

In: a decoder, what it remembers of the images, and words; out: log-probabilities, attention, and the state after the
last word, from which a sentence can be written on. It must not know what the words are for.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.decoding.caption import Caption
from model.decoding.detokenize import Detokenizer, read_off
from model.decoding.streaming import ListenerBridge
from model.network.cells import State
from model.network.decoder import StepDecoder
from model.network.encoded_images import EncodedImages
from model.text.vocabulary import END, PAD, START, Vocabulary, split_words


@dataclass(frozen=True, slots=True)
class ForcedTokens:
    """T words that each of B images was told."""

    tokens: torch.Tensor  # (B, T)
    logprobs: torch.Tensor  # (B, T), float32
    attention: torch.Tensor  # (B, T, L), float32
    previous: torch.Tensor  # (B, 1): the last word, or <start> when there was none
    state: State  # after that word, of one row an image

    def state_of(self, rows: int) -> State:
        """The state after the last word, the same for all `rows` of an image."""
        return self.state.widened(rows)

    def of(self, images: torch.Tensor) -> "ForcedTokens":
        """What some of the images were told."""
        return ForcedTokens(
            tokens=self.tokens[images],
            logprobs=self.logprobs[images],
            attention=self.attention[images],
            previous=self.previous[images],
            state=self.state.images(images),
        )

    def tokens_of(self, rows: int) -> torch.Tensor:
        """The words (B, rows, T), the same for all `rows` of an image."""
        return self.tokens.unsqueeze(1).expand(-1, rows, -1)


@torch.inference_mode()
def teacher_force(
    decoder: StepDecoder, encoded: EncodedImages, tokens: torch.Tensor, bridge: ListenerBridge | None = None
) -> ForcedTokens:
    """Tell each image its `tokens` (B, T), which T = 0 leaves at the start of a sentence. Reports to `bridge`."""
    places = encoded.annotations.shape[1]
    logprobs = torch.empty(tokens.shape, device=tokens.device)
    attention = torch.empty((*tokens.shape, places), device=tokens.device)
    previous = torch.full((encoded.images, 1), START, device=tokens.device)
    state = decoder.start(encoded, rows=1)
    for step, token in enumerate(tokens.unbind(dim=1)):  # (B,)
        logits, state, weights = decoder.step(previous, state, encoded)
        previous = token.unsqueeze(1)
        logprob = logits.log_softmax(dim=2).gather(2, previous.unsqueeze(2)).squeeze(2)  # (B, 1)
        logprobs[:, step], attention[:, step] = logprob[:, 0], weights[:, 0]
        if bridge is not None:
            bridge.step(previous, logprob, weights)
    return ForcedTokens(tokens, logprobs, attention, previous, state)


def force_prefix(
    decoder: StepDecoder, encoded: EncodedImages, prefix: Sequence[int], bridge: ListenerBridge | None
) -> ForcedTokens:
    """Tell every image the same words, which may be none."""
    tokens = torch.tensor(prefix, dtype=torch.long, device=encoded.annotations.device)
    return teacher_force(decoder, encoded, tokens.expand(encoded.images, -1), bridge)


@torch.inference_mode()
def score(
    decoder: StepDecoder, vocabulary: Vocabulary, encoded: EncodedImages, sentences: Sequence[str]
) -> list[Caption]:
    """Teacher forcing of all sentences in one batch; each is taken to end after its last word.

    Raises ValueError for a sentence without any word, and for more or fewer sentences than images.
    """
    if len(sentences) != encoded.images:
        raise ValueError(f"there must be a sentence for each image: {len(sentences)} for {encoded.images}")
    if not sentences:
        return []
    tokens = [vocabulary.encode(sentence) for sentence in sentences]
    if not all(tokens):
        raise ValueError("a sentence must have at least one word")
    longest = max(map(len, tokens))
    padded = [[*row, END, *[PAD] * (longest - len(row))] for row in tokens]
    forced = teacher_force(decoder, encoded, torch.tensor(padded, dtype=torch.long, device=encoded.annotations.device))
    totals = forced.logprobs.masked_fill(forced.tokens == PAD, 0.0).sum(dim=1)
    one_row = [part.unsqueeze(1) for part in (forced.tokens, forced.logprobs, forced.attention, totals)]
    return [
        Detokenizer(vocabulary, encoded, split_words(sentence)).caption(image, hypothesis)
        for image, (sentence, (hypothesis,)) in enumerate(zip(sentences, read_off(*one_row), strict=True))
    ]
