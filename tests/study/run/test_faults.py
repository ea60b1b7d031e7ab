from __future__ import annotations

import pytest

from lchp.study.run.faults import PREEMPTED, fault_of

KILLED = ("ActorDiedError", "RayActorError", "RayError", "Exception", "BaseException", "object")
DIED = (
    "The actor died unexpectedly before finishing this task.\nThe actor is dead because its worker process has died. "
    "Some common causes include: (1) the process was killed by the OOM killer due to high memory usage"
)
LOW = (
    "1 worker(s) were killed due to the node running low on memory. Memory on the node (IP: 10.0.0.2, ID: 83c6) was "
    "29.40GB used / 30.54GB limit (0.96)\nOOM kill reason: Memory usage exceeded threshold"
)
CUDA = "Traceback\ntorch.OutOfMemoryError: CUDA out of memory. Tried to allocate 20.00 MiB. GPU 0 has a total capacity"


@pytest.mark.parametrize(
    ("names", "text", "line"),
    [
        (KILLED, DIED, "its worker process died"),
        ((PREEMPTED, *KILLED), DIED, "its machine was lost"),
        (("NodeDiedError", "RayError"), "the node died", "its machine was lost"),
        (("ActorUnavailableError", "RayActorError", "RayError"), "RPC", "its worker cannot be reached"),
        (("OwnerDiedError", "ObjectLostError", "RayError"), "owner", "Ray has failed"),
        (
            ("RayError",),
            LOW,
            "out of memory (29.40GB of the machine's 30.54GB were in use, Ray ended the worker)",
        ),
        (
            ("OutOfMemoryError", "RuntimeError"),
            CUDA,
            "out of memory (torch.OutOfMemoryError: CUDA out of memory)",
        ),
        (("MemoryError", "Exception"), "Traceback\nMemoryError", "out of memory (MemoryError)"),
        (
            ("RuntimeError", "Exception"),
            "RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 byte",
            "out of memory (RuntimeError: [enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to "
            "allocate 1 byte)",
        ),
    ],
)
def test_fault_of_the_machine_has_a_line_and_a_remedy(names: tuple[str, ...], text: str, line: str) -> None:
    fault = fault_of(names, text)
    assert fault.of_machine
    assert fault.line == line
    assert fault.remedy
    assert fault.text == text


@pytest.mark.parametrize(
    "names", [("FloatingPointError", "ArithmeticError"), ("Refusal", "ValueError"), ("OSError",), ()]
)
def test_fault_of_training_code_is_the_trials_own_and_told_by_its_last_line(names: tuple[str, ...]) -> None:
    fault = fault_of(names, "Failure # 1\nTraceback\nFloatingPointError: the loss is nan\n\n")
    assert not fault.of_machine
    assert fault.line == "FloatingPointError: the loss is nan"


def test_fault_of_a_trial_that_does_not_fit_into_its_share_of_a_gpu_is_its_own() -> None:
    text = (
        "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has a capacity of 79.11 GiB "
        "of which 40.01 GiB is free. 39.55 GiB allowed; Of the allocated memory 38.90 GiB is allocated by PyTorch."
    )
    fault = fault_of(["OutOfMemoryError", "RuntimeError"], text)
    assert not fault.of_machine
    assert fault.line == "does not fit into its share of a GPU, of whose memory it may take 39.55 GiB"
    assert fault.remedy.startswith("raise that with --set resources.gpus=SHARE, or ")
    assert fault_of(["OutOfMemoryError"], text.replace("39.55 GiB allowed; ", "")).of_machine
