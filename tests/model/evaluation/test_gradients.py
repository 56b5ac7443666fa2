"""Norms of gradients at earlier states, and their figure."""

import math
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from support.members import tiny_member
from torch import nn

from model.evaluation.gradients import Curve, draw, gradient_norms
from model.network.cells import State
from model.network.decoder import Decoder
from model.network.encoded_images import EncodedImages
from model.text.vocabulary import START

SENTENCES = [[5, 6, 7, 8, 9], [9, 8, 7, 6, 5, 4, 10], [4, 4, 5, 5]]
BACK = 3


def encode(decoder: Decoder) -> EncodedImages:
    """Encode one image per sentence, with gradients."""
    return decoder.encode(torch.randn(len(SENTENCES), 6, 2, 3, generator=torch.Generator().manual_seed(99)))


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm", "lstm-additive", "lstm-additive-deep"])
def test_norms_equal_those_of_each_sentence_alone(name: str) -> None:
    decoder, _ = tiny_member(name)
    encoded = encode(decoder)
    found = gradient_norms(decoder, encoded, SENTENCES, BACK)
    expected = [
        [norms_alone(decoder, encoded.select([i]), s, back) for back in range(BACK + 1)]
        for i, s in enumerate(SENTENCES)
    ]
    parts = len(expected[0][0])
    assert len(found) == parts
    for part in range(parts):
        for back in range(BACK + 1):
            mean = sum(of_sentence[back][part] for of_sentence in expected) / len(SENTENCES)
            assert found[part][back] == pytest.approx(mean, rel=1e-3, abs=1e-7)
    assert all(norm > 0 for norm in found[0])


def norms_alone(decoder: Decoder, encoded: EncodedImages, sentence: list[int], back: int) -> list[float]:
    """Run the sentence up to T - `back`, then the rest from a detached state."""
    inputs = [START, *sentence[:-1]]
    state = decoder.start(encoded, 1)
    for token in inputs[: len(inputs) - back]:
        logits, state, _ = decoder.step(torch.tensor([[token]]), state, encoded)
    if back:
        state = State(tuple(part.detach().requires_grad_() for part in state.parts))
    leaf = state
    for token in inputs[len(inputs) - back :]:
        logits, state, _ = decoder.step(torch.tensor([[token]]), state, encoded)
    loss = nn.functional.cross_entropy(logits[0], torch.tensor([sentence[-1]]))
    gradients = torch.autograd.grad(loss, leaf.parts, allow_unused=True)
    return [0.0 if gradient is None else gradient.norm().item() for gradient in gradients]


def test_the_last_memory_of_an_lstm_has_no_gradient_of_its_own() -> None:
    decoder, _ = tiny_member("lstm")
    hidden, memory = gradient_norms(decoder, encode(decoder), SENTENCES, BACK)
    assert memory[0] == 0
    assert memory[1] > 0
    assert hidden[0] > 0


def test_the_figure_is_small_and_reproducible(tmp_path: Path) -> None:
    curves = [
        Curve(cell, attention, trained, part, [math.exp(-step) for step in range(12)])
        for trained in (False, True)
        for attention in ("none", "additive")
        for cell, part in (("rnn", "hidden"), ("gru", "hidden"), ("lstm", "hidden"), ("lstm", "memory"))
    ]
    draw(curves, tmp_path / "one.svg")
    draw(curves, tmp_path / "two.svg")
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert (tmp_path / "one.svg").stat().st_size < 200_000
    text = "".join(ElementTree.parse(tmp_path / "one.svg").getroot().itertext())
    assert "after training, additive attention" in text
    assert "RNN" in text
