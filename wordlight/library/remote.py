"""Captions by a service. In: files; out, in their order: the captions of each, or why it has none.

A bounded number is on its way at once. A service that is busy or restarting is waited for; one that lets nobody in, or
is not there, ends it all.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from itertools import islice
from pathlib import Path

from jobs.options import CaptionOptions
from wordlight.client import AsyncClient, ClientError, JobFailed, NotAllowed, ProblemAnswer, RateLimited, Unavailable
from wordlight.library.outcome import CannotGoOn, Captioned, Failed, Outcome
from wordlight.library.photographs import unfit

# Limits are by the minute, and queues may be long: a service that says when to come back is believed for so long.
_PATIENCE = 900.0
_HASTE = 5.0


async def captions_there(
    paths: Iterable[Path], url: str, options: CaptionOptions, at_once: int
) -> AsyncGenerator[Outcome]:
    """Caption all files, `at_once` at a time. Raises CannotGoOn."""
    try:
        hasty, patient = AsyncClient(url, patience=_HASTE), AsyncClient(url, patience=_PATIENCE)
    except ValueError as error:
        raise CannotGoOn(str(error)) from error
    async with hasty, patient, aclosing(_outcomes(paths, patient, options, at_once)) as outcomes:
        try:
            # Somebody who mistyped the address should not wait long to hear it.
            async for _ in hasty.jobs():
                break
            async for outcome in outcomes:
                yield outcome
        except ClientError as error:
            raise CannotGoOn(f"{url}: {error}") from error


async def _outcomes(
    paths: Iterable[Path], client: AsyncClient, options: CaptionOptions, at_once: int
) -> AsyncGenerator[Outcome]:
    left = iter(paths)
    waiting: deque[asyncio.Task[Outcome]] = deque()
    try:
        while True:
            for path in islice(left, at_once - len(waiting)):
                waiting.append(asyncio.create_task(_outcome(path, client, options)))
            if not waiting:
                return
            yield await waiting.popleft()
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)


async def _outcome(path: Path, client: AsyncClient, options: CaptionOptions) -> Outcome:
    try:
        if why := unfit(path):
            return Failed(path, why)
        job = await client.caption(path, options)
    except OSError as error:
        return Failed(path, error.strerror or str(error))
    except JobFailed as failed:
        return Failed(path, str(failed))
    except (NotAllowed, RateLimited, Unavailable):
        raise
    except ProblemAnswer as refused:
        return Failed(path, refused.problem.detail)
    assert job.model
    return Captioned(path, job.captions, job.model, job.image)
