"""Process-wide switches of torch, given back when a block ends but where it says otherwise."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

_CGROUP = Path("/sys/fs/cgroup")
_WIDE = 128  # d_model from which matrix products outlast the meeting of threads


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed torch for the block and give the process its own random state back afterwards."""
    devices = [torch.cuda.current_device()] if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices):
        torch.manual_seed(seed)
        yield


def random_states(device: torch.device) -> dict[str, Tensor]:
    """Return copies of the states of torch's own generators, the device's too where it has one."""
    states = {"random/cpu": torch.get_rng_state()}
    if device.type == "cuda":
        states["random/cuda"] = torch.cuda.get_rng_state(device)
    return states


def restore_random(device: torch.device, states: Mapping[str, Tensor]) -> None:
    """Give torch's own generators the states of `random_states`; other names are left alone."""
    torch.set_rng_state(states["random/cpu"])
    if device.type == "cuda":
        torch.cuda.set_rng_state(states["random/cuda"], device)


@contextmanager
def determinism(wanted: bool) -> Iterator[None]:
    """Let only deterministic algorithms run inside the block, where that is wanted.

    A CPU is deterministic either way. On a GPU the kernels that add in any order are replaced or
    refused: the price is speed.

    One thing outlasts the block: the variable `CUBLAS_WORKSPACE_CONFIG`, where it was not set. It
    is read once, at the process's first matrix product on a GPU. A process that has had one before
    keeps cuBLAS's own workspaces, whose sums may differ in the last bits; set the variable before
    such a process starts to have the same bits from it.
    """
    if not wanted:
        yield
        return
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    benchmark = torch.backends.cudnn.benchmark
    # Not taken back: torch refuses deterministic products without it, the next block's too.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        torch.backends.cudnn.benchmark = benchmark


@contextmanager
def fitting_threads(width: int) -> Iterator[None]:
    """Use as many threads inside the block as a model gains from on this machine's CPU.

    No more than this process has cores: PyTorch counts those of the machine, and in a container
    that may use two of sixty-four its threads would wait for one another. And one for a narrow
    model, whose products are so short that threads mostly meet at their ends: a second one makes
    the demo's epoch a fifth shorter on two idle cores (1.4 s for 1.7 s), and thirteen times longer
    on cores shared with other processes (22 s), as they are beside a web server or a test worker.

    Parameters
    ----------
    width : int
        `d_model`.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if width < _WIDE else min(before, usable_cores()))
    try:
        yield
    finally:
        torch.set_num_threads(before)


def usable_cores(cgroup: Path = _CGROUP) -> int:
    """Return the cores that this process may use, at least 1.

    Parameters
    ----------
    cgroup : Path
        Root of the control groups, whose quota a container is held to (Linux, version 2).
    """
    affinity = getattr(os, "sched_getaffinity", None)
    cores = len(affinity(0)) if affinity is not None else os.cpu_count() or 1
    try:
        quota, period = (cgroup / "cpu.max").read_text().split()
    except (OSError, ValueError):  # no such file, or not of this form: no quota
        return cores
    if quota == "max":
        return cores
    return max(1, min(cores, int(quota) // int(period)))
