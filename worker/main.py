"""The worker process: three threads around one model.

The prefetch thread claims and prepares jobs, the heartbeat keeps the claims, and the main thread captions. After
SIGTERM or SIGINT, the worker finishes its batch and hands the other jobs back. After a second signal, it hands back
everything at once.
"""

import logging
import os
import signal
import threading
from types import FrameType

import torch
from redis.exceptions import RedisError

from jobs.connection import connect
from jobs.consumer import Consumer
from jobs.metrics import Recorder
from model.runtime.device import choose_device
from model.runtime.inference import load_for_inference
from worker.batch import BatchRunner, DeviceBroken
from worker.buffer import Buffer, WorkerState
from worker.heartbeat import Heartbeat
from worker.prefetch import Prefetcher
from worker.settings import WorkerSettings

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5


class Worker:
    """Everything that lives as long as the process does."""

    def __init__(self, settings: WorkerSettings) -> None:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        device = choose_device(settings.device)
        captioner = load_for_inference(
            settings.model, device, settings.engine, settings.precision, cuda_graphs=settings.cuda_graphs
        )
        assert captioner.engine is not None
        self._stop = threading.Event()
        redis = connect(settings.redis_url)
        self._consumer = Consumer(redis, settings)
        self._recorder = Recorder(redis)
        self._state = WorkerState()
        self._buffer = Buffer(settings.batch_size, settings.solo_attempts)
        self._batch_runner = BatchRunner(
            captioner, self._consumer, self._state, self._recorder, self._stop, self._limit_batch_size
        )
        self._prefetcher = Prefetcher(
            self._consumer,
            self._state,
            self._buffer,
            captioner.prepare,
            self._recorder,
            self._stop,
            takeover_seconds=settings.takeover_seconds,
        )
        self._heartbeat_stop = threading.Event()
        self._heartbeat = Heartbeat(
            self._consumer,
            self._state,
            self._heartbeat_stop,
            takeover_seconds=settings.takeover_seconds,
            stuck_seconds=settings.stuck_seconds,
            version=captioner.version,
        )
        log.info(
            "%s: %s %s on %s, by %s in %s",
            *(self._consumer.name, captioner.config.name, captioner.version, device),
            *(captioner.engine.name, settings.precision),
        )

    def run(self) -> int:
        """Work until told to stop, or until something breaks. Return the exit status."""
        self._heartbeat.start()
        self._prefetcher.start()
        status = 0
        while not self._stop.is_set():
            batch = self._buffer.take(timeout=_POLL_SECONDS)
            try:
                if batch:
                    self._batch_runner.run(batch)
                    self._state.release([job.claim.entry for job in batch])
            except DeviceBroken:
                log.critical("the device is broken: stopping")
                self._stop.set()
                status = 1
            # Without one of its threads, this process would look alive and do nothing.
            if not ((self._prefetcher.is_alive() and self._heartbeat.is_alive()) or self._stop.is_set()):
                log.critical("a thread has died: stopping")
                self._stop.set()
                status = 1
        self._prefetcher.join()
        self._heartbeat_stop.set()
        self._heartbeat.join()
        self._leave()
        return status

    def stop(self, signum: int, _frame: FrameType | None) -> None:
        """Handle a signal: finish the batch and stop; at the second signal, stop at once."""
        if self._stop.is_set():
            log.warning("second %s: handing all jobs back", signal.Signals(signum).name)
            # In a thread: this handler may have interrupted code that holds a lock which leaving needs.
            threading.Thread(target=self._leave_at_once, name="leave").start()
        self._stop.set()

    def _limit_batch_size(self, size: int) -> None:
        """Halve the largest batch size, so that later batches do not run out of memory as well."""
        if size > 1:
            log.warning("batches are limited to %d jobs from now on", size // 2)
            self._buffer.limit(size // 2)

    def _leave_at_once(self) -> None:
        self._leave()
        os._exit(1)

    def _leave(self) -> None:
        try:
            self._consumer.leave(self._state.entries())
        except RedisError as error:
            # Nothing is lost: another worker takes the jobs over when the heartbeat has been missing long enough.
            log.warning("stopped without handing jobs back: %s", error)


def run(settings: WorkerSettings) -> int:
    """Run a worker until SIGTERM or SIGINT. Return the exit status.

    Raises CaptionerNotLoadable, DeviceUnavailable and EngineUnavailable.
    """
    # Until there is something to hand back, a signal ends the process. PID 1 has no default action for signals.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    worker = Worker(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.stop)
    return worker.run()
