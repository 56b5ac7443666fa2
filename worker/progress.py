"""Progress between two words: publish the decided words, and learn which jobs were canceled or are followed."""

import logging
import math
import time
from collections.abc import Collection, Sequence

from redis.exceptions import RedisError

from jobs.consumer import Claim, Consumer
from jobs.job import WordEvent
from model.decoding.streaming import DecidedWord
from worker.convert import word_for

log = logging.getLogger(__name__)

# A decoding step takes milliseconds. Asking Redis at each of them would slow it down.
_CHECK_SECONDS = 0.1


class JobProgress:
    """The progress of jobs that are decoded together. Job i is the model's image i."""

    def __init__(self, consumer: Consumer, claims: Sequence[Claim]) -> None:
        self._consumer, self._claims = consumer, claims
        self.followed: set[int] = set()
        self._unwanted: set[int] = set()
        # Events that Redis has not accepted yet. They are published before later ones.
        self._pending: dict[int, list[str]] = {}
        self._published = [0] * len(claims)
        self._checked = -math.inf  # check at the first step: a follower may have come while the picture was encoded

    def step(self, decided_words: Sequence[DecidedWord]) -> Collection[int]:
        """Publish the words just decided; return the images to give up (see DecodingListener)."""
        for decided in decided_words:
            self._pending.setdefault(decided.image, []).append(self._event(decided))
        try:
            if self._pending:
                self._publish()
            if time.monotonic() - self._checked > _CHECK_SECONDS:
                self._check_interest()
        except RedisError as error:
            log.warning("words are published later: %s", error)
        return self._unwanted

    def finish(self) -> None:
        """Publish the words that are still pending. Raises redis.exceptions.RedisError."""
        if self._pending:
            self._publish()

    def _publish(self) -> None:
        images = [image for image in self._pending if image not in self._unwanted]
        unwanted = self._consumer.publish_words(
            [(self._claims[i], self._published[i], self._pending[i]) for i in images]
        )
        for image in images:
            self._published[image] += len(self._pending[image])
        self._pending.clear()
        self._give_up(images, unwanted)

    def _check_interest(self) -> None:
        self._checked = time.monotonic()
        images = [image for image in range(len(self._claims)) if image not in self._unwanted]
        interest = self._consumer.interest([self._claims[image] for image in images])
        self.followed.update(image for image in images if self._claims[image].entry in interest.followed)
        self._give_up(images, interest.unwanted)

    def _give_up(self, images: Sequence[int], entries: Collection[str]) -> None:
        for image in images:
            if self._claims[image].entry in entries:
                log.info("job %s was canceled, deleted or taken over", self._claims[image].job_id)
                self._unwanted.add(image)

    def _event(self, decided: DecidedWord) -> str:
        claim = self._claims[decided.image]
        word = word_for(claim.options, decided.word)
        event = WordEvent(attempt=claim.attempt, caption=decided.caption, position=decided.position, word=word)
        return event.model_dump_json()
