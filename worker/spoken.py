"""From what the captioner says to what the contract says, with no more attention than was asked for.

In: words and captions of model/, and a job's options; out: those of jobs/.
"""

from dataclasses import asdict

from jobs.job import Caption, Word
from jobs.options import AttentionForm, CaptionOptions, ScoreOptions
from model import caption as said


def word_for(options: CaptionOptions | ScoreOptions | None, word: said.Word) -> Word:
    """The word as the job shows it."""
    spoken = Word.model_validate(asdict(word))
    if options and options.attention is AttentionForm.NONE:
        return spoken.model_copy(update={"attention": None})
    return spoken


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
