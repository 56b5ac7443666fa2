"""Activations of the encoder's frozen trunk for every view of every image, computed once and kept on disk.

To compute them in every epoch would be most of the cost of training on a CPU.
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

from model.network.encoder import Encoder
from model.runtime.pixels import to_pixels
from model.training.dataset import Sample
from model.training.trunk import make_trunk
from model.training.views import view_image

_BATCH = 16


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
    """Return the activations (views, images, C', R', R') of the first `views` views of `samples`.

    The folder `cache` keeps them. The array is read from disk as needed.
    """
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
    """Lock the folder. Of several runs that need the same activations, one computes them and the others wait."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _digest(encoder: Encoder, samples: list[Sample], image_size: int, views: int, seed: int, bfloat16: bool) -> str:
    """Return a name that changes with everything that the activations depend on."""
    settings = (image_size, views, seed if views > 2 else 0, bfloat16)
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
    """Compute the activations. Several threads decode and compute one batch each."""
    threads = torch.get_num_threads()
    trunk = make_trunk(encoder, image_size, bfloat16=bfloat16, threads=threads)
    example = trunk(torch.zeros(1, 3, image_size, image_size, dtype=torch.uint8))
    shape = (views, len(samples), *example.shape[1:])
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
