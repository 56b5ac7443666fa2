"""Engines equal the reference, and work when their cache is lost or damaged."""

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest
import torch
from support import tiny
from support.adaptive import make_decoder, random_features

from model.decoding.options import DecodingOptions, Strategy
from model.network.adaptive import AdaptiveDecoder
from model.network.decoder import DecoderConfig
from model.runtime.captioner import Captioner, EncoderMissing
from model.runtime.engines.cache import TranslationCache
from model.runtime.engines.openvino import OpenVINO
from model.runtime.fused_decoder import FusedDecoder
from model.runtime.inference import EngineName, EngineUnavailable, load_for_inference, prepare_for_inference
from model.runtime.packed_linear import PackedLinear

COLOURS = (("red", "green"), ("blue", "white"), ("green", "red"), ("blue", "red"))


@pytest.fixture
def decoder() -> AdaptiveDecoder:
    return make_decoder()


@pytest.fixture
def captioner(tiny_captioner: Path) -> Captioner:
    return Captioner.load(tiny_captioner)


@pytest.fixture
def pixels(captioner: Captioner) -> torch.Tensor:
    return torch.stack([captioner.prepare(tiny.picture(*colours)) for colours in COLOURS])


@pytest.fixture(scope="module")
def shipped() -> Captioner:
    return Captioner.load()


@pytest.fixture
def cache(tmp_path: Path) -> TranslationCache:
    return TranslationCache("test", folder=tmp_path)


@pytest.mark.parametrize("images", [1, 9])
@pytest.mark.parametrize("whose", ["captioner", "shipped"])
def test_openvino_equals_pytorch(
    whose: str, images: int, cache: TranslationCache, request: pytest.FixtureRequest
) -> None:
    subject: Captioner = request.getfixturevalue(whose)
    side = subject.config.image_size
    pictures = torch.stack(
        [subject.prepare(tiny.picture(*colours, (side, side))) for colours in (COLOURS * 3)[:images]]
    )
    reference = subject.encode(pictures)
    encoded = OpenVINO(subject, "fp32", cache).encode(pictures)
    assert (encoded.rows, encoded.cols, type(encoded)) == (reference.rows, reference.cols, type(reference))
    for one, other in zip(encoded.tensors, reference.tensors, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_batch_does_not_overwrite_the_previous_one(
    captioner: Captioner, pixels: torch.Tensor, cache: TranslationCache
) -> None:
    engine = OpenVINO(captioner, "fp32", cache)
    first = engine.encode(pixels[:2])
    before = first.annotations.clone()
    engine.encode(pixels[2:])
    assert first.annotations.equal(before)


@pytest.mark.parametrize("name", ["auto", "pytorch", "openvino"])
def test_inference_gives_the_same_captions_and_scores(
    name: EngineName, tiny_captioner: Path, captioner: Captioner, pixels: torch.Tensor
) -> None:
    ready = prepare_for_inference(Captioner.load(tiny_captioner), name)
    assert ready.engine is not None
    assert ready.engine.name == ("pytorch" if name == "pytorch" else "openvino")
    for options in (DecodingOptions(), DecodingOptions(strategy=Strategy.GREEDY)):
        for one, other in zip(
            ready.caption_pixels(pixels, options), captioner.caption_pixels(pixels, options), strict=True
        ):
            assert one[0].text == other[0].text
            assert one[0].logprob == pytest.approx(other[0].logprob, abs=1e-3)
    sentences = ["a red box"] * len(COLOURS)
    scored = (model.score(model.encode(pixels), sentences) for model in (ready, captioner))
    for one_caption, other_caption in zip(*scored, strict=True):
        assert one_caption.logprob == pytest.approx(other_caption.logprob, abs=1e-3)


@pytest.mark.parametrize("name", ["pytorch", "openvino"])
def test_bfloat16_encoding_is_close_to_float32(name: EngineName, tiny_captioner: Path, pixels: torch.Tensor) -> None:
    reference = Captioner.load(tiny_captioner)
    bfloat16 = prepare_for_inference(Captioner.load(tiny_captioner), name, "bf16")
    one, other = bfloat16.encode(pixels).annotations.float(), reference.encode(pixels).annotations
    assert (one - other).abs().mean() < 0.05 * other.abs().mean()


def test_the_fused_decoder_equals_the_decoder(decoder: AdaptiveDecoder) -> None:
    fused = FusedDecoder(decoder)
    with torch.inference_mode():
        encoded = decoder.encode(random_features(2))
        state, same = decoder.start(encoded, 3), fused.start(encoded, 3)
        for _ in range(4):
            tokens = torch.randint(1, 12, (2, 3))
            logits, state, weights = decoder.step(tokens, state, encoded)
            others, same, attention = fused.step(tokens, same, encoded)
            torch.testing.assert_close(others, logits, atol=1e-5, rtol=1e-5)
            torch.testing.assert_close(attention, weights, atol=1e-5, rtol=1e-5)
            for one, other in zip(same.parts, state.parts, strict=True):
                torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("rows", [1, 3, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_packed_linear_equals_linear(rows: int, dtype: torch.dtype) -> None:
    weight, bias, factor = torch.randn(17, 30), torch.randn(17), torch.randn(2, rows, 30)
    product = PackedLinear(weight, dtype, bias)(factor)
    expected = torch.nn.functional.linear(factor.to(dtype).float(), weight.to(dtype).float(), bias)
    assert product.dtype == torch.float32
    tolerance = 1e-5 if dtype == torch.float32 else 0.1
    torch.testing.assert_close(product, expected, atol=tolerance, rtol=tolerance)


def translated(cache: TranslationCache) -> Path:
    path = cache.get("encoder.xml")
    assert path is not None
    return path


def written(path: Path) -> tuple[int, int]:
    """Return the inode and the modification time of a file."""
    status = path.stat()
    return status.st_ino, status.st_mtime_ns


def test_a_translation_is_cached(captioner: Captioner, pixels: torch.Tensor, cache: TranslationCache) -> None:
    OpenVINO(captioner, "fp32", cache)
    first = written(translated(cache))
    again = OpenVINO(captioner, "fp32", cache)
    assert written(translated(cache)) == first
    torch.testing.assert_close(
        again.encode(pixels).annotations, captioner.encode(pixels).annotations, atol=1e-4, rtol=0
    )


def affinities() -> set[frozenset[int]]:
    """Return the sets of cores that the threads of this process may use."""
    cores = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(ProcessLookupError):  # the thread has ended
            cores.add(frozenset(os.sched_getaffinity(int(task.name))))
    return cores


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_threads_may_run_on_any_core(captioner: Captioner, pixels: torch.Tensor, cache: TranslationCache) -> None:
    before, threads = affinities(), torch.get_num_threads()
    torch.set_num_threads(1)  # fewer than there are cores
    try:
        engine = OpenVINO(captioner, "fp32", cache)
    finally:
        torch.set_num_threads(threads)
    with ThreadPoolExecutor(1) as pool:
        many = pool.submit(lambda: [engine.encode(pixels) for _ in range(20)])
        while not many.done():
            assert affinities() == before


def test_a_damaged_translation_is_replaced(captioner: Captioner, pixels: torch.Tensor, cache: TranslationCache) -> None:
    OpenVINO(captioner, "fp32", cache)
    path = translated(cache)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    engine = OpenVINO(captioner, "fp32", cache)
    assert translated(cache).stat().st_size == pytest.approx(len(whole), rel=0.01)
    assert engine.encode(pixels).images == len(pixels)


def test_with_a_cached_translation_no_encoder_is_loaded(
    tiny_captioner: Path, captioner: Captioner, pixels: torch.Tensor, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    uncached = load_for_inference(tiny_captioner, translate=False)
    assert (uncached.has_encoder, uncached.engine and uncached.engine.name) == (True, "pytorch")
    first = load_for_inference(tiny_captioner)
    assert (first.has_encoder, first.engine and first.engine.name) == (True, "openvino")
    for translate in (True, False):
        again = load_for_inference(tiny_captioner, translate=translate)
        assert (again.has_encoder, again.engine and again.engine.name) == (False, "openvino")
        assert again.version == captioner.version
        for one, other in zip(
            again.caption_pixels(pixels, DecodingOptions()),
            captioner.caption_pixels(pixels, DecodingOptions()),
            strict=True,
        ):
            assert one[0].text == other[0].text
    assert load_for_inference(tiny_captioner, name="pytorch").has_encoder


@pytest.mark.parametrize("name", ["pytorch", "openvino"])
def test_a_missing_encoder_is_an_error(
    name: EngineName, tiny_captioner: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    without_encoder = Captioner.load(tiny_captioner, encoder=False)
    with pytest.raises(EncoderMissing):
        prepare_for_inference(without_encoder, name)


@pytest.mark.parametrize("whose", ["tiny_captioner", "family"])
def test_a_captioner_of_either_kind_loads_without_an_encoder(whose: str, tiny_captioner: Path, tmp_path: Path) -> None:
    folder = tiny_captioner
    if whose == "family":
        whole = Captioner.load(tiny_captioner)
        config = whole.config.model_copy(update={"decoder": DecoderConfig(embedding_size=8, hidden_size=8)})
        folder = tmp_path
        Captioner(config, whole.vocabulary).save(folder)
    whole, without_encoder = Captioner.load(folder), Captioner.load(folder, encoder=False)
    assert whole.has_encoder
    assert not without_encoder.has_encoder
    own = without_encoder.state_dict()
    assert own
    assert all(tensor.equal(whole.state_dict()[name]) for name, tensor in own.items())


def test_a_cached_translation_avoids_importing_timm(tiny_captioner: Path, tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from model.runtime.inference import load_for_inference;"
        "load_for_inference(Path(sys.argv[1])); print(sorted({'timm', 'torchvision'} & set(sys.modules)))"
    )
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path)}
    imported = [
        subprocess.run(
            [sys.executable, "-c", program, str(tiny_captioner)],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for _ in range(2)
    ]
    assert imported == ["['timm', 'torchvision']", "[]"]


def test_openvino_works_without_a_writable_cache(captioner: Captioner, pixels: torch.Tensor, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = TranslationCache("test", folder=tmp_path / "file" / "folder")
    assert OpenVINO(captioner, "fp32", cache).encode(pixels).images == len(pixels)
    assert cache.get("encoder.xml") is None


def test_the_cache_is_keyed_and_keeps_the_latest_entries(tmp_path: Path) -> None:
    def put(number: int) -> Iterator[bool]:
        TranslationCache(str(number), folder=tmp_path).put(lambda folder: (folder / "x").touch())
        os.utime(next(iter(set(tmp_path.iterdir()) - known)), (number, number))
        known.update(tmp_path.iterdir())
        return (TranslationCache(str(other), folder=tmp_path).get("x") is not None for other in range(number + 1))

    known: set[Path] = set()
    for number in range(10):
        found = list(put(number))
    assert found == [False, False, *[True] * 8]


def test_openvino_refuses_other_devices(tiny_captioner: Path) -> None:
    on_meta = Captioner.load(tiny_captioner).to("meta")
    with pytest.raises(EngineUnavailable, match="not on meta"):
        prepare_for_inference(on_meta, "openvino")


def test_openvino_sends_no_telemetry() -> None:
    # On import, OpenVINO sends usage data if this package can be imported.
    program = "import model.runtime.engines.openvino, sys; print(sys.modules['openvino_telemetry'])"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert run.stdout == "None\n"
