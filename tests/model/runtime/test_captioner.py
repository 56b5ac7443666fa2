"""The captioner: captions, saving, loading, and damaged files."""

import json
import shutil
import struct
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support import tiny

from model.decoding.options import DecodingOptions
from model.runtime.captioner import Captioner, CaptionerConfig, CaptionerNotLoadable
from model.training.checkpoint import read_checkpoint, without_prefix

FILES = ("captioner.safetensors", "config.json", "vocabulary.json")
PAIRS = list(permutations(tiny.COLOURS, 2))


@pytest.fixture(scope="module")
def captioner(tiny_captioner: Path) -> Captioner:
    return Captioner.load(tiny_captioner)


@pytest.fixture
def folder(tiny_captioner: Path, tmp_path: Path) -> Path:
    """Copy the captioner, to damage the copy."""
    return Path(shutil.copytree(tiny_captioner, tmp_path / "captioner"))


def pictures() -> list[Image.Image]:
    return [tiny.picture(top, bottom) for top, bottom in PAIRS]


def reason(folder: Path) -> str:
    """Fail to load `folder`. Returns the message, which is one line."""
    with pytest.raises(CaptionerNotLoadable) as caught:
        Captioner.load(folder)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    assert str(folder) in message
    return message


# Captions.


def test_captions_name_the_colours_in_order(captioner: Captioner) -> None:
    right = 0
    for pair, (caption,) in zip(PAIRS, captioner.caption(pictures()), strict=True):
        colours = tuple(word.text for word in caption.words if word.text in tiny.COLOURS)
        right += colours == pair
    assert right >= 10


def test_a_caption_consists_of_learnt_words(captioner: Captioner) -> None:
    for (caption,) in captioner.caption(pictures()):
        assert caption.text == " ".join(word.text for word in caption.words)
        assert {word.text for word in caption.words} <= tiny.WORDS


def test_the_maps_of_a_word_cover_the_grid_and_are_the_same_without_a_detector(captioner: Captioner) -> None:
    for (caption,) in captioner.caption(pictures()):
        for word in caption.words:
            attention = word.attention
            assert (attention.rows, attention.cols) == (3, 3)
            assert len(attention.weights) == 9
            assert min(attention.weights) >= 0
            assert sum(attention.weights) == pytest.approx(1, abs=1e-3)
            assert word.heatmap == attention
            assert word.visual_grounding == 1


def test_log_probabilities_are_negative_and_words_sum_to_at_least_the_caption(
    captioner: Captioner,
) -> None:
    for captions in captioner.caption(pictures(), DecodingOptions(beam_size=4, num_captions=4)):
        for caption in captions:
            assert all(word.logprob <= 0 for word in caption.words)
            assert caption.logprob <= sum(word.logprob for word in caption.words) + 1e-4


def test_captions_do_not_depend_on_the_batch(captioner: Captioner) -> None:
    options = DecodingOptions(beam_size=3, num_captions=2)
    for image, together in zip(pictures(), captioner.caption(pictures(), options), strict=True):
        (alone,) = captioner.caption([image], options)
        assert [caption.text for caption in alone] == [caption.text for caption in together]
        for one, other in zip(alone, together, strict=True):
            assert one.logprob == pytest.approx(other.logprob, abs=1e-4)
            for word, same in zip(one.words, other.words, strict=True):
                assert word.attention.weights == pytest.approx(same.attention.weights, abs=1e-4)


@pytest.mark.parametrize("size", [(300, 40), (40, 300), (1, 2), (1000, 1000)])
def test_pictures_of_any_shape_are_captioned(captioner: Captioner, size: tuple[int, int]) -> None:
    ((caption,),) = captioner.caption([tiny.picture("red", "blue", size)])
    assert caption.words


@pytest.mark.parametrize(("beam_size", "num_captions"), [(1, 1), (3, 1), (5, 5)])
def test_num_captions_gives_as_many_different_captions(captioner: Captioner, beam_size: int, num_captions: int) -> None:
    (captions,) = captioner.caption(
        [tiny.picture("red", "blue")], DecodingOptions(beam_size=beam_size, num_captions=num_captions)
    )
    assert len({caption.text for caption in captions}) == len(captions) == num_captions


def test_max_words_limits_every_caption(captioner: Captioner) -> None:
    (captions,) = captioner.caption(
        [tiny.picture("red", "blue")], DecodingOptions(beam_size=4, num_captions=4, max_words=2)
    )
    assert {len(caption.words) for caption in captions} <= {1, 2}


def test_prepared_pixels_are_captioned_like_the_picture(captioner: Captioner) -> None:
    pixels = torch.stack([captioner.prepare(image) for image in pictures()])
    assert pixels.dtype == torch.uint8
    assert captioner.caption_pixels(pixels, DecodingOptions()) == captioner.caption(pictures())


def test_a_caption_is_plain_json_of_a_known_shape(captioner: Captioner) -> None:
    ((caption,),) = captioner.caption([tiny.picture("red", "blue")])
    data = json.loads(json.dumps(caption.as_dict(), allow_nan=False))
    assert data == caption.as_dict()
    assert data.keys() == {"text", "logprob", "words", "confidence", "confident"}
    assert data["text"] == caption.text
    for word in data["words"]:
        assert word.keys() == {"text", "logprob", "attention", "heatmap", "in_vocabulary", "visual_grounding"}
        assert isinstance(word["logprob"], float)
        for word_map in (word["attention"], word["heatmap"]):
            assert word_map.keys() == {"rows", "cols", "weights"}
            assert all(isinstance(weight, float) for weight in word_map["weights"])


def test_a_selection_of_encoded_images_gives_the_same_captions(captioner: Captioner) -> None:
    encoded = captioner.encode(torch.stack([captioner.prepare(image) for image in pictures()]))
    assert (encoded.images, encoded.rows, encoded.cols) == (len(PAIRS), 3, 3)
    all_captions = captioner.caption(pictures())
    for images in ([5, 0], [3]):
        texts = [caption.text for (caption,) in captioner.generate(encoded.select(images), DecodingOptions())]
        assert texts == [all_captions[image][0].text for image in images]


def test_true_sentences_score_higher_than_false_ones(captioner: Captioner) -> None:
    encoded = captioner.encode(torch.stack([captioner.prepare(image) for image in pictures()]))
    true = captioner.score(encoded, [f"A {top} over a {bottom}." for top, bottom in PAIRS])
    false = captioner.score(encoded, [f"A {bottom} over a {top}." for top, bottom in PAIRS])
    assert sum(one.logprob > other.logprob for one, other in zip(true, false, strict=True)) >= 10
    for caption in true:
        for word in caption.words:
            assert len(word.attention.weights) == 9
            assert sum(word.attention.weights) == pytest.approx(1, abs=1e-4)


def test_a_prefix_starts_the_sentence_and_the_rest_fits(captioner: Captioner) -> None:
    right = 0
    for pair, (caption,) in zip(PAIRS, captioner.caption(pictures(), DecodingOptions(prefix="One")), strict=True):
        assert caption.words[0].text == "one"
        right += tuple(word.text for word in caption.words if word.text in tiny.COLOURS) == pair
    assert right >= 10


# Saving and loading.


def test_half_precision_storage_does_not_change_captions(
    tiny_captioner: Path, captioner: Captioner, tmp_path: Path
) -> None:
    tensors, _ = read_checkpoint(tiny_captioner.parent / "checkpoint.safetensors")
    trained = Captioner(captioner.config, captioner.vocabulary).eval()
    trained.load_state_dict(without_prefix("average.module", tensors))
    trained.save(tmp_path)
    stored = Captioner.load(tmp_path)
    assert any((a != b).any() for a, b in zip(trained.parameters(), stored.parameters(), strict=True))
    for (before,), (after,) in zip(trained.caption(pictures()), stored.caption(pictures()), strict=True):
        assert after.text == before.text
        assert after.logprob == pytest.approx(before.logprob, abs=0.02)
        for word, same in zip(before.words, after.words, strict=True):
            assert same.attention.weights == pytest.approx(word.attention.weights, abs=0.01)


def test_saving_again_gives_the_same_captioner(tiny_captioner: Path, captioner: Captioner, tmp_path: Path) -> None:
    captioner.save(tmp_path / "deep" / "down")
    assert sorted(path.name for path in (tmp_path / "deep" / "down").iterdir()) == list(FILES)
    for name in FILES:
        assert (tmp_path / "deep" / "down" / name).read_bytes() == (tiny_captioner / name).read_bytes()
    again = Captioner.load(tmp_path / "deep" / "down")
    assert again.version == captioner.version
    assert again.caption(pictures()) == captioner.caption(pictures())


def test_a_loaded_captioner_is_ready_to_caption(captioner: Captioner) -> None:
    assert not any(module.training for module in captioner.modules())
    assert all(tensor.dtype == torch.float32 for tensor in captioner.parameters())
    assert captioner.device == torch.device("cpu")


def test_the_version_changes_with_the_weights(captioner: Captioner, folder: Path) -> None:
    assert captioner.version == Captioner.load(folder).version
    assert len(captioner.version) == 12
    path = folder / "captioner.safetensors"
    tensors = load_file(path)
    tensors["decoder.output_bias"][5] += 0.5
    save_file(tensors, path)
    assert Captioner.load(folder).version != captioner.version


def test_the_weights_need_no_unpickling(tiny_captioner: Path, captioner: Captioner) -> None:
    content = (tiny_captioner / "captioner.safetensors").read_bytes()
    (length,) = struct.unpack("<Q", content[:8])
    header: dict[str, Any] = json.loads(content[8 : 8 + length])
    entry = header["decoder.output_bias"]
    assert entry["dtype"] == "F16"
    start, end = entry["data_offsets"]
    values = struct.unpack(f"<{(end - start) // 2}e", content[8 + length + start : 8 + length + end])
    assert values == pytest.approx(captioner.decoder.output_bias.tolist())


# Refusals.


def test_a_missing_folder_is_not_loaded(tmp_path: Path) -> None:
    assert "No such file" in reason(tmp_path / "nowhere")


@pytest.mark.parametrize("name", FILES)
def test_a_folder_without_one_of_its_files_is_not_loaded(folder: Path, name: str) -> None:
    (folder / name).unlink()
    assert "No such file" in reason(folder)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[: len(content) // 2],
        lambda content: b"\x80" + content[1:],
        lambda _: b"",
        lambda _: b"null",
    ],
    ids=["cut", "flipped", "empty", "null"],
)
def test_a_damaged_file_is_not_loaded(folder: Path, name: str, damage: Callable[[bytes], bytes]) -> None:
    path = folder / name
    path.write_bytes(damage(path.read_bytes()))
    reason(folder)


def edit_config(folder: Path, edit: Callable[[dict[str, Any]], object]) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))


def test_weights_that_do_not_fit_the_config_are_not_loaded(folder: Path) -> None:
    edit_config(folder, lambda config: config["decoder"].update(hidden_size=48))
    assert "decoder." in reason(folder)


def test_weights_that_do_not_fit_the_vocabulary_are_not_loaded(folder: Path) -> None:
    path = folder / "vocabulary.json"
    path.write_text(json.dumps([*json.loads(path.read_text()), "purple"]))
    assert "decoder.output_bias" in reason(folder)


@pytest.mark.parametrize("name", ["decoder.gate.weight", "encoder.stages.0.0.weight"])
def test_incomplete_weights_are_not_loaded(folder: Path, name: str) -> None:
    tensors = load_file(folder / "captioner.safetensors")
    del tensors[name]
    save_file(tensors, folder / "captioner.safetensors")
    assert name in reason(folder)


def test_surplus_weights_are_not_loaded(folder: Path) -> None:
    tensors = load_file(folder / "captioner.safetensors")
    save_file({**tensors, "decoder.surprise": torch.zeros(1)}, folder / "captioner.safetensors")
    assert "decoder.surprise" in reason(folder)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"encodr": "x"}, "encodr"),
        ({"image_size": 8}, "image_size"),
        ({"encoder": "no_such_network"}, "no_such_network"),
        ({"encoder": "resnet10t"}, "resnet10t"),
        ({"decoder": {"hidden_size": -1}}, "decoder.recurrent.hidden_size"),
    ],
)
def test_an_invalid_config_is_refused_with_its_setting(folder: Path, settings: dict[str, object], named: str) -> None:
    edit_config(folder, lambda config: config.update(settings))
    assert named in reason(folder)


def test_a_config_refuses_unknown_settings() -> None:
    with pytest.raises(ValueError, match="colour"):
        CaptionerConfig.model_validate({"colour": "red"})


def test_a_captioner_saved_by_version_0_1_loads(captioner: Captioner, folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    removed = {"arrangement": "stacked", "sentinel": False, "tied": True, "attributes": None}
    older = config | {"output_stride": 32, "decoder": config["decoder"] | removed}
    (folder / "config.json").write_text(json.dumps(older))
    assert Captioner.load(folder).config == captioner.config
    (folder / "config.json").write_text(json.dumps(older | {"output_stride": 16}))
    with pytest.raises(CaptionerNotLoadable, match="output_stride"):
        Captioner.load(folder)
