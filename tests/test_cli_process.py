from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

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
