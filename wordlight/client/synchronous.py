"""The client for programs without an event loop. Its methods are those of client_async.py."""

import time
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Literal, Self, TypeVar

import httpx2

from jobs.job import Batch, Job, JobSummary
from jobs.options import CaptionOptions, ScoreOptions
from wordlight.client.connection import PATIENCE, answer_of, authorised, base, refusal, sending, streaming
from wordlight.client.errors import ProblemAnswer
from wordlight.client.events import Event, Following
from wordlight.client.retries import (
    Answer,
    Pause,
    Talk,
    batch_of,
    captioned,
    content_of,
    finished_batch,
    finished_job,
    job_of,
    no_answer,
    page_of,
)
from wordlight.client.wire import (
    BATCHES,
    CAPTIONS,
    Image,
    Request,
    address,
    batch_submission,
    cancel,
    drawn,
    held,
    one,
    remove,
    submission,
)

Result = TypeVar("Result")


class Client:
    """A service. Several threads may use one; close it, or use it in a `with`."""

    def __init__(
        self,
        url: str = "http://127.0.0.1:8000",
        *,
        api_key: str | None = None,
        patience: float = PATIENCE,
        http: httpx2.Client | None = None,
    ) -> None:
        """Raises ValueError for what is no address. `api_key` is read from WORDLIGHT_API_KEY if it is not given.

        Requests are sent again when no answer comes, the service is full or a limit is reached, as long as the pauses
        are no longer than `patience` seconds together. `http` has other proxies, certificates or limits than usual; it
        is not closed with the client.
        """
        self._ours = http is None
        self._http = http or httpx2.Client()
        self._url, self._headers, self._patience = base(url), authorised(api_key), patience

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close all connections."""
        if self._ours:
            self._http.close()

    def caption(
        self,
        image: Image,
        options: CaptionOptions | None = None,
        *,
        timeout: float | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """The job of a picture, with its captions. Raises JobFailed, and TookTooLong after `timeout` seconds."""
        request = submission(image, options, None, idempotency_key, held(timeout))
        return self._run(captioned(request, self._patience, timeout))

    def score(
        self, image: Image, caption: str, *, timeout: float | None = None, idempotency_key: str | None = None
    ) -> Job:
        """The job whose only caption is `caption`: how probable it is for a picture, and where its words look."""
        request = submission(image, ScoreOptions(caption=caption), None, idempotency_key, held(timeout))
        return self._run(captioned(request, self._patience, timeout))

    def submit(
        self,
        image: Image,
        options: CaptionOptions | ScoreOptions | None = None,
        *,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> Job:
        """The job of a picture, as soon as it is taken in: to be waited for later, or told to a webhook."""
        request = submission(image, options, webhook_url, idempotency_key, 0)
        return self._run(job_of(request, self._patience))

    def job(self, job_id: str) -> Job:
        """The job as it is now."""
        return self._run(job_of(one(CAPTIONS, job_id), self._patience))

    def wait(self, job: Job | str, *, timeout: float | None = None) -> Job:
        """The job, or that of this id, when it is over, however it ended. Raises TookTooLong."""
        return self._run(finished_job(job, self._patience, timeout))

    def cancel(self, job_id: str) -> Job:
        """End a job, if it is not over."""
        return self._run(job_of(cancel(CAPTIONS, job_id), self._patience))

    def delete(self, job_id: str) -> None:
        """Remove a job, its picture and its captions."""
        self._run(content_of(remove(CAPTIONS, job_id), self._patience))

    def jobs(self) -> Iterator[JobSummary]:
        """Your jobs, the newest first, as long as they are kept."""
        following: str | None = f"{CAPTIONS}?limit=100"
        while following:
            page = self._run(page_of(Request("GET", following), self._patience))
            yield from page.jobs
            following = page.next

    def sheet(self, job_id: str, caption: int = 0, *, scale: Literal["word", "caption"] = "word") -> bytes:
        """A PNG of a caption's words and where they looked."""
        return self._run(content_of(drawn(job_id, caption, None, scale), self._patience))

    def heatmap(self, job_id: str, word: int, caption: int = 0, *, scale: Literal["word", "caption"] = "word") -> bytes:
        """A PNG of the picture and where one word looked."""
        return self._run(content_of(drawn(job_id, caption, word, scale), self._patience))

    def submit_batch(
        self,
        images: Sequence[Image],
        options: CaptionOptions | None = None,
        *,
        webhook_url: str | None = None,
        idempotency_key: str | None = None,
    ) -> Batch:
        """The batch of several pictures, or ZIP archives of them; one that is no picture is a job that has failed."""
        request = batch_submission(images, options, webhook_url, idempotency_key)
        return self._run(batch_of(request, self._patience))

    def wait_for_batch(self, batch: Batch | str, *, timeout: float | None = None) -> Batch:
        """The batch, or that of this id, when all of its jobs are over. Raises TookTooLong."""
        return self._run(finished_batch(batch, self._patience, timeout))

    def cancel_batch(self, batch_id: str) -> Batch:
        """End those of a batch's jobs that are not over."""
        return self._run(batch_of(cancel(BATCHES, batch_id), self._patience))

    def events(self, job_id: str, *, after: str = "") -> Iterator[Event]:
        """What happens to a job, as it happens, to its end; where a connection breaks, the next one goes on.

        Words that are certain before the end are among it: all with `greedy` and `sample`, the first with `beam` and
        `consensus`.
        `after` is the `id` of an event: those up to it are left out.
        """
        following = Following(after, self._patience)
        url = f"{self._url}{address(CAPTIONS, job_id)}/events"
        while not following.over:
            try:
                headers = self._headers | following.headers
                with self._http.stream("GET", url, headers=headers, timeout=streaming()) as response:
                    if response.status_code == 204:
                        return
                    if response.status_code != 200:
                        response.read()
                        raise refusal(response)
                    for sent in httpx2.EventSource(response):
                        if event := following.read(sent):
                            yield event
                pause = Pause(0) if following.over else following.pause(no_answer("the stream of events ended"))
            except httpx2.TransportError as error:
                pause = following.pause(no_answer(error))
            except ProblemAnswer as error:
                pause = following.pause(error)
            time.sleep(pause.seconds)

    def _run(self, talk: Talk[Result]) -> Result:
        """Carry a talk out."""
        answer: Answer | None = None
        failure: Exception | None = None
        while True:
            try:
                step = talk.throw(failure) if failure else talk.send(answer)
            except StopIteration as end:
                result: Result = end.value
                return result
            answer = failure = None
            if isinstance(step, Pause):
                time.sleep(step.seconds)
                continue
            try:
                answer = answer_of(
                    self._http.request(
                        step.method,
                        self._url + step.path,
                        headers=self._headers | dict(step.headers),
                        **sending(step),
                    )
                )
            except httpx2.TransportError as error:
                failure = no_answer(error)
