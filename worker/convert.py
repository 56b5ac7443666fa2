"""Convert the captioner's words and captions to those of the contract, with the maps that a job asked for."""

from jobs.job import Caption, Word, WordMap
from jobs.options import AttentionMaps, CaptionOptions, ScoreOptions
from model.decoding import caption as captions


def word_for(options: CaptionOptions | ScoreOptions | None, word: captions.Word) -> Word:
    """Convert a word. Without options it keeps both maps."""
    maps = options.attention if options else AttentionMaps.BOTH
    return Word(
        text=word.text,
        logprob=word.logprob,
        in_vocabulary=word.in_vocabulary,
        visual_grounding=word.visual_grounding,
        attention=_map(word.attention) if maps is AttentionMaps.BOTH else None,
        heatmap=None if maps is AttentionMaps.NONE else _map(word.heatmap),
    )


def caption_for(options: CaptionOptions | ScoreOptions | None, caption: captions.Caption) -> Caption:
    """Convert a caption. Without options its words keep both maps."""
    words = [word_for(options, word) for word in caption.words]
    return Caption(
        text=caption.text,
        logprob=caption.logprob,
        confidence=caption.confidence,
        confident=caption.confident,
        words=words,
    )


def _map(word_map: captions.WordMap) -> WordMap:
    # Field by field: dataclasses.asdict would copy each of the hundreds of weights by itself.
    return WordMap(rows=word_map.rows, cols=word_map.cols, weights=word_map.weights)
