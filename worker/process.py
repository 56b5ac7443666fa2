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
from model.captioner import Captioner, SearchOptions
from model.device import choose_device
from worker.captioning import Captioning
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
        captioner = Captioner.load(settings.model, device)
        self._stop, self._give_up = threading.Event(), threading.Event()
        self._consumer = Consumer(connect(settings.redis_url), settings)
        self._held = Held()
        self._ready = ReadyJobs(settings.batch_size, settings.solo_attempts)
        options = SearchOptions(settings.beam_size, settings.num_captions, settings.max_words)
        self._captioning = Captioning(captioner, self._consumer, options, self._give_up)
        self._intake = Intake(
            self._consumer,
            self._held,
            self._ready,
            captioner.prepare,
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
        )
        log.info("%s: %s %s on %s", self._consumer.name, captioner.config.name, captioner.version, device)

    def run(self) -> None:
        """Work until told to stop."""
        self._heartbeat.start()
        self._intake.start()
        while not self._stop.is_set():
            batch = self._ready.take(timeout=_POLL_SECONDS)
            if batch:
                self._held.busy()
                self._captioning.run(batch)
                self._held.idle()
                self._held.discard([job.claim.entry for job in batch])
        self._intake.join()
        self._heartbeat_stop.set()
        self._heartbeat.join()
        self._leave()

    def stop(self, signum: int, _frame: FrameType | None) -> None:
        """A signal handler: finish the batch at hand and leave; asked twice, leave."""
        if self._stop.is_set():
            log.warning("%s again: handing everything back", signal.Signals(signum).name)
            self._give_up.set()
            # In a thread: this handler may have interrupted code that holds a lock which leaving needs.
            threading.Thread(target=self._leave_at_once).start()
        self._stop.set()

    def _leave_at_once(self) -> None:
        self._leave()
        os._exit(1)

    def _leave(self) -> None:
        try:
            self._consumer.leave(self._held.entries())
        except RedisError as error:
            # Nothing is lost: what we hold is taken over when our heartbeat has been missing long enough.
            log.warning("left without saying goodbye: %s", error)


def run(settings: WorkerSettings) -> None:
    """Run a worker until SIGTERM or SIGINT. Raises CaptionerNotLoadable or DeviceUnavailable."""
    # Before there is anything to hand back, a signal simply ends the process, even as PID 1, which has no default.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: os._exit(0))
    worker = Worker(settings)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, worker.stop)
    worker.run()
