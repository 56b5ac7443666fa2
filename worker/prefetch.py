"""The prefetch thread: claims jobs and prepares their pictures, so that the next batch is ready when the device is."""

import io
import logging
import threading
import time
from collections.abc import Callable

import torch
from PIL import Image
from redis.exceptions import RedisError

from jobs.consumer import Claim, Consumer
from jobs.logs import log_fields
from jobs.metrics import Recorder, Stage
from jobs.problem import Problem
from worker.buffer import Buffer, PreparedJob, WorkerState

log = logging.getLogger(__name__)

_PAUSE_SECONDS = 1.0
_SCANS_A_TAKEOVER = 5


class Prefetcher(threading.Thread):
    """Claims and prepares jobs until `stop` is set.

    An unexpected exception ends the thread, and the worker with it.
    """

    def __init__(
        self,
        consumer: Consumer,
        state: WorkerState,
        buffer: Buffer,
        prepare: Callable[[Image.Image], torch.Tensor],
        recorder: Recorder,
        stop: threading.Event,
        *,
        takeover_seconds: float,
    ) -> None:
        super().__init__(name="prefetch", daemon=True)
        self._consumer, self._state, self._buffer, self._prepare = consumer, state, buffer, prepare
        self._recorder = recorder
        self._stop_event = stop
        self._scan_interval = takeover_seconds / _SCANS_A_TAKEOVER
        self._next_scan = 0.0

    def run(self) -> None:
        """Run the thread."""
        while not self._stop_event.is_set():
            room = self._buffer.room(timeout=_PAUSE_SECONDS)
            if not room:
                continue
            try:
                for claim in self._claim(room):
                    with log_fields(job=claim.job_id, request_id=claim.request_id):
                        self._prepare_one(claim)
            except RedisError as error:
                log.warning("cannot claim jobs: %s", error)
                self._stop_event.wait(_PAUSE_SECONDS)

    def _claim(self, room: int) -> list[Claim]:
        """Claim jobs of dead workers first, because they have waited longest; then new ones."""
        claims: list[Claim] = []
        if time.monotonic() >= self._next_scan:
            claims = self._consumer.take_over(room)
            if claims:
                log.warning("took over %d jobs from a worker that stopped answering", len(claims))
            else:
                self._next_scan = time.monotonic() + self._scan_interval
        if not claims:
            claims = self._consumer.claim(room)
        # After a late heartbeat, the worker may take over its own jobs. It has prepared those already.
        new = self._state.hold([claim.entry for claim in claims])
        return [claim for claim in claims if claim.entry in new]

    def _prepare_one(self, claim: Claim) -> None:
        if claim.options is None:
            log.error("job %s has options that this worker does not know", claim.job_id)
            detail = "a worker of another version than the web process could not read the options"
            self._fail(claim, Problem.of("options-unknown", "Options unknown", 500, detail))
            return
        try:
            # The web process encoded this JPEG: it may be missing or broken, but not hostile.
            with (
                self._recorder.timed(Stage.PREPARE),
                Image.open(io.BytesIO(claim.image or b""), formats=["JPEG"]) as image,
            ):
                pixels = self._prepare(image)
        except OSError:
            log.exception("the picture of job %s cannot be read", claim.job_id)
            self._fail(claim, Problem.of("picture-lost", "Picture lost", 500, "the queue has lost the picture"))
        else:
            self._buffer.put(PreparedJob(claim, pixels))

    def _fail(self, claim: Claim, problem: Problem) -> None:
        try:
            for started in self._consumer.start([claim]):
                self._consumer.fail(started, problem)
        except RedisError as error:
            log.warning("job %s is left for takeover: %s", claim.job_id, error)
        finally:
            self._state.release([claim.entry])
