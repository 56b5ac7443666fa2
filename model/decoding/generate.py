"""Generation of captions by any strategy. A strategy decides which token `StepDecoder.step` gets next."""

from collections.abc import Sequence

from model.decoding.beam_search import beam_search
from model.decoding.caption import Caption
from model.decoding.consensus import rank_by_consensus
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
    """Generate captions by the strategy in `options`: see Captioner.generate.

    Raises ValueError unless there is one seed for each image.
    """
    if seeds is None:
        seeds = [None] * encoded.images
    if len(seeds) != encoded.images:
        raise ValueError(f"expected one seed for each image: {len(seeds)} for {encoded.images}")
    if not encoded.images:
        return []
    detokenizer = Detokenizer(vocabulary, encoded, split_words(options.prefix))
    bridge = None
    if listener is not None:
        # A search reports only what is certain.
        streamed = options.num_captions if options.strategy in (Strategy.GREEDY, Strategy.SAMPLE) else 0
        bridge = ListenerBridge(listener, detokenizer, encoded.images, streamed, encoded.annotations.device)
    hypotheses_of_images = _decode(decoder, vocabulary, encoded, options, seeds, bridge)
    abandoned = bridge.abandoned if bridge is not None else ()
    return [
        []
        if image in abandoned
        else [detokenizer.caption(image, hypothesis) for hypothesis in hypotheses[: options.num_captions]]
        for image, hypotheses in enumerate(hypotheses_of_images)
    ]


def _decode(
    decoder: StepDecoder,
    vocabulary: Vocabulary,
    encoded: EncodedImages,
    options: DecodingOptions,
    seeds: Sequence[int | None],
    bridge: ListenerBridge | None,
) -> list[list[Hypothesis]]:
    """Return the hypotheses of each image, in the order of the strategy."""
    prefix, max_tokens = vocabulary.encode(options.prefix), vocabulary.max_tokens(options.max_words)
    # Characters repeat in every sentence, so they have their own constraints.
    characters = CharacterConstraints(options.max_words, len(prefix)) if isinstance(vocabulary, Characters) else None
    repeatable = None if characters else options.repeatable
    if options.strategy == Strategy.SAMPLE:
        return sample(
            decoder,
            encoded,
            uniform=uniform_numbers(seeds, options.num_captions, max_tokens),
            temperature=options.temperature,
            top_k=options.top_k,
            top_p=options.top_p,
            repeatable=repeatable,
            prefix=prefix,
            characters=characters,
            bridge=bridge,
        )
    hypotheses_of_images = beam_search(
        decoder,
        encoded,
        beam_size=1 if options.strategy == Strategy.GREEDY else options.beam_size,
        groups=options.num_captions if options.strategy == Strategy.DIVERSE else 1,
        diversity=options.diversity,
        max_words=max_tokens,
        repeatable=repeatable,
        prefix=prefix,
        characters=characters,
        bridge=bridge,
    )
    if options.strategy != Strategy.CONSENSUS:
        return hypotheses_of_images
    # The bias of the output layer approximates the log-frequency of each word.
    rarity = -decoder.output_bias.detach().float().log_softmax(dim=0).cpu().double().numpy()
    return [rank_by_consensus(hypotheses, rarity) for hypotheses in hypotheses_of_images]
