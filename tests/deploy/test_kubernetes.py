"""The Kubernetes files: valid by the schemas of Kubernetes, and in agreement with images and settings.

The schemas of Kubernetes do not include KEDA's ScaledObject. After a change, validate it with the npm package
@kubernetes-models/keda: `new ScaledObject(…).validate()`. That does not report unknown fields.
"""

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from app.settings import AppSettings
from jobs.logs import LogSettings
from worker.settings import WorkerSettings

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "deploy" / "kubernetes"
BASE = FOLDER / "base"
SETTINGS = {"REDIS_URL"} | {
    f"WORDLIGHT_{name.upper()}" for kind in (AppSettings, WorkerSettings, LogSettings) for name in kind.model_fields
}


def documents(folder: Path) -> Iterator[dict[str, Any]]:
    for name in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]:
        yield from yaml.safe_load_all((folder / name).read_text())


ALL = {(found["kind"], found["metadata"]["name"]): found for found in documents(BASE)}
DEPLOYMENTS = [found for (kind, _), found in ALL.items() if kind == "Deployment"]
DEPLOYED = pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda found: found["metadata"]["name"])


def pod(deployment: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = deployment["spec"]["template"]["spec"]
    return found


def container(deployment: dict[str, Any]) -> dict[str, Any]:
    (found,) = pod(deployment)["containers"]
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize("key", ALL, ids="-".join)
def test_resources_match_the_schemas_of_kubernetes(key: tuple[str, str]) -> None:
    if ALL[key]["apiVersion"].startswith("keda.sh/"):
        with pytest.raises(kubernetes_validate.SchemaNotFoundError):
            kubernetes_validate.validate(ALL[key], kubernetes_validate.latest_version(), strict=True)
        return
    kubernetes_validate.validate(ALL[key], kubernetes_validate.latest_version(), strict=True)


def test_an_unknown_field_fails_validation() -> None:
    wrong = ALL["Deployment", "wordlight-web"] | {"specs": {}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_the_base_has_all_kinds_of_resources() -> None:
    assert {kind for kind, _ in ALL} == {
        "ConfigMap",
        "Deployment",
        "NetworkPolicy",
        "PodDisruptionBudget",
        "ScaledObject",
        "Service",
    }
    assert {path.name for path in BASE.glob("*.yaml")} - {"kustomization.yaml"} == set(
        yaml.safe_load((BASE / "kustomization.yaml").read_text())["resources"]
    )


@DEPLOYED
def test_pods_meet_the_restricted_standard(deployment: dict[str, Any]) -> None:
    of_pod, of_container = pod(deployment)["securityContext"], container(deployment)["securityContext"]
    assert of_pod["runAsNonRoot"]
    assert of_pod["runAsUser"] == 10001  # the user of the images
    assert of_pod["seccompProfile"] == {"type": "RuntimeDefault"}
    assert of_container == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert pod(deployment)["automountServiceAccountToken"] is False


@DEPLOYED
def test_pods_have_requests_limits_and_mounted_volumes(deployment: dict[str, Any]) -> None:
    resources = container(deployment)["resources"]
    assert {"cpu", "memory"} <= set(resources["requests"])
    assert "memory" in resources["limits"]
    mounts = {mount["name"]: mount["mountPath"] for mount in container(deployment)["volumeMounts"]}
    assert mounts == {"tmp": "/tmp", "secrets": "/run/wordlight"}
    assert {volume["name"] for volume in pod(deployment)["volumes"]} == set(mounts)


@DEPLOYED
def test_pods_set_only_existing_settings(deployment: dict[str, Any]) -> None:
    variables = {variable["name"] for variable in container(deployment)["env"]}
    variables |= set(ALL["ConfigMap", "wordlight"]["data"])
    assert {name.removesuffix("_FILE") for name in variables} <= SETTINGS
    url = ALL["ConfigMap", "wordlight"]["data"]["REDIS_URL_FILE"]
    assert url == "/run/wordlight/redis-url"  # as the mounted Secret has it


@DEPLOYED
def test_probes_run_modules_of_the_images(deployment: dict[str, Any]) -> None:
    for name in ("startupProbe", "readinessProbe", "livenessProbe"):
        command = container(deployment)[name]["exec"]["command"]
        assert command[:2] == ["python", "-m"]
        assert importlib.util.find_spec(command[2])
    image = container(deployment)["image"]
    assert f" AS {image.removeprefix('wordlight-')}\n" in (ROOT / "docker/Dockerfile").read_text()


def test_every_selector_selects_one_deployment() -> None:
    labels = [deployment["spec"]["template"]["metadata"]["labels"] for deployment in DEPLOYMENTS]
    selectors = [deployment["spec"]["selector"]["matchLabels"] for deployment in DEPLOYMENTS]
    for (kind, _), found in ALL.items():
        if kind == "Service":
            selectors.append(found["spec"]["selector"])
        elif kind == "PodDisruptionBudget":
            selectors.append(found["spec"]["selector"]["matchLabels"])
        elif kind == "NetworkPolicy":
            selectors.append(found["spec"]["podSelector"]["matchLabels"])
    assert len(selectors) == 7
    for selector in selectors:
        assert len([of_pod for of_pod in labels if selector.items() <= of_pod.items()]) == 1
    target = ALL["ScaledObject", "wordlight-worker"]["spec"]["scaleTargetRef"]["name"]
    assert "replicas" not in ALL["Deployment", target]["spec"]


def test_the_overlay_patches_resources_of_the_base() -> None:
    overlay = FOLDER / "gpu"
    kustomization = yaml.safe_load((overlay / "kustomization.yaml").read_text())
    assert [(overlay / name).resolve() for name in kustomization["resources"]] == [BASE]
    patch = yaml.safe_load((overlay / "worker.yaml").read_text())
    base = ALL["Deployment", patch["metadata"]["name"]]
    assert container(patch)["name"] == container(base)["name"]
    assert {variable["name"] for variable in container(patch)["env"]} <= SETTINGS
    assert container(patch)["resources"]["limits"]["nvidia.com/gpu"] == "1"
    for change in yaml.safe_load((overlay / "scaling.yaml").read_text()):
        found: Any = ALL["ScaledObject", "wordlight-worker"]
        for step in change["path"].strip("/").split("/"):
            found = found[int(step) if step.isdigit() else step]
        assert found != change["value"]
