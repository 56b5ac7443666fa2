"""Run one batch of jobs to its end, whatever the model does.

All pictures of a batch are encoded together; jobs with the same decoding options are decoded together. A batch that
fails, or does not fit the memory, is split in halves until the picture that fails is alone.
"""

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeVar

import torch
from redis.exceptions import RedisError

from jobs.consumer import Claim, Consumer
from jobs.job import Caption, ModelInfo, Result
from jobs.logs import log_fields
from jobs.metrics import BATCH_SIZE, OUT_OF_MEMORY_SPLITS, STAGE_SECONDS, Recorder, Stage
from jobs.options import CaptionOptions, ScoreOptions
from jobs.problem import Problem
from model.decoding.caption import Caption as ModelCaption
from model.decoding.options import DecodingOptions, Strategy
from model.network.encoded_images import EncodedImages
from model.runtime.captioner import Captioner
from worker.buffer import PreparedJob, WorkerState
from worker.convert import caption_for
from worker.progress import JobProgress

log = logging.getLogger(__name__)

_RETRY_SECONDS = 1.0
_RETRIES_WHEN_STOPPING = 5
# PyTorch raises a RuntimeError with this text when the machine's memory is full.
# For a device's memory it has an exception class.
_NO_MEMORY = "can't allocate memory"

Answer = TypeVar("Answer")
Captions = list[list[Caption] | None]


class DeviceBroken(Exception):
    """The device fails even at a blank picture. Another process must run the jobs."""


class BatchRunner:
    """Runs batches on the captioner's device and stores their results."""

    def __init__(
        self,
        captioner: Captioner,
        consumer: Consumer,
        state: WorkerState,
        recorder: Recorder,
        stopping: threading.Event,
        too_large: Callable[[int], None],
    ) -> None:
        """`too_large` is called with the size of each batch that does not fit the memory."""
        self._captioner, self._consumer, self._state = captioner, consumer, state
        self._recorder = recorder
        self._stopping, self._too_large = stopping, too_large
        self._model = ModelInfo(name=captioner.config.name, version=captioner.version)

    def run(self, batch: list[PreparedJob]) -> None:
        """Start, caption and finish the jobs of `batch`. Skip those that another worker has, or that are over.

        Raises DeviceBroken.
        """
        started = self._retry(partial(self._consumer.start, [job.claim for job in batch])) or []
        claims = {claim.entry: claim for claim in started}
        jobs = [PreparedJob(claims[job.claim.entry], job.pixels) for job in batch if job.claim.entry in claims]
        for job in jobs:
            self._recorder.observe(STAGE_SECONDS, _age(job.claim), Stage.QUEUE)
        if jobs:
            self._caption(jobs)
        self._recorder.store()

    def _caption(self, jobs: list[PreparedJob]) -> None:
        """Caption and finish `jobs`, in halves if the model fails."""
        captions = self._try(jobs)
        if captions is not None:
            self._recorder.observe(BATCH_SIZE, len(jobs))
            with self._recorder.timed(Stage.FINISH):
                results = [
                    (job.claim, Result(model=self._model, captions=alternatives))
                    for job, alternatives in zip(jobs, captions, strict=True)
                    if alternatives is not None
                ]
                self._finish([claim for claim, _ in results], partial(self._consumer.succeed_all, results))
        elif len(jobs) > 1:
            middle = len(jobs) // 2
            self._caption(jobs[:middle])
            self._caption(jobs[middle:])
        elif self._try([_blank(jobs[0])]) is None:
            raise DeviceBroken
        else:
            problem = Problem.of("captioning-failed", "Captioning failed", 500, "the model failed on this picture")
            claim = jobs[0].claim
            self._finish([claim], lambda: [self._consumer.fail(claim, problem)])

    def _try(self, jobs: list[PreparedJob]) -> Captions | None:
        """Return the captions of each job, or None if the model failed.

        When this returns, the memory that the model had allocated is free again.
        """
        self._state.begin_batch()
        try:
            with self._recorder.timed(Stage.CAPTION):
                return self._compute(jobs)
        except Exception as error:
            if _out_of_memory(error):
                log.warning("a batch of %d does not fit the memory", len(jobs))
                self._too_large(len(jobs))
                if len(jobs) > 1:
                    self._recorder.count(OUT_OF_MEMORY_SPLITS)
            else:
                log.exception("the model failed on a batch of %d", len(jobs))
        finally:
            self._state.end_batch()
        if self._captioner.device.type == "cuda":
            torch.cuda.empty_cache()
        return None

    def _compute(self, jobs: Sequence[PreparedJob]) -> Captions:
        """Return the captions of each job; None for a job that was canceled, deleted or taken over meanwhile."""
        encoded = self._captioner.encode(torch.stack([job.pixels for job in jobs]))
        results: Captions = [None] * len(jobs)
        for indices in _same_options(jobs):
            claims = [jobs[index].claim for index in indices]
            selected = encoded if len(indices) == len(jobs) else encoded.select(indices)
            for index, claim, captions in zip(indices, claims, self._generate(selected, claims), strict=True):
                results[index] = [caption_for(claim.options, caption) for caption in captions] if captions else None
        return results

    def _generate(self, encoded: EncodedImages, claims: Sequence[Claim]) -> list[list[ModelCaption]]:
        """Return the captions of jobs with the same options; none for one that was canceled, deleted or taken over."""
        options = claims[0].options
        if isinstance(options, ScoreOptions):
            sentences = [claim.options.caption for claim in claims if isinstance(claim.options, ScoreOptions)]
            return [[caption] for caption in self._captioner.score(encoded, sentences)]
        assert isinstance(options, CaptionOptions)
        progress = JobProgress(self._consumer, claims)
        seeds = [(claim.options.seed if isinstance(claim.options, CaptionOptions) else 0) or 0 for claim in claims]
        captions = self._captioner.generate(encoded, _decoding_options(options), seeds=seeds, listener=progress)
        self._retry(progress.finish)
        return captions

    def _finish(self, claims: Sequence[Claim], finish: Callable[[], Sequence[bool]]) -> None:
        for claim, stored in zip(claims, self._retry(finish) or [], strict=False):
            with log_fields(job=claim.job_id, request_id=claim.request_id):
                if stored:
                    log.info("attempt %d finished the job", claim.attempt)
                else:
                    log.warning("result discarded: job %s is over or another worker has it", claim.job_id)

    def _retry(self, call: Callable[[], Answer]) -> Answer | None:
        """Call until Redis answers: a computed result is worth waiting for.

        While the worker stops, give up after a few retries and return None. Another worker takes the job over.
        """
        retries_when_stopping = _RETRIES_WHEN_STOPPING
        while True:
            try:
                return call()
            except RedisError as error:
                log.warning("Redis does not answer; trying again: %s", error)
            if self._stopping.is_set():
                retries_when_stopping -= 1
                if not retries_when_stopping:
                    return None
            time.sleep(_RETRY_SECONDS)


def _same_options(jobs: Sequence[PreparedJob]) -> list[list[int]]:
    """Return the indices of jobs that can be decoded together."""
    groups: defaultdict[DecodingOptions | None, list[int]] = defaultdict(list)
    for index, job in enumerate(jobs):
        options = job.claim.options
        groups[_decoding_options(options) if isinstance(options, CaptionOptions) else None].append(index)
    return list(groups.values())


def _decoding_options(options: CaptionOptions) -> DecodingOptions:
    return DecodingOptions(
        strategy=Strategy(options.strategy.value),
        num_captions=options.num_captions,
        beam_size=options.beam_size,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        max_words=options.max_words,
        prefix=options.prefix,
    )


def _blank(job: PreparedJob) -> PreparedJob:
    """Return a job with a blank picture and default options, which every working device can do."""
    claim = Claim(job.claim.job_id, job.claim.entry, 0, None, CaptionOptions(), 0.0, "")
    return PreparedJob(claim, torch.zeros_like(job.pixels))


def _out_of_memory(error: Exception) -> bool:
    return isinstance(error, torch.OutOfMemoryError) or (isinstance(error, RuntimeError) and _NO_MEMORY in str(error))


def _age(claim: Claim) -> float:
    """Return the seconds since the job was accepted, by Redis's clock."""
    return max(0.0, time.time() - claim.created)
