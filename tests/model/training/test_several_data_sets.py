"""Training on several data sets together: labels, styles, and one tail for captions and detector."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from support import tiny

from model.decoding.options import DecodingOptions
from model.network.adaptive import AdaptiveConfig, AdaptiveDecoder, Features
from model.network.encoder import Encoder
from model.runtime.captioner import Captioner, CaptionerConfig
from model.text.vocabulary import START, Vocabulary, split_words, style_token
from model.training.batches import Batches
from model.training.dataset import Sample, load_split
from model.training.detection import DetectionRecipe, ImageWords, detection_loss
from model.training.fast_tail import make_tail
from model.training.recipe import Recipe
from model.training.trainer import Trainer
from model.training.visual_vocabulary import VisibleWords


def write_other(folder: Path) -> Path:
    """Write the tiny data set with labels and other captions, one for each picture."""
    folder.mkdir()
    index = json.loads((tiny.write_data(folder) / "captions.json").read_text())
    for name, entry in index.items():
        _, top, bottom = name.removesuffix(".png").split("-")
        entry |= {"captions": [f"{bottom} below {top}"], "labels": [top, bottom]}
    (folder / "captions.json").write_text(json.dumps(index))
    return folder


RECIPE = Recipe.model_validate(
    {
        **tiny.RECIPE.model_dump(),
        "captioner": CaptionerConfig(
            name="tiny-together",
            encoder="test_efficientnet",
            image_size=96,
            decoder=AdaptiveConfig(
                tail_stages=2, classes=0, embedding_size=32, hidden_size=32, attention_size=16, dropout=0.0
            ),
        ).model_dump(),
        "default_style": "other",
        "epochs": 30,
        "patience": 30,
        "images_per_step": 6,
        "unseen": 0.0,
        "doubly_stochastic": 0.0,
        "detection": DetectionRecipe(min_images=3, epochs=2.5).model_dump(),
    }
)


@pytest.fixture(scope="module")
def together(tiny_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Captioner:
    run = tmp_path_factory.mktemp("together") / "run"
    other = write_other(tmp_path_factory.mktemp("others") / "other")
    Trainer(RECIPE, [other, tiny_data], run, torch.device("cpu")).fit()
    return Captioner.load(run / "best")


def test_captions_are_in_the_default_style_or_the_chosen_one(together: Captioner, tiny_data: Path) -> None:
    picture = [tiny.picture("red", "blue")]
    ((default,),) = together.caption(picture)
    ((styled,),) = together.caption(picture, DecodingOptions(style=tiny_data.name))
    assert "below" in split_words(default.text)
    assert {"over", "above"} & set(split_words(styled.text))
    assert not any("<" in caption.text for caption in (default, styled))
    with pytest.raises(ValueError, match="no style 'nobody'"):
        together.caption(picture, DecodingOptions(style="nobody"))


def test_the_detector_works_on_the_trained_tail_and_names_labels(together: Captioner) -> None:
    assert together.encoder.general is None
    assert together.detector is not None
    assert together.detector.classifier is None
    config = together.config.decoder
    assert isinstance(config, AdaptiveConfig)
    assert config.labels == tuple(sorted(tiny.COLOURS))
    assert config.words == config.learnt == together.detector.learnt.out_features


def test_samples_have_labels_and_the_folder_as_style(tiny_data: Path, tmp_path: Path) -> None:
    ours, other = load_split(tiny_data, "train"), load_split(write_other(tmp_path / "other"), "train")
    assert {sample.style for sample in ours} == {tiny_data.name}
    assert {sample.style for sample in other} == {"other"}
    assert all(sample.labels is None for sample in ours)
    assert {label for sample in other for label in sample.labels or ()} == set(tiny.COLOURS)


def test_captions_of_another_style_start_with_its_token() -> None:
    vocabulary = Vocabulary(["a", "dog", style_token("theirs")])
    samples = [Sample("1", b"", ["a dog"], style="ours"), Sample("2", b"", ["a dog", "a"], style="theirs")]
    (batch,) = Batches(samples, vocabulary, views=1, size=2, max_words=9, seed=1).epoch(0)
    first = dict(zip(batch.images.tolist(), batch.inputs[:, 0, 0].tolist(), strict=True))
    assert first == {0: START, 1: vocabulary.token(style_token("theirs"))}
    assert style_token("theirs") not in split_words(style_token("theirs")), "no caption can hold it"


def test_batches_hold_images_with_similar_captions() -> None:
    vocabulary = Vocabulary(["a", "dog"])
    one, long, two = ["a"], ["a dog a dog a"], ["a dog", "a"]
    samples = [Sample(str(n), b"", [one, long, two][n % 3]) for n in range(9)]
    batches = list(Batches(samples, vocabulary, views=1, size=3, max_words=9, seed=1).epoch(0))
    assert {batch.targets.shape for batch in batches} == {(3, 1, 2), (3, 1, 6), (3, 2, 3)}
    assert sorted(image for batch in batches for image in batch.images.tolist()) == list(range(9))


def test_labels_are_learnt_from_labelled_images_only() -> None:
    samples = [Sample("1", b"", ["a dog", "a cat"], ["dog", "traffic light"]), Sample("2", b"", ["a dog"])]
    visible = VisibleWords.of(samples, Vocabulary(["a", "dog", "cat"]), 1, classes=False)
    assert visible.words == ["dog", "cat", "dog", "traffic light"]
    assert visible.labels == ("dog", "traffic light")
    assert visible.forms_in(Vocabulary(["dogs", "dog", "cat"]))[-2:] == [0, 1], "the word, and not the label"
    truth = ImageWords(samples, visible, Vocabulary(["a", "dog", "cat"])).targets(np.array([0, 1]))
    assert truth.tolist() == [[0.75, 0.75, 1, 1], [1, 0, -1, -1]]
    logits = torch.randn(2, 9, 4, requires_grad=True)
    detection_loss(logits, truth).backward()
    assert logits.grad is not None
    assert logits.grad[0].all()
    assert not logits.grad[1, :, 2:].any()


def test_the_fast_tail_computes_the_tail_and_its_gradient() -> None:
    torch.manual_seed(0)
    # In single precision, rounding moves some values across the kinks of ReLU6, where the gradient jumps.
    encoder = Encoder("tf_efficientnet_lite0", tail_stages=3).double()
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.uniform_(module.bias, -0.5, 0.5)
            module.running_mean.uniform_(-0.5, 0.5)
            module.running_var.uniform_(0.5, 1.5)
    activations = torch.randn(2, 112, 9, 9, dtype=torch.double)
    encoder.requires_grad_(False)
    for parameter in encoder.tail_parameters():
        parameter.requires_grad_(True)
    fast = make_tail(encoder, 9, torch.double)
    assert fast != encoder.tail
    grids, gradients = [], []
    for tail in (encoder.tail, fast):
        encoder.zero_grad()
        grids.append(tail(activations))
        (grids[-1] ** 2).sum().backward()
        gradients.append([parameter.grad for parameter in encoder.tail_parameters()])
    torch.testing.assert_close(*grids)
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_an_encoder_of_other_blocks_keeps_its_own_tail() -> None:
    encoder = Encoder("test_efficientnet", tail_stages=2)
    assert make_tail(encoder, 3, torch.float32) == encoder.tail


def test_teacher_forcing_has_the_gradient_of_single_steps() -> None:
    torch.manual_seed(0)
    config = AdaptiveConfig(classes=0, embedding_size=12, hidden_size=16, attention_size=8, dropout=0.0)
    decoder = AdaptiveDecoder(config, channels=6, fine_channels=5, words=4, vocabulary_size=12)
    decoder.seen_as[5:8] = torch.arange(3)
    features = Features(torch.randn(2, 5, 5, 5), torch.randn(2, 6, 3, 3), torch.rand(2, 9, 4))
    tokens = torch.randint(1, 12, (2, 3, 5))
    of_logits, of_weights = torch.randn(2, 3, 5, 12), torch.randn(2, 3, 5, 25)
    gradients = []
    for at_once in (True, False):
        decoder.zero_grad()
        encoded = decoder.encode(features)
        if at_once:
            logits, weights = decoder(encoded, tokens)
        else:
            state, steps = decoder.start(encoded, 3), []
            for previous in tokens.unbind(dim=2):
                scores, state, looked = decoder.step(previous, state, encoded)
                steps.append((scores, looked))
            logits, weights = (torch.stack(parts, dim=2) for parts in zip(*steps, strict=True))
        ((logits * of_logits).sum() + (weights * of_weights).sum()).backward()
        gradients.append({name: p.grad for name, p in decoder.named_parameters() if p.grad is not None})
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], msg=name)
