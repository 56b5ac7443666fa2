"""The routes of /v1/batches: many pictures in one request, each a job of its own.

In: several files, or archives of them; out: a batch, with the state of each of its jobs. It must not know how archives
are read or pictures decoded.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from redis.exceptions import RedisError

from app.access.caller import Caller, Who
from app.api.captions import MISSING, SUBMITTED, missing
from app.api.openapi import batch_body
from app.api.schemas import BATCHES, BatchResource, problems
from app.api.submission import IdempotencyKey, Prefer, batch_submission, decoded, submitted_batch
from app.api.waiting import preferred_wait, wait_until
from app.problems import ProblemError, unavailable
from app.services import Services, Shared
from app.uploads.archives import ArchiveLimits, ArchiveRefused, is_archive, members
from app.uploads.receiver import Upload
from jobs.job import Batch
from jobs.options import CaptionOptions
from jobs.problem import Problem
from jobs.producer import File

log = logging.getLogger(__name__)

BatchId = Annotated[str, Path(description="as in the answer to POST")]

router = APIRouter(
    prefix=BATCHES,
    tags=["batches"],
    responses=problems(_422="a parameter that cannot be", _503="the queue cannot be reached"),
)


async def existing(services: Shared, caller: Who, batch_id: BatchId) -> Batch:
    """The caller's batch of that id. Raises the 404 and the 410."""
    batch = await services.producer.batch(batch_id, caller.key_id)
    if batch is None:
        raise await missing(services, caller, batch_id, "batch")
    return batch


ExistingBatch = Annotated[Batch, Depends(existing)]


@router.post(
    "",
    status_code=202,
    responses={
        200: {"model": BatchResource, "description": "all jobs ended within the wait that `Prefer: wait=N` asked for"},
        202: {"description": "taken in; not over yet"},
        **SUBMITTED,
    },
    openapi_extra={"requestBody": batch_body(CaptionOptions)},
)
async def submit(
    request: Request,
    response: Response,
    services: Shared,
    caller: Who,
    prefer: Prefer = [],  # noqa: B006
    idempotency_key: IdempotencyKey = "",
) -> BatchResource:
    """Caption many pictures.

    Send a form with files in the field `images`, pictures or ZIP archives of pictures, and options in other fields; or
    one archive as the body, with options in the query. All are taken in, or none; each becomes a job, and a file that
    is no picture one that has failed.
    """
    async with services.uploads.many(request) as upload:
        submission = batch_submission(request, services, caller, upload, idempotency_key)
        async with aclosing(_pictures(services, upload)) as pictures:
            files = [file async for file in pictures]
    await services.limits.spend(caller, len(files))
    batch_id = await submitted_batch(services, submission, files)
    response.headers["Location"] = f"{BATCHES}/{batch_id}"
    batch = await existing(services, caller, batch_id)
    if wait := preferred_wait(prefer):
        seconds = min(wait, services.settings.max_wait_seconds)
        response.headers["Preference-Applied"] = f"wait={seconds}"
        with suppress(RedisError, ProblemError):  # the jobs are taken in, whatever becomes of the waiting
            batch = await _waited_for(services, caller, batch, seconds)
    if batch.done:
        response.status_code = 200
    return BatchResource.of_batch(batch)


@router.get("/{batch_id}", responses=MISSING)
async def read(
    services: Shared,
    caller: Who,
    batch: ExistingBatch,
    wait: Annotated[int, Query(ge=0, description="seconds to wait for all jobs to end; capped at 60")] = 0,
) -> BatchResource:
    """The batch as it is, or as it is when all of its jobs are over or the wait is."""
    return BatchResource.of_batch(await _waited_for(services, caller, batch, wait))


@router.post("/{batch_id}/cancel", responses=MISSING)
async def cancel(services: Shared, caller: Who, batch: ExistingBatch) -> BatchResource:
    """End those of its jobs that are not over."""
    for job in batch.jobs:
        if not job.status.terminal:
            await services.producer.cancel(job.id)
    return BatchResource.of_batch(await existing(services, caller, batch.id))


@router.delete("/{batch_id}", status_code=204, responses=MISSING)
async def delete(services: Shared, batch: ExistingBatch) -> None:
    """Remove the batch and all of its jobs."""
    for job in batch.jobs:
        await services.producer.delete(job.id)
    await services.producer.delete_batch(batch.id)


async def _waited_for(services: Services, caller: Caller, batch: Batch, seconds: int) -> Batch:
    job_ids = [job.id for job in batch.jobs]
    return await wait_until(
        services, job_ids, seconds, lambda: existing(services, caller, batch.id), lambda found: found.done
    )


async def _pictures(services: Services, upload: Upload) -> AsyncGenerator[File, None]:
    """The pictures in all files of a request, in their order, decoded as many at once as can be."""
    at_once = services.settings.decoders
    running: list[asyncio.Task[File]] = []
    try:
        async with aclosing(_files(services, upload)) as found:
            async for name, content in found:
                running.append(asyncio.create_task(_picture(services, name, content)))
                if len(running) >= at_once:
                    yield await running.pop(0)
            while running:
                yield await running.pop(0)
    finally:
        # They read files that are about to be closed, and close those of archives themselves.
        await asyncio.gather(*running, return_exceptions=True)


async def _picture(services: Services, name: str, content: BinaryIO | str) -> File:
    if isinstance(content, str):
        return File(Problem.of("undecodable-image", "Undecodable image", 422, content), name)
    with content:
        return File(await decoded(services, content), name)


async def _files(services: Services, upload: Upload) -> AsyncGenerator[tuple[str, BinaryIO | str], None]:
    """The files of a request and of the archives in it. Raises ProblemError for what they are as a whole."""
    settings = services.settings
    count, left = 0, settings.max_batch_expanded_bytes
    for file in upload.files:
        if not (file.archive or is_archive(file.file)):
            count += 1
            if count > settings.max_batch_files:
                raise _too_many(settings.max_batch_files)
            size = file.file.seek(0, 2)
            file.file.seek(0)
            too_large = f"The file is larger than {settings.max_upload_bytes:,} bytes."
            yield file.name, too_large if size > settings.max_upload_bytes else file.file
            continue
        if count >= settings.max_batch_files:
            raise _too_many(settings.max_batch_files)
        limits = ArchiveLimits(settings.max_batch_files - count, settings.max_upload_bytes, left)
        found = members(file.file, limits)
        try:
            while (member := await asyncio.to_thread(next, found, None)) is not None:
                count += 1
                if not isinstance(member.content, str):
                    left -= member.content.seek(0, 2)
                    member.content.seek(0)
                yield member.name, member.content
        except OSError:  # a full disk, most likely
            log.exception("an archive cannot be unpacked")
            raise unavailable("storage-failed", "Storage failed", "the archive cannot be unpacked: try again") from None
        except ArchiveRefused as refused:
            raise ProblemError("archive-refused", "Archive refused", 422, str(refused)) from None


def _too_many(most: int) -> ProblemError:
    return ProblemError("too-many-files", "Too many files", 422, f"a batch may hold {most} files at most")
