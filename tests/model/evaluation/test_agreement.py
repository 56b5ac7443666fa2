"""Agreement of scores with people's judgement."""

from pathlib import Path

import numpy as np
import pytest

from model.evaluation.agreement import CROWD, EXPERT, Judgement, kendall, load_judgements, own_or_strangers, ways
from model.training.dataset import DatasetUnusable, Sample


def judged(*grades: tuple[float, ...]) -> list[Judgement]:
    return [Judgement("1.jpg", "a dog", grade) for grade in grades]


def test_tau_equals_a_hand_computed_value() -> None:
    # Pairs: (1,2) right, (1,3) right, (2,3) wrong: (2 - 1) / 3. Without ties, b and c are equal.
    scores, people = np.array([1.0, 3.0, 2.0]), judged((1,), (2,), (3,))
    assert kendall(scores, people, "b") == pytest.approx(1 / 3)
    assert kendall(scores, people, "c") == pytest.approx(1 / 3)


def test_tau_with_ties_equals_a_hand_computed_value() -> None:
    # Scores 1, 2, 3 for grades 1, 2, 2: two pairs right, none wrong, one tied by people.
    scores, people = np.array([1.0, 2.0, 3.0]), judged((1,), (2,), (2,))
    assert kendall(scores, people, "b") == pytest.approx(2 / (3 * 2) ** 0.5)
    assert kendall(scores, people, "c") == pytest.approx(2 * 2 / (3**2 * (2 - 1) / 2))


def test_every_expert_grade_counts_separately() -> None:
    together = kendall(np.array([1.0, 2.0]), judged((1, 1, 2), (3, 4, 4)), "c")
    apart = kendall(np.array([1.0, 1, 1, 2, 2, 2]), judged((1,), (1,), (2,), (3,), (4,), (4,)), "c")
    assert together == pytest.approx(apart)


def test_the_baseline_is_subtracted_before_division_by_length() -> None:
    numbers = (np.array([-12.0]), np.array([4]), np.array([-8.0]), np.array([-6.0]))
    found = {name: float(scores[0]) for name, scores in ways(*numbers).items()}
    assert found["logprob"] == -12
    assert found["logprob / n"] == -3
    assert found["minus grey"] == -4
    assert found["minus others / sqrt n"] == -3
    assert found["minus half others / n"] == -2.25


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "captions.json").write_text(
        '{"1.jpg": {"split": "val", "captions": ["A dog .", "Rex ."]},'
        ' "2.jpg": {"split": "test", "captions": ["A cat ."]}}'
    )
    (tmp_path / EXPERT).write_text("1.jpg\t1.jpg#0\t4\t4\t4\n1.jpg\t2.jpg#0\t1\t1\t2\n2.jpg\t1.jpg#1\t1\t2\t3\n")
    (tmp_path / CROWD).write_text("1.jpg\t1.jpg#1\t1\t3\t0\n2.jpg\t1.jpg#0\t0.333\t1\t2\n")
    return tmp_path


def test_judgements_are_grouped_by_the_split_of_the_image(folder: Path) -> None:
    assert load_judgements(folder, EXPERT) == {
        "val": [Judgement("1.jpg", "A cat .", (1, 1, 2))],  # without the image's own caption
        "test": [Judgement("2.jpg", "Rex .", (1, 2, 3))],
    }
    assert load_judgements(folder, CROWD) == {
        "val": [Judgement("1.jpg", "Rex .", (1,))],
        "test": [Judgement("2.jpg", "A dog .", (0.333,))],
    }


@pytest.mark.parametrize(
    "line", ["3.jpg\t1.jpg#0\t1\t1\t1", "1.jpg\t2.jpg#7\t1\t1\t1", "1.jpg", "1.jpg\t2.jpg#0\tone\t1\t1"]
)
def test_judgements_of_unknown_images_or_captions_are_refused_in_one_line(folder: Path, line: str) -> None:
    (folder / EXPERT).write_text(line + "\n")
    with pytest.raises(DatasetUnusable, match=EXPERT) as caught:
        load_judgements(folder, EXPERT)
    assert "\n" not in str(caught.value)
    (folder / EXPERT).unlink()
    with pytest.raises(DatasetUnusable, match=EXPERT):
        load_judgements(folder, EXPERT)


def test_own_captions_fit_and_captions_of_others_do_not() -> None:
    samples = [Sample(f"{number}.jpg", b"", [f"own {number}"]) for number in range(6)]
    found = own_or_strangers(samples, strangers=2)
    assert len(found) == 6 * 3
    for judgement in found:
        assert (judgement.caption == f"own {judgement.image[0]}") == (judgement.grades == (1.0,))
    assert own_or_strangers(samples, strangers=2) == found
