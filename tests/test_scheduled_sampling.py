"""Teacher forcing and scheduled sampling, which are one loop."""

import pytest
import torch

from model.decoder import Decoder, DecoderConfig
from model.memory import Memory
from model.training.scheduled_sampling import sampling_probability, unroll
from model.vocabulary import START

IMAGES, ROWS, STEPS, VOCABULARY = 3, 2, 6, 12


@pytest.fixture
def decoder() -> Decoder:
    torch.manual_seed(0)
    config = DecoderConfig(embedding_size=8, hidden_size=8, annotation_size=8, attention_size=8, dropout=0.0)
    decoder = Decoder(config, channels=5, vocabulary_size=VOCABULARY)
    torch.nn.init.normal_(decoder.embedding.weight, std=2.0)  # so that every word has its say in what follows
    return decoder


@pytest.fixture
def memory(decoder: Decoder) -> Memory:
    return decoder.memorise(torch.randn(IMAGES, 5, 2, 2))


@pytest.fixture
def inputs() -> torch.Tensor:
    words = torch.randint(4, VOCABULARY, (IMAGES, ROWS, STEPS))
    words[:, :, 0] = START
    return words


def test_without_sampling_it_is_teacher_forcing(decoder: Decoder, memory: Memory, inputs: torch.Tensor) -> None:
    for found, expected in zip(unroll(decoder, memory, inputs), decoder(memory, inputs), strict=True):
        torch.testing.assert_close(found, expected)


def test_with_certainty_every_input_is_the_decoders_own(decoder: Decoder, memory: Memory, inputs: torch.Tensor) -> None:
    others = inputs.roll(1, dims=2)
    others[:, :, 0] = START
    seeds = range(IMAGES)
    logits, _ = unroll(decoder, memory, inputs, 1.0, seeds)
    assert torch.equal(logits, unroll(decoder, memory, others, 1.0, seeds)[0]), "the true words are not looked at"
    assert not torch.equal(logits, unroll(decoder, memory, inputs, 1.0, range(7, 7 + IMAGES))[0]), "but chance is"


def test_a_certain_decoder_is_told_what_it_would_say(decoder: Decoder, memory: Memory, inputs: torch.Tensor) -> None:
    with torch.no_grad():
        decoder.output_bias[5] = 1e4
    told = torch.full_like(inputs, 5)
    told[:, :, 0] = START
    torch.testing.assert_close(unroll(decoder, memory, inputs, 1.0, range(IMAGES))[0], decoder(memory, told)[0])


def test_in_between_some_rows_hear_the_truth_and_others_do_not(
    decoder: Decoder, memory: Memory, inputs: torch.Tensor
) -> None:
    with torch.no_grad():
        decoder.output_bias[5] = 1e4  # and the truth is never 5
    inputs = inputs.masked_fill(inputs == 5, 6)
    told = []
    decoder.embedding.register_forward_hook(lambda _module, arguments, _output: told.append(arguments[0]))
    for seed in range(0, 60, IMAGES):
        unroll(decoder, memory, inputs, 0.25, range(seed, seed + IMAGES))
    words = torch.stack(told).view(-1, STEPS, IMAGES, ROWS)
    assert (words[:, 0] == START).all()
    own = words[:, 1:] == 5
    assert torch.equal(words[:, 1:][~own], inputs[:, :, 1:].permute(2, 0, 1).expand_as(own)[~own])
    assert own.float().mean().item() == pytest.approx(0.25, abs=0.06)  # 600 of them: 3.4 standard deviations
    assert (own[:, :, :, 0] != own[:, :, :, 1]).any(), "each row for itself"


def test_an_image_has_the_same_chance_in_every_batch(decoder: Decoder, memory: Memory, inputs: torch.Tensor) -> None:
    together, _ = unroll(decoder, memory, inputs, 0.5, [7, 8, 9])
    alone, _ = unroll(decoder, memory.select([2]), inputs[2:], 0.5, [9])
    torch.testing.assert_close(together[2:], alone)


def test_the_probability_rises_in_a_line() -> None:
    assert [sampling_probability(0.2, epoch, 5) for epoch in range(5)] == pytest.approx([0, 0.05, 0.1, 0.15, 0.2])
    assert sampling_probability(0.2, 0, 1) == 0.0
