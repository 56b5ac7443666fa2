"""The family: properties of every member, and the table."""

import os
from pathlib import Path

import pytest
import torch
from support import tiny
from support.members import WORD_MEMBERS, tiny_member
from support.plain import (
    SEEDS,
    assert_equals_plain_beam_search,
    random_encoding,
)

from model.decoding.beam_search import beam_search
from model.decoding.generate import generate
from model.decoding.options import DecodingOptions, Strategy
from model.evaluation.family import (
    MEMBERS,
    Member,
    caption_by_all,
    family_recipes,
    format_family,
    score_family,
    train_family,
    write_table,
)
from model.evaluation.scores import JavaMissing
from model.network.decoder import Decoder
from model.runtime.captioner import Captioner, CaptionerConfig
from model.text.characters import VOCABULARIES
from model.training.batches import pad_captions
from model.training.dataset import load_split
from model.training.likelihood import caption_loss
from model.training.recipe import RECIPES, Recipe

CPU = torch.device("cpu")
every_member = pytest.mark.parametrize("name", MEMBERS)
STRATEGIES = [
    DecodingOptions(strategy=Strategy.BEAM, beam_size=3, num_captions=3, max_words=6),
    DecodingOptions(strategy=Strategy.SAMPLE, num_captions=2, temperature=1.2, max_words=6),
]


def test_members_differ_only_in_their_parts() -> None:
    recipes = family_recipes()
    assert {path.stem for path in (RECIPES / "family").glob("*.toml")} == set(MEMBERS)
    parts = {"name": ..., "tokens": ..., "decoder": {"cell", "depth", "attention", "gate"}}
    assert len({recipe.model_dump_json(exclude={"captioner": parts}) for recipe in recipes.values()}) == 1
    assert len({recipe.captioner.model_dump_json(exclude={"name"}) for recipe in recipes.values()}) == len(MEMBERS)
    assert {name: recipe.captioner.name for name, recipe in recipes.items()} == {name: name for name in MEMBERS}
    assert {recipe.tail_stages for recipe in recipes.values()} == {0}, "they share one encoder"


# Properties of every member.


@every_member
def test_a_member_can_memorise_a_few_captions(name: str) -> None:
    torch.manual_seed(0)
    captioner = Recipe.load(f"family/{name}").captioner
    sentences = ["a red dog runs", "two men", "a boy on a beach"]
    vocabulary = VOCABULARIES[captioner.tokens].from_sentences(sentences, min_count=1)
    sizes = {"embedding_size": 32, "hidden_size": 32, "annotation_size": 32, "attention_size": 16, "dropout": 0.0}
    decoder = Decoder(captioner.decoder.model_copy(update=sizes), 6, len(vocabulary))
    grid = torch.randn(len(sentences), 6, 2, 3)
    inputs, targets = pad_captions([[vocabulary.encode(sentence)] for sentence in sentences])
    optimiser = torch.optim.Adam(decoder.parameters(), 0.01)
    for _ in range(80):
        logits, attention = decoder(decoder.encode(grid), inputs)
        loss = caption_loss(logits, attention, targets, label_smoothing=0.0, doubly_stochastic=0.1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.inference_mode():
        encoded = decoder.encode(grid)
    for beams in (1, 3):
        options = DecodingOptions(beam_size=beams, repeatable=None)
        written = generate(decoder.eval(), vocabulary, encoded, options, seeds=None, listener=None)
        assert [best.text for best, *_ in written] == sentences


@pytest.mark.parametrize("options", STRATEGIES, ids=lambda options: options.strategy)
@every_member
def test_captions_do_not_depend_on_the_batch(name: str, options: DecodingOptions) -> None:
    decoder, vocabulary = tiny_member(name, seed=5)
    encoded = random_encoding(decoder, images=8)
    together = generate(decoder, vocabulary, encoded, options, seeds=list(range(1, 9)), listener=None)
    assert len({captions[0].text for captions in together}) > 1, "the same sentence for all would prove little"
    for image, captions in enumerate(together):
        (alone,) = generate(decoder, vocabulary, encoded.select([image]), options, seeds=[image + 1], listener=None)
        for one, other in zip(alone, captions, strict=True):
            assert one.text == other.text
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
            for word, same in zip(one.words, other.words, strict=True):
                assert word.attention.weights == pytest.approx(same.attention.weights, abs=1e-5)


@every_member
def test_one_beam_is_greedy_search(name: str) -> None:
    decoder, vocabulary = tiny_member(name, seed=2)
    encoded = random_encoding(decoder, images=3)
    greedy, one_beam = (
        generate(decoder, vocabulary, encoded, options, seeds=None, listener=None)
        for options in (DecodingOptions(strategy=Strategy.GREEDY), DecodingOptions(beam_size=1))
    )
    assert greedy == one_beam
    # Where no constraint interferes, that is the likeliest token at every step.
    for image, ((caption,), likeliest) in enumerate(zip(greedy, _likeliest(decoder, encoded.images), strict=True)):
        if name in WORD_MEMBERS and likeliest is not None:
            (free,) = beam_search(decoder, encoded.select([image]), beam_size=1, max_words=20)[0]
            assert vocabulary.decode(free.tokens) == vocabulary.decode(likeliest)
            assert caption.words[0].text == vocabulary.word(likeliest[0])


@torch.inference_mode()
def _likeliest(decoder: Decoder, images: int) -> list[list[int] | None]:
    """Find the likeliest tokens by teacher forcing of growing sentences; None if one of them is never written."""
    encoded, found = random_encoding(decoder, images), []
    for image in range(images):
        tokens = [1]
        while len(tokens) <= 20 and tokens[-1] != 2:
            logits, _ = decoder(encoded.select([image]), torch.tensor([[tokens]]))
            tokens.append(int(logits[0, 0, -1].argmax()))
        said = [token for token in tokens[1:] if token != 2]
        found.append(said if said and min(said) > 3 else None)
    return found


@pytest.mark.parametrize("beams", [1, 3])
@pytest.mark.parametrize("seed", SEEDS[:3])
@pytest.mark.parametrize("name", WORD_MEMBERS)
def test_beam_search_agrees_with_a_plain_search(name: str, seed: int, beams: int) -> None:
    decoder, _ = tiny_member(name, seed)
    assert_equals_plain_beam_search(decoder, beams=beams, max_words=7)


@pytest.mark.parametrize("name", ["rnn", "gru", "lstm"])
def test_without_attention_weights_are_even_and_captions_depend_on_the_picture(name: str) -> None:
    decoder, vocabulary = tiny_member(name, seed=5)
    encoded = random_encoding(decoder, images=8)
    options = DecodingOptions(max_words=6)
    captions = [best for (best,) in generate(decoder, vocabulary, encoded, options, seeds=None, listener=None)]
    assert len({caption.text for caption in captions}) > 1
    for caption in captions:
        for word in caption.words:
            assert word.attention.weights == pytest.approx([1 / 6] * 6, abs=1e-5)


@every_member
def test_a_saved_member_loads_unchanged(name: str, tmp_path: Path) -> None:
    config = Recipe.load(f"family/{name}").captioner
    small = config.model_copy(update={"encoder": "test_efficientnet", "image_size": 96})
    vocabulary = VOCABULARIES[config.tokens].from_sentences(["a dog"], min_count=1)
    captioner = Captioner(CaptionerConfig.model_validate(small.model_dump()), vocabulary).eval()
    captioner.save(tmp_path)
    loaded = Captioner.load(tmp_path)
    assert loaded.config == captioner.config
    assert (type(loaded.vocabulary), loaded.vocabulary.words) == (type(vocabulary), vocabulary.words)
    (expected,), (found,) = (
        model.caption([tiny.picture("red", "blue")], DecodingOptions(max_words=4)) for model in (captioner, loaded)
    )
    assert [caption.text for caption in found] == [caption.text for caption in expected]


# The table.


def tiny_family() -> dict[str, Recipe]:
    decoder = tiny.RECIPE.captioner.decoder
    captioners = {
        "plain": tiny.RECIPE.captioner.model_copy(
            update={"decoder": decoder.model_copy(update={"cell": "gru", "attention": "none"})}
        ),
        "letters": tiny.RECIPE.captioner.model_copy(update={"tokens": "character"}),
    }
    return {
        name: tiny.RECIPE.model_copy(update={"captioner": captioner, "epochs": 1, "tail_stages": 0})
        for name, captioner in captioners.items()
    }


@pytest.fixture(scope="module")
def runs(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Train the tiny family. Returns the folder of the runs."""
    folder = tmp_path_factory.mktemp("runs")
    train_family(tiny_family(), tiny_data, folder, CPU)
    return folder


def test_trained_members_are_not_trained_again(runs: Path, tiny_data: Path) -> None:
    before = {path: path.read_bytes() for path in runs.rglob("*.safetensors")}
    assert len(before) == 4
    train_family(tiny_family(), tiny_data, runs, CPU)
    assert {path: path.read_bytes() for path in runs.rglob("*.safetensors")} == before


def test_captioning_by_all_gives_each_member_its_own_captions(runs: Path, tiny_data: Path) -> None:
    captioners = {name: Captioner.load(runs / name / "best") for name in tiny_family()}
    samples, options = load_split(tiny_data, "val"), DecodingOptions()
    captions = caption_by_all(captioners, samples, options)
    for name, captioner in captioners.items():
        alone = captioner.caption([sample.image() for sample in samples], options)
        assert list(captions[name].values()) == [best.text for best, *_ in alone]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_every_member_is_scored_on_every_split(runs: Path, tiny_data: Path) -> None:
    names = list(tiny_family())
    try:
        members = score_family(names, tiny_data, runs, ["val", "test"], DecodingOptions(), CPU)
    except JavaMissing as missing:
        if os.environ.get("WORDLIGHT_REQUIRE_JAVA"):
            raise
        pytest.skip(f"NOT SCORED: {missing}")
    assert [member.name for member in members] == names
    for member in members:
        assert member.processor_seconds > 0
        assert member.epochs == 1
        assert member.scores["val"] == member.scores["test"], "their pictures are the same"
        assert all(score >= 0 for score in member.scores["val"].values())
    assert members[0].parameters != members[1].parameters


def test_a_new_table_replaces_the_old_one(tmp_path: Path) -> None:
    scores = dict.fromkeys(("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l", "cider"), 0.1234)
    members = [Member("lstm", 1_234_567, 90.0, 5, {"val": scores, "test": scores | {"cider": 0.5}})]
    table = format_family(members, ["val", "test"])
    assert "| `lstm` | 1.23 M | 1.5 min | 0.123 |" in table
    document = tmp_path / "family.md"
    document.write_text("Before.\n<!-- table: begin -->\nold\n<!-- table: end -->\nAfter.\n")
    for _ in range(2):
        write_table(table, document)
        assert document.read_text() == f"Before.\n<!-- table: begin -->\n{table}<!-- table: end -->\nAfter.\n"
    document.write_text("Nothing.\n")
    with pytest.raises(ValueError, match="no place"):
        write_table(table, document)
