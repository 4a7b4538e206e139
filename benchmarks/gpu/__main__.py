"""The suite's command: `python -m benchmarks.gpu --help`."""

import argparse
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

import torch

from benchmarks import latency, windows
from benchmarks.gpu import (
    chapter,
    feasibility,
    goals,
    growth,
    kernels,
    kernels_table,
    recompute,
    sequences,
    throughput,
)
from benchmarks.gpu.bench import Bench, DeviceLost
from benchmarks.gpu.part import Part
from benchmarks.gpu.suite import Result, run_parts
from flash_pipeline.training.recipes import full_recipe
from flash_pipeline.training.runtime import fitting_threads

PARTS: tuple[Part, ...] = tuple(
    module.PART
    for module in (
        goals,
        sequences,
        kernels,
        throughput,
        recompute,
        chapter,
        feasibility,
        growth,
        latency,
        windows,
    )
)
"""In the order of their worth, should the time run out."""

_RESULTS = Path("benchmarks/results")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the parts asked for, and return the exit code."""
    options = _parser().parse_args(arguments)
    names = options.only or [part.name for part in PARTS]
    if not (torch.cuda.is_available() or options.tiny):
        print("no CUDA device here: `python -m benchmarks.cpu` measures the same on a CPU")
        return 2
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    bench = Bench(device, "tiny" if options.tiny else "full", options.windows)
    parts = [part for part in PARTS if part.name in names]
    warnings.filterwarnings("ignore", category=UserWarning, module=r"torch\.")
    try:
        with fitting_threads(full_recipe().model.d_model):
            run_parts(parts, bench, options.out, options.minutes, missing=options.missing)
    except DeviceLost as error:
        print(f"the GPU was lost ({error}): the parts after it go on in a new process")
        return _go_on(parts, bench, options)
    if bench.failed:
        print(f"broke off: {', '.join(bench.failed)}")
    written = _write_speeds(bench.results, options.write_speeds) if options.write_speeds else 0
    return 1 if bench.failed else written


def _write_speeds(results: Sequence[Result], path: Path) -> int:
    """Write the table that `auto` reads from what `kernels` measured; return the exit code."""
    for result in results:
        if result["theme"] == kernels.PART.name:
            return kernels_table.write(result, path)
    print("no speeds to write: the part `kernels` was not run")
    return 2


def _go_on(parts: Sequence[Part], bench: Bench, options: argparse.Namespace) -> int:
    """Run the parts that this process has not begun in a new one; return its exit code, or 1."""
    begun = [result["theme"] for result in bench.results]
    if options.write_speeds and kernels.PART.name in begun:
        _write_speeds(bench.results, options.write_speeds)
    left = [part for part in parts if part.name not in begun]
    if not left:
        return 1
    share = sum(part.seconds for part in left) / sum(part.seconds for part in parts)
    command = [sys.executable, "-m", "benchmarks.gpu", "--out", str(options.out)]
    command += ["--only", ",".join(part.name for part in left)]
    command += ["--minutes", str(options.minutes * share)]
    command += ["--missing"] if options.missing else []
    command += ["--windows", str(options.windows)] if options.windows else []
    if options.write_speeds and kernels.PART in left:
        command += ["--write-speeds", str(options.write_speeds)]
    return subprocess.run(command, check=False).returncode or 1


def _names(text: str) -> list[str]:
    known = [part.name for part in PARTS]
    names = text.split(",")
    unknown = sorted(set(names) - set(known))
    if unknown:
        raise argparse.ArgumentTypeError(f"unknown parts {unknown}: expected {', '.join(known)}")
    return names


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description="Measures attention, training and inference on a GPU.",
    )
    parts = ",".join(part.name for part in PARTS)
    parser.add_argument("--only", type=_names, metavar="A,B", help=f"parts to run, of {parts}")
    parser.add_argument("--out", type=Path, default=_RESULTS, help="folder of the results")
    parser.add_argument("--minutes", type=float, default=6.0, help="time for all parts together")
    parser.add_argument(
        "--missing",
        action="store_true",
        help="measure only what the stored results of this day lack, and add it to them",
    )
    parser.add_argument("--windows", type=Path, help="stored windows for the part `windows`")
    parser.add_argument(
        "--write-speeds",
        type=Path,
        nargs="?",
        const=kernels_table.SPEEDS,
        metavar="FILE",
        help=f"also write the table that `auto` reads, by default {kernels_table.SPEEDS}",
    )
    parser.add_argument("--tiny", action="store_true", help=argparse.SUPPRESS)
    return parser


if __name__ == "__main__":
    sys.exit(main())
