"""Recorded decoder steps, with CUDA graphs and with a recorder that overwrites its results in the same way."""

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from support import tiny
from support.adaptive import make_decoder, random_features

from model.decoding.options import DecodingOptions, Strategy
from model.network.adaptive import AdaptiveConfig, AdaptiveDecoder
from model.runtime.captioner import Captioner, CaptionerConfig
from model.runtime.cuda_graph import CudaGraphDecoder, Record, StepResult, _flat
from model.runtime.fused_decoder import FusedDecoder
from model.runtime.inference import prepare_for_inference
from model.text.vocabulary import Vocabulary

OPTIONS = {
    "beam": DecodingOptions(beam_size=3, num_captions=3),
    "greedy": DecodingOptions(strategy=Strategy.GREEDY),
    "sample": DecodingOptions(strategy=Strategy.SAMPLE, num_captions=3),
    "prefix": DecodingOptions(prefix="a red"),
}


@pytest.fixture
def decoder() -> AdaptiveDecoder:
    return make_decoder()


def record_in_place(function: Callable[[], StepResult]) -> tuple[Callable[[], None], StepResult]:
    """Record as a graph does: a replay reads and writes the same tensors."""
    results = function()

    def replay() -> None:
        for old, new in zip(_flat(results), _flat(function()), strict=True):
            old.copy_(new)

    return replay, results


@pytest.mark.parametrize("name", OPTIONS)
@pytest.mark.parametrize("images", [1, 3, 4])
def test_recorded_steps_give_the_same_captions(tiny_captioner: Path, name: str, images: int) -> None:
    captioner = Captioner.load(tiny_captioner)
    recorded_decoder = CudaGraphDecoder(captioner.decoder, record_in_place)
    colours = [("red", "green"), ("blue", "white"), ("green", "red"), ("white", "blue")][:images]
    encoded = captioner.encode(torch.stack([captioner.prepare(tiny.picture(*pair)) for pair in colours]))
    written = []
    for writer in (None, recorded_decoder, recorded_decoder):
        captioner.step_decoder = writer
        written.append(captioner.generate(encoded, OPTIONS[name], seeds=list(range(images))))
    for some in written[1:]:
        for captions, others in zip(some, written[0], strict=True):
            assert [caption.text for caption in captions] == [caption.text for caption in others]
            for caption, other in zip(captions, others, strict=True):
                assert caption.logprob == pytest.approx(other.logprob, abs=1e-4)
                for word, same in zip(caption.words, other.words, strict=True):
                    assert word.attention.weights == pytest.approx(same.attention.weights, abs=1e-4)
    assert recorded_decoder.recorded > 0
    assert not recorded_decoder.failed


@pytest.mark.parametrize("cuda_graphs", [False, True])
def test_steps_are_recorded_on_request_only(cuda_graphs: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Captioner, "device", torch.device("cuda"))
    config = CaptionerConfig(encoder="test_efficientnet", image_size=96, decoder=AdaptiveConfig(words=2, learnt=1))
    captioner = Captioner(config, Vocabulary(["a", "dog"]))
    prepare_for_inference(captioner, cuda_graphs=cuda_graphs)
    assert isinstance(captioner.step_decoder, CudaGraphDecoder if cuda_graphs else FusedDecoder)


def test_a_recording_is_refilled_for_new_images(decoder: AdaptiveDecoder) -> None:
    fused = FusedDecoder(decoder)
    recorded_decoder = CudaGraphDecoder(fused, record_in_place)
    tokens = torch.tensor([[5, 6], [7, 8], [5, 9]])
    with torch.inference_mode():
        for seed in (1, 2, 1):
            encoded = decoder.encode(random_features(3, seed))
            state = fused.start(encoded, 2)
            for own, other in zip(
                _flat(recorded_decoder.step(tokens, state, encoded)),
                _flat(fused.step(tokens, state, encoded)),
                strict=True,
            ):
                torch.testing.assert_close(own, other)
    assert recorded_decoder.recorded == 1


def test_one_recording_serves_all_sizes_up_to_a_power_of_two(decoder: AdaptiveDecoder) -> None:
    recorded_decoder = CudaGraphDecoder(FusedDecoder(decoder), record_in_place)
    with torch.inference_mode():
        for images, expected in ((5, 1), (8, 1), (6, 1), (4, 2), (3, 2), (1, 3)):
            encoded = decoder.encode(random_features(images))
            logits, _, _ = recorded_decoder.step(
                torch.full((images, 2), 5), recorded_decoder.start(encoded, 2), encoded
            )
            assert (len(logits), recorded_decoder.recorded) == (images, expected)


def _fails(_function: Callable[[], StepResult]) -> tuple[Callable[[], None], StepResult]:
    raise RuntimeError("operation not permitted when stream is capturing\nand more")


def _wrong(function: Callable[[], StepResult]) -> tuple[Callable[[], None], StepResult]:
    logits, state, weights = function()
    return (lambda: None), (logits + 1, state, weights)


@pytest.mark.parametrize("record", [_fails, _wrong])
def test_steps_that_fails_be_recorded_are_computed(
    decoder: AdaptiveDecoder, record: Record, caplog: pytest.LogCaptureFixture
) -> None:
    fused = FusedDecoder(decoder)
    recorded_decoder = CudaGraphDecoder(fused, record)
    with torch.inference_mode(), caplog.at_level(logging.WARNING):
        encoded = decoder.encode(random_features(2))
        state, tokens = fused.start(encoded, 1), torch.tensor([[5], [6]])
        for _ in range(2):
            for own, other in zip(
                _flat(recorded_decoder.step(tokens, state, encoded)),
                _flat(fused.step(tokens, state, encoded)),
                strict=True,
            ):
                torch.testing.assert_close(own, other)
    assert recorded_decoder.failed
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "CUDA graphs are disabled; decoding is slower"
    ]


def test_out_of_memory_is_raised(decoder: AdaptiveDecoder) -> None:
    def full(_function: Callable[[], StepResult]) -> tuple[Callable[[], None], StepResult]:
        raise torch.OutOfMemoryError("full")

    recorded_decoder = CudaGraphDecoder(FusedDecoder(decoder), full)
    with torch.inference_mode():
        encoded = decoder.encode(random_features(1))
        with pytest.raises(torch.OutOfMemoryError):
            recorded_decoder.step(torch.tensor([[5]]), recorded_decoder.start(encoded, 1), encoded)
    assert not recorded_decoder.failed


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU here")
@pytest.mark.parametrize("name", OPTIONS)
def test_cuda_graphs_give_the_captions_of_plain_steps(name: str) -> None:
    ready = prepare_for_inference(Captioner.load(device="cuda"), cuda_graphs=True)
    recorded_decoder = ready.step_decoder
    assert isinstance(recorded_decoder, CudaGraphDecoder)
    pixels = torch.stack(
        [ready.prepare(tiny.picture(*pair, (260, 260))) for pair in [("red", "green"), ("blue", "red")]]
    )
    encoded = ready.encode(pixels)
    own = ready.generate(encoded, OPTIONS[name], seeds=[1, 2])
    ready.step_decoder = None
    plain = ready.generate(encoded, OPTIONS[name], seeds=[1, 2])
    assert not recorded_decoder.failed
    assert [[caption.text for caption in some] for some in own] == [
        [caption.text for caption in some] for some in plain
    ]
