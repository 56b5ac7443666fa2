"""Learning to write from text alone: what is learnt, and what is not."""

import gzip
import shutil
from pathlib import Path

import pytest
import torch
from support import tiny

from model.decoder import Decoder, DecoderConfig
from model.search import beam_search
from model.training.pretraining import PretrainingRecipe, pretrain
from model.training.recipe import Recipe
from model.training.trainer import Trainer
from model.vocabulary import END, START, UNKNOWN, Vocabulary

CPU = torch.device("cpu")
SENTENCE = "a dog runs over red grass"
VOCABULARY = Vocabulary(SENTENCE.split())
RECIPE = PretrainingRecipe(sentences_per_step=8, steps=40, learning_rate=0.03)


def decoder(**parts: object) -> Decoder:
    torch.manual_seed(0)
    sizes = {"embedding_size": 16, "hidden_size": 16, "annotation_size": 16, "attention_size": 8, "dropout": 0.0}
    return Decoder(DecoderConfig.model_validate({**sizes, **parts}), 6, len(VOCABULARY))


@pytest.mark.parametrize(
    "parts",
    [{}, {"attention": "none"}, {"arrangement": "top-down", "depth": 2}, {"attributes": {"words": 3, "learnt": 2}}],
    ids=str,
)
def test_a_decoder_can_write_what_it_read_and_has_not_learnt_to_look(parts: dict[str, object]) -> None:
    found = decoder(**parts)
    before = {name: tensor.clone() for name, tensor in found.state_dict().items()}
    loss = pretrain(found, VOCABULARY, [SENTENCE] * 320, RECIPE, max_words=10, seed=1)
    assert loss < 0.5
    ((best, *_),) = beam_search(found.eval(), found.blank(1), beams=2, max_words=10)
    assert VOCABULARY.decode(best.tokens) == SENTENCE
    after = found.state_dict()
    assert all(torch.equal(after[name], before[name]) for name in before if name.startswith("annotate"))


def test_chance_is_the_seed_s_and_steps_are_as_many_as_asked_for() -> None:
    lines = [" ".join(SENTENCE.split()[: 1 + number % 6]) for number in range(100)]
    few = RECIPE.model_copy(update={"steps": 5})
    states = []
    for recipe, seed in ((few, 1), (few, 1), (few, 2), (RECIPE, 1)):
        found = decoder(dropout=0.3)
        pretrain(found, VOCABULARY, lines, recipe, max_words=10, seed=seed)
        states.append(found.output_bias.detach().clone())
    assert torch.equal(states[0], states[1])
    assert not torch.equal(states[0], states[2])
    assert not torch.equal(states[0], states[3])


def test_a_run_begins_with_a_decoder_that_has_read(tiny_data: Path, tmp_path: Path) -> None:
    data = tmp_path / "data"
    shutil.copytree(tiny_data, data)
    (data / "text").mkdir()
    (data / "text" / "some.txt.gz").write_bytes(gzip.compress(b"one blue over a white\n" * 400))
    settings = {**tiny.RECIPE.model_dump(), "epochs": 1, "tail_stages": 0}
    pretraining = {"files": ["some.txt.gz"], "sentences_per_step": 10, "steps": 40, "learning_rate": 0.02}
    vectors = {"files": ["some.txt.gz"]}
    trainer = Trainer(Recipe.model_validate(settings | {"pretraining": pretraining}), data, tmp_path / "run", CPU)
    found = trainer.captioner.decoder.eval()
    ((best, *_),) = beam_search(found, found.blank(1), beams=1, max_words=10)
    assert trainer.captioner.vocabulary.decode(best.tokens) == "one blue over a white"
    for name, tensor in found.state_dict().items():
        assert torch.equal(trainer.average.module.decoder.state_dict()[name], tensor), "what is averaged began so too"

    plain = Trainer(Recipe.model_validate(settings), data, tmp_path / "plain", CPU).captioner
    other = Trainer(Recipe.model_validate(settings | {"word_vectors": vectors}), data, tmp_path / "vectors", CPU)
    same = {
        name for name, tensor in other.captioner.state_dict().items() if torch.equal(tensor, plain.state_dict()[name])
    }
    assert plain.state_dict().keys() - same == {"decoder.embedding.weight"}


def test_what_is_cut_does_not_end_there_and_much_that_is_unknown_is_not_read() -> None:
    lines = [SENTENCE, "a zebra eats a kiwi"] * 160
    found = decoder()
    pretrain(found, VOCABULARY, lines, RECIPE, max_words=4, seed=1)
    tokens = [START, *VOCABULARY.encode(SENTENCE)[:4]]
    logits, _ = found.eval()(found.blank(1), torch.tensor([[tokens]]))
    probabilities = logits[0, 0].softmax(dim=1)
    assert probabilities[:, END].max() < 0.1
    assert probabilities[:, UNKNOWN].max() < 0.1
