"""Semantic attention: which words are found in a picture, and what the decoder makes of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from support import tiny
from support.plain import (
    SPECIAL,
    assert_beams_keep_what_a_plain_search_keeps,
    random_decoder,
    random_memory,
    random_vocabulary,
)

from model.captioner import Captioner, CaptionerConfig
from model.decoder import Decoder, DecoderConfig
from model.engines.openvino import OpenVINO
from model.engines.store import Store
from model.memory import AttributedMemory
from model.options import DecodingOptions, Strategy
from model.pixels import normalise
from model.training.attribute_origin import make_attributed
from model.training.dataset import Sample
from model.training.detection import DetectionRecipe
from model.training.recipe import Recipe
from model.training.trainer import Trainer
from model.vocabulary import START, Vocabulary
from model.word_detector import anywhere
from model.writing import write

CPU = torch.device("cpu")
WORDS = 8
FOUND = {"most": 3, "words": 5, "learnt": 4, "classes": 7}
GRID = torch.randn(2, 6, 2, 3, generator=torch.Generator().manual_seed(7))


def attributed(seed: int = 0, **parts: Any) -> Decoder:
    """A decoder with random weights whose detector's words are w7, w6 and so on."""
    decoder = random_decoder(seed, WORDS, attributes=FOUND, **parts)
    decoder.attributes.detector.name_classes([0, 4, 4, 2, 5, 5, 1])
    decoder.attributes.token_of_word.copy_(torch.arange(SPECIAL + WORDS - 1, SPECIAL + WORDS - 6, -1))
    return decoder


# What is found.


@torch.inference_mode()
def test_the_likeliest_words_of_the_picture_are_found_each_as_surely_as_it_is_seen() -> None:
    decoder = attributed()
    memory = decoder.memorise(GRID)
    assert isinstance(memory, AttributedMemory)
    for probabilities, found in zip(anywhere(decoder.attributes.detector(GRID)), memory.attributes, strict=True):
        best = sorted(range(5), key=lambda word: -float(probabilities[word]))[:3]
        vectors = decoder.embedding.weight[[SPECIAL + WORDS - 1 - word for word in best]]
        torch.testing.assert_close(found, probabilities[best].unsqueeze(1) * vectors)


@torch.inference_mode()
def test_with_fewer_words_than_asked_for_all_are_found() -> None:
    decoder = random_decoder(0, WORDS, attributes={"most": 9, "words": 2, "learnt": 2})
    assert decoder.memorise(GRID).attributes.shape == (2, 2, 8)


# What is made of it.


@torch.inference_mode()
def test_semantic_attention_is_that_of_the_paper() -> None:
    decoder = attributed(gate=False)
    memory = random_memory(decoder)
    attributes = memory.attributes[0]  # (K, E)
    state = decoder.start(memory, rows=1)

    def taken(attention: Any, query: torch.Tensor) -> torch.Tensor:
        scores = torch.stack([query @ attention.query.weight.T @ y for y in attributes])
        weights = scores.exp() / scores.exp().sum()
        return attention.scale * sum(weight * y for weight, y in zip(weights, attributes, strict=True))

    logits, after, _ = decoder.step(torch.tensor([[6]]), state, memory)
    word = decoder.embedding.weight[6]
    context, _ = decoder.attention(state.top, memory.keys, memory.annotations)
    hears = torch.cat([word + taken(decoder.attributes.heard, word), context[0, 0]])
    (layer,) = state.layers
    hidden, _ = decoder.cells[0](hears[None, None], layer)
    torch.testing.assert_close(after.top, hidden)
    hidden = hidden[0, 0]
    deep = word + decoder.deep_hidden(hidden) + decoder.deep_context(context[0, 0])
    deep = torch.tanh(deep + taken(decoder.attributes.said, hidden))
    torch.testing.assert_close(logits[0, 0], deep @ decoder.embedding.weight.T + decoder.output_bias)


def test_it_begins_with_the_weights_of_the_one_it_is_compared_to() -> None:
    plain, other = random_decoder(3, WORDS), attributed(3)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(other.state_dict()[name], tensor), name


def test_the_decoder_learns_and_the_detector_does_not() -> None:
    decoder = attributed().train()
    decoder(decoder.memorise(GRID), torch.full((2, 1, 2), START))[0].logsumexp(dim=3).sum().backward()
    for name, parameter in decoder.named_parameters():
        frozen = name.startswith("attributes.detector")
        assert parameter.requires_grad != frozen
        assert (parameter.grad is None) == frozen, name
    found = decoder.attributes.token_of_word
    assert decoder.embedding.weight.grad[found].abs().sum() > 0


@pytest.mark.parametrize("parts", [{}, {"attention": "none"}, {"arrangement": "top-down", "depth": 2}], ids=str)
def test_beams_keep_what_a_plain_search_keeps(parts: dict[str, object]) -> None:
    decoder = attributed(1, **parts)
    assert_beams_keep_what_a_plain_search_keeps(decoder, beams=3, max_words=6)


@pytest.mark.parametrize("strategy", [Strategy.BEAM, Strategy.SAMPLE])
def test_a_batch_gets_what_each_image_gets_alone(strategy: Strategy) -> None:
    decoder, vocabulary = attributed(5), random_vocabulary(WORDS)
    memory, options = random_memory(decoder, images=6), DecodingOptions(strategy=strategy, max_words=6)
    together = write(decoder, vocabulary, memory, options, seeds=[*range(6)], watch=None)
    assert len({best.text for best, *_ in together}) > 1
    for image, (best, *_) in enumerate(together):
        ((alone, *_),) = write(decoder, vocabulary, memory.select([image]), options, seeds=[image], watch=None)
        assert alone.text == best.text
        assert alone.logprob == pytest.approx(best.logprob, abs=1e-4)


# A captioner.


def recipe(**changes: Any) -> Recipe:
    settings = tiny.RECIPE.model_dump()
    settings["captioner"]["decoder"]["attributes"] = {"most": 2}
    detection = DetectionRecipe(min_images=2, epochs=300, learning_rate=0.1, dropout=0).model_dump()
    return Recipe.model_validate(settings | {"tail_stages": 0, "epochs": 2, "detection": detection, **changes})


@pytest.fixture(scope="module")
def run(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run, trained."""
    folder = tmp_path_factory.mktemp("runs") / "attributes"
    tiny.train_captioner(tiny_data, folder, recipe())
    return folder


def test_what_is_found_was_learnt_from_captions(run: Path) -> None:
    captioner = Captioner.load(run / "best")
    attributes = captioner.decoder.attributes
    words = [captioner.vocabulary.word(token) for token in attributes.token_of_word.tolist()]
    assert set(tiny.COLOURS) <= set(words)
    assert captioner.config.decoder.attributes.words == len(words)
    pictures = torch.stack([captioner.prepare(tiny.picture("red", colour)) for colour in ("blue", "green")])
    with torch.inference_mode():
        blue, green = anywhere(attributes.detector(captioner.encoder(normalise(pictures))))
    assert blue[words.index("blue")] > green[words.index("blue")]
    assert green[words.index("green")] > blue[words.index("green")]


def test_it_comes_back_from_disk_and_through_openvino_as_it_was(run: Path, tmp_path: Path) -> None:
    captioner = Captioner.load(run / "best")
    pixels = torch.stack([captioner.prepare(tiny.picture(*pair)) for pair in (("red", "blue"), ("white", "green"))])
    reference = captioner.encode(pixels)
    memory = OpenVINO(captioner, "fp32", Store("test", folder=tmp_path)).encode(pixels)
    assert isinstance(memory, AttributedMemory)
    for one, other in zip(memory.tensors, reference.tensors, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)
    blind = Captioner.load(run / "best", encoder=False)
    options = DecodingOptions(max_words=5)
    for one, other in zip(blind.write(memory, options), captioner.write(reference, options), strict=True):
        assert one[0].text == other[0].text


def test_a_run_that_is_over_is_known_again(run: Path, tiny_data: Path) -> None:
    before = (run / "checkpoint.safetensors").read_bytes()
    Trainer(recipe(), tiny_data, run, CPU).fit()
    assert (run / "checkpoint.safetensors").read_bytes() == before


def test_a_word_that_captions_know_in_the_plural_alone_is_found_as_that() -> None:
    samples = [Sample(name, b"", ["red skis"]) for name in ("one", "another")]
    captioner = make_attributed(recipe(), samples, Vocabulary(["red", "skis"]))
    attributes = captioner.decoder.attributes
    assert [captioner.vocabulary.word(token) for token in attributes.token_of_word.tolist()] == ["red", "skis"]


def test_attributes_are_words() -> None:
    with pytest.raises(ValidationError, match="attributes are words"):
        CaptionerConfig(tokens="character", decoder=DecoderConfig.model_validate({"attributes": {}}))


@pytest.mark.parametrize("changes", [{"start_from": "tuned"}, {"tail_stages": 3}])
def test_attributes_are_for_a_new_decoder_and_a_frozen_encoder(changes: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="for a new decoder, and for a frozen encoder"):
        recipe(**changes)
