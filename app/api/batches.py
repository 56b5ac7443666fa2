"""The routes of /v1/batches: many pictures in one request, each of which becomes a job."""

import asyncio
import logging
from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from typing import Annotated, BinaryIO

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from redis.exceptions import RedisError

from app.access.middleware import Caller, CallerDep
from app.api.captions import NOT_FOUND, NOT_SUBMITTED, not_found
from app.api.openapi import batch_body
from app.api.schemas import BATCHES, BatchResource, problems
from app.api.submission import IdempotencyKey, Prefer, batch_submission, decode, submit_batch
from app.api.waiting import preferred_wait, wait_until
from app.problems import ProblemError, unavailable
from app.services import Services, ServicesDep
from app.uploads.archives import ArchiveLimits, ArchiveRefused, is_archive, members
from app.uploads.receiver import Upload
from jobs.job import Batch
from jobs.options import CaptionOptions
from jobs.problem import Problem
from jobs.producer import File

log = logging.getLogger(__name__)

BatchId = Annotated[str, Path(description="`id` in the answer to POST")]

router = APIRouter(
    prefix=BATCHES,
    tags=["batches"],
    responses=problems(_422="an invalid parameter", _503="the queue cannot be reached"),
)


async def find_batch(services: ServicesDep, caller: CallerDep, batch_id: BatchId) -> Batch:
    """Find the caller's batch. Raises a 404 or 410."""
    batch = await services.producer.batch(batch_id, caller.key_id)
    if batch is None:
        raise await not_found(services, caller, batch_id, "batch")
    return batch


BatchDep = Annotated[Batch, Depends(find_batch)]


@router.post(
    "",
    status_code=202,
    responses={
        200: {"model": BatchResource, "description": "all jobs ended within the wait of `Prefer: wait=N`"},
        202: {"description": "accepted; not all jobs have ended"},
        **NOT_SUBMITTED,
    },
    openapi_extra={"requestBody": batch_body(CaptionOptions)},
)
async def submit(
    request: Request,
    response: Response,
    services: ServicesDep,
    caller: CallerDep,
    prefer: Prefer = [],  # noqa: B006
    idempotency_key: IdempotencyKey = "",
) -> BatchResource:
    """Caption many pictures.

    Send a form with files in the field `images`, pictures or ZIP archives of pictures, and options in other fields; or
    one archive as the body, with options in the query. The service accepts all files or none. Each becomes a job; a
    file that is not a picture becomes a failed job.
    """
    async with services.uploads.receive_batch(request) as upload:
        submission = batch_submission(request, services, caller, upload, idempotency_key)
        async with aclosing(_pictures(services, upload)) as pictures:
            files = [file async for file in pictures]
    await services.rate_limits.consume(caller, len(files))
    batch_id = await submit_batch(services, submission, files)
    response.headers["Location"] = f"{BATCHES}/{batch_id}"
    batch = await find_batch(services, caller, batch_id)
    if wait := preferred_wait(prefer):
        seconds = min(wait, services.settings.max_wait_seconds)
        response.headers["Preference-Applied"] = f"wait={seconds}"
        with suppress(RedisError, ProblemError):  # the jobs were accepted, even if waiting fails
            batch = await _wait_for(services, caller, batch, seconds)
    if batch.done:
        response.status_code = 200
    return BatchResource.of_batch(batch)


@router.get("/{batch_id}", responses=NOT_FOUND)
async def read(
    services: ServicesDep,
    caller: CallerDep,
    batch: BatchDep,
    wait: Annotated[int, Query(ge=0, description="seconds to wait for all jobs to end; at most 60")] = 0,
) -> BatchResource:
    """Read a batch, at once or when all of its jobs have ended."""
    return BatchResource.of_batch(await _wait_for(services, caller, batch, wait))


@router.post("/{batch_id}/cancel", responses=NOT_FOUND)
async def cancel(services: ServicesDep, caller: CallerDep, batch: BatchDep) -> BatchResource:
    """Cancel the jobs of a batch that have not ended."""
    for job in batch.jobs:
        if not job.status.terminal:
            await services.producer.cancel(job.id)
    return BatchResource.of_batch(await find_batch(services, caller, batch.id))


@router.delete("/{batch_id}", status_code=204, responses=NOT_FOUND)
async def delete(services: ServicesDep, batch: BatchDep) -> None:
    """Delete a batch and all of its jobs."""
    for job in batch.jobs:
        await services.producer.delete(job.id)
    await services.producer.delete_batch(batch.id)


async def _wait_for(services: Services, caller: Caller, batch: Batch, seconds: int) -> Batch:
    job_ids = [job.id for job in batch.jobs]
    return await wait_until(
        services, job_ids, seconds, lambda: find_batch(services, caller, batch.id), lambda batch: batch.done
    )


async def _pictures(services: Services, upload: Upload) -> AsyncGenerator[File, None]:
    """Decode the files of a request, as many at the same time as there are decoders; yield them in order."""
    running: list[asyncio.Task[File]] = []
    try:
        async with aclosing(_files(services, upload)) as files:
            async for name, content in files:
                running.append(asyncio.create_task(_picture(services, name, content)))
                if len(running) >= services.settings.decoders:
                    yield await running.pop(0)
            while running:
                yield await running.pop(0)
    finally:
        # These tasks read files that are about to be closed, and close extracted files themselves.
        await asyncio.gather(*running, return_exceptions=True)


async def _picture(services: Services, name: str, content: BinaryIO | str) -> File:
    if isinstance(content, str):
        return File(Problem.of("undecodable-image", "Undecodable image", 422, content), name)
    with content:
        return File(await decode(services, content), name)


async def _files(services: Services, upload: Upload) -> AsyncGenerator[tuple[str, BinaryIO | str], None]:
    """Yield the name of each file, those in archives included, with its content or why it is refused.

    Raises ProblemError if the batch as a whole is refused.
    """
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
        extracted = members(file.file, limits)
        try:
            while (member := await asyncio.to_thread(next, extracted, None)) is not None:
                count += 1
                if not isinstance(member.content, str):
                    left -= member.content.seek(0, 2)
                    member.content.seek(0)
                yield member.name, member.content
        except OSError:  # most likely a full disk
            log.exception("Cannot extract an archive")
            raise unavailable(
                "storage-failed", "Storage failed", "The archive cannot be extracted. Try again soon."
            ) from None
        except ArchiveRefused as refused:
            raise ProblemError("archive-refused", "Archive refused", 422, str(refused)) from None


def _too_many(most: int) -> ProblemError:
    return ProblemError("too-many-files", "Too many files", 422, f"A batch may have at most {most} files.")
