"""The members of the family with tiny random decoders: each is a member's own parts, in small."""

import torch

from model.evaluation.family import MEMBERS
from model.network.decoder import Decoder
from model.text.characters import Characters
from model.text.vocabulary import Vocabulary
from model.training.recipe import Recipe
from support.plain import SPECIAL, random_decoder, random_vocabulary

WORDS = 12
# The space, the apostrophe, the hyphen and some letters: words of few letters are soon over.
ALPHABET = " '-abcdefghi"
WORD_MEMBERS = [name for name in MEMBERS if Recipe.load(f"family/{name}").captioner.tokens == "word"]


def tiny_member(name: str, seed: int = 0, end: float = 0.0) -> tuple[Decoder, Vocabulary]:
    """A decoder with random weights that has the cell, depth and attention of a member, and a vocabulary for it."""
    captioner = Recipe.load(f"family/{name}").captioner
    parts = captioner.decoder.model_dump(include={"cell", "depth", "attention", "gate"})
    characters = captioner.tokens == "character"
    vocabulary = Characters(ALPHABET) if characters else random_vocabulary(WORDS)
    decoder = random_decoder(seed, len(vocabulary) - SPECIAL, end, **parts)
    with torch.no_grad():
        decoder.initial.weight.mul_(3)  # without attention, all that tells one picture from another
        if characters:
            decoder.output_bias[SPECIAL] += 2  # words of a few letters
    return decoder, vocabulary
