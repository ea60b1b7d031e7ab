"""Some hundreds of command lines that people get wrong, in one clean interpreter.

Each is refused in a message that names what is wrong and what would be right; nothing is left behind, and none of the
libraries that take seconds is imported.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

HEAVY = ("torch", "torchvision", "ray", "mlflow", "optuna", "numpy", "pandas", "matplotlib", "PIL", "sqlalchemy")
RUNNER = f"""
import contextlib, io, json, sys
from lchp.cli import run

# Whoever imports one of them fails, instead of starting what should have been refused.
sys.modules.update(dict.fromkeys({HEAVY!r}))
told = []
for line in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(line)
    told.append([code, out.getvalue(), err.getvalue()])
json.dump(told, sys.stdout)
"""
STUDY = "name: tiny\npreset: quickstart\nvary: {delta: [0.4, 0.5]}\n"
TRIAL = "preset: quickstart\n"
LONG = "x" * 5000


@dataclass(frozen=True)
class Told:
    """What one command line was answered."""

    code: int
    out: str
    err: str


def answers(folder: Path, lines: list[list[str]]) -> list[Told]:
    """The answers to command lines given in ``folder``, all in one interpreter."""
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps(lines), capture_output=True, text=True, cwd=folder, check=False, env=environment(folder),
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [Told(*told) for told in json.loads(done.stdout)]


def environment(folder: Path) -> dict[str, str]:
    root = str(Path(__file__).resolve().parents[1])
    return {"PATH": "/usr/bin:/bin", "HOME": str(folder / "home"), "PYTHONPATH": root, "PYTHONWARNINGS": "error"}


COMMANDS = {
    "study run": ["study.yaml"],
    "study plan": ["study.yaml"],
    "study status": ["study.yaml"],
    "study table": ["study.yaml"],
    "study show": ["study.yaml"],
    "config show": ["study.yaml"],
    "trial run": ["trial.yaml"],
    "data check": ["trial.yaml"],
    "data show": ["trial.yaml"],
    "reproduce": ["0123456789abcdef0123456789abcdef"],
    "ui": [],
}
OF_FILES = [command for command in COMMANDS if command not in {"reproduce", "ui", "study show", "study status"}]
COMPUTING = ["study run", "trial run", "reproduce"]

SETS = {
    "": "write it as dotted.key=value",
    "=": "write it as dotted.key=value",
    "=3": "write it as dotted.key=value",
    "tau": "write it as dotted.key=value",
    "a..b=1": "write it as dotted.key=value",
    ".tau=1": "write it as dotted.key=value",
    "tau.=1": "write it as dotted.key=value",
    "tau=": "must be a number",
    "tau=2": "must be at least 0 and at most 1",
    "tau=-1": "must be at least 0 and at most 1",
    "tau='0.5'": "in quotes it is text: remove them",
    "tau=yes": "must be a number",
    "tau=.nan": "must be a finite number",
    "tau=1e400": "must be a finite number",
    "tau=0,5": "must be a number",
    "tau=0.5;": "must be a number",
    "tau=[0.5]": "must be a number",
    "tau={a: 1}": "must be a number",
    "tau.x=1": "must be a number",
    "tau=1_0": "write it without leading zeros",
    "tau=010": "write it without leading zeros",
    "tau=1:30": "write it without leading zeros",
    "tau=9" + "9" * 5000: "is too large",
    "tau=[0.5": "close its brackets",
    "tau={": "close its brackets",
    "tau='": "close its brackets",
    "tau=" + "[" * 3000: "nested too deeply",
    "tau=!!int": "write plain values",
    "tau=*x": "no readable YAML",
    "tau=@x": "no readable YAML",
    "tau={[a]: 1}": "keys are words",
    "tau={a: 1, a: 2}": "keep one",
    "tua=0.5": "did you mean `tau`?",
    "TAU=0.5": "unknown key: known are",
    "tau =x": "must be a number",
    "täu=0.5": "did you mean `tau`?",
    "🐦=1": "unknown key: known are",
    LONG + "=1": "unknown key: known are",
    ".".join("a" * 3000) + "=1": "no key of a study has more than 20",
    "--tau=1": "unknown key",
    "seed.x=1": "",
    "dataset={": "close its brackets",
    "dataset=": "must be a mapping",
    "dataset=cup": "must be 'synthetic'",
    "dataset=[cub]": "must be a mapping",
    "dataset.kind=3": "must be 'synthetic'",
    "dataset.path=x": "unknown key",
    "dataset.size=1e9": "must be a whole number",
    "dataset.size=100000": "must be at least 24 and at most 512",
    "dataset.train_per_class=0": "must be at least 1",
    "augmentation=no": "put such a word into quotes",
    "augmentation=rotate": "must be a subset of scale, translation, flip",
    "augmentation=" + LONG: "must be a subset of scale, translation, flip",
    "backbone=vit": "must be 'inception_v3'",
    "classifier=": "must be 'inception_v3'",
    "weights=none": "must be a mapping",
    "weights.classifier=x.pth": "must be",
    "weights.classifier={fil: x}": "did you mean `file`?",
    "weights.classifier.sha256=x": "weights.classifier",
    "view.crop=500": "make it smaller",
    "view.crop=20000": "must be at least 16 and at most 2048",
    "split.val_per_class=375": "make val_per_class smaller, or train_per_class larger",
    "split.val_per_class=99999999": "must be at least 0 and at most 1000000",
    "initialization.attention_maps=100000000": "must be at least 1 and at most 1024",
    "initialization.batch_size=1": "must be at least 2",
    "initialization.regressor_start=9": "make regressor_start smaller, or epochs larger",
    "initialization.epochs=0": "must be at least 1",
    "initialization=off": "must be a mapping",
    "refinement.rate=0": "must be more than 0",
    "refinement.teacher=frosen": "must be 'online', 'frozen' or 'ema'",
    "evaluation.batch_size=99999999999999999999": "is too large",
    "evaluation.batch_size=9999999": "must be at least 1 and at most 65536",
    "compute.cpu_threads=0": "must be at least 1 and at most 256",
    "compute.precision=fp16": "must be 'fp32' or 'bf16', or 'auto'",
    "tau='٠.٥'": "not read with confidence.keep)\n",
    "preset=off": "unknown preset",
    "preset=cubs": "did you mean `cub`?",
}
STUDY_SETS = {
    "seeds=": "must be a list",
    "seeds=3": "must be a list",
    "seeds=[]": "give at least one value",
    "seeds=[-1]": "must be greater than or equal to 0",
    "seeds=[0, 0]": "name each once",
    "seeds=[010]": "write it without leading zeros",
    "seeds=[0.5]": "must be a whole number",
    "seed=3": "write `seeds: [0]`",
    "name=": "must be text",
    "name=a/b": "must be letters, digits",
    "name=../up": "must be letters, digits",
    "name=paper": "choose another",
    "name=" + "x" * 101: "must be letters, digits",
    "delta=0.9": "so this has no effect: use --set 'vary={delta: [...]}'",
    "vary=3": "must map dotted keys to lists of values",
    "vary=[]": "is empty",
    "vary={delta: []}": "the list is empty",
    "vary={dleta: [1]}": "did you mean `delta`?",
    "vary={delta: [2]}": "must be at least 0 and at most 1",
    "vary={resources.cpus: [1, 2]}": "give it outside `vary`",
    "vary={seed: [1]}": "list the seeds under `seeds`",
    "search=3": "must be a mapping",
    "search={trials: 3}": "is missing: add it",
    "search={trials: 0, space: {tau: [1]}}": "must be at least 1 and at most 10000",
    "tables=3": "must be a list",
    "tables=[{by: [tau]}]": "what varies is delta",
    "resources.cpus=0": "must be more than 0",
    "resources.cpu=1": "did you mean `cpus`?",
    "question=[a]": "must be text",
    'question="a\\u0007b"': "must be one line, without control characters",
    "tables=[{name: predictions}]": "is the name of another file of the study: choose another",
    "tables=[{name: " + "t" * 101 + "}]": "at most 100, the first a letter or digit",
    "tables=[{metrics: [gt_known, gt_known]}]": "gt_known is there twice: name each once",
    "claims=[lchp_r > lchp_r]": "compares something with itself: name two methods, or two values",
    "vary.delta=": "must be a number",
    "vary.delta=[]": "vary.delta: the list is empty",
    "vary.delta=[2]": "must be at least 0 and at most 1",
    "vary.dleta=[1]": "did you mean `delta`?",
    "vary.refinement.rat=[1]": "refinement.rat = 1: unknown key: did you mean `rate`?",
    "vary.seed=[1]": "list the seeds under `seeds`",
    "vary.=[1]": "write it as dotted.key=value",
    "search.space.tau.low=0": "search.trials: is missing: add it",
}
SEEDS = {
    "": "'' is no seed and no range: write 0..4 or 0,2,5",
    "x": "'x' is no seed and no range",
    "-1": "'-1' is no seed and no range",
    "1.5": "'1.5' is no seed and no range",
    "0..": "'0..' is no seed and no range",
    "0...4": "'0...4' is no seed and no range",
    "0..1..2": "'0..1..2' is no seed and no range",
    "4..0": "4..0 holds no seed: write 0..4",
    "1,1": "the seed 1 is there twice: name it once",
    "0..3,2": "the seed 2 is there twice: name it once",
    "0..99999": "there are more than 10000 seeds: give fewer",
    "0..99999999999999999999": "the seed 99999999999999999999 is too large",
    "2147483648": "the seed 2147483648 is too large: write at most 2147483647",
    "[0, 1]": "'[0' is no seed and no range",
}


def refused() -> Iterator[tuple[list[str], str]]:
    """Command lines with the words that their refusal must hold."""
    for name, arguments in COMMANDS.items():
        command = name.split()
        yield [*command, *arguments, "--nonsense"], "--nonsense"
        yield [*command, *arguments, "-x"], "-x"
        yield [*command, *arguments, "one", "too", "many"], "unexpected extra argument"
        if arguments:
            yield command, "RUN_ID" if name == "reproduce" else "FILE"
    for name in OF_FILES:
        yield from _bad_files(name)
        yield from _bad_data(name)
    for name in ("study plan", "trial run", "data check"):
        for text, words in SETS.items():
            yield [*name.split(), *COMMANDS[name], "--set", text], words
    for text, words in STUDY_SETS.items():
        yield ["study", "plan", "study.yaml", "--set", text], words
    for text, words in SEEDS.items():
        yield ["study", "plan", "study.yaml", "--seeds", text], words
    yield ["study", "plan", "study.yaml", "--seeds", "1", "--seeds", "2"], "--seeds is given 2 times"
    yield ["study", "plan", "study.yaml", "--seeds", "1", "--set", "seeds=[2]"], "the seeds are given by --seeds, too"
    yield ["study", "plan", "grids.yaml", "--set", "vary.delta=[0.3]"], "`vary` is a list of grids (grids.yaml:3): give"
    yield from _bad_options()
    yield from _bad_commands()
    yield from _bad_questions()
    yield from _bad_uses()
    yield from _bad_keeping()


def _bad_files(name: str) -> Iterator[tuple[list[str], str]]:
    command = name.split()
    yield [*command, ""], "the path is empty"
    yield [*command, "gone.yaml"], "gone.yaml: cannot be read (No such file or directory)"
    yield [*command, "folder"], "folder: is a folder: give the path of a YAML file"
    yield [*command, "pipe"], "pipe: is no regular file"
    yield [*command, "/dev/zero"], "/dev/zero: is no regular file"
    yield [*command, "study.yaml/below"], "cannot be read (Not a directory)"
    yield [*command, LONG], "cannot be read (File name too long)"
    yield [*command, "picture.png"], "picture.png:1: the byte 0x89 is no text in UTF-8"
    yield [*command, "empty.yaml"], "empty.yaml:1: holds no keys"
    yield [*command, "list.yaml"], "list.yaml:1: holds no keys"
    yield [*command, "broken.yaml"], "broken.yaml:2: no readable YAML"
    yield [*command, "ünknown.yaml"], "ünknown.yaml:1: täu = 1: unknown key"


def _bad_data(name: str) -> Iterator[tuple[list[str], str]]:
    command, own = name.split(), COMMANDS[name]
    yield [*command, *own, "--data"], "requires an argument"
    yield [*command, *own, "--data", ""], "the path is empty"
    yield [*command, *own, "--data", "x"], "--data x: the synthetic dataset is drawn: leave the option out"
    yield [*command, *own, "--data", "x", "--data", "y"], "--data is given 2 times: keep one"
    if name in {"study run", "trial run", "data check", "data show"}:
        cub = [*command, *own, "--set", "dataset=cub"]
        yield cub, "the cub data has no path: give it with --data PATH"
        yield [*cub, "--data", "gone"], "gone: does not exist: give the cub data with --data PATH"
        yield [*cub, "--data", LONG], "File name too long"


def _bad_options() -> Iterator[tuple[list[str], str]]:
    for name in COMPUTING:
        line = [*name.split(), *COMMANDS[name]]
        yield [*line, "--device", "gpu"], "'gpu' is not one of 'auto', 'cpu', 'cuda'"
        yield [*line, "--device", ""], "is not one of"
        yield [*line, "--device", "cpu", "--device", "cuda"], "--device is given 2 times: keep one"
        yield [*line, "--workers", "-1"], "-1 is not in the range 0<=x<=1024"
        yield [*line, "--workers", "two"], "'two' is not a valid integer"
        yield [*line, "--workers", "1.5"], "'1.5' is not a valid integer"
        yield [*line, "--workers", ""], "is not a valid integer"
        yield [*line, "--workers", "1025"], "1025 is not in the range 0<=x<=1024"
        yield [*line, "--output", ""], "the path is empty"
        yield [*line, "--output", "study.yaml"], "--output study.yaml: is no folder that can be written"
        yield [*line, "--output", "study.yaml/below"], "--output study.yaml/below: is no folder that can be written"
        yield [*line, "--output", LONG], "File name too long"
        yield [*line, "--cache", "study.yaml"], "--cache study.yaml: is no folder that can be written"
        yield [*line, "--cache", ""], "the path is empty"
    for name in ("study run", "reproduce", "ui"):
        line = [*name.split(), *COMMANDS[name]]
        yield [*line, "--tracking-uri", ""], "is empty: give one, or leave the option out"
        yield [*line, "--tracking-uri", " "], "is empty: give one, or leave the option out"
        yield [*line, "--tracking-uri", "http://127.0.0.1:1"], "cannot be reached"
        yield [*line, "--tracking-uri", "http://127.0.0.1:x"], "is no address (Port could not be cast"
        yield [*line, "--tracking-uri", "sqlite://"], "names no file"
        yield [*line, "--tracking-uri", "a", "--tracking-uri", "b"], "--tracking-uri is given 2 times"
    for port in ("0", "-1", "65536", "http", "", "99999999999999999999"):
        yield ["ui", "--port", port], "--port"
    for identity in ("", " ", "a b", "a'b", 'a"b', "a\nb", "a;b", "../a", "a/b", "-", "ä", LONG):
        yield ["reproduce", "--", identity], "is no run id: copy it from the MLflow UI"
    run = ["reproduce", *COMMANDS["reproduce"]]
    for text in ("tau=0.5", "dataset=cub", "weights.classifier=none", "seeds=[1]"):
        yield [*run, "--set", text], "a run is repeated as it was: only dataset.path"
    for text in ("", "=", "weights.classifier.file"):
        yield [*run, "--set", text], "write it as dotted.key=value"
    for text in ("weights.classifier.file=", "dataset.path=3", "dataset.path={a: 1}"):
        yield [*run, "--set", text], "must be a path"


def _bad_commands() -> Iterator[tuple[list[str], str]]:
    for words in (["studdy"], ["Study"], ["study", "plann"], ["study", ""], [""], ["data", "chek"], ["trial", "plan"]):
        yield words, "No such command"
    for words in (["--nonsense"], ["study", "--nonsense"], ["-v"]):
        yield words, "No such option"
    for words in ([], ["study"], ["trial"], ["data"]):
        yield words, "Usage: lchp"
    for name in ("check", "show"):
        yield ["data", name], "give a study or trial FILE, or --kind with --data"
        yield ["data", name, "trial.yaml", "--kind", "cub"], "give a study or trial FILE, or --kind with --data"
        yield ["data", name, "--kind", "cup"], "'cup' is not one of"
        yield ["data", name, "--kind", ""], "is not one of"
        yield ["data", name, "--kind", "cub"], "the cub data has no path: give it with --data PATH"
        yield (
            ["data", name, "--kind", "cub", "--data", "gone"],
            "gone: does not exist: give the cub data with --data PATH",
        )
        yield ["data", name, "--kind", "synthetic", "--data", "x"], "the synthetic dataset is drawn"
        yield ["data", name, "--kind", "table", "--kind", "cub"], "--kind is given 2 times"
    for name in ("status", "table"):
        yield ["study", name, "study.yaml", "--output", "nowhere"], "holds no run of the study: start it with"
        yield ["study", name, "study.yaml", "--output", "study.yaml"], "study.yaml"
        yield ["study", name, "study.yaml", "--output", LONG], "File name too long"
    yield ["data", "show", "trial.yaml", "--output", "folder.png"], "lchp: folder.png: Is a directory"
    yield ["data", "show", "trial.yaml", "--output", "pipe.png"], "lchp: pipe.png: Is no plain file"
    for line in (["data", "show", "trial.yaml", "--output"], ["draw", "x", "--to"], ["compare", "x", "y", "--picture"]):
        for name in ("study.yaml", "mlflow.db", "folder", "x.jpg", ".png"):
            yield [*line, name], f"{name}: a picture is drawn as PNG: give a name that ends in .png"
    yield ["draw", "x", "--image", "pipe"], "--image pipe: is no plain file: name one"
    yield ["draw", "x", "--image", "gone.png"], "--image gone.png: does not exist: name one"
    yield ["study", "list", "--log", "study.yaml"], "study.yaml is no log, to whose end lines might be written"
    yield ["study", "run", "study.yaml", "--address", ""], "is empty: give one, or leave the option out"
    yield ["study", "run", "study.yaml", "--search-storage", ""], "is empty: give one, or leave the option out"
    yield ["study", "run", "trial.yaml"], "name: is missing: add it"
    yield ["trial", "run", "study.yaml"], "this file is a study, not a trial: run it with `lchp study run study.yaml`"
    yield ["study", "plan", "study.yaml", "--json=yes"], "--json"


def _bad_questions() -> Iterator[tuple[list[str], str]]:
    for key, words in {
        "crop": "crop: unknown key: did you mean `view.crop`?",
        "view.crp": "did you mean `view.crop`?",
        "": "unknown key: `lchp config keys` lists them all",
        "x\ny": "unknown key",
        LONG: "unknown key",
    }.items():
        yield ["config", "keys", key], words
    yield ["config", "keys", "tau", "--markdown"], "--markdown prints every key"
    yield ["config", "keys", "--markdown", "--json"], "--markdown prints every key"
    yield ["config", "schema", "x"], "unexpected extra argument"
    yield ["init", "gone"], "gone: does not exist: give one with pictures"
    yield ["init", "folder"], "folder: holds no picture: give a folder with .jpg"
    yield ["init", "pipe"], "pipe: is no folder"
    yield ["init", "picture.png"], "picture.png: is one picture: give the folder above the folders of its and other"
    yield ["init", ""], "the path is empty"
    yield ["init", LONG], "File name too long"
    yield ["init", "folder", "--name", "a/b"], "--name a/b: must be letters, digits"
    yield ["init", "folder", "--name", ""], "must be letters, digits"
    yield ["init", "folder", "--study", "study.yaml"], "study.yaml: is there already: give another with --study FILE"
    yield ["init", "folder", "--weights", "gone.pth"], "--weights gone.pth: does not exist"
    yield ["init", "folder", "--from", "zip"], "'zip' is not one of"
    yield ["init", "folder", "--test", "0"], "0.0 is not in the range 0<x<=0.9"
    yield ["init", "folder", "--test", "nan"], "nan is no share: give a number"
    yield ["init", "folder", "--test", "1"], "1.0 is not in the range 0<x<=0.9"
    yield ["init", "folder", "folder"], "unexpected extra argument"
    yield ["study", "list", "x"], "unexpected extra argument"
    yield ["study", "plan", "quikstart"], "or `quickstart`, which comes with lchp"
    yield ["study", "show", "quickstart.yml"], "cannot be read (No such file or directory)"
    yield ["study", "show", "folder"], "folder: is a folder: give the path of a YAML file"
    yield ["trial", "run", "quickstart"], "this file is a study, not a trial"


def _bad_uses() -> Iterator[tuple[list[str], str]]:
    run = "0123456789abcdef0123456789abcdef"
    yield ["predict"], "RUN_ID|FOLDER|FILE"
    yield ["predict", run], "no image is named: give files, folders"
    for word, words in {
        "gone.png": "gone.png: there is no such file",
        "": "'': there is no such file",
        "*.gif": "no file fits the pattern",
        "folder": "folder: the folder holds no image",
        "pipe": "pipe: is no plain file",
        "/dev/zero": "/dev/zero: is no plain file",
        "study.yaml/below": "there is no such file",
        LONG: "there is no such file",
    }.items():
        yield ["predict", run, word], words
    for model, words in {
        "": "no model is named",
        run: "is no finished run of a study in analysis",
        "tiny": "is no folder of a study or trial",
        "folder": "holds no finished trial",
        "picture.png": "is no model that `lchp export` has written",
        "study.yaml": "is no model that `lchp export` has written",
        "pipe": "is no folder of a study or trial",
        "../up": "is no folder of a study or trial",
        LONG: "File name too long",
    }.items():
        yield ["predict", model, "picture.png"], words
        yield ["export", model, "new.safetensors"], words
    line = ["predict", run, "picture.png"]
    yield [*line, "--nonsense"], "--nonsense"
    yield [*line, "--device", "gpu"], "'gpu' is not one of 'auto', 'cpu', 'cuda'"
    yield [*line, "--device", "cuda"], "this machine has no usable CUDA device"
    yield [*line, "--format", "xml"], "'xml' is not one of"
    yield [*line, "--draw", ""], "the path is empty"
    yield [*line, "--draw", "study.yaml"], "--draw study.yaml: is no folder that can be written"
    yield [*line, "--draw", LONG], "File name too long"
    yield [*line, "--tracking-uri", "sqlite://"], "names no file"
    yield [*line, "--tracking-uri", "http://127.0.0.1:1"], "cannot be reached"
    yield ["export"], "RUN_ID|FOLDER|FILE"
    yield ["export", run], "FILE"
    yield ["export", run, "new.safetensors", "more"], "unexpected extra argument"
    for file, words in {
        "": "the path is empty",
        "model.pt": "give a name that ends in .safetensors",
        "folder": "give a name that ends in .safetensors",
        "study.yaml/below.safetensors": "is no folder that can be written",
    }.items():
        yield ["export", run, file], words


def _bad_keeping() -> Iterator[tuple[list[str], str]]:
    for place in ("tiny", "folder", "study.yaml", "../up"):
        yield (
            ["study", "rm", place, "--yes"],
            "is no folder of a study, nor the name of one in analysis",
        )
    yield ["study", "rm", LONG, "--yes"], "File name too long"
    yield ["study", "rm"], "STUDY|FOLDER"
    yield ["study", "rm", ""], "the path is empty"
    yield ["study", "rm", "tiny", "--runs", "burn"], "'burn' is not one of 'keep', 'delete'"
    yield ["study", "gc", "--output", "nowhere"], "nowhere: is no folder: give that of the studies"
    yield ["study", "gc", "--output", "study.yaml"], "study.yaml: is no folder: give that of the studies"
    yield ["study", "gc", "tiny"], "unexpected extra argument"
    yield ["study", "list", "--output", "nowhere"], "nowhere: is no folder"
    yield ["study", "status", ""], "the path is empty"
    yield ["study", "status", LONG], "File name too long"
    for place in ("folder", "pipe", "quikstart", "study.yaml/below"):
        yield ["study", "status", place], f"{place}: is no folder of a study, nor the name of one in analysis"
    yield ["study", "status", "folder", "--seeds", "1"], "folder: is a folder: give the path of a YAML file"
    yield ["study", "status", "gone.yaml"], "gone.yaml: cannot be read (No such file or directory)"
    yield ["study", "status", "picture.png"], "picture.png:1: the byte 0x89 is no text in UTF-8"
    yield ["study", "status", "study.yaml", "--data", "x"], "--data x: the synthetic dataset is drawn"
    yield ["study", "archive"], "STUDY|FOLDER|FILE"
    yield ["study", "archive", "folder", "tiny.zip", "--seeds", "1"], "folder: is a folder: give the path of a YAML"
    yield ["study", "archive", "study.yaml"], "ARCHIVE"
    yield ["study", "archive", "study.yaml", "tiny.zip"], "holds no run of the study"
    yield ["study", "archive", "folder", "tiny.zip"], "is no folder of a study, nor the name of one in analysis"
    yield ["study", "archive", "gone.yaml", "tiny.zip"], "gone.yaml: cannot be read"
    yield ["study", "archive", "study.yaml", "tiny.tar"], "give a name that ends in .zip"
    yield ["study", "archive", "study.yaml", ""], "the path is empty"
    yield ["study", "import"], "ARCHIVE"
    yield ["study", "import", ""], "the path is empty"
    yield ["study", "import", "gone.zip"], "gone.zip: there is no such file"
    yield ["study", "import", "folder"], "folder: is no plain file"
    yield ["study", "import", "pipe"], "pipe: is no plain file"
    yield ["study", "import", "picture.png"], "picture.png: is no whole archive"
    yield ["study", "import", LONG], "File name too long"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import os

    made = tmp_path_factory.mktemp("lines")
    (made / "home").mkdir()
    (made / "folder").mkdir()
    os.mkfifo(made / "pipe")
    os.mkfifo(made / "pipe.png")
    (made / "folder.png").mkdir()
    (made / "picture.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    for name, text in {
        "study.yaml": STUDY,
        "trial.yaml": TRIAL,
        "grids.yaml": "name: grids\npreset: quickstart\nvary: [{delta: [0.4]}, {tau: [0.5]}]\n",
        "empty.yaml": "",
        "list.yaml": "- a\n",
        "broken.yaml": "a: [1\n",
        "ünknown.yaml": "täu: 1\n",
    }.items():
        (made / name).write_text(text, encoding="utf-8")
    return made


@pytest.fixture(scope="module")
def told(folder: Path) -> list[tuple[list[str], str, Told]]:
    lines = list(refused())
    before = sorted(folder.rglob("*"))
    given = answers(folder, [line for line, _ in lines])
    assert sorted(folder.rglob("*")) == before, "a refusal left something behind"
    return [(line, words, told) for (line, words), told in zip(lines, given, strict=True)]


def test_bad_command_lines_are_some_hundreds(told: list[tuple[list[str], str, Told]]) -> None:
    assert len(told) > 430


def test_bad_command_line_is_refused_without_a_traceback(told: list[tuple[list[str], str, Told]]) -> None:
    assert [(line, told.err) for line, _, told in told if told.code != 2 or told.out] == []
    assert [(line, told.err) for line, _, told in told if "Traceback" in told.err or "internal error" in told.err] == []


def test_bad_command_line_is_told_what_is_wrong_and_what_would_be_right(
    told: list[tuple[list[str], str, Told]],
) -> None:
    assert [(line, words, told.err) for line, words, told in told if words not in told.err] == []


def test_bad_command_line_is_told_briefly(told: list[tuple[list[str], str, Told]]) -> None:
    assert [(line, told.err) for line, _, told in told if len(told.err) > 2000 and LONG not in line] == []


def test_help_of_every_command_is_shown_whatever_else_is_given(folder: Path) -> None:
    lines = [[*name.split(), *before, word] for name in COMMANDS for word in ("--help", "-h") for before in ([], ["x"])]
    lines += [[word] for word in ("--help", "-h")] + [[name, "--help"] for name in ("study", "trial", "data")]
    for line, told in zip(lines, answers(folder, lines), strict=True):
        assert (told.code, told.err, told.out[:11]) == (0, "", "Usage: lchp"), line


def test_what_needs_no_data_imports_nothing_heavy(folder: Path) -> None:
    lines = [["study", "plan", "study.yaml"], ["study", "plan", "study.yaml", "--set", "dataset=cub", "--json"]]
    lines += [["study", "list"], ["study", "show", "quickstart"], ["study", "plan", "table3-delta"]]
    lines += [["config", "show", "study.yaml"], ["config", "show", "trial.yaml", "--json"], ["config", "schema"]]
    lines += [["config", "keys"], ["config", "keys", "view"], ["config", "keys", "--json"]]
    for told in answers(folder, lines):
        assert (told.code, told.err) == (0, "")


def test_sweeps_of_the_command_line_are_those_of_a_file(folder: Path) -> None:
    line = ["study", "plan", "study.yaml", "--json"]
    sets = ["--set", "vary.delta=[0.3, 0.5]", "--set", "vary.refinement.epochs=[1, 2]"]
    space = "search.space.refinement.rate"
    searched = ["config", "show", "search-quickstart", "--json", "--set", f"{space}={{low: 1e-4, high: 1e-3}}"]
    lines = [[*line, *sets, "--seeds", "0..1, 5"], [*searched, "--set", f"{space}.low=2e-4"]]
    told, of_space = answers(folder, lines)
    assert (told.code, told.err) == (0, "")
    plan = json.loads(told.out)
    found = {(one["values"]["delta"], one["values"]["refinement.epochs"], one["seed"]) for one in plan["trial_list"]}
    assert found == {(delta, epochs, seed) for delta in (0.3, 0.5) for epochs in (1, 2) for seed in (0, 1, 5)}
    assert json.loads(of_space.out)["search.space"]["value"]["refinement.rate"] == {
        "low": 2e-4,
        "high": 1e-3,
        "log": False,
    }


def process(folder: Path, command: str, **variables: str) -> subprocess.CompletedProcess[bytes]:
    """A command line of the shell, in which ``$LCHP`` is the command; on a busy machine it would tell that it is at
    work, but for ``-q``.
    """
    words = {**environment(folder), "LCHP": f"{sys.executable} -c 'from lchp.cli import main; main()'", **variables}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; lchp() {{ eval \"$LCHP\" '\"$@\"' -q; }}; {command}"],
        cwd=folder, env=words, capture_output=True, check=False, timeout=60,
    )  # fmt: skip


def test_output_that_nobody_reads_any_more_ends_quietly(folder: Path) -> None:
    many = f"vary={{tau: [{', '.join(str(index / 2000) for index in range(2000))}]}}"
    done = process(folder, f"lchp study plan study.yaml --set '{many}' | head -1")
    assert (done.stdout.count(b"\n"), done.stderr, done.returncode) == (1, b"", 141)


@pytest.mark.parametrize(
    ("variables", "shown"),
    [
        ({"PYTHONIOENCODING": "ascii"}, b"study tiny: "),
        ({"LC_ALL": "C"}, b"study tiny: "),
        ({"PYTHONIOENCODING": "latin-1"}, b"study tiny: \xe4\xb1\\U0001f426"),
    ],
)
def test_output_on_a_terminal_that_lacks_letters_is_no_error(
    folder: Path, variables: dict[str, str], shown: bytes
) -> None:
    done = process(folder, "lchp study plan study.yaml --set 'question=ä±🐦'", **variables)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(shown)


def test_output_that_is_closed_is_no_error_and_its_number_is_not_reused(folder: Path) -> None:
    done = process(folder, "lchp study plan study.yaml >&-")
    assert (done.returncode, done.stderr, done.stdout) == (0, b"", b"")
    done = process(folder, "lchp study plan study.yaml 2>&- >&- <&-")
    assert done.returncode == 0


def test_input_that_is_closed_holds_nothing(folder: Path) -> None:
    done = process(folder, "lchp predict study.yaml - <&-")
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"-: standard input names no file: give a list, one a line" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_output_that_cannot_be_written_is_one_message(folder: Path) -> None:
    done = process(folder, "lchp study plan study.yaml > /dev/full")
    assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
    assert b"No space left on device: free space there" in done.stderr


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_errors_that_cannot_be_told_change_no_answer(folder: Path) -> None:
    done = process(folder, "lchp study plan gone.yaml 2> /dev/full")
    assert (done.returncode, done.stdout, done.stderr) == (2, b"", b"")
    done = process(folder, "lchp data check trial.yaml -v --set dataset.train_per_class=8 2> /dev/full")
    assert (done.returncode, b"problems: none" in done.stdout) == (0, True)


def test_argument_that_is_no_text_is_refused_by_name(folder: Path) -> None:
    done = process(folder, "lchp study plan $'st\\xffdy.yaml'")
    assert (done.returncode, b"Traceback" in done.stderr) == (2, False)
    assert b"dy.yaml: cannot be read (No such file or directory)" in done.stderr
