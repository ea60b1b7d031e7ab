"""The command lines of the documents that cost little, run where a study is finished."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
from PIL import Image

from lchp.cli import run
from tests.documents import PAGES, blocks, lines
from tests.study.conftest import Trained
from tests.study.written import TINY

CHEAP = {
    "study list", "study show", "study plan", "study status", "study gc", "study archive", "study import",
    "config keys", "config show", "config schema", "compare", "predict", "export", "data check",
}  # fmt: skip
"""What needs neither training, figures, a server nor data that is not drawn."""
ELSEWHERE = re.compile(r"--data|--tracking-uri|table3-delta\.yaml|pictures\.yaml")


@pytest.fixture
def at_work(trained: Trained, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of the documents: their studies, two of them finished, and pictures."""
    for page in PAGES:
        for block in blocks(page, "yaml"):
            named = re.match(r"name: ([\w-]+)", block)
            (tmp_path / f"{named[1] if named else 'trial'}.yaml").write_text(block, encoding="utf-8")
    (tmp_path / "my-birds.yaml").write_text(TINY.replace("name: tiny", "name: my-birds"), encoding="utf-8")
    shutil.copytree(trained.output, tmp_path / "analysis")
    for name in ("quickstart", "my-birds"):
        shutil.copytree(trained.output / "tiny", tmp_path / "analysis" / name)
    with Image.open(next(trained.images.rglob("*.png"))) as image:
        for file in ("pictures/one.png", "birds/two.png", "three.jpg", "new.jpg"):
            (tmp_path / file).parent.mkdir(exist_ok=True)
            image.convert("RGB").save(tmp_path / file)
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    (tmp_path / "home/lchp").symlink_to(trained.output.parent / "cache")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_documents_cheap_command_lines_do_what_they_say(
    trained: Trained, at_work: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = set()
    # tests/test_wheel.py follows that page as a whole.
    given = [line for line in lines("lchp") if line.page != "ways.md" and not line.piped]
    for words, into in dict.fromkeys((line.words, line.into) for line in given):
        name = " ".join(words[: 2 if words[0] in {"study", "config", "data"} else 1])
        if name not in CHEAP or ELSEWHERE.search(" ".join(words)) or "--watch" in words:
            continue
        code = run([word.replace("RUN_ID", trained.run) for word in words])
        told = capsys.readouterr()
        assert code == 0, f"lchp {' '.join(words)}: {told.err}"
        assert told.out, words
        if into is not None:
            (at_work / into).write_text(told.out, encoding="utf-8")
        ran.add(name)
    assert ran == CHEAP
    assert list((at_work / "drawn").glob("*.jpg"))
    assert (at_work / "there/my-birds/trials.json").is_file()
