"""Caption photographs with a running service.

A bounded number of requests runs at once. A service that is busy or restarting is asked again; one that refuses the key
or does not answer ends the run.
"""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from itertools import islice
from pathlib import Path

from jobs.options import CaptionOptions
from wordlight.client import AsyncClient, ClientError, JobFailed, NotAllowed, ProblemAnswer, RateLimited, Unavailable
from wordlight.library.outcome import CannotContinue, Captioned, Failed, Outcome
from wordlight.library.photographs import unfit

# Rate limits last minutes and queues may be long.
_PATIENCE = 900.0
_FIRST_PATIENCE = 5.0


async def remote_captions(
    paths: Iterable[Path], url: str, options: CaptionOptions, at_once: int
) -> AsyncGenerator[Outcome]:
    """Caption all files, `at_once` at a time, and yield their outcomes in order. Raises CannotContinue."""
    try:
        first, client = AsyncClient(url, patience=_FIRST_PATIENCE), AsyncClient(url, patience=_PATIENCE)
    except ValueError as error:
        raise CannotContinue(str(error)) from error
    async with first, client, aclosing(_outcomes(paths, client, options, at_once)) as outcomes:
        try:
            # Report a wrong address soon.
            async for _ in first.jobs():
                break
            async for outcome in outcomes:
                yield outcome
        except ClientError as error:
            raise CannotContinue(f"{url}: {error}") from error


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
