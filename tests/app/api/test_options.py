"""Caption options: strategies, seeds, prefixes, lengths, attention, and invalid values."""

from typing import Any

import httpx
import pytest
from support.api import problem
from support.captions import PICTURE, finished, post, texts


@pytest.mark.parametrize(
    ("options", "count"),
    [
        ({}, 1),
        ({"strategy": "beam", "num_captions": 5}, 5),
        ({"strategy": "beam", "beam_size": 7, "num_captions": 1}, 1),
        ({"strategy": "greedy"}, 1),
        ({"strategy": "diverse", "num_captions": 2, "beam_size": 4}, 2),
        ({"strategy": "consensus", "beam_size": 20}, 1),
        ({"strategy": "diverse"}, 1),
        ({"strategy": "sample", "num_captions": 4, "temperature": 1.5, "top_k": 20, "top_p": 0.9}, 4),
    ],
)
def test_each_strategy_writes_as_many_captions_as_asked(
    client: httpx.Client, options: dict[str, Any], count: int
) -> None:
    job = finished(client, **options)
    assert len(job["captions"]) == count
    assert {name: job["options"][name] for name in options} == options
    if options.get("strategy") in (None, "beam"):
        assert len(set(texts(job))) == count


def test_sampling_is_reproducible_with_a_seed(client: httpx.Client) -> None:
    asked = {"strategy": "sample", "temperature": 3, "num_captions": 5}
    drawn = finished(client, **asked)
    client.delete(drawn["links"]["self"])  # so that the cache cannot answer
    again = finished(client, **asked, seed=drawn["options"]["seed"])
    assert not again["cached"]
    assert again["captions"] == drawn["captions"]
    other = finished(client, **asked, seed=(drawn["options"]["seed"] + 1) % 2**32)
    assert texts(other) != texts(drawn)
    assert finished(client, **asked)["options"]["seed"] != drawn["options"]["seed"]


@pytest.mark.parametrize("strategy", ["beam", "greedy", "sample", "diverse", "consensus"])
def test_every_caption_begins_with_the_prefix(client: httpx.Client, strategy: str) -> None:
    job = finished(client, strategy=strategy, prefix="Zebras over a", max_words=2)
    for caption in job["captions"]:
        assert caption["text"].lower().startswith("zebras over a")
        assert 3 <= len(caption["words"]) <= 5
        assert [word["in_vocabulary"] for word in caption["words"]][:3] == [False, True, True]


def test_max_words_limits_captions(client: httpx.Client) -> None:
    assert {len(caption["words"]) for caption in finished(client, max_words=1)["captions"]} == {1}


def test_attention_can_be_left_out(client: httpx.Client) -> None:
    job = finished(client, attention="none")
    assert maps(job) == {(False, False)}
    assert job["links"]["sheet"] is None
    problem(client.get(f"{job['links']['self']}/captions/0/words/0.png"), 404, "no-heatmap")
    for asked in ({}, {"attention": "heatmap"}, {"attention": "both"}):
        drawn = finished(client, **asked)
        assert texts(drawn) == texts(job)
        assert maps(drawn) == {(asked.get("attention") == "both", True)}
        assert client.get(drawn["links"]["sheet"]).headers["content-type"] == "image/png"


def maps(job: Any) -> set[tuple[bool, bool]]:
    """Whether words have attention and a heatmap."""
    words = [word for caption in job["captions"] for word in caption["words"]]
    return {(word["attention"] is not None, word["heatmap"] is not None) for word in words}


@pytest.mark.parametrize(
    ("field", "options"),
    [
        ("strategy", {"strategy": "best"}),
        ("num_captions", {"num_captions": 0}),
        ("num_captions", {"num_captions": 21}),
        ("num_captions", {"num_captions": "many"}),
        ("num_captions", {"strategy": "greedy", "num_captions": 2}),
        ("beam_size", {"beam_size": 21}),
        ("beam_size", {"beam_size": 2, "num_captions": 3}),
        ("beam_size", {"strategy": "greedy", "beam_size": 2}),
        ("beam_size", {"strategy": "diverse", "num_captions": 2, "beam_size": 3}),
        ("beam_size", {"strategy": "consensus", "num_captions": 4, "beam_size": 3}),
        ("temperature", {"strategy": "sample", "temperature": 0}),
        ("temperature", {"strategy": "sample", "temperature": "nan"}),
        ("temperature", {"strategy": "sample", "temperature": "inf"}),
        ("temperature", {"temperature": 2}),
        ("top_k", {"strategy": "sample", "top_k": 0}),
        ("top_k", {"strategy": "beam", "top_k": 5}),
        ("top_p", {"strategy": "sample", "top_p": 0}),
        ("top_p", {"strategy": "sample", "top_p": 1.1}),
        ("top_p", {"strategy": "greedy", "top_p": 0.5}),
        ("seed", {"strategy": "sample", "seed": -1}),
        ("seed", {"strategy": "sample", "seed": 2**32}),
        ("seed", {"strategy": "beam", "seed": 1}),
        ("max_words", {"max_words": 0}),
        ("max_words", {"max_words": 101}),
        ("max_words", {"max_words": 1.5}),
        ("prefix", {"prefix": "..."}),
        ("prefix", {"prefix": "a" * 301}),
        ("attention", {"attention": "all"}),
        ("expires_in", {"expires_in": 0}),
        ("expires_in", {"expires_in": 10**9}),
        ("kind", {"kind": "caption"}),
        ("colour", {"colour": "red"}),
        ("image_url", {"image_url": "https://example.org/a.jpg"}),
        ("webhook_url", {"webhook_url": "https://example.org/hook"}),
    ],
)
def test_invalid_values_are_refused_and_the_field_named(
    client: httpx.Client, field: str, options: dict[str, Any]
) -> None:
    in_a_form = problem(post(client, **options), 422, "invalid-request")
    in_the_query = problem(
        client.post("/v1/captions", params=options, content=PICTURE, headers={"Content-Type": "image/png"}),
        422,
        "invalid-request",
    )
    for body in (in_a_form, in_the_query):
        assert [error["field"] for error in body["errors"]] == [field]
        assert body["errors"][0]["message"] in body["detail"]


def test_all_errors_are_reported_together(client: httpx.Client) -> None:
    body = problem(post(client, max_words=0, top_k=5, colour="red"), 422, "invalid-request")
    assert {error["field"] for error in body["errors"]} == {"max_words", "top_k", "colour"}
