"""GET /metrics: what this process and the queue have to say, in the text format of Prometheus.

In: exchanges as they end, and the state of the queue when asked; out: text. What begins with `wordlight_http_`,
`wordlight_uploads_`, `wordlight_decoders_`, `wordlight_event_loop_` or `process_` is this web process's own: where
several run, ask each of them. All else is the queue's, kept in Redis, the same whichever process is asked: count it
once. When Redis cannot be reached, `wordlight_queue_up` is 0 and the rest of the queue's is left out.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import Final

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector
from redis.exceptions import RedisError

from app.background import in_background
from app.http.access_log import Exchange
from app.services import Services
from app.settings import AppSettings
from jobs import metrics as counted
from jobs.connection import connect_async
from jobs.inspector import Backlog, read_backlog

log = logging.getLogger(__name__)

# Prometheus itself waits 10 s by default, and shall have the rest by then.
_QUEUE_SECONDS: Final = 2.0
_LAG_INTERVAL_SECONDS: Final = 1.0

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Metrics for Prometheus: of the queue, and of this web process alone."""
    found: Metrics = request.app.state.metrics
    return Response(await found.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class Metrics:
    """Counts what this process does, and shows it together with what the queue knows."""

    def __init__(self, settings: AppSettings) -> None:
        self._settings = settings
        # A connection of its own: those of the requests may all be taken just when the metrics are of interest.
        self._redis = connect_async(settings.redis_url)
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "wordlight_http_requests",
            "Requests answered by this process, by the path's template",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._request_seconds = Histogram(
            "wordlight_http_request_duration_seconds",
            "Time from a request's headers to the end of its answer, in this process; who waits for a job is in it too",
            ("route", "method"),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self._registry,
        )
        self._problems = Counter(
            "wordlight_http_problems",
            "Requests answered with a problem by this process, by the kind of problem: rejected uploads by reason too",
            ("route", "method", "problem"),
            registry=self._registry,
        )
        self._lag = Histogram(
            "wordlight_event_loop_lag_seconds",
            "How much later than asked for this process's event loop woke a task up, looked at once a second",
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
            registry=self._registry,
        )

    def observe(self, exchange: Exchange) -> None:
        """Count an exchange that is over."""
        route, method = exchange.route, exchange.method
        self._requests.labels(route, method, exchange.status or "unanswered").inc()
        self._request_seconds.labels(route, method).observe(exchange.seconds)
        if exchange.problem:
            self._problems.labels(route, method, exchange.problem).inc()

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """While the process serves."""
        self._registry.register(_Gauges(services))
        try:
            async with in_background(self._watch_lag()):
                yield
        finally:
            await self._redis.aclose()

    async def text(self) -> bytes:
        """All of it, as Prometheus reads it."""
        backlog = None
        try:
            async with asyncio.timeout(_QUEUE_SECONDS):
                backlog = await read_backlog(self._redis, self._settings)
        except (RedisError, TimeoutError) as error:
            log.warning("metrics without those of the queue: %s", error or "it does not answer in time")
        return generate_latest(_Together(self._registry, _QueueMetrics(backlog)))

    async def _watch_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_INTERVAL_SECONDS
            await asyncio.sleep(_LAG_INTERVAL_SECONDS)
            self._lag.observe(max(0.0, loop.time() - due))


class _Gauges(Collector):
    """What this process is doing at the moment."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterable[Metric]:
        uploads, decoder = self._services.uploads, self._services.decoder
        yield _gauge("uploads_in_progress", "Uploads that this process is receiving or decoding", uploads.receiving)
        yield _gauge("decoders_busy", "Decoding children of this process that are at work", decoder.busy)


class _QueueMetrics(Collector):
    """The queue's state at one moment."""

    def __init__(self, backlog: Backlog | None) -> None:
        self._backlog = backlog

    def collect(self) -> Iterator[Metric]:
        backlog = self._backlog
        yield _gauge("queue_up", "Whether the queue could be reached for these metrics", backlog is not None)
        if backlog is None:
            return
        yield _gauge("jobs_waiting", "Jobs that no worker has been given yet", backlog.waiting)
        yield _gauge("jobs_pending", "Jobs in the hands of workers, dead ones included", backlog.pending)
        yield _gauge(
            "oldest_waiting_job_age_seconds",
            "Time since the oldest waiting job was taken in; 0 without one",
            backlog.oldest_waiting_seconds,
        )
        yield _gauge(
            "oldest_pending_job_age_seconds",
            "Time since the oldest pending job was taken in; 0 without one",
            backlog.oldest_pending_seconds,
        )
        yield _gauge("workers_alive", "Workers heard of lately", backlog.workers)
        yield _gauge("dead_letters", "Jobs given up that are kept to be looked at", backlog.dead_letters)
        yield _gauge("webhooks_due", "Webhooks to be delivered or tried again", backlog.webhooks_due)
        for counter in counted.COUNTERS:
            yield _counter_family(counter, backlog.counts)
        for histogram in counted.HISTOGRAMS:
            yield _histogram_family(histogram, backlog.counts)


class _Together(Collector):
    def __init__(self, *collectors: Collector) -> None:
        self._collectors = collectors

    def collect(self) -> Iterator[Metric]:
        for collector in self._collectors:
            for metric in collector.collect():
                # One for each series, and nobody asks when a series began.
                metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
                yield metric


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"wordlight_{name}", documentation, value=float(value))


def _counter_family(counter: counted.Counter, counts: dict[str, float]) -> Metric:
    labels, values = _labels(counter.label)
    family = CounterMetricFamily(f"wordlight_{counter.name}", counter.documentation, labels=labels)
    for value in values:
        family.add_metric([value] if value else [], counter.read(counts, value))
    return family


def _histogram_family(histogram: counted.Histogram, counts: dict[str, float]) -> Metric:
    labels, values = _labels(histogram.label)
    family = HistogramMetricFamily(f"wordlight_{histogram.name}", histogram.documentation, labels=labels)
    for value in values:
        buckets, total = histogram.read(counts, value)
        family.add_metric([value] if value else [], buckets, total)
    return family


def _labels(label: counted.Label | None) -> tuple[list[str], tuple[str | None, ...]]:
    """The names of a metric's labels, and all values of the one that it has."""
    return ([label.name], label.values) if label else ([], (None,))
