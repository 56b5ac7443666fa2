"""Two choices of the decoder that no member of the family makes: top-down attention, and words scored by their own."""

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from support import tiny
from support.plain import (
    assert_beams_keep_what_a_plain_search_keeps,
    random_decoder,
    random_memory,
)
from torch import nn

from model.captioner import Captioner
from model.decoder import Decoder, DecoderConfig
from model.vocabulary import START, Vocabulary

TOP_DOWN = {"arrangement": "top-down", "depth": 2}
VARIANTS = [TOP_DOWN, {"tied": False}]
TOKENS = torch.tensor([[[START, 5, 9, 7], [START, 8, 4, 6]]])  # (B, R, T)


def of_torch(decoder: Decoder, layer: int) -> nn.LSTMCell:
    """PyTorch's own cell with the weights of one of ours."""
    weights = decoder.cells[layer].state_dict()
    cell = nn.LSTMCell(weights["weight_ih"].shape[1], weights["weight_hh"].shape[1])
    cell.load_state_dict(weights)
    return cell


@torch.inference_mode()
def test_top_down_attention_is_that_of_the_paper() -> None:
    decoder = random_decoder(0, words=8, gate=False, **TOP_DOWN)
    memory = random_memory(decoder)
    attention_lstm, language_lstm = of_torch(decoder, 0), of_torch(decoder, 1)
    places = memory.annotations[0]  # (L, D)
    (h1, h2), (c1, c2) = (part[0].unbind(dim=1) for part in decoder.start(memory, rows=2).parts)  # each (R, H)
    logits, attention = decoder(memory, TOKENS)
    for step in range(TOKENS.shape[2]):
        word = decoder.embedding(TOKENS[0, :, step])
        h1, c1 = attention_lstm(torch.cat([h2, places.mean(dim=0).expand(2, -1), word], dim=1), (h1, c1))
        weights = decoder.attention(h1[None], memory.keys, memory.annotations)[1][0]  # (R, L)
        seen = weights @ places
        h2, c2 = language_lstm(torch.cat([seen, h1], dim=1), (h2, c2))
        said = torch.tanh(word + decoder.deep_hidden(h2) + decoder.deep_context(seen))
        torch.testing.assert_close(attention[0, :, step], weights)
        torch.testing.assert_close(logits[0, :, step], said @ decoder.embedding.weight.T + decoder.output_bias)


@pytest.mark.parametrize("parts", VARIANTS, ids=str)
def test_beams_keep_what_a_plain_search_keeps(parts: dict[str, object]) -> None:
    decoder = random_decoder(1, words=8, **parts)
    assert_beams_keep_what_a_plain_search_keeps(decoder, beams=3, max_words=6)


@pytest.mark.parametrize("tied", [True, False])
@torch.inference_mode()
def test_a_word_that_was_not_heard_is_scored_by_its_embedding_only_if_tied(tied: bool) -> None:
    decoder = random_decoder(0, words=8, tied=tied)
    memory = random_memory(decoder)
    before, _ = decoder(memory, TOKENS)
    decoder.embedding.weight[10] += 1.0
    changed = (decoder(memory, TOKENS)[0] != before).any(dim=2)[0, 0]
    assert changed.nonzero().flatten().tolist() == ([10] if tied else [])


def test_they_begin_with_the_weights_of_the_one_they_are_compared_to() -> None:
    tied, untied = random_decoder(3, words=8), random_decoder(3, words=8, tied=False)
    for name, tensor in tied.state_dict().items():
        assert torch.equal(untied.state_dict()[name], tensor), name


@pytest.mark.parametrize("parts", VARIANTS, ids=str)
def test_they_come_back_from_disk_as_they_were(parts: dict[str, object], tmp_path: Path) -> None:
    config = tiny.RECIPE.captioner.model_dump()
    config["decoder"] |= parts
    captioner = Captioner(type(tiny.RECIPE.captioner).model_validate(config), Vocabulary(["a", "dog"])).eval()
    captioner.save(tmp_path)
    loaded = Captioner.load(tmp_path)
    assert loaded.config == captioner.config
    picture = [tiny.picture("red", "blue")]
    assert loaded.caption(picture)[0][0].text == captioner.caption(picture)[0][0].text


@pytest.mark.parametrize("parts", [{"depth": 1}, {"depth": 2, "attention": "none"}])
def test_top_down_attention_has_two_layers_and_looks(parts: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="two layers, and attention between"):
        DecoderConfig.model_validate({"arrangement": "top-down", **parts})
