"""Grounding of heatmaps, and hallucination."""

import numpy as np
import pytest

from model.decoding.caption import Caption, Word, WordMap
from model.evaluation.coco_dev import Box, Photograph
from model.evaluation.coco_mentions import hallucinated, hallucination
from model.evaluation.grounding import coverage, grounding, looked

DOG = Box(0.0, 0.0, 0.5, 0.5, "dog")


def photograph(boxes: list[Box] | None, *captions: str) -> Photograph:
    return Photograph("1.jpg", b"", list(captions), boxes=boxes)


def caption(text: str, weights: list[float], side: int = 2) -> Caption:
    """Make a caption whose words all have the heatmap `weights`."""
    even, heatmap = WordMap(side, side, [1 / side**2] * side**2), WordMap(side, side, weights)
    return Caption(text, -1.0, [Word(word, -0.1, attention=even, heatmap=heatmap) for word in text.split()])


def test_coverage_is_the_exact_share_of_each_cell() -> None:
    assert coverage([DOG], 2, 2).tolist() == [[1, 0], [0, 0]]
    quarter = coverage([Box(0.25, 0.25, 0.75, 0.75, "dog")], 2, 2)
    assert quarter == pytest.approx(np.full((2, 2), 0.25))


def test_coverage_counts_overlaps_once() -> None:
    boxes = [Box(0.0, 0.0, 0.6, 1.0, "dog"), Box(0.4, 0.0, 1.0, 0.5, "dog")]
    assert coverage(boxes, 3, 5).mean() == pytest.approx(0.6 + 0.4 * 0.5)


def test_boxes_can_exceed_the_picture_by_rounding() -> None:
    assert coverage([Box(-0.001, 0.0, 1.002, 1.0, "dog")], 4, 4) == pytest.approx(np.ones((4, 4)))


def test_grounding_of_one_word_equals_hand_computed_values() -> None:
    # The first of four cells is in the box, with 0.4 of the mass. The last has the largest weight.
    look = looked(WordMap(2, 2, [0.4, 0.1, 0.0, 0.5]), [DOG])
    assert (look.pointing, look.mass, look.area) == (0, pytest.approx(0.4), pytest.approx(0.25))
    assert (look.uniform_pointing, look.centre_pointing) == (0.25, 1)
    assert looked(WordMap(2, 2, [0.5, 0.1, 0.0, 0.4]), [DOG]).pointing == 1


def test_rows_go_down_and_columns_go_right() -> None:
    wide = [Box(0.5, 0.0, 1.0, 0.5, "dog")]
    look = looked(WordMap(2, 4, [0, 0, 0, 1, 0, 0, 0, 0]), wide)
    assert (look.pointing, look.mass, look.area) == (1, 1, 0.25)
    assert looked(WordMap(2, 4, [0, 0, 0, 0, 1, 0, 0, 0]), wide).mass == 0


def test_only_words_that_name_a_boxed_class_count() -> None:
    photo = photograph([DOG, Box(0, 0, 1, 1, "person")])
    found = grounding(
        [(photo, caption("a dog chases a cat", [1, 0, 0, 0])), (photograph(None), caption("a dog", [1] * 4))]
    )
    assert found["words"] == 1
    assert (found["pointing"], found["mass"], found["area"], found["mass_over_area"]) == (1, 1, 0.25, 4)
    assert grounding([(photo, caption("a cat", [1, 0, 0, 0]))]) == {"words": 0}


def test_a_map_inside_the_box_beats_a_uniform_map() -> None:
    rng = np.random.default_rng(0)
    looks, uniform = [], []
    for _ in range(20):
        x, y = rng.uniform(0, 0.6, 2)
        photo = photograph([Box(x, y, x + 0.4, y + 0.4, "dog")])
        cells = coverage(photo.boxes or [], 9, 9).ravel()
        looks.append((photo, caption("a dog", list(cells / cells.sum()), 9)))
        uniform.append((photo, caption("a dog", [1 / 81] * 81, 9)))
    there, everywhere = grounding(looks), grounding(uniform)
    assert there["pointing"] == 1
    assert there["pointing"] > there["uniform_pointing"]
    assert there["mass_over_area"] > 4
    assert everywhere["mass_over_area"] == pytest.approx(1)


def test_largest_counts_the_largest_box_only() -> None:
    photo = photograph([Box(0.5, 0.5, 0.6, 0.6, "dog"), DOG])
    looks = [(photo, caption("a dog", [0, 0, 0, 1]))]  # at the cell of the small box
    assert grounding(looks)["mass"] == pytest.approx(0.04)
    assert grounding(looks, largest=True)["mass"] == 0


def test_boxed_and_mentioned_things_are_no_hallucinations() -> None:
    photo = photograph([DOG], "A puppy on a couch .", "It sleeps .")
    assert hallucinated(photo, "a dog with a man and a cat on a sofa") == [False, True, True, False]
    with pytest.raises(ValueError, match="boxes"):
        hallucinated(photograph(None, "A dog ."), "a dog")


def test_chair_equals_hand_computed_values() -> None:
    photo = photograph([DOG], "A dog .")
    said = ["a dog and a man and another man", "a dog", "a sunny day"]
    found = hallucination([*((photo, text) for text in said), (photograph(None, "A dog ."), "a cat")])
    # Four things are named, the man twice. One of three captions names him.
    assert found == {"captions": 3, "things_named": 4, "chair_i": 0.5, "chair_s": pytest.approx(1 / 3)}
