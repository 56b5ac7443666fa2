"""Things that are named and not there. In: photographs with boxes and captions of them; out: rates.

CHAIR (Rohrbach et al., Object Hallucination in Image Captioning, 2018): of COCO's 80 classes, those are there that have
a box or that a person's caption names. The words that name a class are ours (coco_words.toml), so the rates compare
between our captioners better than with published ones. It must not know of captioners.
"""

from collections.abc import Iterable

from model.evaluation.coco_dev import Photograph
from model.evaluation.coco_mentions import classes_named, mentions
from model.vocabulary import split_words


def hallucinated(photograph: Photograph, caption: str) -> list[bool]:
    """For every class that the caption names, in order, whether it is not there. The photograph must have boxes."""
    if photograph.boxes is None:
        raise ValueError(f"nobody drew boxes in {photograph.name}")
    there = {box.name for box in photograph.boxes} | classes_named(photograph.captions)
    return [mention.name not in there for mention in mentions(split_words(caption))]


def hallucination(captioned: Iterable[tuple[Photograph, str]]) -> dict[str, float]:
    """CHAIR_i (of the things named) and CHAIR_s (of the captions), over the photographs that have boxes."""
    answers = [hallucinated(photograph, caption) for photograph, caption in captioned if photograph.boxes is not None]
    named = sum(map(len, answers))
    return {
        "captions": len(answers),
        "things_named": named,
        "chair_i": sum(map(sum, answers)) / named if named else 0.0,
        "chair_s": sum(map(any, answers)) / len(answers) if answers else 0.0,
    }
