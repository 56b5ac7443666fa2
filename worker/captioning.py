"""One batch of jobs through the model, and each job to its end.

In: prepared jobs; out: results in Redis. A batch that the model cannot do (out of memory, or one bad picture) is done
in halves, so that every job gets its own answer. It must not know where jobs come from.
"""

import logging
import threading
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import torch
from redis.exceptions import RedisError

from jobs.consumer import Claim, Consumer
from jobs.job import Caption, ModelInfo, Result
from jobs.problem import Problem
from model.captioner import Captioner, SearchOptions
from worker.ready import Prepared

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0

Answer = TypeVar("Answer")


class Captioning:
    """Runs batches on the captioner's device."""

    def __init__(
        self, captioner: Captioner, consumer: Consumer, options: SearchOptions, give_up: threading.Event
    ) -> None:
        self._captioner, self._consumer, self._options = captioner, consumer, options
        self._give_up = give_up
        self._model = ModelInfo(name=captioner.config.name, version=captioner.version)

    def run(self, batch: list[Prepared]) -> None:
        """Begin, caption and finish the jobs of `batch`; those that are not ours any more are left out."""
        started = self._until_stored(partial(self._consumer.start, [job.claim for job in batch])) or []
        claims = {claim.entry: claim for claim in started}
        ours = [Prepared(claims[job.claim.entry], job.pixels) for job in batch if job.claim.entry in claims]
        if ours:
            self._caption(ours)

    def _caption(self, batch: list[Prepared]) -> None:
        try:
            captions = self._captioner.caption_pixels(torch.stack([job.pixels for job in batch]), self._options)
        except Exception as error:
            if len(batch) > 1:
                log.warning("a batch of %d failed (%s): trying its halves", len(batch), error)
                middle = len(batch) // 2
                self._caption(batch[:middle])
                self._caption(batch[middle:])
                return
            log.exception("job %s cannot be captioned", batch[0].claim.job_id)
            problem = Problem.of(
                "captioning-failed", "Captioning failed", 500, "the model could not caption this picture"
            )
            self._finish(batch[0].claim, partial(self._consumer.fail, batch[0].claim, problem))
            return
        for job, alternatives in zip(batch, captions, strict=True):
            found = [Caption.model_validate(caption.as_dict()) for caption in alternatives]
            result = Result(model=self._model, captions=found)
            self._finish(job.claim, partial(self._consumer.succeed, job.claim, result))

    def _finish(self, claim: Claim, finish: Callable[[], bool]) -> None:
        stored = self._until_stored(finish)
        if stored is False:
            log.warning("job %s was taken over: this result came too late", claim.job_id)

    def _until_stored(self, call: Callable[[], Answer]) -> Answer | None:
        """Ask Redis again until it answers: a computed result is worth waiting for. None if told to give up."""
        while not self._give_up.is_set():
            try:
                return call()
            except RedisError as error:
                log.warning("Redis does not take an answer, trying again: %s", error)
                self._give_up.wait(_RETRY_SECONDS)
        return None
