"""Batches: mixed options, pictures that the model fails on, and batches that do not fit the memory."""

import threading
from pathlib import Path

import pytest
import torch
from redis import Redis
from support import tiny
from support.queueing import claim_all, get, produce

from jobs.consumer import Claim, Consumer
from jobs.job import Status
from jobs.metrics import Recorder
from jobs.options import CaptionOptions, ScoreOptions, Strategy
from jobs.producer import Picture, Producer, Submission
from jobs.settings import QueueSettings
from model.network.encoded_images import EncodedImages
from model.runtime.captioner import Captioner
from worker.batch import BatchRunner, DeviceBroken
from worker.buffer import Buffer, PreparedJob, WorkerState

PIXELS = torch.zeros(3, 96, 96, dtype=torch.uint8)


class Limited(Captioner):
    """The tiny captioner on a device with memory for `room` pictures. It fails on a white picture."""

    room = 1000
    largest = 0

    def encode(self, pixels: torch.Tensor) -> EncodedImages:
        """See Captioner."""
        if len(pixels) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        if (pixels.flatten(1).min(dim=1).values == 255).any():
            raise RuntimeError("broken")
        self.largest = max(self.largest, len(pixels))
        return super().encode(pixels)


class Worker:
    """The part of a worker that runs batches."""

    def __init__(self, redis: Redis, settings: QueueSettings, folder: Path) -> None:
        self.captioner = Limited.load(folder)
        assert isinstance(self.captioner, Limited)
        self.consumer = Consumer(redis, settings)
        self.too_large: list[int] = []
        self.runner = BatchRunner(
            self.captioner, self.consumer, WorkerState(), Recorder(redis), threading.Event(), self.too_large.append
        )

    def run(self, claims: list[Claim], white: int | None = None) -> None:
        """Caption black pictures; the one at index `white` is white."""
        batch = [PreparedJob(claim, PIXELS + 255 * (index == white)) for index, claim in enumerate(claims)]
        self.runner.run(batch)


@pytest.fixture
def worker(redis: Redis, settings: QueueSettings, tiny_captioner: Path) -> Worker:
    return Worker(redis, settings, tiny_captioner)


def submit(settings: QueueSettings, options: list[CaptionOptions | ScoreOptions]) -> list[str]:
    async def act(producer: Producer) -> list[str]:
        return [
            await producer.submit(Submission(option), Picture(bytes([number]), 96, 96))
            for number, option in enumerate(options)
        ]

    return produce(settings, act)


def test_a_batch_that_does_not_fit_the_memory_is_split(worker: Worker, settings: QueueSettings) -> None:
    job_ids = submit(settings, [CaptionOptions()] * 8)
    worker.captioner.room = 2
    worker.run(claim_all(worker.consumer, 8))
    assert [get(settings, job_id).status for job_id in job_ids] == [Status.SUCCEEDED] * 8
    assert worker.too_large == [8, 4, 4]
    assert worker.captioner.largest == 2


def test_a_batch_size_that_does_not_fit_is_not_used_again() -> None:
    buffer = Buffer(16, 2)
    for size in (8, 16, 0):
        buffer.limit(size)
    claim = Claim("a", "a", 0, None, CaptionOptions(), 0.0, "")
    for _ in range(3):
        buffer.put(PreparedJob(claim, PIXELS))
    assert len(buffer.take(0)) == 1  # never less than one
    assert buffer.room(0) == 0


def test_a_picture_that_the_model_fails_on_fails_only_its_job(worker: Worker, settings: QueueSettings) -> None:
    job_ids = submit(settings, [CaptionOptions()] * 5)
    worker.run(claim_all(worker.consumer, 5), white=3)
    assert [get(settings, job_id).status for job_id in job_ids] == [Status.SUCCEEDED] * 3 + [
        Status.FAILED,
        Status.SUCCEEDED,
    ]
    error = get(settings, job_ids[3]).error
    assert error
    assert error.kind == "captioning-failed"
    assert worker.too_large == []


def test_a_device_that_fails_at_everything_is_reported_as_broken(worker: Worker, settings: QueueSettings) -> None:
    (job_id,) = submit(settings, [CaptionOptions()])
    worker.captioner.room = 0
    with pytest.raises(DeviceBroken):
        worker.run(claim_all(worker.consumer, 1))
    assert get(settings, job_id).status is Status.PROCESSING  # another worker takes it over


def test_jobs_with_different_options_share_a_batch(worker: Worker, settings: QueueSettings) -> None:
    options: list[CaptionOptions | ScoreOptions] = [
        CaptionOptions(),
        CaptionOptions(strategy=Strategy.GREEDY, prefix="one blue"),
        ScoreOptions(caption="a red over a zebra"),
        CaptionOptions(strategy=Strategy.SAMPLE, seed=3, num_captions=2),
        ScoreOptions(caption="a blue"),
        CaptionOptions(strategy=Strategy.SAMPLE, seed=4, num_captions=2),
    ]
    job_ids = submit(settings, options)
    worker.run(claim_all(worker.consumer, len(options)))
    assert worker.captioner.largest == len(options)
    jobs = [get(settings, job_id) for job_id in job_ids]
    assert [len(job.captions) for job in jobs] == [1, 1, 1, 2, 1, 2]
    assert jobs[1].captions[0].text.startswith("one blue")
    assert jobs[2].captions[0].text == "a red over a zebra"
    assert [word.in_vocabulary for word in jobs[2].captions[0].words] == [True] * 4 + [False]
    assert {word.text for word in jobs[0].captions[0].words} <= tiny.WORDS
    black = PIXELS.unsqueeze(0)
    (alone,) = worker.captioner.score(worker.captioner.encode(black), ["a blue"])
    assert jobs[4].captions[0].logprob == pytest.approx(alone.logprob, abs=1e-4)
