"""Sentences that somebody else wrote. In: one for each image; out: the same as captions, as if we had written them.

It must not know where the sentences come from.
"""

from collections.abc import Sequence

import torch

from model.decoding.caption import Caption
from model.decoding.detokenize import Speller
from model.decoding.hypothesis import read_off
from model.decoding.teacher_forcing import force
from model.network.decoder import Stepping
from model.network.encoded_images import Memory
from model.text.vocabulary import END, PAD, Vocabulary, split_words


@torch.inference_mode()
def score(decoder: Stepping, vocabulary: Vocabulary, memory: Memory, sentences: Sequence[str]) -> list[Caption]:
    """Teacher forcing of all sentences in one batch; each is taken to end after its last word.

    Raises ValueError for a sentence without any word, and for more or fewer sentences than images.
    """
    if len(sentences) != memory.images:
        raise ValueError(f"there must be a sentence for each image: {len(sentences)} for {memory.images}")
    if not sentences:
        return []
    tokens = [vocabulary.encode(sentence) for sentence in sentences]
    if not all(tokens):
        raise ValueError("a sentence must have at least one word")
    longest = max(map(len, tokens))
    padded = [[*row, END, *[PAD] * (longest - len(row))] for row in tokens]
    forced = force(decoder, memory, torch.tensor(padded, dtype=torch.long, device=memory.annotations.device))
    totals = forced.logprobs.masked_fill(forced.tokens == PAD, 0.0).sum(dim=1)
    one_row = [part.unsqueeze(1) for part in (forced.tokens, forced.logprobs, forced.attention, totals)]
    return [
        Speller(vocabulary, memory, split_words(sentence)).caption(image, hypothesis)
        for image, (sentence, (hypothesis,)) in enumerate(zip(sentences, read_off(*one_row), strict=True))
    ]
