"""Worker processes, and jobs that keep them busy."""

import asyncio
from pathlib import Path

from jobs.job import Status
from jobs.options import CaptionOptions
from jobs.producer import Picture, Producer, Submission
from jobs.settings import QueueSettings
from support import tiny
from support.api import encode
from support.command import Command, start_command
from support.queueing import get, history, produce

JPEG = {"Content-Type": "image/jpeg"}
PICTURE = encode(tiny.picture("red", "green"))
PICTURES = [encode(tiny.picture(top, bottom)) for top in tiny.COLOURS for bottom in tiny.COLOURS if top != bottom]


def start_worker(settings: QueueSettings, captioner: Path, **environment: str) -> Command:
    return start_command(
        "worker",
        REDIS_URL=settings.redis_url,
        WORDLIGHT_MODEL=str(captioner),
        WORDLIGHT_TAKEOVER_SECONDS="1",
        WORDLIGHT_THREADS="1",
        **environment,
    )


def start_slow_worker(settings: QueueSettings, slow_captioner: Path, batch_size: int) -> Command:
    """Start a worker that takes long enough for each batch of `submit_long_jobs` to be interrupted in it."""
    return start_worker(settings, slow_captioner, WORDLIGHT_BATCH_SIZE=str(batch_size))


def submit_long_jobs(settings: QueueSettings, count: int) -> list[str]:
    """Submit different jobs with many beams and words; return their ids."""

    async def act(producer: Producer) -> list[str]:
        submission = Submission(CaptionOptions(beam_size=20, max_words=100))
        # A decoder ignores what follows the end of a JPEG.
        pictures = [Picture(PICTURE + bytes(number), 96, 96) for number in range(count)]
        return [await producer.submit(submission, picture) for picture in pictures]

    return produce(settings, act)


def wait_until_ended(settings: QueueSettings, job_ids: list[str], count: int | None = None) -> None:
    """Wait until `count` of the jobs (by default all) are over. Check at each notification."""

    async def act(producer: Producer) -> None:
        async with asyncio.timeout(90):
            async for _ in producer.notifications():
                jobs = [await producer.get(job_id) for job_id in job_ids]
                if sum(job is not None and job.status.terminal for job in jobs) >= (count or len(job_ids)):
                    return

    produce(settings, act)


def assert_each_succeeded_once(settings: QueueSettings, job_ids: list[str]) -> None:
    for job_id in job_ids:
        statuses = history(settings, job_id)
        assert statuses[0] == "queued"
        assert statuses[-1] == "succeeded"
        assert sum(Status(status).terminal for status in statuses) == 1
        assert len(get(settings, job_id).captions) == 3
