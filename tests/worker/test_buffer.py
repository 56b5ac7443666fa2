"""What becomes a batch."""

import threading

import torch

from jobs.consumer import Claim
from jobs.options import CaptionOptions
from worker.ready import Prepared, ReadyJobs


def job(name: str, attempt: int = 0) -> Prepared:
    return Prepared(Claim(name, name, attempt, None, CaptionOptions(), 0.0, ""), torch.zeros(3, 1, 1))


def names(batch: list[Prepared]) -> list[str]:
    return [prepared.claim.job_id for prepared in batch]


def test_what_is_there_goes_at_once_up_to_a_batch() -> None:
    ready = ReadyJobs(batch_size=3, solo_attempts=2)
    for name in "abcd":
        ready.put(job(name))
    assert names(ready.take(timeout=0)) == ["a", "b", "c"]
    assert names(ready.take(timeout=0)) == ["d"]
    assert ready.take(timeout=0) == []


def test_suspects_travel_alone() -> None:
    ready = ReadyJobs(batch_size=4, solo_attempts=2)
    for prepared in (job("a"), job("b", 1), job("suspect", 2), job("worse", 3), job("c")):
        ready.put(prepared)
    assert [names(ready.take(timeout=0)) for _ in range(4)] == [["a", "b"], ["suspect"], ["worse"], ["c"]]


def test_room_is_what_the_next_batch_still_needs() -> None:
    ready = ReadyJobs(batch_size=2, solo_attempts=2)
    assert ready.room(timeout=0) == 2
    ready.put(job("a"))
    ready.put(job("b"))
    assert ready.room(timeout=0) == 0
    taker = threading.Thread(target=ready.take, args=(60,))
    taker.start()
    assert ready.room(timeout=60) == 2
    taker.join()
