"""Producer and consumer for tests. Each call of a producer runs in its own event loop."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from jobs.connection import connect_async
from jobs.consumer import Claim, Consumer
from jobs.job import Caption, Job, ModelInfo, Result
from jobs.options import CaptionOptions
from jobs.problem import Problem
from jobs.producer import Picture, Producer, Submission
from jobs.settings import QueueSettings

RESULT = Result(model=ModelInfo(name="none", version="0"), captions=[Caption(text="a dog", logprob=-1.0, words=[])])
PICTURE = Picture(b"image", 40, 30)
ANY = Submission(CaptionOptions())
PROBLEM = Problem.of("test", "Test", 500, "a test")

T = TypeVar("T")


def produce(settings: QueueSettings, action: Callable[[Producer], Awaitable[T]]) -> T:
    """Run an action with a producer in a new event loop."""

    async def act() -> T:
        async with connect_async(settings.redis_url) as client:
            return await action(Producer(client, settings))

    return asyncio.run(act())


def submit(settings: QueueSettings, count: int = 1, submission: Submission = ANY) -> list[str]:
    """Submit the same picture `count` times; return the ids of the jobs."""

    async def act(producer: Producer) -> list[str]:
        return [await producer.submit(submission, PICTURE) for _ in range(count)]

    return produce(settings, act)


def get(settings: QueueSettings, job_id: str, owner: str = "") -> Job:
    """Return a job of the owner that must exist."""
    job = produce(settings, lambda producer: producer.get(job_id, owner))
    assert job
    return job


def history(settings: QueueSettings, job_id: str) -> list[str]:
    """Return the names of the job's events."""
    return [event.name for event in produce(settings, lambda producer: producer.events(job_id, "0"))]


def claim_all(consumer: Consumer, count: int) -> list[Claim]:
    """Claim `count` jobs. The first call may only create the consumer group."""
    claims: list[Claim] = []
    while len(claims) < count:
        claims += consumer.claim(count - len(claims))
    return claims


def take_over_all(consumer: Consumer, count: int) -> list[Claim]:
    """Scan until `count` jobs are taken over. Entries grow old enough by themselves."""
    claims: list[Claim] = []
    while len(claims) < count:
        claims += consumer.take_over(count - len(claims))
    return claims
