"""Rules, alerts, dashboard, scaling and runbook: all queried metrics exist, and the runbook explains each alert."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import promql_parser
import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families
from support.api import start_api
from support.programs import installed

from jobs.metrics import Stage

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "monitoring"
RULES: list[dict[str, Any]] = [
    rule for group in yaml.safe_load((FOLDER / "rules.yml").read_text())["groups"] for rule in group["rules"]
]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"] for rule in RULES if "record" in rule}
DASHBOARD: dict[str, Any] = json.loads((FOLDER / "dashboard.json").read_text())
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
SCALING: dict[str, Any] = yaml.safe_load((ROOT / "deploy/kubernetes/base/scaling.yaml").read_text())

# Series that Prometheus creates itself.
OF_PROMETHEUS = {"up": {"job", "instance"}}
# Labels that Prometheus adds to every series.
OF_TARGETS = {"job", "instance"}


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def expressions() -> Iterator[tuple[str, str]]:
    """Yield all PromQL expressions with their places."""
    for rule in RULES:
        yield rule.get("alert", rule.get("record", "")), rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            expression = target["expr"].replace("$__rate_interval", "5m").replace("$job", "wordlight")
            yield f"panel {panel['title']}", expression
    for trigger in SCALING["spec"]["triggers"]:
        yield f"trigger {trigger['name']}", trigger["metadata"]["query"]


def selectors(expression: str) -> list[promql_parser.VectorSelector]:
    """Return the series that an expression selects. Raises ValueError if it is not PromQL."""
    found: list[promql_parser.VectorSelector] = []

    def visit(node: promql_parser.Expr) -> None:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        elif isinstance(node, promql_parser.MatrixSelector):
            found.append(node.vector_selector)

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


@pytest.fixture
def exported(redis_url: str) -> dict[str, set[str]]:
    """The names of all series of a web process, with the labels of their samples."""
    command, address = start_api(REDIS_URL=redis_url)
    httpx.get(f"{address}/v1/captions/nothing")  # creates the series of requests and problems
    answer = httpx.get(f"{address}/metrics").text
    command.end()
    found: dict[str, set[str]] = {}
    for family in text_string_to_metric_families(answer):
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    return found


def test_every_queried_metric_exists_and_every_metric_is_queried(exported: dict[str, set[str]]) -> None:
    known = exported | OF_PROMETHEUS
    queried = set()
    for where, expression in expressions():
        found = selectors(expression)
        assert found, where
        for selector in found:
            if selector.name in RECORDED:
                continue
            assert selector.name in known, f"{where}: there is no {selector.name}"
            labels = {matcher.name for matcher in selector.matchers.matchers}
            assert labels <= known[selector.name] | OF_TARGETS, f"{where}: {selector.name} has no such label"
            queried.add(selector.name)
    # Every metric is used by a rule, the dashboard or the scaling.
    ours = {re.sub("_(bucket|sum|count)$", "", name) for name in exported if name.startswith("wordlight_")}
    assert ours - {re.sub("_(bucket|sum|count)$", "", name) for name in queried} == set()


def test_queried_label_values_exist() -> None:
    sources = "".join(path.read_text() for path in (ROOT / "app").rglob("*.py"))
    kinds = set(re.findall(r'"([a-z]+(?:-[a-z]+)+|busy)"', sources))
    for where, expression in expressions():
        for selector in selectors(expression):
            for matcher in selector.matchers.matchers:
                if matcher.name == "problem":
                    assert matcher.value in kinds, where
                if matcher.name == "stage":
                    assert matcher.value in set(Stage), where


def test_recording_rules_follow_the_naming_convention() -> None:
    assert len(RECORDED) == len(RULES) - len(ALERTS)
    for name in RECORDED:
        assert re.fullmatch(r"job(_[a-z]+)?:wordlight_[a-z_]+:[a-z0-9_]+", name)
    for _, expression in expressions():
        assert all(":" not in name or name in RECORDED for name in [s.name or "" for s in selectors(expression)])


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_the_runbook_explains_every_alert(alert: dict[str, Any]) -> None:
    name = alert["alert"]
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    assert alert["annotations"]["summary"]
    assert alert["annotations"]["runbook"] == f"docs/runbook.md#{name.lower()}"
    section = re.search(rf"^### {name}\n(.*?)(?=^##|\Z)", RUNBOOK, flags=re.MULTILINE | re.DOTALL)
    assert section, "the runbook has no section"
    for part in ("**Means**", "**See**", "**Do**"):
        assert part in section[1]


def test_the_runbook_lists_the_existing_alerts_in_order() -> None:
    assert re.findall(r"^### (Wordlight\w+)$", RUNBOOK, flags=re.MULTILINE) == [alert["alert"] for alert in ALERTS]


def test_every_alert_has_a_test() -> None:
    tests = yaml.safe_load((FOLDER / "rules.test.yml").read_text())["tests"]
    assert [test["name"] for test in tests[1:]] == [alert["alert"] for alert in ALERTS]
    for test in tests[1:]:
        quiet, loud = test["promql_expr_test"]
        assert quiet["exp_samples"] == []
        assert f'alertname="{test["name"]}"' in loud["exp_samples"][0]["labels"]


@pytest.fixture
def promtool() -> str:
    """The path of promtool. Without it, the tests are skipped, or fail in CI."""
    return installed(
        "promtool",
        "NO PROMTOOL: alerts were not tested (Debian: apt-get install prometheus)",
        "WORDLIGHT_REQUIRE_PROMTOOL",
    )


def run(folder: Path, *command: str) -> str:
    """Run a command that must succeed in a folder; return its output."""
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A copy of the files, with the key file that users add."""
    copy = shutil.copytree(FOLDER, tmp_path / "monitoring")
    (copy / "metrics.key").touch()
    return Path(copy)


def test_promtool_accepts_configuration_and_rules(promtool: str, folder: Path) -> None:
    assert f"{len(RULES)} rules found" in run(folder, promtool, "check", "config", "prometheus.yml")


def test_alerts_fire_when_they_should_and_not_before(promtool: str, folder: Path) -> None:
    run(folder, promtool, "test", "rules", "rules.test.yml")


@pytest.mark.parametrize("alert", ALERTS, ids=lambda alert: alert["alert"])
def test_the_test_of_an_alert_fails_if_it_never_fires(promtool: str, folder: Path, alert: dict[str, Any]) -> None:
    rules = yaml.safe_load((folder / "rules.yml").read_text())
    (found,) = (rule for group in rules["groups"] for rule in group["rules"] if rule.get("alert") == alert["alert"])
    found["expr"] = "vector(1) < 0"
    (folder / "rules.yml").write_text(yaml.safe_dump(rules))
    with pytest.raises(AssertionError, match=alert["alert"]):
        run(folder, promtool, "test", "rules", "rules.test.yml")


def test_promtool_accepts_all_expressions(promtool: str, folder: Path) -> None:
    rules = [{"record": f"asked_{number}", "expr": asked} for number, (_, asked) in enumerate(expressions())]
    (folder / "asked.yml").write_text(yaml.safe_dump({"groups": [{"name": "asked", "rules": rules}]}))
    assert f"{len(rules)} rules found" in run(folder, promtool, "check", "rules", "asked.yml")


def test_the_dashboard_has_valid_panels() -> None:
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    places = set()
    for panel in DASHBOARD["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24
        assert not cells & places
        places |= cells
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert variables == {"datasource", "job"}
    for panel in panels():
        assert panel["description"]
        assert panel["datasource"]["uid"] == "${datasource}"
        assert all('job="$job"' in target["expr"] for target in panel["targets"])


def test_prometheus_scrapes_the_queried_job() -> None:
    found = yaml.safe_load((FOLDER / "prometheus.yml").read_text())
    (scrape,) = found["scrape_configs"]
    assert scrape["job_name"] == "wordlight"
    assert found["rule_files"] == ["rules.yml"]
    jobs = re.findall(r'job="([^"$]+)"', (FOLDER / "rules.yml").read_text() + json.dumps(SCALING).replace("\\", ""))
    assert set(jobs) == {"wordlight"}
