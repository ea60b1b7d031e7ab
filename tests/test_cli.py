from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

import tests.study.small as small
from lchp.cli import run
from lchp.data.kinds import KINDS
from lchp.study.spec.load import load_study
from tests.data.layouts import draw_table
from tests.study.planted import plant

STUDY = "name: tiny\npreset: quickstart\nvary: {delta: [0.4, 0.5]}\n"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.yaml"
    path.write_text(STUDY, encoding="utf-8")
    return path


def test_help_imports_click_and_the_standard_library_alone() -> None:
    code = (
        "import sys; before = set(sys.modules); from lchp.cli import run; run(['--help']); "
        "print(sorted({name.split('.')[0] for name in set(sys.modules) - before} - set(sys.stdlib_module_names)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "reproduce" in done.stdout
    assert done.stdout.splitlines()[-1] == "['click', 'lchp']"


def test_study_plan_json_holds_trials_and_initializations(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "plan", str(study), "--json", "--set", "seeds=[0, 1]"]) == 0
    plan = json.loads(capsys.readouterr().out)
    assert (plan["study"], plan["trials"], plan["initializations"]) == ("tiny", 4, 4)
    assert plan["trial_list"][0]["values"] == {"delta": 0.4}


def test_study_plan_works_without_the_data(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "plan", str(study), "--set", "dataset=cub"]) == 0
    assert "5994 train, 5794 test" in capsys.readouterr().out


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS.values() if not kind.drawn])
def test_study_plan_names_data_and_weights_that_the_file_or_an_option_misses(
    kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, weights = tmp_path / "away.yaml", "weights.classifier.file"
    file.write_text(
        f"name: away\npreset: quickstart\ndataset: {{kind: {kind}, path: {tmp_path}/gone}}\n"
        f"weights: {{classifier: {{file: {tmp_path}/gone.pth}}}}\n",
        encoding="utf-8",
    )
    lines = [
        f"dataset.path = {tmp_path}/gone: does not exist: give it with --data PATH",
        f"{weights} = {tmp_path}/gone.pth: does not exist: give it with --set {weights}=PATH",
    ]
    assert run(["study", "plan", str(file)]) == 0
    assert [line for line in capsys.readouterr().out.splitlines() if "not there" in line] == [
        f"not there yet: {line}" for line in lines
    ]
    assert run(["study", "plan", str(file), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["missing"] == lines
    given = f"dataset.path = nope: does not exist: give the {kind} data with --data PATH"
    for option in (["--data", "nope"], ["--set", "dataset.path=nope"]):
        assert run(["study", "plan", str(file), *option]) == 2
        assert capsys.readouterr().err == f"lchp: {' '.join(option)}: {given}\n"
    assert run(["study", "plan", str(file), "--set", f"{weights}=nope"]) == 2
    assert f"{weights} = nope: does not exist" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--set", "tau=2"], "--set tau=2: tau = 2: must be at least 0 and at most 1"),
        (["--set", "nonsense"], "--set nonsense: write it as dotted.key=value"),
        (
            ["--set", "dataset=cub"],
            "--set dataset=cub: dataset.path: the cub data has no path: give it with --data PATH",
        ),
        (["--set", "dataset=cub", "--data", "nowhere"], "--data nowhere: dataset.path = nowhere: does not exist"),
        (["--set", "weights.classifier={file: gone.pth}"], "weights.classifier.file = gone.pth: does not exist"),
    ],
)
def test_study_run_refusal_is_one_message_and_code_two(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], extra: list[str], message: str
) -> None:
    assert run(["study", "run", str(study), "--output", str(tmp_path / "out"), *extra]) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert not (tmp_path / "out").exists()


def test_unknown_option_or_command_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["study", "plan", "x.yaml", "--jsn"]) == 2
    assert run(["studdy"]) == 2
    assert "No such" in capsys.readouterr().err


def test_trial_run_refuses_a_study_file(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["trial", "run", str(study)]) == 2
    assert "run it with `lchp study run" in capsys.readouterr().err


def test_interrupt_gives_code_130(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("lchp.study.spec.load.load_study", interrupted)
    assert run(["study", "plan", str(study)]) == 130


def test_failure_while_running_is_one_message_and_code_one(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object) -> None:
        raise FloatingPointError("initialization epoch 3 batch 7: the loss is nan")

    monkeypatch.setattr("lchp.study.plan.trials.plan", failing)
    assert run(["study", "plan", str(study)]) == 1
    assert capsys.readouterr().err == "lchp: initialization epoch 3 batch 7: the loss is nan\n"


def test_data_commands_want_a_file_or_a_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["data", "check"]) == 2
    assert "give a study or trial FILE, or --kind" in capsys.readouterr().err
    assert run(["data", "check", "--kind", "cub"]) == 2
    assert "give it with --data PATH" in capsys.readouterr().err


def test_trial_run_prints_epochs_scores_and_folder_and_again_reuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trial = tmp_path / "trial.yaml"
    trial.write_text(small.TINY.replace("name: tiny\n", "").replace("question", "# question"), encoding="utf-8")
    command = ["trial", "run", str(trial), "--output", str(tmp_path / "out"), "--cache", str(tmp_path / "cache")]
    command += ["--device", "cpu"]
    assert run(command) == 0
    first = capsys.readouterr().out
    assert "refinement 2  loss" in first
    assert "lchp_r/test/gt_known = " in first
    assert "\n16 test images; one image is worth 6.25 points\nwarning: LCHP-" in first
    folder = Path(first.splitlines()[-1].removeprefix("results: "))
    assert (folder / "per_image.csv").exists()
    assert run(command) == 0
    again = capsys.readouterr().out
    assert "refinement 2  loss" in again
    assert again.count("reused") == 4
    assert again.splitlines()[4:] == first.splitlines()[4:]


def test_study_status_and_table_before_any_run_are_refused(study: Path, tmp_path: Path) -> None:
    output = ["--output", str(tmp_path / "out")]
    assert run(["study", "status", str(study), *output]) == 2
    assert run(["study", "table", str(study), *output]) == 2


def test_data_check_and_show_of_a_small_synthetic_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    sets = ["--set", "dataset.train_per_class=6", "--set", "dataset.test_per_class=2", "--set", "dataset.size=40"]
    common = ["--kind", "synthetic", *sets, "--cache", str(tmp_path / "cache")]
    assert run(["data", "check", *common]) == 0
    assert "problems: none" in capsys.readouterr().out
    assert run(["data", "show", *common, "--output", str(tmp_path / "samples.png")]) == 0
    assert (tmp_path / "samples.png").stat().st_size > 1000


def run_folders(study: Path, tmp_path: Path, **folders: str) -> int:
    options = {"--output": str(tmp_path / "out"), "--cache": str(tmp_path / "cache"), **folders}
    return run(["study", "run", str(study), *(word for pair in options.items() for word in pair)])


@pytest.mark.parametrize("option", ["--output", "--cache"])
@pytest.mark.parametrize("below", ["", "/sub"])
def test_study_run_folder_that_is_a_file_is_refused(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str, below: str
) -> None:
    assert run_folders(study, tmp_path, **{option: f"{study}{below}"}) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"lchp: {option} {study}{below}: is no folder that can be written (")
    assert err.endswith(f"give another with {option} DIR\n")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="needs a file system that refuses writing even to root")
@pytest.mark.parametrize("option", ["--output", "--cache"])
def test_study_run_folder_that_cannot_be_made_is_refused(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], option: str
) -> None:
    assert run_folders(study, tmp_path, **{option: "/proc/nope"}) == 2
    assert f"{option} /proc/nope: is no folder that can be written" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["trial", "run"], ["data", "check"], ["data", "show"]])
def test_default_cache_under_an_unwritable_home_is_refused(
    command: list[str], study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(study))
    trial = tmp_path / "trial.yaml"
    trial.write_text("preset: quickstart\n", encoding="utf-8")
    output = ["--output", str(tmp_path / "out.png")] if command[1] != "check" else []
    assert run([*command, str(trial), *output]) == 2
    assert f"--cache {study}/.cache/lchp: is no folder that can be written" in capsys.readouterr().err


SMALL = ["--set", "dataset.train_per_class=6", "--set", "dataset.test_per_class=2", "--set", "dataset.size=40"]


def test_data_show_into_a_place_that_cannot_be_written_is_refused(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    common = ["--kind", "synthetic", *SMALL, "--cache", str(tmp_path / "cache")]
    assert run(["data", "show", *common, "--output", str(study / "s.png")]) == 2
    assert str(study) in capsys.readouterr().err


def test_data_check_uses_the_split_of_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trial = tmp_path / "trial.yaml"
    trial.write_text("preset: quickstart\nsplit: {val_per_class: 2}\n", encoding="utf-8")
    assert run(["data", "check", str(trial), *SMALL, "--cache", str(tmp_path / "cache")]) == 0
    assert "val: 16 images, 2 a class" in capsys.readouterr().out


@pytest.mark.parametrize("command", ["check", "show"])
def test_data_that_cannot_be_opened_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str
) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    cache = ["--cache", str(tmp_path / "cache")]
    assert run(["data", command, "--kind", "cub", "--data", str(empty), *cache]) == 2
    assert "dataset cub" in capsys.readouterr().err


def test_ui_taken_port_or_bad_store_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["ui", "--tracking-uri", "carrier-pigeon://home"]) == 2
    assert "--tracking-uri" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert run(["ui", "--tracking-uri", f"sqlite:///{tmp_path / 'mlflow.db'}", "--port", port]) == 2
    assert "choose a free one with --port" in capsys.readouterr().err


def test_unwritable_file_while_running_is_one_message_and_code_one(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def failing(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", "results.csv")

    monkeypatch.setattr("lchp.study.plan.trials.plan", failing)
    assert run(["study", "plan", str(study)]) == 1
    assert capsys.readouterr().err.startswith("lchp: results.csv: No space left on device: ")


@pytest.mark.parametrize("command", [["data", "check"], ["data", "show"], ["study", "plan"]])
def test_dataset_that_cannot_be_opened_is_told_before_torch_is_imported(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("name: birds\npreset: cub\n")
    what = [str(tmp_path / "plan.yaml")] if command[0] == "study" else ["--kind", "cub"]
    arguments = [*command, *what, "--data", str(tmp_path), "--cache", str(tmp_path / "cache")]
    code = f"import sys; from lchp.cli import run; print(run({arguments!r}), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "2 False"
    assert "holds no images.txt. Give --data PATH" in done.stderr


def test_plan_of_a_published_dataset_without_its_files_imports_no_torch(tmp_path: Path) -> None:
    (tmp_path / "plan.yaml").write_text("name: birds\npreset: cub\n")
    arguments = ["study", "plan", str(tmp_path / "plan.yaml")]
    code = f"import sys; from lchp.cli import run; print(run({arguments!r}), 'torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "0 False"
    assert "5994 train, 5794 test (the published size of CUB-200-2011)" in done.stdout


def told(command: list[str], folder: Path, **environment: str) -> tuple[str, str]:
    """Exit code and heavy libraries imported, as printed at the end of a command line of its own, and what it said."""
    heavy = {"torch", "ray", "mlflow", "pandas"}
    ended = f"code = run({command!r}); print(code, sorted({heavy} & set(sys.modules)))"
    command = [sys.executable, "-c", f"import sys; from lchp.cli import run; {ended}"]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()[-1], done.stderr


def test_study_run_mistake_is_told_before_heavy_libraries_are_imported(study: Path) -> None:
    assert told(["study", "run", str(study), "--set", "tau=2"], study.parent)[0] == "2 []"


@pytest.mark.parametrize(
    "command", [["study", "run", "tiny.yaml"], ["trial", "run", "trial.yaml"], ["reproduce", "0123456789abcdef"]]
)
def test_missing_device_is_told_before_heavy_libraries_are_imported(study: Path, command: list[str]) -> None:
    (study.parent / "trial.yaml").write_text("preset: quickstart\n", encoding="utf-8")
    ended, said = told([*command, "--device", "cuda", "--cache", "cache"], study.parent, CUDA_VISIBLE_DEVICES="")
    assert ended == "2 []"
    assert said.startswith("lchp: --device cuda: this machine has no usable CUDA device")


def test_reproduce_where_no_study_was_run_is_refused_and_leaves_nothing(study: Path) -> None:
    before = sorted(study.parent.iterdir())
    ended, said = told(["reproduce", "0123456789abcdef", "--cache", "cache"], study.parent)
    assert ended == "2 []"
    assert f"{study.parent / 'mlflow.db'} does not exist, so it holds no run: name the store" in said
    assert sorted(study.parent.iterdir()) == before


def test_ui_of_a_store_that_is_not_there_is_refused_and_makes_none(tmp_path: Path) -> None:
    ended, said = told(["ui", "--tracking-uri", f"sqlite:///{tmp_path}/mlfow.db", "--port", "5999"], tmp_path)
    assert ended == "2 []"
    assert f"{tmp_path / 'mlfow.db'} does not exist" in said
    assert list(tmp_path.iterdir()) == []


def test_study_run_unknown_kind_of_store_leaves_nothing(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["study", "run", str(study), "--tracking-uri", "carrier-pigeon://home", "--cache", f"{study.parent}/c"]
    before = sorted(study.parent.rglob("*"))
    assert run([*command, "--output", f"{study.parent}/analysis"]) == 2
    assert "carrier-pigeon" in capsys.readouterr().err
    assert sorted(study.parent.rglob("*")) == before


def test_study_run_data_that_are_refused_leave_no_store(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = draw_table(study.parent / "set")
    table.write_text(
        table.read_text(encoding="utf-8").replace("pictures/0_train_0.png,", "pictures/gone.png,"), "utf-8"
    )
    store = study.parent / "mlflow.db"
    line = ["study", "run", str(study), "--set", "dataset=table", "--data", str(table), "--cache", f"{study.parent}/c"]
    assert run([*line, "--output", f"{study.parent}/analysis", "--tracking-uri", f"sqlite:///{store}"]) == 2
    assert "pictures/gone.png does not exist" in capsys.readouterr().err
    assert sorted(path.name for path in study.parent.iterdir() if path.name.startswith("mlflow")) == []


def test_study_run_artifact_folder_that_is_a_file_is_refused_before_anything(study: Path) -> None:
    (study.parent / "mlartifacts").write_text("", encoding="utf-8")
    ended, said = told(["study", "run", "tiny.yaml", "--cache", "cache"], study.parent)
    assert ended == "2 []"
    assert f"{study.parent / 'mlartifacts'}: is no folder that can be written (File exists)" in said
    assert not (study.parent / "analysis").exists(), "nothing is left behind"


def test_study_run_folder_of_another_configuration_is_told_before_heavy_libraries_are_imported(study: Path) -> None:
    plant(load_study(study), study.parent / "analysis")
    ended, said = told(["study", "run", "tiny.yaml", "--set", "tau=0.25"], study.parent)
    assert ended == "2 []"
    assert "holds another configuration of tiny" in said


def test_study_status_of_what_was_run_imports_no_heavy_libraries(study: Path) -> None:
    plant(load_study(study), study.parent / "analysis")
    ended, said = told(["study", "status", "tiny.yaml"], study.parent)
    assert ended == "0 []"
    for folder in ("tiny", "analysis/tiny"):
        assert told(["study", "status", folder], study.parent) == (ended, said)


def test_study_run_cluster_that_nobody_serves_is_told_before_heavy_libraries_are_imported(study: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        command = ["study", "run", "tiny.yaml", "--cache", "cache"]
        for more, environment in ((["--address", address], {"RAY_ADDRESS": "other:1"}), ([], {"RAY_ADDRESS": address})):
            ended, said = told([*command, *more], study.parent, **environment)
            assert ended == "2 []"
            assert f"Ray cluster {address}: cannot be reached (Connection refused)" in said


def test_ui_taken_port_is_told_before_heavy_libraries_are_imported(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        ended, _ = told(["ui", "--port", str(taken.getsockname()[1])], tmp_path)
    assert ended == "2 []"
    assert list(tmp_path.iterdir()) == []


def test_data_check_without_a_home_folder_falls_back_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def unknown(uid: int) -> object:
        raise KeyError(f"getpwuid(): uid not found: {uid}")

    for name in ("HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert run(["data", "check", "--kind", "synthetic", *SMALL]) == 0
    said = capsys.readouterr()
    home = tmp_path / f"lchp-{os.getuid()}"
    assert said.err.startswith(f"lchp: no home folder: HOME is unset and the user unknown: using {home}")
    assert f"dataset synthetic at {home}/.cache/lchp/" in said.out
