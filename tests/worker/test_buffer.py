"""The buffer between the prefetch thread and the model."""

import threading

import torch

from jobs.consumer import Claim
from jobs.options import CaptionOptions
from worker.buffer import Buffer, PreparedJob


def job(name: str, attempt: int = 0) -> PreparedJob:
    return PreparedJob(Claim(name, name, attempt, None, CaptionOptions(), 0.0, ""), torch.zeros(3, 1, 1))


def names(batch: list[PreparedJob]) -> list[str]:
    return [prepared.claim.job_id for prepared in batch]


def test_a_batch_takes_the_waiting_jobs_up_to_its_size() -> None:
    buffer = Buffer(batch_size=3, solo_attempts=2)
    for name in "abcd":
        buffer.put(job(name))
    assert names(buffer.take(timeout=0)) == ["a", "b", "c"]
    assert names(buffer.take(timeout=0)) == ["d"]
    assert buffer.take(timeout=0) == []


def test_a_suspect_job_runs_alone() -> None:
    buffer = Buffer(batch_size=4, solo_attempts=2)
    for prepared in (job("a"), job("b", 1), job("suspect", 2), job("worse", 3), job("c")):
        buffer.put(prepared)
    assert [names(buffer.take(timeout=0)) for _ in range(4)] == [["a", "b"], ["suspect"], ["worse"], ["c"]]


def test_room_is_the_number_of_free_places() -> None:
    buffer = Buffer(batch_size=2, solo_attempts=2)
    assert buffer.room(timeout=0) == 2
    buffer.put(job("a"))
    buffer.put(job("b"))
    assert buffer.room(timeout=0) == 0
    taker = threading.Thread(target=buffer.take, args=(60,))
    taker.start()
    assert buffer.room(timeout=60) == 2
    taker.join()
