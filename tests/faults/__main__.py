"""``make faults``: every fault of a seed, one line each, and a table of what came of them.

What has passed is kept in a file: the same command goes on with what has not.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from tests.faults.catalog import Fault, catalog
from tests.faults.inflicted import Verdict, befall
from tests.faults.workplace import Zygote, code

RESULTS = "results.jsonl"


def main() -> int:
    """Run the faults that the command line asks for; 1 if one came to something else than the undisturbed study."""
    parser = argparse.ArgumentParser(
        prog="make faults", description="Faults befall small studies, which must not care."
    )
    parser.add_argument("--seed", type=int, default=0, help="draws the faults (default 0)")
    parser.add_argument(
        "--only", default="", metavar="17,20-25", help="the numbers of the faults; again, if they passed"
    )
    parser.add_argument("--ray", action=argparse.BooleanOptionalAction, help="those with Ray alone, or those without")
    parser.add_argument("--folder", type=Path, default=Path("/tmp/lchp-faults"), help="where all of it happens")
    parser.add_argument("--list", action="store_true", help="name the faults alone")
    options = parser.parse_args()
    faults = chosen(catalog(options.seed), options.only, options.ray)
    if options.list:
        print("\n".join(f"{fault.number:>4}  {fault.name}" for fault in faults))
        return 0
    root = options.folder.absolute() / f"seed-{options.seed}"
    root.mkdir(parents=True, exist_ok=True)
    with Zygote() as zygote:
        for fault in faults if options.only else [one for one in faults if not results(root).get(one.number)]:
            _run(fault, root, zygote)
    return _summary(faults, results(root))


def chosen(faults: Sequence[Fault], only: str, ray: bool | None) -> list[Fault]:
    """The faults of these numbers, with Ray or without."""
    numbers = set()
    for part in filter(None, only.split(",")):
        first, _, last = part.partition("-")
        numbers |= set(range(int(first), int(last or first) + 1))
    return [fault for fault in faults if (not only or fault.number in numbers) and ray in (None, fault.ray)]


def results(root: Path) -> dict[int, bool]:
    """Whether each fault that was tried has passed the last time."""
    file = root / RESULTS
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {row["number"]: not row["problems"] for row in map(json.loads, lines)}


def _run(fault: Fault, root: Path, zygote: Zygote) -> None:
    folder = root / str(fault.number)
    _remove(folder)
    try:
        verdict = befall(fault, root, zygote)
    except (
        Exception
    ) as error:  # what it left cannot be looked at, or the harness is at fault: the next fault is another
        verdict = Verdict(problems=[f"{type(error).__name__}: {error}"])
    row = {**asdict(fault), **asdict(verdict), "seconds": round(verdict.seconds, 1), "code": code()}
    with (root / RESULTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    word = "FAILED" if verdict.problems else "ok"
    print(f"{fault.number:>4}  {word:<6} {verdict.seconds:6.1f} s  {fault.name}: {verdict.hit}  {verdict.codes}")
    for line in verdict.problems[:12]:
        print(f"      {line}")
    sys.stdout.flush()
    if not verdict.problems:
        _remove(folder)


def _remove(folder: Path) -> None:
    for one in (folder, folder.with_name(f"{folder.name}.said")):
        shutil.rmtree(one, ignore_errors=True)


def _summary(faults: Sequence[Fault], passed: dict[int, bool]) -> int:
    """A row for each kind of fault: how many there are, and how many passed."""
    words = {None: "not run", True: "ok", False: "FAILED"}
    counts = Counter((fault.name, words[passed.get(fault.number)]) for fault in faults)
    print(f"\n{'fault':<64} {'all':>4} {'ok':>4} {'FAILED':>6} {'not run':>7}")
    for name in dict.fromkeys(fault.name for fault in faults):
        row = [counts[name, word] for word in ("ok", "FAILED", "not run")]
        print(f"{name:<64} {sum(row):>4} {row[0]:>4} {row[1]:>6} {row[2]:>7}")
    failed = sorted(fault.number for fault in faults if passed.get(fault.number) is False)
    done = sum(passed.get(fault.number) is not None for fault in faults)
    print(
        f"{done} of {len(faults)} faults run, {len(failed)} failed{': ' if failed else ''}{', '.join(map(str, failed))}"
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
