"""Convert the captioner's words and captions to those of the contract, with as much attention as the job asks for."""

from jobs.job import Attention, Caption, Word
from jobs.options import AttentionForm, CaptionOptions, ScoreOptions
from model import caption as said


def word_for(options: CaptionOptions | ScoreOptions | None, word: said.Word) -> Word:
    """The word as the job shows it."""
    attention = None
    if not (options and options.attention is AttentionForm.NONE):
        # Field by field: dataclasses.asdict would copy each of the hundreds of weights by itself.
        grid = word.attention
        attention = Attention(rows=grid.rows, cols=grid.cols, weights=grid.weights)
    return Word(text=word.text, logprob=word.logprob, known=word.known, looked=word.looked, attention=attention)


def caption_for(options: CaptionOptions | ScoreOptions | None, caption: said.Caption) -> Caption:
    """The caption as the job shows it."""
    words = [word_for(options, word) for word in caption.words]
    return Caption(
        text=caption.text,
        logprob=caption.logprob,
        confidence=caption.confidence,
        sure=caption.sure,
        words=words,
    )
