from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from PIL import Image

from lchp import cli_process

CODE = """
import sys
from lchp.cli_process import leave
from lchp.data.headers import header
leave(lambda: print(header(sys.argv[1]).height) or 0)
"""


def test_leave_command_that_reads_a_large_picture_warns_of_nothing(tmp_path: Path) -> None:
    file = tmp_path / "large.png"
    Image.new("1", (10_000, 9_001)).save(file)
    done = subprocess.run([sys.executable, "-c", CODE, str(file)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "9001\n", "")


def test_standard_error_that_takes_a_part_at_a_time_gets_all_of_it() -> None:
    here, there = os.pipe()
    os.set_blocking(there, False)
    told = cli_process._ToldOrNot(there, "w")
    data, taken = b"x" * 1_000_000, 0
    taken = told.write(data)
    assert 0 < taken < len(data)
    assert len(os.read(here, len(data))) == taken
    told.close()
    os.close(here)
