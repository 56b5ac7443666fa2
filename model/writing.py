"""Captions by any strategy. In: a decoder, what it remembers of the images, and options; out: captions.

Every strategy is a way to choose what `Decoder.step` is told next. It must not know of pixels.
"""

from collections.abc import Sequence

from model.caption import Caption
from model.decoder import Decoder, Memory
from model.hypothesis import Hypothesis
from model.options import DecodingOptions, Strategy
from model.sampling import sample, uniform_numbers
from model.search import beam_search
from model.spelling import Speller
from model.vocabulary import Vocabulary, split_words
from model.watch import Watch, Watching


def write(
    decoder: Decoder,
    vocabulary: Vocabulary,
    memory: Memory,
    options: DecodingOptions,
    *,
    seeds: Sequence[int | None] | None,
    watch: Watch | None,
) -> list[list[Caption]]:
    """The captions of each image, as Captioner.write has it. Raises ValueError for more or fewer seeds than images."""
    if seeds is None:
        seeds = [None] * memory.images
    if len(seeds) != memory.images:
        raise ValueError(f"there must be a seed for each image: {len(seeds)} for {memory.images}")
    if not memory.images:
        return []
    speller = Speller(vocabulary, memory.rows, memory.cols, split_words(options.prefix))
    watching = None
    if watch is not None:
        # In beam search no word is certain before the last.
        told = options.num_captions if options.strategy in (Strategy.GREEDY, Strategy.SAMPLE) else 0
        watching = Watching(watch, speller, memory.images, told, memory.annotations.device)
    found = _decode(decoder, memory, options, vocabulary.encode(options.prefix), seeds, watching)
    abandoned = watching.abandoned if watching is not None else ()
    return [
        [] if image in abandoned else [speller.caption(hypothesis) for hypothesis in hypotheses[: options.num_captions]]
        for image, hypotheses in enumerate(found)
    ]


def _decode(
    decoder: Decoder,
    memory: Memory,
    options: DecodingOptions,
    prefix: Sequence[int],
    seeds: Sequence[int | None],
    watching: Watching | None,
) -> list[list[Hypothesis]]:
    if options.strategy == Strategy.SAMPLE:
        return sample(
            decoder,
            memory,
            uniform=uniform_numbers(seeds, options.num_captions, options.max_words),
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            repeatable=options.repeatable,
            prefix=prefix,
            watching=watching,
        )
    return beam_search(
        decoder,
        memory,
        beams=1 if options.strategy == Strategy.GREEDY else options.beam_size,
        groups=options.num_captions if options.strategy == Strategy.DIVERSE else 1,
        diversity=options.diversity,
        max_words=options.max_words,
        repeatable=options.repeatable,
        prefix=prefix,
        watching=watching,
    )
