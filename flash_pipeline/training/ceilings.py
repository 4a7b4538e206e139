"""Whether this machine has what a training takes, measured before one begins.

Disk and memory have no way around them: below their floor nothing is trained. A GPU has one, as
configured: fail, train on the CPU, or leave the training out for this time.
"""

import gc
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from flash_pipeline.errors import GpuUnavailable, InvalidConfig, NotEnoughRoom
from flash_pipeline.model.trader import FlashAttentionTrader
from flash_pipeline.settings import GPU_TROUBLE_CHOICES, Settings
from flash_pipeline.training.host_memory import available_memory
from flash_pipeline.training.memory import step_bytes
from flash_pipeline.training.recipes import Recipe
from flash_pipeline.windows.blocks import WindowFrame

GIB = 2**30

GPU_RECIPES = frozenset({"seed", "full"})
"""Recipes of a size that a GPU trains in minutes and a CPU in hours: they expect one."""

_PANEL_COPIES = 3  # of the windows in memory: scaled, laid out along time, and the labels' own
_SMALL_FILES = 64 * 2**20  # figures, the report, rows of the databases
_LIBRARIES_ON_GPU = 2**30  # the context, workspaces of cuBLAS, captured steps, a small panel
_LIBRARIES_OF_GPU = 2**30  # what CUDA's libraries and pinned buffers take of the host
_CPU_OVER_GPU = 2  # activations in float32 where a GPU keeps them in bf16


@dataclass(frozen=True)
class Gpu:
    """A GPU as it was found."""

    name: str
    """Its name."""
    free: int
    """Bytes that this process can take, those that it caches included."""
    total: int
    """Bytes in all."""


@dataclass(frozen=True)
class Machine:
    """What was free when it was measured."""

    disk: int
    """Bytes below the home."""
    memory: int | None
    """Bytes of memory, the bounds of a container included; None where the system does not tell."""
    gpu: Gpu | None
    """The GPU that a training would take; None without a usable one."""
    gpu_fault: str = "PyTorch finds no CUDA device"
    """Why there is none."""


@dataclass(frozen=True)
class Needs:
    """What a training takes at its peak, in bytes, beyond what is in use already."""

    disk: int
    """A checkpoint while the next one is written, and the model on its way to the registry."""
    memory: int
    """Of the machine."""
    gpu: int
    """Of the GPU; 0 on a CPU."""


@dataclass(frozen=True)
class Placement:
    """Where a training goes."""

    device: torch.device | None
    """None: it is left out for this time."""
    trouble: str = ""
    """What is wrong with the GPU; empty where nothing is."""


def measure_machine(home: Path) -> Machine:
    """Measure what is free now.

    Parameters
    ----------
    home : Path
        Existing folder on the disk that is written to.
    """
    disk = shutil.disk_usage(home).free
    gpu, fault = _measure_gpu()
    return Machine(disk, available_memory(), gpu, fault)


def training_needs(recipe: Recipe, frame_bytes: int, *, on_gpu: bool) -> Needs:
    """Estimate what a training takes.

    The step's memory is `step_bytes`, twice that on a CPU, where activations are float32. A
    checkpoint holds at most five tensors per weight (the weight, its best and average, two
    moments), and is there twice while it is replaced.

    Parameters
    ----------
    frame_bytes : int
        Of the windows in memory.
    """
    with torch.device("meta"):  # counted, not made
        parameters = FlashAttentionTrader(recipe.model).n_parameters
    step = step_bytes(recipe.model, recipe.train, parameters, recipe.data.lookback)
    weights = 4 * parameters
    disk = (2 * 5 + 3) * weights + _SMALL_FILES
    panel = _PANEL_COPIES * frame_bytes
    if on_gpu:  # a panel above its share of the free memory stays on the host
        return Needs(disk, panel + _LIBRARIES_OF_GPU, step + _LIBRARIES_ON_GPU)
    return Needs(disk, panel + _CPU_OVER_GPU * step, 0)


def place_training(
    settings: Settings,
    frame: WindowFrame,
    recipe: Recipe,
    *,
    on_gpu_trouble: str | None = None,
    trouble: str = "",
    measure: Callable[[Path], Machine] = measure_machine,
) -> Placement:
    """Choose the device of a training, after making sure that there is room for it.

    Parameters
    ----------
    settings : Settings
        The floors, and what is done without a GPU.
    on_gpu_trouble : str or None
        `fail`, `cpu` or `skip` in place of the setting.
    trouble : str
        What the GPU has shown already, such as too little memory within a step; empty: none.
    measure : callable
        Injected by tests.

    Returns
    -------
    Placement
        The GPU where it has the room; the CPU where it has not and the recipe expects none, with
        the trouble of one that is there; else what the setting says.

    Raises
    ------
    GpuUnavailable
        If the GPU cannot be used, the recipe expects one, or its memory has run out within a step,
        and the setting is `fail`.
    NotEnoughRoom
        If disk or memory would fall below its floor.
    InvalidConfig
        For another setting.
    """
    policy = on_gpu_trouble or settings.on_gpu_trouble
    if policy not in GPU_TROUBLE_CHOICES:
        expected = ", ".join(GPU_TROUBLE_CHOICES)
        raise InvalidConfig(f"on_gpu_trouble is {policy!r}: expected one of {expected}")
    machine = measure(settings.home)
    frame_bytes = frame.x_BKSF.nbytes + frame.y_BKS.nbytes + frame.valid_BKS.nbytes
    on_gpu = training_needs(recipe, frame_bytes, on_gpu=True)
    floor = int(settings.free_memory_gib * GIB)
    if not trouble:
        trouble = _gpu_trouble(recipe, machine, on_gpu, floor)
        policy = policy if recipe.name in GPU_RECIPES else "cpu"
    if trouble and policy == "fail":
        raise GpuUnavailable(
            f"recipe {recipe.name!r} is not trained: {trouble}; FLASH_PIPELINE_ON_GPU_TROUBLE "
            "may say cpu or skip in place of fail"
        )
    if trouble and policy == "skip":
        return Placement(None, trouble)
    if machine.gpu is None or trouble:
        _require_room(settings, machine, training_needs(recipe, frame_bytes, on_gpu=False))
        return Placement(torch.device("cpu"), trouble)
    _require_room(settings, machine, on_gpu)
    return Placement(torch.device("cuda"))


def require_gpu(
    settings: Settings, recipe: str, *, measure: Callable[[Path], Machine] = measure_machine
) -> None:
    """Refuse a training on long sequences that expects a GPU where there is none.

    Such a training takes the GPU where there is one; at full size a CPU would be at it for days.

    Parameters
    ----------
    settings : Settings
        With `on_gpu_trouble` `cpu` nothing is refused.
    recipe : str
        Name of the recipe, one of `GPU_RECIPES` or another.
    measure : callable
        Injected by tests.

    Raises
    ------
    GpuUnavailable
        Before anything is trained, with what is wrong.
    """
    if recipe not in GPU_RECIPES or settings.on_gpu_trouble == "cpu":
        return
    machine = measure(settings.home)
    if machine.gpu is None:
        raise GpuUnavailable(
            f"recipe {recipe!r} is not trained: {machine.gpu_fault}; "
            "FLASH_PIPELINE_ON_GPU_TROUBLE=cpu trains it on the CPU, which takes days at its size"
        )


def release_gpu() -> None:
    """Give back the GPU memory of a training that has ended, as far as nothing refers to it."""
    gc.collect()
    torch.cuda.empty_cache()


def _gpu_trouble(recipe: Recipe, machine: Machine, needs: Needs, floor: int) -> str:
    """Say why the GPU cannot be used where it should be; empty where all is well."""
    gpu = machine.gpu
    if gpu is None:
        return machine.gpu_fault if recipe.name in GPU_RECIPES else ""
    if gpu.free >= needs.gpu + floor:
        return ""
    return (
        f"{gpu.name} has {_gib(gpu.free)} of {_gib(gpu.total)} GiB free, a training takes about "
        f"{_gib(needs.gpu)} and leaves {_gib(floor)}"
    )


def _require_room(settings: Settings, machine: Machine, needs: Needs) -> None:
    rows = (
        ("disk", machine.disk, needs.disk, settings.free_disk_gib, "FREE_DISK_GIB"),
        ("memory", machine.memory, needs.memory, settings.free_memory_gib, "FREE_MEMORY_GIB"),
    )
    for name, free, need, floor_gib, variable in rows:
        if free is not None and free < need + floor_gib * GIB:
            where = f" below {settings.home}" if name == "disk" else ""
            raise NotEnoughRoom(
                f"{_gib(free)} GiB of {name} are free{where}: a training takes about {_gib(need)} "
                f"and is to leave {floor_gib:g} (FLASH_PIPELINE_{variable})"
            )


def _measure_gpu() -> tuple[Gpu | None, str]:
    """Return the GPU, or why there is none that can be used."""
    if not torch.cuda.is_available():
        return None, Machine.gpu_fault
    try:
        free, total = torch.cuda.mem_get_info()
        cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return Gpu(torch.cuda.get_device_name(), free + cached, total), ""
    except RuntimeError as error:  # held exclusively by another process, or its driver is broken
        return None, f"the GPU cannot be used: {str(error).splitlines()[0]}"


def _gib(size: int) -> str:
    return f"{size / GIB:.2f}"
