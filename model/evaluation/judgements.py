"""What people think of given captions. In: a data folder; out: judgements, each of one caption of one image.

Flickr8k's expert annotations (three people's grades from 1 to 4) and CrowdFlower's (the share of people who say that
the caption fits), as Hodosh, Young and Hockenmaier (2013) published them. It must not know of captioners.
"""

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from model.training.dataset import DatasetUnusable, Sample

EXPERT, CROWD = "expert-annotations.txt", "crowdflower-annotations.txt"


@dataclass(frozen=True, slots=True)
class Judgement:
    """One caption of one image, which may be another image's, and what people gave it: a grade a person, or a share."""

    image: str
    caption: str
    grades: tuple[float, ...]


def load_judgements(data: Path, file: str) -> dict[str, list[Judgement]]:
    """The judgements of `file` by the split of the image that was judged. Raises DatasetUnusable.

    The captions that experts were shown of the very image are left out, as in the literature (5,664 of 5,822 stay).
    """
    folder = data / "flickr8k" if (data / "flickr8k").is_dir() else data
    try:
        index = json.loads((folder / "captions.json").read_text(encoding="utf-8"))
        found: dict[str, list[Judgement]] = {}
        for line in (folder / file).read_text(encoding="utf-8").splitlines():
            image, caption, *numbers = line.split("\t")
            source, _, place = caption.rpartition("#")
            if file == EXPERT and source == image:
                continue
            # An expert's row has a grade a person; the crowd's the share of yes, and the votes that it comes from.
            grades = tuple(map(float, numbers if file == EXPERT else numbers[:1]))
            text = index[source]["captions"][int(place)]
            found.setdefault(index[image]["split"], []).append(Judgement(image, text, grades))
    except FileNotFoundError as error:
        raise DatasetUnusable(f"no {error.filename}: --data must name the folder of Flickr8k") from error
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise DatasetUnusable(f"{folder / file} does not fit its captions.json: {error!r}") from error
    return found


def own_or_strangers(samples: Sequence[Sample], strangers: int = 4, seed: int = 0) -> list[Judgement]:
    """Judgements that need no judge: one of an image's own captions fits (1), and others', drawn at random, do not (0).

    With these, how to make a score of a log-probability can be chosen without a look at what people judged.
    """
    rng = random.Random(seed)
    judgements = []
    for place, sample in enumerate(samples):
        others = rng.sample([other for other in samples if other is not sample], min(strangers, len(samples) - 1))
        judgements.append(Judgement(sample.name, sample.captions[place % len(sample.captions)], (1.0,)))
        judgements += [Judgement(sample.name, rng.choice(other.captions), (0.0,)) for other in others]
    return judgements
