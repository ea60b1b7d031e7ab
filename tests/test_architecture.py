"""The house itself: floors, the lock, what the documents promise, what must not stand in a tracked file."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from lchp.method.backbones import NETWORKS

ROOT = Path(__file__).resolve().parents[1]
LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"


def lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    """import-linter on the package in ``folder``, with the contracts of the pyproject.toml there."""
    command = [sys.executable, "-c", LINT_IMPORTS, "--no-cache", "--no-logo"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def tracked_files() -> list[Path]:
    if shutil.which("git") is None or not (ROOT / ".git").exists():
        pytest.skip("this is no git checkout: nothing says which files are tracked")
    # A mounted checkout may belong to another user, which git distrusts.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


def pinned() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    return dict(line.split("==") for line in lines)


def test_imports_go_down_only() -> None:
    done = lint_imports(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 broken" in done.stdout


FORBIDDEN = [
    ("method/boxes.py", "import lchp.data.records", "Floors"),
    ("training/loop.py", "import lchp.tracking.runs", "Floors"),
    ("surroundings.py", "import lchp.data.files", "Floors"),
    ("data/splits.py", "import ray", "Only study opens Ray and Optuna"),
    ("reporting/html.py", "import optuna", "Above study Ray and Optuna"),
    ("cli.py", "import ray", "Above study Ray and Optuna"),
    ("training/seeds.py", "import mlflow", "Only tracking opens MLflow"),
    ("study/run/trial.py", "import lchp.study.run.ray_process", "Trials run, and are reproduced, without Ray"),
    ("study/run/queue.py", "import ray", "The driver of a study talks to Ray through a process of its own"),
    ("study/reproduce/compare.py", "import lchp.tracking.ui", "Trials run, and are reproduced, without Ray"),
    ("training/refinement.py", "import lchp.training.references", "Nothing of a trial opens the references"),
    ("study/spec/values.py", "import lchp.study.plan.cost", "Rooms of a study"),
]
"""An import that a contract forbids: the module that gets it, its line, and how the contract's name begins."""


def test_imports_every_contract_has_a_case_that_breaks_it() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    names = [contract["name"] for contract in project["tool"]["importlinter"]["contracts"]]
    assert [name for name in names if not any(name.startswith(begin) for _, _, begin in FORBIDDEN)] == []


@pytest.mark.parametrize("place", ["new.py", "study/new.py"])
def test_imports_a_module_on_no_floor_is_told(tmp_path: Path, place: str) -> None:
    shutil.copytree(ROOT / "lchp", tmp_path / "lchp", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "lchp" / place).write_text('"""Nobody\'s."""\n', encoding="utf-8")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert "new" in done.stdout


@pytest.mark.parametrize(("module", "line", "contract"), FORBIDDEN)
def test_imports_upward_import_breaks_its_contract(tmp_path: Path, module: str, line: str, contract: str) -> None:
    shutil.copytree(ROOT / "lchp", tmp_path / "lchp", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    with (tmp_path / "lchp" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    done = lint_imports(tmp_path)
    assert done.returncode == 1
    assert re.search(rf"{contract}.* BROKEN", done.stdout), done.stdout


def test_installed_command_help_imports_click_and_the_standard_library_alone() -> None:
    command = Path(sys.executable).with_name("lchp")
    if not command.exists():
        pytest.skip(f"{command} does not exist: the package is not installed in this environment")
    nothing = imported("-c", "pass")
    # `copy` of the standard library asks whether it runs under Jython, which calls itself org.
    assert imported(str(command), "--help") - nothing - {"org"} == {"click", "lchp"}


def imported(*arguments: str) -> set[str]:
    """The packages that Python imports when it runs, those of the standard library left out."""
    done = subprocess.run([sys.executable, "-X", "importtime", *arguments], capture_output=True, text=True, check=True)
    names = re.findall(r"^import time:.*\| +([\w.]+)$", done.stderr, re.MULTILINE)
    assert "site" in names
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)


def test_lock_is_plain_pins() -> None:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*==[0-9][A-Za-z0-9.]*", line)] == []
    assert lines == sorted(set(lines))


def test_lock_serves_every_requirement_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    pins, extras = pinned(), project["optional-dependencies"]
    wanted = [Requirement(text) for text in [*project["dependencies"], *extras["dev"], *extras["docs"]]]
    missing = [str(one) for one in wanted if not one.specifier.contains(pins.get(one.name.lower(), "0"))]
    assert missing == []
    assert "opencv-python-headless" in pins
    assert "opencv-python" not in pins


@pytest.mark.parametrize(
    ("what", "pattern"),
    [
        (
            "the host name of a registry",
            r"pypi\.org|pythonhosted\.org|download\.pytorch\.org|conda\.anaconda|npmjs\.(?:org|com)|ghcr\.io|docker\.io"
            r"|quay\.io|nvcr\.io|huggingface\.co|deb\.debian\.org",
        ),
        ("a path of one machine", r"(?<![\w.~$}/\\-])/(?:home/\w+|root|Users/\w+|work|mnt|scratch)/\w"),
    ],
)
def test_tracked_files_name_no_registry_and_no_machine(what: str, pattern: str) -> None:
    found = []
    for file in tracked_files():
        try:
            text = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{file.relative_to(ROOT)}: {match.group()}" for match in re.finditer(pattern, text)]
    assert found == [], f"tracked files hold {what}"


def test_readme_names_the_two_commands_and_make_has_them() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for target in ("study", "test"):
        assert re.search(rf"^\s*(?:\$ )?make {target}$", readme, re.MULTILINE)
        assert re.search(rf"^{target}: setup$", makefile, re.MULTILINE)


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_document_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)#]+)\)", text)
    assert [link for link in links if "://" not in link and not (ROOT / link).exists()] == []


def test_documents_name_every_network_in_the_order_of_the_table() -> None:
    page = " ".join((ROOT / "docs/studies.md").read_text(encoding="utf-8").split())
    sentence = re.search(r"Networks \(`backbone`, `classifier`\) are ((?:`\w+`(?:, | and )?)+)", page)
    assert sentence
    assert re.findall(r"\w+", sentence[1].replace(" and ", ", ")) == list(NETWORKS)
