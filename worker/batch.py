"""One batch of jobs to their ends, whatever the model does.

In: prepared jobs; out: results in Redis. A batch that the model cannot do (out of memory, or one bad picture) is done
in halves, so that every job gets its own answer. It must not know where jobs come from, nor how captions are made.
"""

import logging
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from redis.exceptions import RedisError

from jobs.consumer import Claim, Consumer
from jobs.job import Caption, ModelInfo, Result
from jobs.logs import log_fields
from jobs.metrics import BATCH_SIZE, OUT_OF_MEMORY_SPLITS, STAGE_SECONDS, Recorder, Stage
from jobs.options import CaptionOptions
from jobs.problem import Problem
from model.captioner import Captioner
from worker.computing import Computing
from worker.held import Held
from worker.ready import Prepared

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_TRIES_WHEN_LEAVING = 5
# What PyTorch says when the machine's memory is full; for a device's memory it has an exception of its own.
_NO_MEMORY = "can't allocate memory"

Answer = TypeVar("Answer")
Captions = list[list[Caption] | None]


class DeviceBroken(Exception):
    """The device fails even at an easy task: whatever is in hand is better done by another process."""


class Captioning:
    """Runs batches on the captioner's device."""

    def __init__(
        self,
        captioner: Captioner,
        consumer: Consumer,
        held: Held,
        recorder: Recorder,
        leaving: threading.Event,
        too_large: Callable[[int], None],
    ) -> None:
        """`too_large` is told of the size of each batch that did not fit the memory."""
        self._device, self._consumer, self._held = captioner.device, consumer, held
        self._recorder = recorder
        self._leaving, self._too_large = leaving, too_large
        self._computing = Computing(captioner, consumer, self._until_stored)
        self._model = ModelInfo(name=captioner.config.name, version=captioner.version)

    def run(self, batch: list[Prepared]) -> None:
        """Begin, caption and finish the jobs of `batch`; those that are not ours any more are left out.

        Raises DeviceBroken.
        """
        started = self._until_stored(partial(self._consumer.start, [job.claim for job in batch])) or []
        claims = {claim.entry: claim for claim in started}
        ours = [Prepared(claims[job.claim.entry], job.pixels) for job in batch if job.claim.entry in claims]
        for job in ours:
            self._recorder.observe(STAGE_SECONDS, _age(job.claim), Stage.QUEUE)
        if ours:
            self._caption(ours)
        self._recorder.store()

    def _caption(self, batch: list[Prepared]) -> None:
        captions = self._try(batch)
        if captions is not None:
            self._recorder.observe(BATCH_SIZE, len(batch))
            with self._recorder.timed(Stage.FINISH):
                results = [
                    (job.claim, Result(model=self._model, captions=alternatives))
                    for job, alternatives in zip(batch, captions, strict=True)
                    if alternatives is not None
                ]
                self._finish([claim for claim, _ in results], partial(self._consumer.succeed_all, results))
        elif len(batch) > 1:
            middle = len(batch) // 2
            self._caption(batch[:middle])
            self._caption(batch[middle:])
        elif self._try([_easy(batch[0])]) is None:
            raise DeviceBroken
        else:
            problem = Problem.of("captioning-failed", "Captioning failed", 500, "the model failed on this picture")
            claim = batch[0].claim
            self._finish([claim], lambda: [self._consumer.fail(claim, problem)])

    def _try(self, batch: list[Prepared]) -> Captions | None:
        """The captions of each job, or None if the model failed: by then, what it had allocated is free."""
        self._held.busy()
        try:
            with self._recorder.timed(Stage.CAPTION):
                return self._computing.run(batch)
        except Exception as error:
            if _out_of_memory(error):
                log.warning("a batch of %d does not fit the memory", len(batch))
                self._too_large(len(batch))
                if len(batch) > 1:
                    self._recorder.count(OUT_OF_MEMORY_SPLITS)
            else:
                log.exception("the model failed on a batch of %d", len(batch))
        finally:
            self._held.idle()
        if self._device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _finish(self, claims: Sequence[Claim], finish: Callable[[], Sequence[bool]]) -> None:
        for claim, stored in zip(claims, self._until_stored(finish) or [], strict=False):
            with log_fields(job=claim.job_id, request_id=claim.request_id):
                if stored:
                    log.info("attempt %d has ended the job", claim.attempt)
                else:
                    log.warning("job %s is over or was taken over: this result came too late", claim.job_id)

    def _until_stored(self, call: Callable[[], Answer]) -> Answer | None:
        """Ask Redis again until it answers: a computed result is worth waiting for, but not for long when leaving.

        None when it was given up; then somebody will take the job over.
        """
        tries_when_leaving = _TRIES_WHEN_LEAVING
        while True:
            try:
                return call()
            except RedisError as error:
                log.warning("Redis does not take an answer: %s", error)
            if self._leaving.is_set():
                tries_when_leaving -= 1
                if not tries_when_leaving:
                    return None
            time.sleep(_RETRY_SECONDS)


def _easy(job: Prepared) -> Prepared:
    """Something that every captioner can do."""
    claim = Claim(job.claim.job_id, job.claim.entry, 0, None, CaptionOptions(), 0.0, "")
    return Prepared(claim, torch.zeros_like(job.pixels))


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY in str(error))


def _age(claim: Claim) -> float:
    """How long ago the job was taken in, in seconds, by Redis's clock."""
    return max(0.0, time.time() - claim.created)
