"""The route of /metrics: metrics of this process and of the queue, in the text format of Prometheus.

Metrics that begin with `wordlight_http_`, `wordlight_uploads_`, `wordlight_decoders_`, `wordlight_event_loop_` or
`process_` belong to one web process: scrape each process. All others belong to the queue and are the same from every
process: count them once. If Redis is unreachable, `wordlight_queue_up` is 0 and the queue's other metrics are missing.
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

from app.http.access_log import Exchange
from app.services import Services, in_background
from app.settings import AppSettings
from jobs import metrics as queue_metrics
from jobs.connection import connect_async
from jobs.inspector import Backlog, read_backlog

log = logging.getLogger(__name__)

# Less than Prometheus' own timeout of 10 s, so that a slow Redis does not cost the other metrics.
_QUEUE_SECONDS: Final = 2.0
_LAG_INTERVAL_SECONDS: Final = 1.0

router = APIRouter(tags=["health"])


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Read the metrics of the queue and of this web process."""
    process_metrics: Metrics = request.app.state.metrics
    return Response(await process_metrics.text(), media_type=CONTENT_TYPE_PLAIN_0_0_4)


class Metrics:
    """Counts this process's requests and combines its metrics with the queue's."""

    def __init__(self, settings: AppSettings) -> None:
        self._settings = settings
        # A separate connection: requests may occupy the whole pool when metrics matter most.
        self._redis = connect_async(settings.redis_url)
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        self._requests = Counter(
            "wordlight_http_requests",
            "Requests to this process, by path template",
            ("route", "method", "status"),
            registry=self._registry,
        )
        self._request_seconds = Histogram(
            "wordlight_http_request_duration_seconds",
            "Time from a request's headers to the end of its response, including waits for jobs",
            ("route", "method"),
            buckets=(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
            registry=self._registry,
        )
        self._problems = Counter(
            "wordlight_http_problems",
            "Requests to this process that were answered with a problem, by its kind",
            ("route", "method", "problem"),
            registry=self._registry,
        )
        self._lag = Histogram(
            "wordlight_event_loop_lag_seconds",
            "Delay with which the event loop woke a task, measured once a second",
            buckets=(0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5),
            registry=self._registry,
        )

    def observe(self, exchange: Exchange) -> None:
        """Count an exchange that has ended."""
        route, method = exchange.route, exchange.method
        self._requests.labels(route, method, exchange.status or "unanswered").inc()
        self._request_seconds.labels(route, method).observe(exchange.seconds)
        if exchange.problem:
            self._problems.labels(route, method, exchange.problem).inc()

    @asynccontextmanager
    async def running(self, services: Services) -> AsyncIterator[None]:
        """Measure while the process serves."""
        self._registry.register(_ProcessGauges(services))
        try:
            async with in_background(self._watch_lag()):
                yield
        finally:
            await self._redis.aclose()

    async def text(self) -> bytes:
        """All metrics in the text format of Prometheus."""
        backlog = None
        try:
            async with asyncio.timeout(_QUEUE_SECONDS):
                backlog = await read_backlog(self._redis, self._settings)
        except (RedisError, TimeoutError) as error:
            log.warning("Cannot read the metrics of the queue: %s", error or "Redis did not answer in time")
        return generate_latest(_CombinedCollector(self._registry, _QueueMetrics(backlog)))

    async def _watch_lag(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due = loop.time() + _LAG_INTERVAL_SECONDS
            await asyncio.sleep(_LAG_INTERVAL_SECONDS)
            self._lag.observe(max(0.0, loop.time() - due))


class _ProcessGauges(Collector):
    """The current state of this process."""

    def __init__(self, services: Services) -> None:
        self._services = services

    def collect(self) -> Iterable[Metric]:
        uploads, decoder = self._services.uploads, self._services.decoder
        yield _gauge("uploads_in_progress", "Uploads that this process receives or decodes", uploads.receiving)
        yield _gauge("decoders_busy", "Busy decoding processes of this web process", decoder.busy)


class _QueueMetrics(Collector):
    """The current state of the queue."""

    def __init__(self, backlog: Backlog | None) -> None:
        self._backlog = backlog

    def collect(self) -> Iterator[Metric]:
        backlog = self._backlog
        yield _gauge("queue_up", "Whether Redis was reachable for these metrics", backlog is not None)
        if backlog is None:
            return
        yield _gauge("jobs_waiting", "Jobs that no worker has claimed", backlog.waiting)
        yield _gauge("jobs_pending", "Jobs that a worker, possibly a dead one, has claimed", backlog.pending)
        yield _gauge(
            "oldest_waiting_job_age_seconds",
            "Age of the oldest waiting job; 0 without one",
            backlog.oldest_waiting_seconds,
        )
        yield _gauge(
            "oldest_pending_job_age_seconds",
            "Age of the oldest pending job; 0 without one",
            backlog.oldest_pending_seconds,
        )
        yield _gauge("workers_alive", "Workers with a recent heartbeat", backlog.workers)
        yield _gauge("dead_letters", "Stored dead letters", backlog.dead_letters)
        yield _gauge("webhooks_due", "Webhooks that wait for delivery or a retry", backlog.webhooks_due)
        for counter in queue_metrics.COUNTERS:
            yield _counter_family(counter, backlog.counts)
        for histogram in queue_metrics.HISTOGRAMS:
            yield _histogram_family(histogram, backlog.counts)


class _CombinedCollector(Collector):
    """The metrics of several collectors."""

    def __init__(self, *collectors: Collector) -> None:
        self._collectors = collectors

    def collect(self) -> Iterator[Metric]:
        for collector in self._collectors:
            for metric in collector.collect():
                # The time when each series was created is of no use here.
                metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
                yield metric


def _gauge(name: str, documentation: str, value: float) -> Metric:
    return GaugeMetricFamily(f"wordlight_{name}", documentation, value=float(value))


def _counter_family(counter: queue_metrics.Counter, counts: dict[str, float]) -> Metric:
    labels, values = _labels(counter.label)
    family = CounterMetricFamily(f"wordlight_{counter.name}", counter.documentation, labels=labels)
    for value in values:
        family.add_metric([value] if value else [], counter.read(counts, value))
    return family


def _histogram_family(histogram: queue_metrics.Histogram, counts: dict[str, float]) -> Metric:
    labels, values = _labels(histogram.label)
    family = HistogramMetricFamily(f"wordlight_{histogram.name}", histogram.documentation, labels=labels)
    for value in values:
        buckets, total = histogram.read(counts, value)
        family.add_metric([value] if value else [], buckets, total)
    return family


def _labels(label: queue_metrics.Label | None) -> tuple[list[str], tuple[str | None, ...]]:
    """The label names of a metric (at most one), and that label's values."""
    return ([label.name], label.values) if label else ([], (None,))
