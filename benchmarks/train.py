"""Trains a recipe on stored windows, without Dagster: `python -m benchmarks.train --help`.

Needs torch, numpy and pyarrow only, so that a GPU machine without the rest can run it. Prints the
hardware, versions and configuration, then the losses of each epoch, the time of the training and
that of predicting the test range, as text and (with --json) as a file. How long a step takes, and
what share of the hardware that is, `benchmarks.gpu` measures.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.gpu.hardware import hardware_name, versions
from benchmarks.gpu.works import described
from flash_pipeline.training.bundle import default_device
from flash_pipeline.training.loop import predict
from flash_pipeline.training.recipes import Recipe, get_recipe
from flash_pipeline.training.targets import volatility_of
from flash_pipeline.training.trainer import Training, train
from flash_pipeline.windows import Split, WindowFrame, chronological_split, read_windows
from flash_pipeline.windows.dataset import window_batches


def main() -> None:
    """Train, and print what came of it."""
    options = _options()
    frame = read_windows(options.windows)
    recipe = get_recipe(options.recipe).with_data(
        symbols=frame.symbols, lookback=frame.lookback, horizon=frame.horizon
    )
    recipe = recipe.with_model(attention=options.attention)
    if options.epochs:
        recipe = recipe.with_training(epochs=options.epochs)
    split = chronological_split(frame, recipe.split)
    start = time.perf_counter()
    trained = train(frame, split, recipe, progress=True)
    seconds = time.perf_counter() - start
    rows = _described(frame, recipe, trained, seconds) | _prediction(frame, split, trained)
    for name, value in rows.items():
        print(f"{name:16} {value}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n", encoding="utf-8")


def _described(
    frame: WindowFrame, recipe: Recipe, trained: Training, seconds: float
) -> dict[str, Any]:
    return {
        "hardware": hardware_name(default_device()),
        "versions": versions(),
        "recipe": recipe.name,
        "model": described(recipe.model),
        "attention": trained.attention,
        "batch": f"{recipe.train.batch_size} windows x {frame.lookback} bars",
        "synthetic": frame.synthetic,
        "train_s": round(seconds, 1),
        "losses": [
            (round(epoch.train_loss, 4), round(epoch.validation_loss, 4))
            for epoch in trained.history
        ],
    }


def _prediction(frame: WindowFrame, split: Split, trained: Training) -> dict[str, Any]:
    """Time the predictions of the test range, window by window."""
    bundle, device = trained.bundle, default_device()
    sigma_BKS = volatility_of(frame.x_BKSF, frame.features)
    batches = window_batches(
        frame,
        bundle.features.transform(frame.x_BKSF),
        bundle.targets.transform(frame.y_BKS, sigma_BKS),
        device,
    )
    model = bundle.build(device)
    start = time.perf_counter()
    predict(model, batches, split.test_N)
    return {
        "test_windows": len(split.test_N),
        "predict_s": round(time.perf_counter() - start, 2),
    }


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--windows", type=Path, default=Path("data/windows"))
    parser.add_argument("--recipe", default="auto")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--epochs", type=int, default=0, help="in place of the recipe's")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
