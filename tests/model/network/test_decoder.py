"""The recurrent decoder: single steps, teacher forcing, and the state."""

from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

from model.network.cells import State
from model.network.decoder import Decoder, DecoderConfig
from model.text.vocabulary import PAD, START

IMAGES, ROWS, STEPS = 2, 3, 5
CHANNELS, HEIGHT, WIDTH = 6, 2, 3
VOCABULARY = 11


def random_decoder(dropout: float = 0.5) -> Decoder:
    """Make a decoder with weights that are large enough for its outputs to differ."""
    torch.manual_seed(0)
    config = DecoderConfig(embedding_size=8, hidden_size=9, annotation_size=7, attention_size=5, dropout=dropout)
    decoder = Decoder(config, CHANNELS, VOCABULARY).eval()
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.mul_(2)
    return decoder


def random_grid(images: int = IMAGES) -> torch.Tensor:
    return torch.randn(images, CHANNELS, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


def random_tokens() -> torch.Tensor:
    """Make inputs (B, R, T) of teacher forcing."""
    tokens = torch.randint(4, VOCABULARY, (IMAGES, ROWS, STEPS), generator=torch.Generator().manual_seed(2))
    tokens[:, :, 0] = START
    return tokens


@torch.inference_mode()
def test_teacher_forcing_gives_scores_and_attention_for_every_word() -> None:
    decoder = random_decoder()
    logits, attention = decoder(decoder.encode(random_grid()), random_tokens())
    assert logits.shape == (IMAGES, ROWS, STEPS, VOCABULARY)
    assert attention.shape == (IMAGES, ROWS, STEPS, HEIGHT * WIDTH)
    torch.testing.assert_close(attention.sum(dim=3), torch.ones(IMAGES, ROWS, STEPS))


@torch.inference_mode()
def test_rows_are_independent() -> None:
    decoder = random_decoder()
    grid, tokens = random_grid(), random_tokens()
    logits, attention = decoder(decoder.encode(grid), tokens)
    for image in range(IMAGES):
        encoded = decoder.encode(grid[image : image + 1])
        for row in range(ROWS):
            alone = decoder(encoded, tokens[image : image + 1, row : row + 1])
            torch.testing.assert_close(logits[image, row], alone[0][0, 0])
            torch.testing.assert_close(attention[image, row], alone[1][0, 0])


@torch.inference_mode()
def test_a_word_changes_later_steps_only() -> None:
    decoder = random_decoder()
    encoded, tokens = decoder.encode(random_grid()), random_tokens()
    logits, attention = decoder(encoded, tokens)
    other = tokens.clone()
    other[0, 1, 2] = 4 + (other[0, 1, 2] - 3) % (VOCABULARY - 4)
    other_logits, other_attention = decoder(encoded, other)
    changed = (logits != other_logits).any(dim=3)
    assert changed[0, 1].tolist() == [False, False, True, True, True]
    assert changed.sum() == 3
    # Attention is computed before the word is read.
    assert (attention != other_attention).any(dim=3)[0, 1].tolist() == [False, False, False, True, True]


@torch.inference_mode()
def test_teacher_forcing_equals_single_steps() -> None:
    decoder = random_decoder()
    encoded, tokens = decoder.encode(random_grid()), random_tokens()
    logits, attention = decoder(encoded, tokens)
    state = decoder.start(encoded, ROWS)
    for step in range(STEPS):
        scores, state, weights = decoder.step(tokens[:, :, step], state, encoded)
        assert torch.equal(scores, logits[:, :, step])
        assert torch.equal(weights, attention[:, :, step])


@torch.inference_mode()
def test_annotations_are_the_cells_of_the_grid_row_by_row() -> None:
    decoder = random_decoder()
    grid = random_grid(1)
    before = decoder.encode(grid)
    assert before.annotations.shape == (1, HEIGHT * WIDTH, 7)
    for row in range(HEIGHT):
        for col in range(WIDTH):
            other = grid.clone()
            other[:, :, row, col] += torch.arange(CHANNELS)
            after = decoder.encode(other)
            changed = (after.annotations != before.annotations).any(dim=2)[0]
            assert changed.nonzero().flatten().tolist() == [row * WIDTH + col]
            assert torch.equal((after.keys != before.keys).any(dim=2)[0], changed)


@torch.inference_mode()
def test_all_rows_start_with_the_state_of_their_image() -> None:
    decoder = random_decoder()
    state = decoder.start(decoder.encode(random_grid()), ROWS)
    for part in state.parts:
        assert part.shape == (IMAGES, ROWS, 1, 9)
        assert torch.equal(part, part[:, :1].expand_as(part))
        assert not torch.equal(part[0, 0], part[1, 0])
    assert not torch.equal(*state.parts)


def test_rows_of_a_state_are_selected_per_image() -> None:
    names = torch.tensor([[0.0, 1.0, 2.0], [10.0, 11.0, 12.0]])
    # Two layers of four numbers each. The second is ten times the first.
    hidden = torch.stack([names, 10 * names], dim=2).unsqueeze(3).expand(-1, -1, -1, 4)
    picked = State((hidden, -hidden)).rows(torch.tensor([[2, 0], [1, 1]]))
    assert picked.parts[0][..., 0, :].tolist() == [[[2.0] * 4, [0.0] * 4], [[11.0] * 4, [11.0] * 4]]
    assert picked.top.tolist() == [[[20.0] * 4, [0.0] * 4], [[110.0] * 4, [110.0] * 4]]
    assert torch.equal(picked.parts[1], -picked.parts[0])


@torch.inference_mode()
def test_a_step_with_a_closed_gate_ignores_the_picture() -> None:
    decoder = random_decoder()
    decoder.gate.weight.zero_()
    encoded = decoder.encode(random_grid())
    state = decoder.start(encoded, ROWS)
    swapped = encoded.select([1, 0])
    tokens = torch.full((IMAGES, ROWS), START)

    decoder.gate.bias.fill_(0.0)
    assert not torch.allclose(decoder.step(tokens, state, encoded)[0], decoder.step(tokens, state, swapped)[0])
    decoder.gate.bias.fill_(-torch.inf)
    torch.testing.assert_close(decoder.step(tokens, state, encoded)[0], decoder.step(tokens, state, swapped)[0])


@torch.inference_mode()
def test_a_word_that_is_not_an_input_is_scored_by_its_embedding() -> None:
    decoder, tokens = random_decoder(), torch.tensor([[[START, 5, 9, 7]]])
    encoded = decoder.encode(random_grid(images=1))
    before, _ = decoder(encoded, tokens)
    decoder.embedding.weight[10] += 1.0
    changed = (decoder(encoded, tokens)[0] != before)[0, 0].any(dim=0)  # (V,)
    assert changed.nonzero().flatten().tolist() == [10]


@torch.inference_mode()
def test_dropout_applies_in_training_only() -> None:
    decoder = random_decoder(dropout=0.5)
    encoded, tokens = decoder.encode(random_grid()), random_tokens()
    assert all(torch.equal(a, b) for a, b in pairwise(decoder(encoded, tokens)[0] for _ in range(3)))
    decoder.train()
    assert not torch.equal(decoder(encoded, tokens)[0], decoder(encoded, tokens)[0])


def test_every_parameter_learns() -> None:
    decoder = random_decoder().train()
    logits, attention = decoder(decoder.encode(random_grid()), random_tokens())
    (logits.logsumexp(dim=3).sum() + attention.square().sum()).backward()
    for name, parameter in decoder.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.any(), name


@torch.inference_mode()
def test_scores_and_attention_stay_float32_under_autocast() -> None:
    decoder = random_decoder()
    expected, _ = decoder(decoder.encode(random_grid()), random_tokens())
    with torch.autocast("cpu", torch.bfloat16):
        logits, attention = decoder(decoder.encode(random_grid()), random_tokens())
    assert logits.dtype == attention.dtype == torch.float32
    torch.testing.assert_close(logits, expected, atol=0.3, rtol=0.1)


@torch.inference_mode()
def test_padding_does_not_change_the_sentence_before_it() -> None:
    decoder = random_decoder()
    encoded, tokens = decoder.encode(random_grid()), random_tokens()
    padded = torch.nn.functional.pad(tokens, (0, 4), value=PAD)
    torch.testing.assert_close(decoder(encoded, padded)[0][:, :, :STEPS], decoder(encoded, tokens)[0])


@pytest.mark.parametrize("setting", [{"hidden_size": 0}, {"dropout": 1.0}, {"dropout": -0.1}, {"hiden_size": 8}])
def test_invalid_sizes_and_unknown_settings_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValidationError):
        DecoderConfig.model_validate(setting)
