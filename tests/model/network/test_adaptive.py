"""The adaptive decoder, its word detector and their training, on tiny networks."""

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support import tiny
from support.adaptive import CONFIG, SEEN_AS, VOCABULARY, WORDS, make_decoder, random_features

from model.decoding.detokenize import Detokenizer
from model.decoding.options import DecodingOptions, Strategy
from model.network.adaptive import AdaptiveDecoder, Features, StepOutput
from model.network.encoded_images import AdaptiveEncodedImages
from model.network.word_detector import WordDetector, noisy_or
from model.runtime.captioner import Captioner, CaptionerConfig
from model.text.vocabulary import END, Span, Vocabulary, split_words
from model.training.dataset import DatasetUnusable
from model.training.detection import DetectionRecipe
from model.training.likelihood import function_tokens, guidance_loss
from model.training.text import Imagination, TextRecipe, read_sentences
from model.training.visual_vocabulary import VisibleWords, lemma


@pytest.fixture
def decoder() -> AdaptiveDecoder:
    return make_decoder()


def test_attention_and_sentinel_sum_to_one(decoder: AdaptiveDecoder) -> None:
    encoded = decoder.encode(random_features(2))
    tokens = torch.tensor([[1, 5], [6, 4]])
    output, _ = decoder.attend(tokens, decoder.start(encoded, 2), encoded)
    assert output.weights.shape == (2, 2, 25)
    assert torch.allclose(output.weights.sum(dim=2) + output.sentinel, torch.ones(2, 2), atol=1e-6)


def test_teacher_forcing_equals_single_steps(decoder: AdaptiveDecoder) -> None:
    encoded = decoder.encode(random_features(2))
    tokens = torch.randint(4, len(VOCABULARY), (2, 3, 4))
    logits, attention = decoder(encoded, tokens)
    state = decoder.start(encoded, 3)
    for step in range(4):
        scores, state, weights = decoder.step(tokens[:, :, step], state, encoded)
        assert torch.allclose(logits[:, :, step], scores, atol=1e-5)
        assert torch.allclose(attention[:, :, step], weights, atol=1e-6)


def test_score_words_computes_real_positions_only(decoder: AdaptiveDecoder) -> None:
    encoded = decoder.encode(random_features(2))
    tokens = torch.randint(4, len(VOCABULARY), (2, 1, 3))
    outputs = decoder.teacher_force(encoded, tokens)
    real = torch.tensor([[True, True, False], [True, False, False]])
    assert torch.allclose(
        decoder.score_words(outputs, encoded, real), decoder.score_words(outputs, encoded)[real], atol=1e-6
    )


def test_results_do_not_depend_on_the_batch(decoder: AdaptiveDecoder) -> None:
    encoded = decoder.encode(random_features(3))
    tokens = torch.randint(4, len(VOCABULARY), (3, 2, 3))
    together, _ = decoder(encoded, tokens)
    alone, _ = decoder(encoded.select([2]), tokens[2:])
    assert torch.allclose(together[2:], alone, atol=1e-5)


def test_words_seen_at_attended_places_become_more_probable(decoder: AdaptiveDecoder) -> None:
    plain = random_features(1)
    shown = Features(plain.fine, plain.grid, torch.zeros(1, 9, WORDS))
    with torch.no_grad():
        decoder.of_words.weight.zero_()  # only the evidence differs
    before, _, _ = decoder.step(torch.tensor([[1]]), *_begin(decoder, shown))
    shown.words[:, :, 0] = 0.9
    after, _, _ = decoder.step(torch.tensor([[1]]), *_begin(decoder, shown))
    gained = (after - before)[0, 0]
    dog, dogs = VOCABULARY.encode("dog dogs")
    assert gained[dog] > 1
    assert torch.allclose(gained[dog], gained[dogs])  # both are forms of the seen word
    assert gained[VOCABULARY.encode("runs")[0]].abs() < 1e-5


def test_attribution_is_attention_times_evidence(decoder: AdaptiveDecoder) -> None:
    encoded = decoder.encode(random_features(2))
    weights = 0.7 * torch.rand(25).softmax(dim=0)
    # The evidence from attention to one place alone, without the usual evidence.
    alone = decoder.word_evidence(
        torch.eye(25).expand(2, -1, -1), torch.tensor([1.0, -torch.inf]).expand(2, 25, -1), encoded
    )
    dog, dogs, runs = VOCABULARY.encode("dog dogs runs")
    product = weights * (alone[1, :, 0] / torch.nn.functional.softplus(torch.tensor(1.0))).exp()
    # The mean with the neighbours. A place at the edge has fewer.
    around = torch.nn.functional.pad(product.view(1, 1, 5, 5), (1, 1, 1, 1), mode="replicate")
    kernel = torch.tensor([[1.0, 2.0, 1.0], [2.0, 4.0, 2.0], [1.0, 2.0, 1.0]]).view(1, 1, 3, 3) / 16
    product = torch.nn.functional.conv2d(around, kernel).flatten()
    attribution = encoded.attribute(1, dog, weights)
    torch.testing.assert_close(attribution, 0.7 * product / product.sum())
    assert torch.equal(encoded.attribute(1, dogs, weights), attribution)
    assert not torch.allclose(attribution, weights, rtol=0.1)
    assert encoded.attribute(1, runs, weights) is weights  # not a visible word


def test_a_word_has_attention_and_an_evidence_heatmap(decoder: AdaptiveDecoder) -> None:
    encoded = decoder.encode(random_features(1))
    weights = 0.7 * torch.rand(2, 25).softmax(dim=1)
    tokens = VOCABULARY.encode("dog runs")
    detokenizer = Detokenizer(VOCABULARY, encoded)
    words = [
        detokenizer.word(0, number, Span(number, number + 1, number + 1), tokens, [-1.0, -2.0], weights.numpy())
        for number in range(2)
    ]
    for word, attention in zip(words, weights, strict=True):
        assert word.attention.weights == pytest.approx((attention / attention.sum()).tolist(), abs=1e-6)
        assert sum(word.heatmap.weights) == pytest.approx(1, abs=1e-4)
        assert word.visual_grounding == pytest.approx(0.7, abs=1e-4)
    dog, runs = words
    attribution = encoded.attribute(0, tokens[0], weights[0])
    assert dog.heatmap.weights == pytest.approx((attribution / attribution.sum()).tolist(), abs=1e-6)
    assert dog.heatmap != dog.attention
    assert runs.heatmap == runs.attention  # the detector does not know it


def _begin(decoder: AdaptiveDecoder, features: Features) -> tuple[object, AdaptiveEncodedImages]:
    encoded = decoder.encode(features)
    return decoder.start(encoded, 1), encoded


def test_hidden_images_are_encoded_by_their_words_alone(decoder: AdaptiveDecoder) -> None:
    first, second = random_features(1, seed=1), random_features(1, seed=2)
    second = Features(second.fine, second.grid, first.words)
    hidden = torch.tensor([False])
    assert torch.equal(decoder.encode(first, hidden).annotations, decoder.encode(second, hidden).annotations)
    assert not torch.equal(decoder.encode(first).annotations, decoder.encode(second).annotations)


def test_the_corners_of_both_grids_coincide(decoder: AdaptiveDecoder) -> None:
    upsample = decoder.encode(random_features(1)).upsample
    assert upsample is not None
    assert upsample.shape == (25, 9)
    assert torch.allclose(upsample.sum(dim=1), torch.ones(25))
    assert upsample[0, 0] == 1
    assert upsample[24, 8] == 1
    assert upsample[2, 1] == 1  # the third place of the fine row is the second of the coarse one


@pytest.fixture
def detector() -> WordDetector:
    torch.manual_seed(0)
    detector = WordDetector(channels=6, words=3, learnt=2, classes=4)
    with torch.no_grad():
        detector.classifier.weight.copy_(20 * torch.eye(4, 6))
        detector.classifier.bias.zero_()
        detector.learnt.weight.zero_()
        detector.learnt.bias.fill_(-10)
    detector.set_class_words([2, 2, 0, 3])  # the last class has no word
    return detector


def test_the_detector_finds_the_word_of_a_class_at_its_place(detector: WordDetector) -> None:
    grid = torch.zeros(1, 6, 2, 2)
    grid[0, 1, 0, 0] = 1  # the second class, in the first place
    grid[0, 1, 0, 1] = 1
    grid[0, 3, 1] = 1  # the class without a word, in the other row
    scores = detector(grid)
    assert scores.shape == (1, 4, 3)
    assert scores[0, 0, 2] > 0.9
    assert scores[0, 2, 2] < 0.1
    assert scores[0, :, :2].max() < 0.1


def test_the_detector_distrusts_a_class_at_a_single_place(detector: WordDetector) -> None:
    grid = torch.zeros(1, 6, 6, 6)
    grid[0, 3] = 1
    grid[0, 3, 0, 0], grid[0, 1, 0, 0] = 0, 1
    assert detector(grid)[0, 0, 2] < 0.2


def test_noisy_or_combines_places() -> None:
    scores = torch.tensor([[[0.5, 0.0], [0.5, 0.0], [0.0, 0.2]]])
    assert torch.allclose(noisy_or(scores), torch.tensor([[0.75, 0.2]]), atol=1e-3)


@pytest.mark.parametrize(
    ("word", "singular"),
    [("dogs", "dog"), ("buses", "bus"), ("puppies", "puppy"), ("grass", "grass"), ("men", "man"), ("has", "has")],
)
def test_lemma_returns_singulars(word: str, singular: str) -> None:
    assert lemma(word, {"dog", "bus", "puppy", "man"}) == singular


def test_class_words_are_singulars() -> None:
    vocabulary = Vocabulary(["zebra", "bananas", "banana", "pizza"])
    visible = VisibleWords.of([], vocabulary, min_images=1)
    assert visible.words == ["banana", "pizza", "zebra"]
    assert visible.learnt == 0
    assert visible.word_of_class[340] == 2  # ImageNet's zebra
    assert visible.word_of_class[0] == 3  # a tench, for which this vocabulary has no word
    assert visible.forms_in(vocabulary)[-4:] == [2, 0, 0, 1]


@pytest.fixture
def imagination() -> Imagination:
    sentences = [["a dog runs in the snow", "a red dog in the snow"], ["the cat runs in a red snow"]]
    recipe = TextRecipe(sentences_per_step=50, found=1, found_else=1)
    return Imagination(sentences, VOCABULARY, SEEN_AS, [0, 1], WORDS, recipe, max_words=12)


def test_imagined_images_show_the_words_of_their_sentence(imagination: Imagination) -> None:
    batch = imagination.batch([1, 2])
    assert torch.equal(imagination.batch([1, 2]).words, batch.words)
    assert not torch.equal(imagination.batch([1, 3]).words, batch.words)
    assert (batch.targets[:, 0] == END).any(dim=1).all()
    for shown, tokens in zip(batch.words, batch.inputs[:, 0], strict=True):
        named = {SEEN_AS[token] for token in tokens.tolist()} - {WORDS}
        assert all(shown[:, word].max() >= 0.25 for word in named)
        others = [word for word in range(WORDS) if word not in named]
        assert shown[:, others].max() <= 0.5 if others else True


def test_missing_text_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DatasetUnusable, match=r"no\.txt is not a file of captions"):
        read_sentences(tmp_path, ["no.txt"])


def test_guidance_is_lowest_where_the_word_is_seen() -> None:
    words = torch.zeros(1, 4, WORDS)
    words[0, 1, 0] = 0.8  # a dog, in the second place
    seen_as = torch.tensor(SEEN_AS)
    encoded = AdaptiveEncodedImages(
        torch.zeros(1, 4, 2), torch.zeros(1, 4, 2), 2, 2, words, torch.zeros(1, WORDS), None, seen_as
    )
    targets = torch.tensor([[VOCABULARY.encode("a dog")]])

    def loss(sentinel: tuple[float, float], place: int) -> float:
        weights = torch.full((1, 2, 4), 0.01)
        weights[0, 1, place] = 0.9
        outputs = StepOutput(*[torch.zeros(1, 2, 1)] * 3, weights, torch.tensor([sentinel]))
        function = function_tokens(VOCABULARY)
        return float(guidance_loss(outputs, encoded, targets, function))

    assert loss((0.9, 0.1), 1) < loss((0.9, 0.1), 2)  # attention to the dog is better
    assert loss((0.9, 0.1), 1) < loss((0.1, 0.1), 1)  # and so is none for "a"


def write_text(data: Path) -> None:
    (data / "text").mkdir()
    with gzip.open(data / "text" / "made.txt.gz", "wt") as file:
        file.writelines(f"a {top} over a {bottom}\n" for top in tiny.COLOURS for bottom in tiny.COLOURS)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    torch.set_num_threads(1)
    data, run = tmp_path_factory.mktemp("data"), tmp_path_factory.mktemp("runs") / "adaptive"
    tiny.write_data(data)
    write_text(data)
    config = CaptionerConfig(
        name="tiny-adaptive",
        encoder="test_efficientnet",
        image_size=96,
        decoder=CONFIG.model_copy(update={"tail_stages": 1, "embedding_size": 32, "hidden_size": 32}),
    )
    first = tiny.train_captioner(
        data, run.parent / "tuned", tiny.RECIPE.model_copy(update={"tail_stages": 1, "epochs": 4})
    )
    recipe = tiny.RECIPE.model_copy(
        update={
            "captioner": config,
            "encoder_from": str(first),
            "text": TextRecipe(files=["made.txt.gz"], sentences_per_step=4, min_count=1),
            "tail_learning_rate": 0.0,
            "unseen": 0.0,
            "epochs": 60,
            "patience": 60,
            "doubly_stochastic": 0.0,
            "detection": DetectionRecipe(min_images=3, epochs=30),
        }
    )
    return Captioner.load(tiny.train_captioner(data, run, recipe))


def test_a_trained_captioner_names_the_colours(trained: Captioner) -> None:
    captions = trained.caption([tiny.picture("red", "blue"), tiny.picture("white", "green")])
    named = [set(split_words(best.text)) for best, *_ in captions]
    assert all(words <= tiny.WORDS for words in named)
    assert {"red", "blue"} <= named[0] or {"white", "green"} <= named[1]


def test_greedy_equals_one_beam_and_single_images_equal_a_batch(trained: Captioner) -> None:
    images = [tiny.picture("red", "blue"), tiny.picture("green", "white"), Image.new("RGB", (50, 80))]
    greedy = trained.caption(images, DecodingOptions(strategy=Strategy.GREEDY))
    beam = trained.caption(images, DecodingOptions(beam_size=1))
    assert [best.text for best, *_ in greedy] == [best.text for best, *_ in beam]
    for image, together in zip(images, greedy, strict=True):
        (alone,) = trained.caption([image], DecodingOptions(strategy=Strategy.GREEDY))
        assert alone[0].text == together[0].text
        for one, other in zip(alone[0].words, together[0].words, strict=True):
            assert np.allclose(one.attention.weights, other.attention.weights, atol=1e-4)


def test_a_saved_captioner_writes_the_same_captions(trained: Captioner, tmp_path: Path) -> None:
    trained.save(tmp_path)
    again = Captioner.load(tmp_path)
    image = [tiny.picture("green", "red")]
    assert again.caption(image)[0][0].text == trained.caption(image)[0][0].text
