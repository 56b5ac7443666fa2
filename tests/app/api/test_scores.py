"""Scores of given captions."""

import httpx
import pytest
from support.api import problem
from support.captions import finished, post


def test_a_score_equals_that_of_the_generated_caption(client: httpx.Client) -> None:
    for written in finished(client)["captions"]:
        (scored,) = finished(client, "/v1/scores", caption=written["text"])["captions"]
        assert scored["text"] == written["text"]
        assert scored["logprob"] == pytest.approx(written["logprob"], abs=1e-3)
        for one, other in zip(scored["words"], written["words"], strict=True):
            assert one["logprob"] == pytest.approx(other["logprob"], abs=1e-3)
            assert one["heatmap"]["weights"] == pytest.approx(other["heatmap"]["weights"], abs=1e-3)


def test_unknown_words_are_marked_and_have_attention(client: httpx.Client) -> None:
    job = finished(client, "/v1/scores", caption="A zebra over a Green, please!")
    (caption,) = job["captions"]
    assert [(word["text"], word["in_vocabulary"]) for word in caption["words"]] == [
        ("a", True),
        ("zebra", False),
        ("over", True),
        ("a", True),
        ("green", True),
        ("please", False),
    ]
    for word in caption["words"]:
        assert sum(word["heatmap"]["weights"]) == pytest.approx(1, abs=1e-3)
    assert job["options"]["caption"] == "A zebra over a Green, please!"


def test_scores_are_waited_for_by_default(client: httpx.Client, waiting: httpx.Client) -> None:
    assert post(client, "/v1/scores", headers={}, caption="one red").status_code == 200
    answer = post(waiting, "/v1/scores", headers={"Prefer": "respond-async"}, caption="one red")
    assert answer.status_code == 202
    assert waiting.get(answer.headers["location"]).json()["status"] == "queued"


@pytest.mark.parametrize(
    ("field", "fields"),
    [
        ("caption", {}),
        ("caption", {"caption": ""}),
        ("caption", {"caption": "?!"}),
        ("caption", {"caption": "a" * 1001}),
        ("strategy", {"caption": "a dog", "strategy": "beam"}),
        ("attention", {"caption": "a dog", "attention": "some"}),
    ],
)
def test_invalid_scores_are_refused(client: httpx.Client, field: str, fields: dict[str, str]) -> None:
    body = problem(post(client, "/v1/scores", **fields), 422, "invalid-request")
    assert [error["field"] for error in body["errors"]] == [field]
