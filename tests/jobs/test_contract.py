"""The bytes of the contract in Redis. Versions that run side by side must read each other's records."""

import json
from pathlib import Path

from jobs import keys
from jobs.job import Caption, Job, ModelInfo, Result, Status, Word, WordEvent, WordMap
from jobs.problem import Problem

GOLDEN = Path(__file__).parent / "golden"


def result() -> Result:
    word = Word(text="dog", logprob=-0.25, heatmap=WordMap(rows=1, cols=2, weights=[0.75, 0.25]))
    return Result(
        model=ModelInfo(name="wordlight", version="0123456789ab"),
        captions=[Caption(text="dog", logprob=-0.5, words=[word])],
    )


def test_result_bytes() -> None:
    assert result().model_dump_json() + "\n" == (GOLDEN / "result.json").read_text()


def test_word_event_bytes() -> None:
    (word,) = result().captions[0].words
    event = WordEvent(attempt=1, caption=0, position=2, word=word.model_copy(update={"visual_grounding": 0.5}))
    assert event.model_dump_json() + "\n" == (GOLDEN / "word.json").read_text()


def test_problem_bytes() -> None:
    problem = Problem.of("poison", "Given up", 500, "5 attempts")
    assert problem.model_dump_json() + "\n" == (GOLDEN / "problem.json").read_text()


def test_a_record_of_version_0_1_0_can_be_read() -> None:
    fields = json.loads((GOLDEN / "record-0.1.0.json").read_text())
    job = Job.from_record("abc", {key.encode(): value.encode() for key, value in fields.items()}, 3600)
    assert json.loads(job.model_dump_json()) == json.loads((GOLDEN / "job.json").read_text())


def test_terminal_states() -> None:
    assert {status.value for status in Status if status.terminal} == {"succeeded", "failed", "canceled", "expired"}


def test_all_keys_share_a_hash_tag() -> None:
    names = [keys.STREAM, keys.WORKERS, keys.DEAD, keys.record("a"), keys.image("a"), keys.events("a")]
    assert {name[: name.index("}") + 1] for name in names} == {"{wordlight}"}
