"""Teacher forcing: feed given words to the decoder, and read off their log-probabilities and attention."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from model.decoding.caption import Caption
from model.decoding.detokenize import Detokenizer, to_hypotheses
from model.decoding.streaming import ListenerBridge
from model.network.cells import State
from model.network.decoder import StepDecoder
from model.network.encoded_images import EncodedImages
from model.text.vocabulary import END, PAD, START, Vocabulary, split_words


@dataclass(frozen=True, slots=True)
class ForcedTokens:
    """The result of forcing T tokens on each of B images."""

    tokens: torch.Tensor  # (B, T)
    logprobs: torch.Tensor  # (B, T), float32
    attention: torch.Tensor  # (B, T, L), float32
    previous: torch.Tensor  # (B, 1): the last token, or the one that starts the sentence if T = 0
    state: State  # after the last token, with one row per image

    def expand_state(self, rows: int) -> State:
        """Return the state after the last token, expanded to `rows` rows per image."""
        return self.state.widened(rows)

    def select(self, images: torch.Tensor) -> "ForcedTokens":
        """Return the result for some of the images."""
        return ForcedTokens(
            tokens=self.tokens[images],
            logprobs=self.logprobs[images],
            attention=self.attention[images],
            previous=self.previous[images],
            state=self.state.images(images),
        )

    def expand_tokens(self, rows: int) -> torch.Tensor:
        """Return the tokens (B, rows, T), expanded to `rows` rows per image."""
        return self.tokens.unsqueeze(1).expand(-1, rows, -1)


@torch.inference_mode()
def teacher_force(
    decoder: StepDecoder, encoded: EncodedImages, tokens: torch.Tensor, bridge: ListenerBridge | None = None
) -> ForcedTokens:
    """Feed `tokens` (B, T) to the decoder and report them to `bridge`.

    With T = 0 the result is the start of a sentence.
    """
    places = encoded.annotations.shape[1]
    logprobs = torch.empty(tokens.shape, device=tokens.device)
    attention = torch.empty((*tokens.shape, places), device=tokens.device)
    first = encoded.first
    previous = torch.full((encoded.images, 1), START, device=tokens.device) if first is None else first
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
    """Force the same tokens, possibly none, on every image."""
    tokens = torch.tensor(prefix, dtype=torch.long, device=encoded.annotations.device)
    return teacher_force(decoder, encoded, tokens.expand(encoded.images, -1), bridge)


@torch.inference_mode()
def score(
    decoder: StepDecoder, vocabulary: Vocabulary, encoded: EncodedImages, sentences: Sequence[str]
) -> list[Caption]:
    """Score one sentence for each image by teacher forcing, in one batch, including the decision to end.

    Raises ValueError for a sentence without words, and if the numbers of sentences and images differ.
    """
    if len(sentences) != encoded.images:
        raise ValueError(f"expected one sentence for each image: {len(sentences)} for {encoded.images}")
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
        for image, (sentence, (hypothesis,)) in enumerate(zip(sentences, to_hypotheses(*one_row), strict=True))
    ]
