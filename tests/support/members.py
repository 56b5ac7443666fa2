"""Tiny random decoders with the parts of the members of the family."""

import torch

from model.evaluation.family import MEMBERS
from model.network.decoder import Decoder
from model.text.characters import Characters
from model.text.vocabulary import Vocabulary
from model.training.recipe import Recipe
from support.plain import SPECIAL, random_decoder, random_vocabulary

WORDS = 12
# Space, apostrophe, hyphen and a few letters, so that words are short.
ALPHABET = " '-abcdefghi"
WORD_MEMBERS = [name for name in MEMBERS if Recipe.load(f"family/{name}").captioner.tokens == "word"]


def tiny_member(name: str, seed: int = 0, end: float = 0.0) -> tuple[Decoder, Vocabulary]:
    """Return a random decoder with the cell, depth and attention of a member, and a vocabulary for it."""
    captioner = Recipe.load(f"family/{name}").captioner
    parts = captioner.decoder.model_dump(include={"cell", "depth", "attention", "gate"})
    characters = captioner.tokens == "character"
    vocabulary = Characters(ALPHABET) if characters else random_vocabulary(WORDS)
    decoder = random_decoder(seed, len(vocabulary) - SPECIAL, end, **parts)
    with torch.no_grad():
        decoder.initial.weight.mul_(3)  # without attention, only the initial state depends on the picture
        if characters:
            decoder.output_bias[SPECIAL] += 2  # short words
    return decoder, vocabulary
