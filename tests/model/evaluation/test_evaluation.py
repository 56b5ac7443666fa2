"""Scores of captions."""

from pathlib import Path

import pytest

from model.decoding.options import DecodingOptions
from model.evaluation.evaluate import Evaluation
from model.evaluation.scores import JavaMissing, coco_scores, require_java
from model.runtime.captioner import Captioner
from model.training.cider import quick_cider

REFERENCES = {
    "1.jpg": ["A dog runs on the green grass .", "A brown dog is running outside .", "The dog plays on a lawn ."],
    "2.jpg": ["Two children sit on a red bench .", "Two kids are on a bench .", "A girl and a boy sit outside ."],
    "3.jpg": ["A man rides a bicycle down a hill .", "A cyclist goes downhill fast .", "The man is on a bike ."],
}
NAMES = ["bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l", "cider", "cider_low", "cider_high"]
PERFECT = {name: references[0] for name, references in REFERENCES.items()}
NEARLY = {
    "1.jpg": "A dog runs on the beach .",
    "2.jpg": "Two children sit on a red sofa .",
    "3.jpg": "A man rides a horse .",
}
WRONG = {"1.jpg": PERFECT["2.jpg"], "2.jpg": PERFECT["3.jpg"], "3.jpg": PERFECT["1.jpg"]}


def test_quick_cider_prefers_better_captions() -> None:
    perfect, nearly, wrong = (quick_cider(captions, REFERENCES) for captions in (PERFECT, NEARLY, WRONG))
    assert perfect > nearly > wrong >= 0


def test_quick_cider_ignores_case_and_punctuation() -> None:
    shouted = {name: caption.upper().replace(" .", "!") for name, caption in PERFECT.items()}
    assert quick_cider(shouted, REFERENCES) == pytest.approx(quick_cider(PERFECT, REFERENCES))


def test_references_of_uncaptioned_images_do_not_matter() -> None:
    more = REFERENCES | {"4.jpg": ["A cat ."]}
    assert quick_cider(NEARLY, more) == pytest.approx(quick_cider(NEARLY, REFERENCES))


def test_missing_java_is_reported_in_one_line_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(JavaMissing, match="no `java` found") as caught:
        require_java()
    assert "\n" not in str(caught.value)
    with pytest.raises(JavaMissing):
        coco_scores({}, {})
    assert quick_cider(PERFECT, REFERENCES) > 0


@pytest.mark.slow
@pytest.mark.usefixtures("java")
def test_perfect_captions_get_the_best_scores() -> None:
    perfect, nearly = (coco_scores(captions, REFERENCES) for captions in (PERFECT, NEARLY))
    assert list(perfect) == NAMES
    for name in ("bleu1", "bleu2", "bleu3", "bleu4", "meteor", "rouge_l"):
        assert perfect[name] == pytest.approx(1, abs=1e-3), name
    for name, score in nearly.items():
        assert perfect[name] > score > 0, name
    assert nearly["cider_low"] < nearly["cider"] < nearly["cider_high"]
    assert nearly["bleu1"] > nearly["bleu2"] > nearly["bleu3"] > nearly["bleu4"]


@pytest.mark.slow
@pytest.mark.usefixtures("java")
def test_a_captioner_scores_high_on_a_split_it_has_learnt(tiny_captioner: Path, tiny_data: Path) -> None:
    scores = Evaluation(Captioner.load(tiny_captioner), tiny_data, DecodingOptions(beam_size=2)).quality("test")
    assert list(scores)[: 5 + len(NAMES)] == ["split", "images", "references", "strategy", "beam", *NAMES]
    assert (scores["split"], scores["images"], scores["references"], scores["beam"]) == ("test", 12, 3, 2)
    for name in NAMES[:6]:
        assert 0.3 < scores[name] <= 1, name
    assert 0.3 < scores["cider_low"] <= scores["cider"] <= scores["cider_high"] <= 10
    assert scores["bad_endings"] == 0
    assert scores["distinct_captions"] > 0.5
