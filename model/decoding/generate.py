"""Captions by any strategy. In: a decoder, what it remembers of the images, and options; out: captions.

Every strategy is a way to choose what `Decoder.step` is told next. It must not know of pixels.
"""

from collections.abc import Sequence

from model.decoding.beam_search import beam_search
from model.decoding.caption import Caption
from model.decoding.consensus import by_consensus
from model.decoding.constraints import CharacterConstraints
from model.decoding.detokenize import Detokenizer, Hypothesis
from model.decoding.options import DecodingOptions, Strategy
from model.decoding.sampling import sample, uniform_numbers
from model.decoding.streaming import DecodingListener, ListenerBridge
from model.network.decoder import StepDecoder
from model.network.encoded_images import EncodedImages
from model.text.characters import Characters
from model.text.vocabulary import Vocabulary, split_words


def generate(
    decoder: StepDecoder,
    vocabulary: Vocabulary,
    encoded: EncodedImages,
    options: DecodingOptions,
    *,
    seeds: Sequence[int | None] | None,
    listener: DecodingListener | None,
) -> list[list[Caption]]:
    """Write captions by the strategy in `options`: see Captioner.generate.

    Raises ValueError unless there is one seed for each image.
    """
    if seeds is None:
        seeds = [None] * encoded.images
    if len(seeds) != encoded.images:
        raise ValueError(f"there must be a seed for each image: {len(seeds)} for {encoded.images}")
    if not encoded.images:
        return []
    detokenizer = Detokenizer(vocabulary, encoded, split_words(options.prefix))
    bridge = None
    if listener is not None:
        # A search is asked what is certain.
        told = options.num_captions if options.strategy in (Strategy.GREEDY, Strategy.SAMPLE) else 0
        bridge = ListenerBridge(listener, detokenizer, encoded.images, told, encoded.annotations.device)
    found = _decode(decoder, vocabulary, encoded, options, seeds, bridge)
    abandoned = bridge.abandoned if bridge is not None else ()
    return [
        []
        if image in abandoned
        else [detokenizer.caption(image, hypothesis) for hypothesis in hypotheses[: options.num_captions]]
        for image, hypotheses in enumerate(found)
    ]


def _decode(
    decoder: StepDecoder,
    vocabulary: Vocabulary,
    encoded: EncodedImages,
    options: DecodingOptions,
    seeds: Sequence[int | None],
    bridge: ListenerBridge | None,
) -> list[list[Hypothesis]]:
    prefix, most = vocabulary.encode(options.prefix), vocabulary.most_tokens(options.max_words)
    # Words must not come again; characters must, and have rules of their own.
    characters = CharacterConstraints(options.max_words, len(prefix)) if isinstance(vocabulary, Characters) else None
    repeatable = None if characters else options.repeatable
    if options.strategy == Strategy.SAMPLE:
        return sample(
            decoder,
            encoded,
            uniform=uniform_numbers(seeds, options.num_captions, most),
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            repeatable=repeatable,
            prefix=prefix,
            characters=characters,
            bridge=bridge,
        )
    found = beam_search(
        decoder,
        encoded,
        beams=1 if options.strategy == Strategy.GREEDY else options.beam_size,
        groups=options.num_captions if options.strategy == Strategy.DIVERSE else 1,
        diversity=options.diversity,
        max_words=most,
        repeatable=repeatable,
        prefix=prefix,
        characters=characters,
        bridge=bridge,
    )
    if options.strategy != Strategy.CONSENSUS:
        return found
    # What is added to a word's score whatever the picture, as logarithms: how often it is said.
    rarity = -decoder.output_bias.detach().float().log_softmax(dim=0).cpu().double().numpy()
    return [by_consensus(hypotheses, rarity) for hypotheses in found]
