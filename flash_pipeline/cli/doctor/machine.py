"""Doctor on the machine: Python, packages, GPU, attention, compiler."""

import platform
import shutil
import subprocess
from collections.abc import Iterator
from importlib import metadata

from flash_pipeline.cli.doctor.finding import Finding
from flash_pipeline.errors import FlashPipelineError

_SHOWN = ("torch", "dagster", "mlflow", "duckdb", "pyarrow")
_QUERY = "name,driver_version,memory.total,memory.used,utilization.gpu"
_PATIENCE_S = 10
_BUSY_PERCENT = 50
_LEAST_FREE_MIB = 4_096


def check_packages() -> list[Finding]:
    """Compare what is installed with what the package asks for."""
    python = f"Python {platform.python_version()} on {platform.system()} {platform.machine()}"
    versions = ", ".join(f"{name} {_version(name)}" for name in _SHOWN)
    findings = [Finding("python", "ok", f"{python}; {versions}")]
    findings += [
        Finding("packages", "fail", wrong, "install again: pip install -e . (or make run)")
        for wrong in _unmet()
    ]
    return findings


def check_gpu() -> list[Finding]:
    """Say which GPUs there are, whether PyTorch uses them, and whether they are busy."""
    from flash_pipeline.training.bundle import default_device

    rows, used = _nvidia_smi(), default_device().type == "cuda"
    if not rows and used:
        return [Finding("gpu", "ok", "a CUDA device; nvidia-smi, which would name it, is missing")]
    if not rows:
        return [Finding("gpu", "ok", "none: small recipes train on the processor")]
    if not used:
        return [
            Finding(
                "gpu",
                "warn",
                f"{rows[0][0]} is here, and torch {_version('torch')} cannot use it",
                "install torch with CUDA for this driver (pytorch.org), and unset "
                "CUDA_VISIBLE_DEVICES where that hides it",
            )
        ]
    return [describe_gpu(*row) for row in rows]


def check_attention(recipe_name: str) -> list[Finding]:
    """Say which attention a recipe takes here and why, and what faster ones lack."""
    from flash_pipeline.model.refusals import compiler_refusal
    from flash_pipeline.model.trader import FlashAttentionTrader
    from flash_pipeline.training.bundle import autocast, default_device
    from flash_pipeline.training.recipes import get_recipe

    device, recipe = default_device(), get_recipe(recipe_name)
    model = FlashAttentionTrader(recipe.model).to(device)
    try:
        with autocast(device):
            choice = str(model.choose_attention(recipe.data.lookback, has_mask=False))
    except FlashPipelineError as error:
        return [Finding("attention", "fail", str(error), "choose auto, or another backend")]
    findings = [Finding("attention", "ok", f"recipe {recipe.name}: {choice}")]
    on_gpu, refused = device.type == "cuda", compiler_refusal()
    findings.append(_flash_attn(on_gpu=on_gpu))
    if refused is None:
        findings.append(Finding("compiler", "ok", "torch.compile has triton and a C compiler"))
    elif on_gpu:
        mend = "install gcc (Debian: build-essential), or name one in CC; triton comes with torch"
        findings.append(Finding("compiler", "warn", f"no torch.compile: {refused}", mend))
    else:
        findings.append(Finding("compiler", "ok", f"not needed without a GPU ({refused})"))
    return findings


def check_boosting() -> list[Finding]:
    """Say whether the gradient-boosting baseline can be fitted."""
    try:
        import lightgbm  # noqa: F401  (loads its library)
    except (ImportError, OSError) as error:
        mend = "Debian: apt install libgomp1; the report goes on without this baseline"
        return [Finding("lightgbm", "warn", f"cannot be loaded: {error}", mend)]
    return [Finding("lightgbm", "ok", f"lightgbm {_version('lightgbm')} and its OpenMP runtime")]


def describe_gpu(
    name: str, driver: str, total_mib: str, used_mib: str, busy_percent: str
) -> Finding:
    """Return what nvidia-smi says of a GPU, and whether other work holds it."""
    found = f"{name}, driver {driver}, {used_mib} of {total_mib} MiB used, {busy_percent} % busy"
    free = _number(total_mib) - _number(used_mib)
    if _number(busy_percent) >= _BUSY_PERCENT or free < _LEAST_FREE_MIB:
        return Finding(
            "gpu", "warn", found, "other work holds it (nvidia-smi names it): wait, or end it"
        )
    return Finding("gpu", "ok", found)


def _flash_attn(*, on_gpu: bool) -> Finding:
    packages = {name: _version(name) for name in ("flash-attn", "flash-attn-4")}
    found = ", ".join(f"{name} {version}" for name, version in packages.items())
    if not on_gpu:
        return Finding("flash-attn", "ok", f"{found}; not used without a GPU")
    if all(version == "none" for version in packages.values()):
        mend = "pip install -e '.[gpu-4]' (Hopper and newer), or flash-attn --no-build-isolation"
        return Finding("flash-attn", "warn", f"{found}: PyTorch's own kernels are used", mend)
    return Finding("flash-attn", "ok", found)


def _nvidia_smi() -> list[list[str]]:
    """Return what nvidia-smi says of each GPU, nothing where there is none."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    command = [program, f"--query-gpu={_QUERY}", "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, timeout=_PATIENCE_S
        )
    except (OSError, subprocess.SubprocessError):
        return []
    rows = [[cell.strip() for cell in line.split(",")] for line in done.stdout.splitlines()]
    return [row for row in rows if len(row) == len(_QUERY.split(","))]


def _number(text: str) -> float:
    """Return a figure of nvidia-smi; 0 where it says that it does not know."""
    try:
        return float(text)
    except ValueError:
        return 0.0


def _version(name: str) -> str:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "none"


def _unmet() -> Iterator[str]:
    """Yield the requirements of this package that the environment does not meet."""
    from packaging.requirements import Requirement

    try:
        stated = metadata.requires("flash-pipeline") or []
    except metadata.PackageNotFoundError:
        return  # run from a checkout that was not installed
    for each in map(Requirement, stated):
        if each.marker is not None and not each.marker.evaluate({"extra": ""}):
            continue
        version = _version(each.name)
        if version == "none":
            yield f"{each.name} is not installed: expected {each}"
        elif not each.specifier.contains(version, prereleases=True):
            yield f"{each.name} {version} is installed: expected {each}"
