"""What the frozen trunk of the encoder says of every view of every image: computed once, kept on disk.

In: an encoder and samples; out: a float16 array (views, images, C', R', R') that is read from disk as needed. Most of
the cost of training on a CPU would be to compute this again in every epoch.
"""

import fcntl
import hashlib
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import repeat
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from model.encoder import Encoder
from model.pixels import to_pixels
from model.training.dataset import Sample
from model.training.trunk import make_trunk
from model.training.views import view_image

_BATCH = 16


@torch.inference_mode()
def trunk_activations(
    encoder: Encoder,
    samples: list[Sample],
    *,
    image_size: int,
    views: int,
    seed: int,
    bfloat16: bool,
    cache: Path,
) -> npt.NDArray[np.float16]:
    """The trunk's activations for the first `views` views of `samples`, from `cache` where they are there already."""
    path = cache / f"{_digest(encoder, samples, image_size, views, seed, bfloat16)}.npy"
    cache.mkdir(parents=True, exist_ok=True)
    with _locked(cache):
        if not path.is_file():
            unfinished = path.with_suffix(".part")
            _compute(encoder, samples, image_size, views, seed, bfloat16, unfinished)
            unfinished.rename(path)
    return np.load(path, mmap_mode="r")  # type: ignore[no-any-return]


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Runs side by side want the same activations: one computes them, the others wait."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _digest(encoder: Encoder, samples: list[Sample], image_size: int, views: int, seed: int, bfloat16: bool) -> str:
    """A name for the answer that changes with whatever it depends on."""
    settings: tuple[object, ...] = (image_size, views, seed if views > 2 else 0, bfloat16)
    if encoder.output_stride != 32:  # the usual one is in no name
        settings += (encoder.output_stride,)
    digest = hashlib.sha256(repr(settings).encode())
    for stage in encoder.stages[: encoder.tail_from]:
        for tensor in stage.state_dict().values():
            digest.update(tensor.cpu().numpy().tobytes())
    for sample in samples:
        digest.update(sample.name.encode() + hashlib.sha256(sample.encoded).digest())
    return digest.hexdigest()[:24]


def _compute(
    encoder: Encoder,
    samples: list[Sample],
    image_size: int,
    views: int,
    seed: int,
    bfloat16: bool,
    path: Path,
) -> None:
    """Several threads decode; where the encoder is on the CPU, each of them computes as well."""
    threads = max(1, torch.get_num_threads())
    trunk = make_trunk(encoder, image_size, bfloat16=bfloat16, threads=threads)
    some = trunk(torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8))
    shape = (views, len(samples), *some.shape[1:])
    array = np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)

    def compute(view: int, start: int) -> int:
        batch = samples[start : start + _BATCH]
        images = [view_image(sample.image(), seed, sample.name, view) for sample in batch]
        array[view, start : start + len(batch)] = trunk(torch.stack([to_pixels(i, image_size) for i in images]))
        return len(batch)

    with tqdm(total=views * len(samples), desc="trunk", unit="image") as progress, ThreadPoolExecutor(threads) as pool:
        for view in range(views):
            for done in pool.map(compute, repeat(view), range(0, len(samples), _BATCH)):
                progress.update(done)
    array.flush()
