"""What a worker does between two words: tells which have been decided, and hears which jobs nobody wants any more.

In: words as the model decides them; out: events in Redis, the images to give up, and those that somebody follows. It
must not know how words are chosen.
"""

import logging
import math
import time
from collections.abc import Collection, Sequence

from redis.exceptions import RedisError

from jobs.consumer import Claim, Consumer
from jobs.job import Said
from model.watch import Decided
from worker.spoken import word_for

log = logging.getLogger(__name__)

# A step takes milliseconds: asking whether jobs are still wanted need not be done at each.
_ASK_SECONDS = 0.1


class JobWatch:
    """Watches the decoding of some jobs, which are its images 0, 1, 2, …"""

    def __init__(self, consumer: Consumer, claims: Sequence[Claim]) -> None:
        self._consumer, self._claims = consumer, claims
        self.followed: set[int] = set()
        self._unwanted: set[int] = set()
        # Words that Redis has not taken yet: told before anything that comes after them.
        self._untold: dict[int, list[str]] = {}
        self._told = [0] * len(claims)
        self._asked = -math.inf  # at the first step: somebody may have come while the picture was looked at

    def step(self, decided: Sequence[Decided]) -> Collection[int]:
        """See model.watch.Watch."""
        for one in decided:
            self._untold.setdefault(one.image, []).append(self._event(one))
        try:
            if self._untold:
                self._tell()
            if time.monotonic() - self._asked > _ASK_SECONDS:
                self._ask()
        except RedisError as error:
            log.warning("words are not told yet: %s", error)
        return self._unwanted

    def finish(self) -> None:
        """Tell what is left to be told. May raise redis.exceptions.RedisError."""
        if self._untold:
            self._tell()

    def _tell(self) -> None:
        images = [image for image in self._untold if image not in self._unwanted]
        unwanted = self._consumer.say([(self._claims[i], self._told[i], self._untold[i]) for i in images])
        for image in images:
            self._told[image] += len(self._untold[image])
        self._untold.clear()
        self._give_up(images, unwanted)

    def _ask(self) -> None:
        self._asked = time.monotonic()
        images = [image for image in range(len(self._claims)) if image not in self._unwanted]
        interest = self._consumer.interest([self._claims[image] for image in images])
        self.followed.update(image for image in images if self._claims[image].entry in interest.followed)
        self._give_up(images, interest.unwanted)

    def _give_up(self, images: Sequence[int], entries: Collection[str]) -> None:
        for image in images:
            if self._claims[image].entry in entries:
                log.info("job %s is not wanted any more", self._claims[image].job_id)
                self._unwanted.add(image)

    def _event(self, one: Decided) -> str:
        claim = self._claims[one.image]
        word = word_for(claim.options, one.word)
        said = Said(attempt=claim.attempt, caption=one.caption, position=one.position, word=word)
        return said.model_dump_json()
