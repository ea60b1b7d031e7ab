from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lchp.study.run.scratch import scratch_folder

HOLDER = """
import subprocess, sys
from pathlib import Path
from lchp.study.run.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1])) as folder:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)", str(folder)])
    print(child.pid, folder, flush=True)
    input()
"""


def test_scratch_folder_goes_with_its_block(tmp_path: Path) -> None:
    with scratch_folder(tmp_path) as folder:
        assert folder.parent == tmp_path
        assert len(folder.name) == len("lchp-12345678")
        (folder / "session").mkdir()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="looks for processes in /proc")
def test_scratch_folder_of_a_killed_process_goes_at_the_next_start_and_a_living_ones_stays(tmp_path: Path) -> None:
    other = tmp_path / "lchp-study"
    other.mkdir()
    (other / ".lock").touch()
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        child, _, left = holder.stdout.readline().strip().partition(" ")
        with scratch_folder(tmp_path):
            assert Path(left).is_dir()
            os.kill(int(child), 0)
        holder.kill()
        assert holder.wait() == -signal.SIGKILL
        with scratch_folder(tmp_path) as folder:
            assert set(tmp_path.iterdir()) == {folder, other}
        assert holder.stdout.read() == "", "the child, which could write there, has ended"
