"""The visual sentinel as one option of the family's decoder: attention that need not go to the picture."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from support import tiny
from support.plain import (
    assert_beams_keep_what_a_plain_search_keeps,
    random_decoder,
    random_memory,
    random_vocabulary,
)

from model.captioner import Captioner
from model.decoder import DecoderConfig
from model.options import DecodingOptions, Strategy
from model.training.recipe import Recipe
from model.writing import write

WORDS = 8
PARTS: list[dict[str, Any]] = [{}, {"attention": "dot"}, {"depth": 2}, {"arrangement": "top-down", "depth": 2}]
all_parts = pytest.mark.parametrize("parts", PARTS, ids=str)


@pytest.mark.parametrize("attention", ["additive", "dot"])
@torch.inference_mode()
def test_the_sentinel_is_one_more_place_of_each_row_s_own(attention: str) -> None:
    decoder = random_decoder(0, WORDS, sentinel=True, gate=False, attention=attention)
    memory = random_memory(decoder)
    state = decoder.start(memory, rows=2)
    # Rows that are told different words have different sentinels, and then different states.
    _, state, _ = decoder.step(torch.tensor([[5, 9]]), state, memory)
    tokens = torch.tensor([[8, 4]])
    _, _, weights = decoder.step(tokens, state, memory)
    for row in range(2):
        hidden, cell = (part[0, row, 0] for part in state.parts)
        gate = torch.sigmoid(decoder.sentinel.gate(torch.cat([decoder.embedding.weight[tokens[0, row]], hidden])))
        sentinel = decoder.sentinel.project(gate * torch.tanh(cell))  # (D,)
        places = torch.cat([memory.annotations, sentinel[None, None]], dim=1)  # (B, L + 1, D)
        context, expected = decoder.attention(hidden[None, None], decoder.attention.keys(places), places)
        torch.testing.assert_close(weights[0, row], expected[0, 0, :-1])
        alone = tuple(part[:, row : row + 1, 0] for part in state.parts)
        found, _ = decoder._look(decoder.embedding(tokens[:, row : row + 1]), alone, memory)
        torch.testing.assert_close(found, context)
    assert 0.01 < weights.sum(dim=2).min() < 0.99, "otherwise the sentinel would prove little"


def test_it_begins_with_the_weights_of_the_one_it_is_compared_to() -> None:
    plain, other = random_decoder(3, WORDS), random_decoder(3, WORDS, sentinel=True)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


@all_parts
def test_beams_keep_what_a_plain_search_keeps(parts: dict[str, Any]) -> None:
    decoder = random_decoder(1, WORDS, sentinel=True, **parts)
    assert_beams_keep_what_a_plain_search_keeps(decoder, beams=3, max_words=6)


@pytest.mark.parametrize("strategy", [Strategy.BEAM, Strategy.SAMPLE])
@all_parts
def test_a_batch_gets_what_each_image_gets_alone(parts: dict[str, Any], strategy: Strategy) -> None:
    decoder, vocabulary = random_decoder(5, WORDS, sentinel=True, **parts), random_vocabulary(WORDS)
    memory, options = random_memory(decoder, images=6), DecodingOptions(strategy=strategy, max_words=6)
    together = write(decoder, vocabulary, memory, options, seeds=[*range(6)], watch=None)
    for image, (best, *_) in enumerate(together):
        ((alone, *_),) = write(decoder, vocabulary, memory.select([image]), options, seeds=[image], watch=None)
        assert alone.text == best.text
        same = pytest.approx([word.visual_grounding for word in best.words], abs=1e-3)
        assert [word.visual_grounding for word in alone.words] == same


def test_trained_and_loaded_it_says_how_much_it_looked(tiny_data: Path, tmp_path: Path) -> None:
    settings = tiny.RECIPE.model_dump()
    settings["captioner"]["decoder"]["sentinel"] = True
    recipe = Recipe.model_validate(settings | {"epochs": 3, "tail_stages": 0})
    captioner = Captioner.load(tiny.train_captioner(tiny_data, tmp_path / "run", recipe))
    assert captioner.config.decoder.sentinel
    ((best, *_),) = captioner.caption([tiny.picture("red", "blue")])
    for word in best.words:
        assert 0 < word.visual_grounding < 1
        assert sum(word.attention.weights) == pytest.approx(1, abs=1e-3)
    captioner.save(tmp_path / "again")
    ((again, *_),) = Captioner.load(tmp_path / "again").caption([tiny.picture("red", "blue")])
    assert again == best


@pytest.mark.parametrize("parts", [{"cell": "gru"}, {"attention": "none"}], ids=str)
def test_there_is_none_without_a_memory_or_without_attention(parts: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match="read off an LSTM's memory"):
        DecoderConfig.model_validate({"sentinel": True, **parts})
