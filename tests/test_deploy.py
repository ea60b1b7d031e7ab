"""The files of deploy/ and the Dockerfile: they parse, agree with the project, and say what they want."""

from __future__ import annotations

import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

from lchp.study.spec.load import load_study

ROOT = Path(__file__).resolve().parents[1]
DEPLOY = ROOT / "deploy"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
VARIABLE = re.compile(r"\$\{(\w+)(:-[^}]*|:\?[^}]*)?\}")
OF_SYSTEMS = {"PATH", "TMPDIR", "SLURM_SUBMIT_DIR", "SLURM_JOB_ID", "SLURM_NNODES", "SLURM_CPUS_PER_TASK"}


def text(name: str) -> str:
    return (DEPLOY / name).read_text(encoding="utf-8")


def pins(file: Path) -> dict[str, str]:
    return dict(line.split("==") for line in file.read_text(encoding="utf-8").splitlines())


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all(text(name)))


SERVICES = documents("compose.yaml")[0]["services"]
CONFIG, CLAIM, JOB = documents("rayjob.yaml")
CLUSTER = JOB["spec"]["rayClusterSpec"]
GROUPS = [CLUSTER["headGroupSpec"], *CLUSTER["workerGroupSpecs"]]


def test_lock_of_the_image_is_that_of_the_project_without_tools() -> None:
    image, project = pins(DEPLOY / "requirements.lock"), pins(ROOT / "requirements.lock")
    assert {name: image[name] for name in image.keys() & project} == {
        name: project[name] for name in image.keys() & project
    }
    assert not {"pytest", "mypy", "ruff", "playwright"} & image.keys()
    extras = PROJECT["optional-dependencies"]
    wanted = [Requirement(one) for one in PROJECT["dependencies"] + extras["cluster"] + extras["postgresql"]]
    missing = [
        str(one) for one in wanted if one.name != "lchp" and image.get(one.name.lower(), "0") not in one.specifier
    ]
    assert missing == []


def test_dockerfile_copies_what_is_there_and_ends_as_an_ordinary_user() -> None:
    lines = (ROOT / "Dockerfile").read_text(encoding="utf-8").splitlines()
    sources = [part for line in lines if line.startswith("COPY") for part in line.split()[1:-1] if part[0] not in "-/"]
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").splitlines()
    assert sources
    assert [name for name in sources if not (ROOT / name).exists() or f"!{name}" not in ignored] == []
    assert [line for line in lines if line.startswith("USER")][-1] == "USER lchp"
    assert [line for line in lines if line.startswith("FROM debian:")] == ["FROM debian:12.12-slim AS packages"]


def test_images_are_pinned_and_of_this_version() -> None:
    containers = [one for group in GROUPS for one in group["template"]["spec"]["containers"]]
    images = {one["image"] for one in [*SERVICES.values(), *containers]}
    assert {image for image in images if not re.search(r":.*\d", image)} == set()
    ours = {image for image in images if "lchp" in image}
    assert ours == {f"lchp:{PROJECT['version']}", f"registry.example.org/lchp:{PROJECT['version']}"}
    dockerfile = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert set(re.findall(r"lchp:([\d.]+)", dockerfile)) == {PROJECT["version"]}


def test_compose_opens_ports_on_loopback_alone() -> None:
    ports = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(ports) == 2
    assert [port for port in ports if not port.startswith("127.0.0.1:")] == []


def test_compose_waits_for_services_that_say_whether_they_are_healthy() -> None:
    for name, service in SERVICES.items():
        for other, wanted in service.get("depends_on", {}).items():
            healthy = wanted["condition"] == "service_healthy"
            assert ("healthcheck" in SERVICES[other]) == healthy, (name, other)
    assert {name for name, service in SERVICES.items() if "healthcheck" not in service} == {"buckets"}


def test_compose_gives_every_process_of_ray_the_mode_and_the_token() -> None:
    told = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "${RAY_AUTH_TOKEN:?is missing in .env}"}
    for name in ("head", "worker"):
        assert told.items() <= SERVICES[name]["environment"].items()
    assert "mlflow:*" in SERVICES["mlflow"]["environment"]["MLFLOW_SERVER_ALLOWED_HOSTS"].split(",")


def test_compose_reads_what_the_example_explains() -> None:
    lines = text("example.env").splitlines()
    given = dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))
    read = dict(VARIABLE.findall(text("compose.yaml") + text("compose.gpu.yaml")))
    assert given.keys() == read.keys()
    # Secrets have no default and are not given; all else has one, which is the example's.
    assert {name: value for name, value in given.items() if value} == {
        name: default[2:] for name, default in read.items() if default.startswith(":-")
    }
    assert {name for name, value in given.items() if not value} == {
        name for name, default in read.items() if default.startswith(":?")
    }


def variables() -> Iterator[str]:
    """Those of the environment that somebody may want to know of."""
    for service in SERVICES.values():
        yield from service.get("environment", {})
    yield from (name for name, _ in VARIABLE.findall(text("compose.yaml")))
    for group in GROUPS:
        yield from (one["name"] for container in group["template"]["spec"]["containers"] for one in container["env"])
    yield from re.findall(r"\b[A-Z]+(?:_[A-Z]+)+\b|\bSTUDIES\b", re.sub(r"(?m)^#.*", "", text("slurm.sbatch")))


def test_documentation_names_every_variable() -> None:
    page = (ROOT / "docs/clusters.md").read_text(encoding="utf-8")
    assert {name for name in variables() if f"`{name}" not in page} - OF_SYSTEMS == set()


# Facts of ray.io/v1 as of KubeRay 1.7, as its API reference lists them: the fields that these files may use.
FIELDS = {
    "RayJobSpec": {
        "activeDeadlineSeconds", "backoffLimit", "rayClusterSpec", "submitterPodTemplate", "metadata",
        "clusterSelector", "submitterConfig", "managedBy", "deletionStrategy", "entrypoint",
        "runtimeEnvYAML", "jobId", "submissionMode", "entrypointResources", "entrypointNumCpus", "entrypointNumGpus",
        "ttlSecondsAfterFinished", "shutdownAfterJobFinishes", "suspend",
    },
    "RayClusterSpec": {
        "suspend", "managedBy", "autoscalerOptions", "headServiceAnnotations", "enableInTreeAutoscaling",
        "gcsFaultToleranceOptions", "headGroupSpec", "rayVersion", "workerGroupSpecs", "authOptions",
    },
    "HeadGroupSpec": {"template", "headService", "enableIngress", "rayStartParams", "serviceType"},
    "WorkerGroupSpec": {
        "suspend", "groupName", "replicas", "minReplicas", "maxReplicas", "idleTimeoutSeconds", "rayStartParams",
        "template", "scaleStrategy", "numOfHosts",
    },
}  # fmt: skip


def test_rayjob_has_fields_that_kuberay_knows() -> None:
    assert (JOB["apiVersion"], JOB["kind"]) == ("ray.io/v1", "RayJob")
    assert JOB["spec"].keys() <= FIELDS["RayJobSpec"]
    assert CLUSTER.keys() <= FIELDS["RayClusterSpec"]
    head, *workers = GROUPS
    assert head.keys() <= FIELDS["HeadGroupSpec"]
    assert all(group.keys() <= FIELDS["WorkerGroupSpec"] for group in workers)
    assert all(isinstance(value, str) for group in GROUPS for value in group["rayStartParams"].values())
    assert CLUSTER["authOptions"] == {"mode": "token"}
    assert CLUSTER["rayVersion"] == pins(ROOT / "requirements.lock")["ray"]
    assert JOB["spec"]["backoffLimit"] > 0


@pytest.mark.parametrize("group", GROUPS, ids=["head", "workers"])
def test_rayjob_mounts_volumes_that_are_there(group: dict[str, Any]) -> None:
    pod = group["template"]["spec"]
    volumes = {one["name"]: one for one in pod["volumes"]}
    mounted = {one["name"] for container in pod["containers"] for one in container["volumeMounts"]}
    assert mounted == volumes.keys()
    assert all(one["resources"]["requests"] == one["resources"]["limits"] for one in pod["containers"])
    if "studies" in volumes:
        assert volumes["studies"]["configMap"]["name"] == CONFIG["metadata"]["name"]
        assert volumes["results"]["persistentVolumeClaim"]["claimName"] == CLAIM["metadata"]["name"]


def test_rayjob_runs_the_study_of_its_config_map(tmp_path: Path) -> None:
    (name,) = CONFIG["data"]
    assert f"/config/{name} " in JOB["spec"]["entrypoint"]
    (tmp_path / name).write_text(CONFIG["data"][name], encoding="utf-8")
    assert len(load_study(tmp_path / name, ()).trials) == 4


def test_slurm_script_is_bash_and_wants_a_study() -> None:
    script = DEPLOY / "slurm.sbatch"
    subprocess.run(["bash", "-n", str(script)], check=True)
    told = subprocess.run(["bash", str(script)], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stderr) == (2, "usage: sbatch slurm.sbatch STUDY [OPTION...]\n")


@pytest.mark.parametrize(
    ("ray", "code", "told"),
    [
        ('while [ "$1" != -- ]; do shift; done; shift; "$@"', 3, ""),
        ("exit 0", 1, "slurm.sbatch: the study has not ended, or not begun: srun's exit code is 0"),
        ("exit 5", 5, "slurm.sbatch: the study has not ended, or not begun: srun's exit code is 5"),
    ],
    ids=["the study's exit code", "Ray does not start and says 0", "Ray does not start and says 5"],
)
def test_slurm_script_ends_as_the_study_does(tmp_path: Path, ray: str, code: int, told: str) -> None:
    done = slurm_job(tmp_path, "echo 7", f'[ "$1 $2 $3" = "symmetric-run --address 10.0.0.1:6379" ] || exit 9; {ray}')
    assert (done.returncode, done.stderr[: len(told) or None]) == (code, told)
    assert list((tmp_path / "studies").iterdir()) == []
    assert list(tmp_path.glob("lchp-*")) == []


@pytest.mark.parametrize(
    ("squeue", "gone"),
    [
        ("echo 7; echo 6; echo 9", {"lchp-job-5"}),
        ("echo 6; echo 77; echo 9", set()),
        ("true", set()),
        ("echo 7; exit 1", set()),
    ],
    ids=["who lives", "all but this job", "nobody", "no answer"],
)
def test_slurm_script_removes_what_earlier_jobs_left_and_nothing_else(
    tmp_path: Path, squeue: str, gone: set[str]
) -> None:
    others = {"lchp-birds-5", "lchp-5", f"lchp-{os.getuid()}", f"lchp-{os.getuid()}-1", "lchp-tmp-12345678"}
    others |= {"lchp-job-birds-5", "lchp-job-05", "lchp-job-", "my-lchp-job-5"}
    there = others | {"lchp-job-5", "lchp-job-6", "lchp-job-8", "lchp-job-9"}
    for name in there:
        (tmp_path / name / "files").mkdir(parents=True)
    assert slurm_job(tmp_path, squeue, "exit 5").returncode == 5
    assert there - {path.name for path in tmp_path.iterdir()} == gone


def slurm_job(folder: Path, squeue: str, ray: str) -> subprocess.CompletedProcess[str]:
    """Job 7, with other commands than Slurm's, and ``folder`` as the node's temporary one."""
    commands = {
        "srun": 'while [[ $1 == --* ]]; do shift; done; exec "$@"',
        "hostname": "echo 10.0.0.1 fd00::1",
        "ray": ray,
        "squeue": squeue,
        "lchp": '[ "$RAY_AUTH_MODE ${#RAY_AUTH_TOKEN} $*" = "$EXPECTED" ] || exit 9; mkdir "$LCHP_NODE_FOLDER"; exit 3',
    }
    for name, body in commands.items():
        (folder / name).write_text(f"#!/bin/bash\n{body}\n", encoding="utf-8")
        (folder / name).chmod(0o755)
    studies = folder / "studies"
    studies.mkdir()
    environment = {
        "PATH": f"{folder}:/usr/bin:/bin", "TMPDIR": str(folder), "SLURM_SUBMIT_DIR": str(studies),
        "SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_CPUS_PER_TASK": "4",
        "EXPECTED": f"token 64 study run mine --address 10.0.0.1:6379 --output {studies}/analysis",
    }  # fmt: skip
    command = ["bash", str(DEPLOY / "slurm.sbatch"), "mine"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
