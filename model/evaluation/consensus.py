"""Whether a caption is as good as a person's. In: captions and references; out: yes or no for each image.

A caption is taken to be right when its CIDEr-D with the references (the mean over leaving out each of them in turn)
is no lower than that of the middle one of the people who wrote them, each scored against the others in the same way. By
this measure three of five people are right. It asks for agreement, not for truth, which no reference can vouch for: a
true caption about something that nobody mentioned counts as wrong. It must not know of models.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from model.evaluation.scores import quick_ciders

# As many references of each image; another number would be another measure.
_REFERENCES = 5

Scores = npt.NDArray[np.float64]


def as_good_as_people(captions: Mapping[str, str], references: Mapping[str, Sequence[str]]) -> npt.NDArray[np.bool_]:
    """For each image, in the order of `captions`. Raises ValueError when an image has fewer than two references."""
    people = min(_REFERENCES, *(len(references[name]) for name in captions))
    if people < 2:
        raise ValueError("there must be two references or more for each image")
    ours, theirs = [], []
    for left_out in range(people):
        others = {name: _without(references[name][:people], left_out) for name in captions}
        ours.append(quick_ciders(captions, others))
        theirs.append(quick_ciders({name: references[name][left_out] for name in captions}, others))
    right: npt.NDArray[np.bool_] = np.mean(ours, axis=0) >= np.median(theirs, axis=0)
    return right


def _without(references: Sequence[str], place: int) -> list[str]:
    return [*references[:place], *references[place + 1 :]]
