"""What a benchmark ran on: device, driver and versions."""

import platform
import re
import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from flash_pipeline.training.runtime import usable_cores

_PACKAGES = ("torch", "triton", "flash-attn", "flash-attn-4", "numpy", "pyarrow")


def hardware_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the processor with its cores."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"CPU, {usable_cores()} cores ({platform.machine()})"


def slug(hardware: str) -> str:
    """Return a name for files.

    Examples
    --------
    >>> slug("NVIDIA H200"), slug("CPU, 2 cores (x86_64)")
    ('h200', 'cpu-2-cores')
    """
    plain = re.sub(r"\(.*\)|nvidia|geforce", "", hardware.lower())
    return "-".join(re.findall(r"[a-z0-9]+", plain))


def driver() -> str:
    """Return the version of the GPU driver, or `none`."""
    if shutil.which("nvidia-smi"):
        asked = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
        done = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=False)
        if done.returncode == 0 and done.stdout.strip():
            return done.stdout.split()[0]
    try:
        text = Path("/proc/driver/nvidia/version").read_text(encoding="utf-8")
    except OSError:
        return "none"
    found = re.search(r"(\d+\.\d+(\.\d+)?)", text)
    return found[1] if found else "unknown"


def versions() -> dict[str, str]:
    """Return the versions of what was measured; `absent` for what is not installed."""
    found = {name.replace("-", "_"): _version(name) for name in _PACKAGES}
    found["cuda"] = torch.version.cuda or "none"
    found["cudnn"] = str(torch.backends.cudnn.version() or "none")
    found["python"] = platform.python_version()
    return found


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"
