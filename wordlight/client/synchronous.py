"""Client: the client for programs without an event loop. `make client` generates this file."""

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Literal, Self

import httpx2

from jobs.job import Batch, Job, JobSummary
from jobs.options import CaptionOptions, ScoreOptions
from wordlight.client.errors import ClientError, ProblemAnswer, TookTooLong, error_of, unreachable
from wordlight.client.events import Event, EventReader
from wordlight.client.retries import FIRST_PAUSE, PATIENCE, Retries
from wordlight.client.wire import (
    BATCHES,
    CAPTIONS,
    EVENT_TIMEOUT,
    LONGEST_WAIT,
    Image,
    JobPage,
    Request,
    WaitedFor,
    address,
    base_url,
    batch_submission,
    cancellation,
    deletion,
    drawing,
    headers,
    is_over,
    lookup,
    read,
    read_job,
    submission,
    submission_wait,
    succeeded,
)


class Client:
    """A client of a service. Use it in `with`, or close it."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        patience: float = PATIENCE,
        http: httpx2.Client | None = None,
    ) -> None:
        """Raises ValueError if the URL is invalid. Without `api_key`, WORDLIGHT_API_KEY is the key.

        A request is repeated if no answer arrives, the service is full or a limit is reached, as long as all pauses
        together take at most `patience` seconds. Pass `http` for other proxies, certificates or connection limits; you
        close it yourself.
        """
        self._owns_http = http is None
        self._http = http or httpx2.Client()
        self._url, self._headers, self._patience = base_url(url), headers(api_key), patience

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        if self._owns_http:
            self._http.close()

    def caption(
        self,
        image: Image,
        options: CaptionOptions | None = None,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Caption a picture and return its job. Raises JobFailed, and TookTooLong after `timeout` seconds."""
        return self._result(submission(image, options, None, idempotency_key, submission_wait(timeout)), timeout)

    def score(
        self, image: Image, caption: str, *, timeout: float | None = None, idempotency_key: str | None = None
    ) -> Job:
        """Score a caption for a picture: the job has it as its only caption, with log-probabilities and heatmaps.

        Raises JobFailed, and TookTooLong after `timeout` seconds.
        """
        options = ScoreOptions(caption=caption)
        return self._result(submission(image, options, None, idempotency_key, submission_wait(timeout)), timeout)

    def submit(
        self,
        image: Image,
        options: CaptionOptions | ScoreOptions | None = None,
        *,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """Submit a picture and return its job without waiting for the result."""
        return self._job(submission(image, options, webhook_url, idempotency_key, 0))

    def job(self, job_id: str) -> Job:
        """Return the current state of a job."""
        return self._job(lookup(CAPTIONS, job_id))

    def wait(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """Wait until a job, given as such or by id, succeeds, fails, is canceled or expires. Raises TookTooLong."""
        current = self.job(job) if isinstance(job, str) else job
        return self._finished(current, lambda wait: self._job(lookup(CAPTIONS, current.id, wait=wait)), timeout)

    def cancel(self, job_id: str) -> Job:
        """Cancel a job, unless it is over."""
        return self._job(cancellation(CAPTIONS, job_id))

    def delete(self, job_id: str) -> None:
        """Delete a job with its picture and captions."""
        self._send(deletion(CAPTIONS, job_id))

    def jobs(self) -> Iterator[JobSummary]:
        """Iterate over your jobs, newest first."""
        path: str | None = f"{CAPTIONS}?limit=100"
        while path:
            page = read(JobPage, self._send(Request("GET", path)))
            yield from page.jobs
            path = page.next

    def sheet(self, job_id: str, caption: int = 0, *, scale: Literal["word", "caption"] = "word") -> bytes:
        """Return a PNG with the heatmap of each word of a caption."""
        return self._send(drawing(job_id, caption, None, scale))

    def heatmap(self, job_id: str, word: int, caption: int = 0, *, scale: Literal["word", "caption"] = "word") -> bytes:
        """Return a PNG of the picture with the heatmap of one word."""
        return self._send(drawing(job_id, caption, word, scale))

    def submit_batch(
        self,
        images: Sequence[Image],
        options: CaptionOptions | None = None,
        *,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> Batch:
        """Submit pictures, or ZIP archives of pictures. A file that is not a picture becomes a failed job."""
        return self._batch(batch_submission(images, options, webhook_url, idempotency_key))

    def wait_for_batch(self, batch: Batch | str, *, timeout: float | None = None) -> Batch:
        """Wait until all jobs of a batch, given as such or by id, are over. Raises TookTooLong."""
        current = self._batch(lookup(BATCHES, batch)) if isinstance(batch, str) else batch
        return self._finished(current, lambda wait: self._batch(lookup(BATCHES, current.id, wait=wait)), timeout)

    def cancel_batch(self, batch_id: str) -> Batch:
        """Cancel the jobs of a batch that are not over."""
        return self._batch(cancellation(BATCHES, batch_id))

    def events(self, job_id: str, *, after: str = "") -> Iterator[Event]:
        """Iterate over the events of a job as they happen, until it is over. Broken connections are resumed.

        Events include the words that are certain before the end: all words with `greedy` and `sample`, the first words
        with `beam` and `consensus`. `after` is the `id` of an event; events up to it are left out.
        """
        reader = EventReader(after, self._patience)
        url = f"{self._url}{address(CAPTIONS, job_id)}/events"
        while not reader.over:
            try:
                with self._http.stream(
                    "GET", url, headers=self._headers | reader.headers, timeout=EVENT_TIMEOUT
                ) as response:
                    if response.status_code == 204:
                        return
                    if response.status_code != 200:
                        response.read()
                        raise error_of(response.status_code, response.headers, response.content)
                    for sent in httpx2.EventSource(response):
                        if event := reader.read(sent):
                            yield event
                pause = 0.0 if reader.over else reader.pause(unreachable("the stream of events ended"))
            except httpx2.TransportError as error:
                pause = reader.pause(unreachable(error))
            except ProblemAnswer as error:
                pause = reader.pause(error)
            time.sleep(pause)

    def _result(self, request: Request, timeout: float | None) -> Job:
        """Submit a picture and wait for its result."""
        started = time.monotonic()
        job = self._job(request)
        left = None if timeout is None else timeout - (time.monotonic() - started)
        return succeeded(self.wait(job, timeout=left))

    def _job(self, request: Request) -> Job:
        return read_job(self._send(request))

    def _batch(self, request: Request) -> Batch:
        return read(Batch, self._send(request))

    def _finished(self, current: WaitedFor, fetch: Callable[[float], WaitedFor], timeout: float | None) -> WaitedFor:
        """Poll until the job or batch is over. The service delays each answer for up to a minute until then."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not is_over(current):
            began = time.monotonic()
            left = LONGEST_WAIT if deadline is None else deadline - began
            if left <= 0:
                raise TookTooLong(current)
            wait = max(1.0, min(left, LONGEST_WAIT))
            current = fetch(wait)
            # A service that is about to stop answers at once.
            if not is_over(current) and time.monotonic() - began < wait / 2:
                time.sleep(min(FIRST_PAUSE, left))
        return current

    def _send(self, request: Request) -> bytes:
        """Send a request, repeat it while that may help, and return the body of the answer. Raises ClientError.

        Repetition is safe: submissions carry an Idempotency-Key.
        """
        retries = Retries(self._patience)
        while True:
            try:
                response = self._http.request(
                    request.method,
                    self._url + request.path,
                    headers=self._headers | dict(request.headers),
                    **request.arguments,
                )
                if response.status_code < 300:
                    return response.content
                raise error_of(response.status_code, response.headers, response.content)
            except httpx2.TransportError as error:
                pause = retries.pause(unreachable(error))
            except ClientError as error:
                pause = retries.pause(error)
            time.sleep(pause)
