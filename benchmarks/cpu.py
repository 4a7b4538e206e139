"""Measures the model on this machine's processor in about a minute: `python -m benchmarks.cpu`.

The parts of `benchmarks.gpu` at small sizes, in float32. Its figures say how the kernels compare
and how time grows with length; those of a shared machine are noisy, so compare within one run.
"""

import argparse
from pathlib import Path

import torch

from benchmarks import latency, windows
from benchmarks.gpu import (
    chapter,
    feasibility,
    goals,
    growth,
    kernels,
    recompute,
    sequences,
    throughput,
)
from benchmarks.gpu.bench import Bench
from benchmarks.gpu.suite import run_parts
from flash_pipeline.training.recipes import full_recipe
from flash_pipeline.training.runtime import fitting_threads

PARTS = tuple(
    module.PART
    for module in (
        chapter,
        feasibility,
        throughput,
        growth,
        goals,
        kernels,
        recompute,
        sequences,
        latency,
        windows,
    )
)


def main() -> None:
    """Run the parts and write their results."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--minutes", type=float, default=2.0, help="time for all parts together")
    options = parser.parse_args()
    with fitting_threads(full_recipe().model.d_model):
        run_parts(PARTS, Bench(torch.device("cpu"), "small"), options.out, options.minutes)


if __name__ == "__main__":
    main()
