"""The worker process: three threads around one model.

The intake claims and prepares, the heartbeat keeps what is claimed, and the main thread captions. SIGTERM or SIGINT:
the batch at hand is finished, the rest handed back. A second one: everything is handed back, at once.
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
from model.device import choose_device
from model.engines.choice import load_ready
from worker.captioning import Captioning, DeviceBroken
from worker.heartbeat import Heartbeat
from worker.held import Held
from worker.intake import Intake
from worker.ready import ReadyJobs
from worker.settings import WorkerSettings

log = logging.getLogger(__name__)

_POLL_SECONDS = 0.5


class Worker:
    """Everything that lives as long as the process does."""

    def __init__(self, settings: WorkerSettings) -> None:
        if settings.threads:
            torch.set_num_threads(settings.threads)
        device = choose_device(settings.device)
        captioner = load_ready(settings.model, device, settings.engine, settings.precision)
        assert captioner.engine is not None
        self._stop = threading.Event()
        redis = connect(settings.redis_url)
        self._consumer = Consumer(redis, settings)
        self._recorder = Recorder(redis)
        self._held = Held()
        self._ready = ReadyJobs(settings.batch_size, settings.solo_attempts)
        self._captioning = Captioning(
            captioner, self._consumer, self._held, self._recorder, self._stop, self._remember_too_large
        )
        self._intake = Intake(
            self._consumer,
            self._held,
            self._ready,
            captioner.prepare,
            self._recorder,
            self._stop,
            takeover_seconds=settings.takeover_seconds,
        )
        self._heartbeat_stop = threading.Event()
        self._heartbeat = Heartbeat(
            self._consumer,
            self._held,
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
        """Work until told to stop, or until something is broken; returns the exit status."""
        self._heartbeat.start()
        self._intake.start()
        status = 0
        while not self._stop.is_set():
            batch = self._ready.take(timeout=_POLL_SECONDS)
            try:
                if batch:
                    self._captioning.run(batch)
                    self._held.discard([job.claim.entry for job in batch])
            except DeviceBroken:
                log.critical("the device is broken: leaving")
                self._stop.set()
                status = 1
            # Without one of its threads this process would look alive and do nothing.
            if not ((self._intake.is_alive() and self._heartbeat.is_alive()) or self._stop.is_set()):
                log.critical("a thread has died: leaving")
                self._stop.set()
                status = 1
        self._intake.join()
        self._heartbeat_stop.set()
        self._heartbeat.join()
        self._leave()
        return status

    def stop(self, signum: int, _frame: FrameType | None) -> None:
        """A signal handler: finish the batch at hand and leave; asked twice, leave."""
        if self._stop.is_set():
            log.warning("%s again: handing everything back", signal.Signals(signum).name)
            # In a thread: this handler may have interrupted code that holds a lock which leaving needs.
            threading.Thread(target=self._leave_at_once).start()
        self._stop.set()

    def _remember_too_large(self, size: int) -> None:
        # Not found out again with every batch.
        if size > 1:
            log.warning("from now on, no batch is larger than %d", size // 2)
            self._ready.limit(size // 2)

    def _leave_at_once(self) -> None:
        self._leave()
        os._exit(1)

    def _leave(self) -> None:
        try:
            self._consumer.leave(self._held.entries())
        except RedisError as error:
            # Nothing is lost: what we hold is taken over when our heartbeat has been missing long enough.
            log.warning("left without saying goodbye: %s", error)


def run(settings: WorkerSettings) -> int:
    """Run a worker until SIGTERM or SIGINT; returns the exit status.

    Raises CaptionerNotLoadable, DeviceUnavailable and EngineUnavailable.
    """
    # Before there is anything to hand back, a signal simply ends the process, even as PID 1, which has no default.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    worker = Worker(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.stop)
    return worker.run()
