"""Captions by any strategy. In: a decoder, what it remembers of the images, and options; out: captions.

Every strategy is a way to choose what `Decoder.step` is told next. It must not know of pixels.
"""

from collections.abc import Sequence

from model.decoding.beam_search import beam_search
from model.decoding.caption import Caption
from model.decoding.consensus import by_consensus
from model.decoding.constraints import SpellingRules
from model.decoding.detokenize import Speller
from model.decoding.hypothesis import Hypothesis
from model.decoding.options import DecodingOptions, Strategy
from model.decoding.sampling import sample, uniform_numbers
from model.decoding.streaming import Watch, Watching
from model.network.decoder import Stepping
from model.network.encoded_images import Memory
from model.text.characters import Characters
from model.text.vocabulary import Vocabulary, split_words


def write(
    decoder: Stepping,
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
    speller = Speller(vocabulary, memory, split_words(options.prefix))
    watching = None
    if watch is not None:
        # A search is asked what is certain.
        told = options.num_captions if options.strategy in (Strategy.GREEDY, Strategy.SAMPLE) else 0
        watching = Watching(watch, speller, memory.images, told, memory.annotations.device)
    found = _decode(decoder, vocabulary, memory, options, seeds, watching)
    abandoned = watching.abandoned if watching is not None else ()
    return [
        []
        if image in abandoned
        else [speller.caption(image, hypothesis) for hypothesis in hypotheses[: options.num_captions]]
        for image, hypotheses in enumerate(found)
    ]


def _decode(
    decoder: Stepping,
    vocabulary: Vocabulary,
    memory: Memory,
    options: DecodingOptions,
    seeds: Sequence[int | None],
    watching: Watching | None,
) -> list[list[Hypothesis]]:
    prefix, most = vocabulary.encode(options.prefix), vocabulary.most_tokens(options.max_words)
    # Words must not come again; characters must, and have rules of their own.
    spelling = SpellingRules(options.max_words, len(prefix)) if isinstance(vocabulary, Characters) else None
    repeatable = None if spelling else options.repeatable
    if options.strategy == Strategy.SAMPLE:
        return sample(
            decoder,
            memory,
            uniform=uniform_numbers(seeds, options.num_captions, most),
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            repeatable=repeatable,
            prefix=prefix,
            spelling=spelling,
            watching=watching,
        )
    found = beam_search(
        decoder,
        memory,
        beams=1 if options.strategy == Strategy.GREEDY else options.beam_size,
        groups=options.num_captions if options.strategy == Strategy.DIVERSE else 1,
        diversity=options.diversity,
        max_words=most,
        repeatable=repeatable,
        prefix=prefix,
        spelling=spelling,
        watching=watching,
    )
    if options.strategy != Strategy.CONSENSUS:
        return found
    # What is added to a word's score whatever the picture, as logarithms: how often it is said.
    rarity = -decoder.output_bias.detach().float().log_softmax(dim=0).cpu().double().numpy()
    return [by_consensus(hypotheses, rarity) for hypotheses in found]
