"""Generation by every strategy, with and without a forced prefix."""

import pytest
import torch
from support.plain import SEEDS, plain_beam_search, random_decoder, random_encoding, random_vocabulary, score

from model.decoding.beam_search import beam_search
from model.decoding.caption import Caption
from model.decoding.constraints import Constraints
from model.decoding.generate import generate
from model.decoding.options import DecodingOptions, Strategy
from model.network.decoder import Decoder
from model.network.encoded_images import EncodedImages
from model.text.vocabulary import UNKNOWN

WORDS = 12
VOCABULARY = random_vocabulary(WORDS)
STRATEGIES = [
    DecodingOptions(strategy=Strategy.BEAM, beam_size=4, num_captions=3, max_words=8),
    DecodingOptions(strategy=Strategy.GREEDY, max_words=8),
    DecodingOptions(strategy=Strategy.SAMPLE, num_captions=3, temperature=1.2, top_k=9, top_p=0.95, max_words=8),
    DecodingOptions(strategy=Strategy.DIVERSE, beam_size=6, num_captions=3, diversity=1.5, max_words=8),
    DecodingOptions(strategy=Strategy.CONSENSUS, beam_size=6, num_captions=3, max_words=8),
]
every_strategy = pytest.mark.parametrize("options", STRATEGIES, ids=lambda options: options.strategy)
PREFIXES = ["", "w3", "W1, airship w1"]


def with_prefix(options: DecodingOptions, prefix: str) -> DecodingOptions:
    fields = {name: getattr(options, name) for name in DecodingOptions.__dataclass_fields__}
    return DecodingOptions(**{**fields, "prefix": prefix})


def captions_of(decoder: Decoder, encoded: EncodedImages, options: DecodingOptions) -> list[list[Caption]]:
    return generate(decoder, VOCABULARY, encoded, options, seeds=list(range(10, 10 + encoded.images)), listener=None)


@pytest.mark.parametrize("prefix", PREFIXES)
@every_strategy
def test_a_batch_gets_what_each_image_gets_alone(options: DecodingOptions, prefix: str) -> None:
    decoder, options = random_decoder(1, WORDS), with_prefix(options, prefix)
    encoded = random_encoding(decoder, images=5)
    seeds = [10, 11, 12, 13, 14]
    together = generate(decoder, VOCABULARY, encoded, options, seeds=seeds, listener=None)
    assert len({captions[0].text for captions in together}) > 1, "all sentences are equal"
    # In other batches and at other positions.
    for images in ([0], [1], [2], [3], [4], [4, 2, 1]):
        apart = generate(
            decoder, VOCABULARY, encoded.select(images), options, seeds=[seeds[i] for i in images], listener=None
        )
        for image, captions in zip(images, apart, strict=True):
            assert len(captions) == options.num_captions
            for one, other in zip(captions, together[image], strict=True):
                assert one.text == other.text
                assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
                for word, same in zip(one.words, other.words, strict=True):
                    assert word.logprob == pytest.approx(same.logprob, abs=1e-4)
                    assert word.attention.weights == pytest.approx(same.attention.weights, abs=1e-5)


@every_strategy
def test_sentences_start_with_the_given_prefix(options: DecodingOptions) -> None:
    decoder, options = random_decoder(4, WORDS), with_prefix(options, "W1, a Zeppelin w2")
    encoded = random_encoding(decoder, images=2)
    for image, captions in enumerate(captions_of(decoder, encoded, options)):
        for caption in captions:
            given = [("w1", True), ("a", False), ("zeppelin", False), ("w2", True)]
            assert [(word.text, word.in_vocabulary) for word in caption.words[:4]] == given
            assert all(word.in_vocabulary for word in caption.words[4:])
            assert caption.text == " ".join(word.text for word in caption.words)
            tokens = VOCABULARY.encode(caption.text)
            expected = score(decoder, encoded.select([image]), tokens, max_words=4 + options.max_words)
            assert caption.logprob == pytest.approx(expected.logprob, abs=1e-4)
            assert [word.logprob for word in caption.words] == pytest.approx(expected.logprobs, abs=1e-4)
            for word, weights in zip(caption.words, expected.attention, strict=True):
                assert word.attention.weights == pytest.approx(weights.tolist(), abs=1e-5)


@every_strategy
def test_max_words_counts_words_after_the_prefix(options: DecodingOptions) -> None:
    decoder, options = random_decoder(2, WORDS, end=-torch.inf), with_prefix(options, "w1 w2 w3")
    for captions in captions_of(decoder, random_encoding(decoder, images=2), options):
        assert {len(caption.words) for caption in captions} == {3 + options.max_words}


@every_strategy
def test_a_sentence_may_end_with_its_prefix(options: DecodingOptions) -> None:
    decoder, options = random_decoder(2, WORDS, end=50.0), with_prefix(options, "w1 w2")
    for captions in captions_of(decoder, random_encoding(decoder, images=2), options):
        assert captions[0].text == "w1 w2"


@every_strategy
def test_a_prefix_without_words_has_no_effect(options: DecodingOptions) -> None:
    decoder = random_decoder(2, WORDS)
    encoded = random_encoding(decoder, images=2)
    assert captions_of(decoder, encoded, with_prefix(options, " ?! ")) == captions_of(decoder, encoded, options)


@pytest.mark.parametrize("beam_size", [1, 3])
@pytest.mark.parametrize("prefix", [[5], [6, UNKNOWN, 6], [7, 4, 7]])
@pytest.mark.parametrize("seed", SEEDS)
def test_search_after_a_prefix_equals_a_plain_search(seed: int, prefix: list[int], beam_size: int) -> None:
    decoder = random_decoder(seed, words=4)  # with few words, the prefix forbids many
    encoded = random_encoding(decoder)
    (found,) = beam_search(decoder, encoded, beam_size=beam_size, max_words=6, repeatable=1, prefix=prefix)
    expected = plain_beam_search(decoder, encoded, beam_size, 6, repeatable=1, prefix=prefix)
    assert [hypothesis.tokens for hypothesis in found] == expected


@pytest.mark.parametrize("seed", SEEDS)
def test_greedy_search_continues_its_own_prefix_unchanged(seed: int) -> None:
    decoder = random_decoder(seed, WORDS)
    encoded = random_encoding(decoder)
    greedy = DecodingOptions(strategy=Strategy.GREEDY)
    ((free,),) = captions_of(decoder, encoded, greedy)
    for count in range(1, len(free.words)):
        prefix = " ".join(word.text for word in free.words[:count])
        options = DecodingOptions(strategy=Strategy.GREEDY, prefix=prefix, max_words=greedy.max_words - count)
        ((continued,),) = captions_of(decoder, encoded, options)
        assert continued.text == free.text
        assert continued.logprob == pytest.approx(free.logprob, abs=1e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_greedy_search_is_beam_search_with_one_beam(seed: int) -> None:
    decoder = random_decoder(seed, WORDS)
    encoded = random_encoding(decoder, images=3)
    greedy, one_beam = DecodingOptions(strategy=Strategy.GREEDY), DecodingOptions(beam_size=1)
    assert captions_of(decoder, encoded, greedy) == captions_of(decoder, encoded, one_beam)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_single_diverse_caption_is_the_best_of_beam_search(seed: int) -> None:
    decoder = random_decoder(seed, WORDS)
    encoded = random_encoding(decoder, images=3)
    diverse = DecodingOptions(strategy=Strategy.DIVERSE, beam_size=4, num_captions=1)
    assert captions_of(decoder, encoded, diverse) == captions_of(decoder, encoded, DecodingOptions(beam_size=4))


def test_unknown_words_do_not_count_as_repeated() -> None:
    constraints = Constraints(repeatable=1, device=torch.device("cpu"))
    known, unknown = torch.zeros(1, 1, 9), torch.zeros(1, 1, 9)
    constraints.apply(known, torch.tensor([[[5, 6, 5]]]))
    constraints.apply(unknown, torch.tensor([[[UNKNOWN, 6, UNKNOWN]]]))
    assert known[0, 0, 6] == -torch.inf
    assert unknown[0, 0, 6] == 0


def test_sampling_is_reproducible_with_a_seed() -> None:
    decoder = random_decoder(1, WORDS)
    encoded = random_encoding(decoder).select([0, 0, 0])
    options = DecodingOptions(strategy=Strategy.SAMPLE, num_captions=4, temperature=1.5)
    same, again, other = generate(decoder, VOCABULARY, encoded, options, seeds=[3, 3, 4], listener=None)
    assert same == again != other
    fresh, new, _ = generate(decoder, VOCABULARY, encoded, options, seeds=None, listener=None)
    assert fresh != new


def test_a_seed_per_image_is_required() -> None:
    decoder = random_decoder(1, WORDS)
    with pytest.raises(ValueError, match="1 for 2"):
        generate(decoder, VOCABULARY, random_encoding(decoder, 2), DecodingOptions(), seeds=[1], listener=None)


@every_strategy
def test_an_empty_batch_gives_no_captions(options: DecodingOptions) -> None:
    decoder = random_decoder(1, WORDS)
    assert captions_of(decoder, random_encoding(decoder, 2).select([]), options) == []
