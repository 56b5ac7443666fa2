"""A batch of jobs that ask for different things, through the model: seen all at once, written group by group.

In: prepared jobs; out: their captions. It must not know what becomes of them, nor what to do when the model fails.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence

import torch

from jobs.consumer import Claim, Consumer
from jobs.job import Caption
from jobs.options import CaptionOptions, ScoreOptions
from model.caption import Caption as Written
from model.captioner import Captioner
from model.memory import Memory
from model.options import DecodingOptions, Strategy
from worker.ready import Prepared
from worker.spoken import caption_for
from worker.watching import JobWatch


class Computing:
    """What the model has to do for jobs."""

    def __init__(
        self, captioner: Captioner, consumer: Consumer, until_stored: Callable[[Callable[[], None]], object]
    ) -> None:
        """`until_stored` calls again what Redis did not take."""
        self._captioner, self._consumer, self._until_stored = captioner, consumer, until_stored

    def run(self, batch: Sequence[Prepared]) -> list[list[Caption] | None]:
        """The captions of each job; None for those that nobody wants any more.

        Whatever the model raises, this raises.
        """
        memory = self._captioner.encode(torch.stack([job.pixels for job in batch]))
        results: list[list[Caption] | None] = [None] * len(batch)
        for places in _alike(batch):
            claims = [batch[place].claim for place in places]
            some = memory if len(places) == len(batch) else memory.select(places)
            for place, claim, captions in zip(places, claims, self._write(some, claims), strict=True):
                results[place] = [caption_for(claim.options, caption) for caption in captions] if captions else None
        return results

    def _write(self, memory: Memory, claims: Sequence[Claim]) -> list[list[Written]]:
        """The captions of jobs that can be written together; none for a job that nobody wants any more."""
        options = claims[0].options
        if isinstance(options, ScoreOptions):
            sentences = [claim.options.caption for claim in claims if isinstance(claim.options, ScoreOptions)]
            return [[caption] for caption in self._captioner.score(memory, sentences)]
        assert isinstance(options, CaptionOptions)
        watch = JobWatch(self._consumer, claims)
        seeds = [(claim.options.seed if isinstance(claim.options, CaptionOptions) else 0) or 0 for claim in claims]
        written = self._captioner.write(memory, _decoding(options), seeds=seeds, watch=watch)
        self._until_stored(watch.finish)
        return written


def _alike(batch: Sequence[Prepared]) -> list[list[int]]:
    """The places in `batch` of jobs that can be written together."""
    groups: defaultdict[DecodingOptions | None, list[int]] = defaultdict(list)
    for place, job in enumerate(batch):
        options = job.claim.options
        groups[_decoding(options) if isinstance(options, CaptionOptions) else None].append(place)
    return list(groups.values())


def _decoding(options: CaptionOptions) -> DecodingOptions:
    return DecodingOptions(
        strategy=Strategy(options.strategy.value),
        num_captions=options.num_captions,
        beam_size=options.beam_size,
        temperature=options.temperature,
        top_k=options.top_k,
        top_p=options.top_p,
        max_words=options.max_words,
        prefix=options.prefix,
    )
