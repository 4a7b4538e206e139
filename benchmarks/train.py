"""Times the training of a recipe on stored windows: `python benchmarks/train.py --help`.

Needs torch, numpy and pyarrow only, so that a GPU machine without Dagster can run it. Prints the
hardware, versions and configuration, then the median time of a step, tokens per second, model
FLOP utilisation and the losses, as text and (with --json) as a file.

FLOPs of a step, forward and backward (the backward pass counts twice the forward):
    3 * [2 * N_matmul * B * T  +  layers * 4 * B * T² * d_model]
with N_matmul the parameters of the matrix products, B windows, T bars padded to 64. Attention is
full, so every query meets every key.
"""

import argparse
import json
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch

from flash_pipeline.model.trader import LENGTH_MULTIPLE, FlashAttentionTrader
from flash_pipeline.training.bundle import autocast, default_device
from flash_pipeline.training.loop import predict
from flash_pipeline.training.recipes import Recipe, get_recipe
from flash_pipeline.training.trainer import fit_scalers, train
from flash_pipeline.windows import chronological_split, read_windows
from flash_pipeline.windows.dataset import WindowBatches


def main() -> None:
    """Run the benchmark and print its table."""
    options = _options()
    frame = read_windows(options.windows)
    recipe = get_recipe(options.recipe).with_data(
        symbols=frame.symbols, lookback=frame.lookback, horizon=frame.horizon
    )
    recipe = recipe.with_model(attention=options.attention)
    if options.epochs:
        recipe = recipe.with_training(epochs=options.epochs)
    split = chronological_split(frame, recipe.split)
    features, targets = fit_scalers(frame, split)
    device = default_device()
    batches = WindowBatches(
        frame, features.transform(frame.x_BKSF), targets.transform(frame.y_BKS), device
    )
    step_s, attention, gib = time_steps(recipe, batches, split.train_N, options.steps)
    rows = {
        "device": torch.cuda.get_device_name() if device.type == "cuda" else platform.processor(),
        "torch": torch.__version__,
        "python": platform.python_version(),
        "recipe": recipe.name,
        "model": str(recipe.model),
        "attention": attention,
        "batch": f"{recipe.train.batch_size} windows x {frame.lookback} bars",
        "step_ms_median": round(step_s * 1e3, 2),
        "tokens_per_s": round(recipe.train.batch_size * frame.lookback / step_s),
        "tflops": round(step_flops(recipe, frame.lookback) / step_s / 1e12, 1),
        "peak_gib": round(gib, 2),
    }
    if options.epochs:
        start = time.perf_counter()
        trained = train(frame, split, recipe)
        rows["train_s"] = round(time.perf_counter() - start, 1)
        rows["losses"] = [
            (round(e.train_loss, 4), round(e.validation_loss, 4)) for e in trained.history
        ]
        start = time.perf_counter()
        model = trained.bundle.build(device)
        predict(model, batches, split.test_N)
        rows["test_windows"] = len(split.test_N)
        rows["predict_s"] = round(time.perf_counter() - start, 2)
    for name, value in rows.items():
        print(f"{name:16} {value}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=2) + "\n")


def time_steps(
    recipe: Recipe, batches: WindowBatches, train_N: np.ndarray, steps: int
) -> tuple[float, str, float]:
    """Return the median seconds of a step after warm-up, the attention, and the peak GiB."""
    model = FlashAttentionTrader(recipe.model).to(batches.device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4)
    windows = torch.from_numpy(train_N).to(batches.device)
    size = recipe.train.batch_size
    cuda = batches.device.type == "cuda"
    times = []
    for step in range(steps + 5):
        drawn = windows[torch.randint(len(windows), (size,), device=batches.device)]
        start = time.perf_counter()
        x_NLI, valid_NL, y_NS = batches.batch(drawn)
        with autocast(batches.device):
            loss = model.loss(model(x_NLI, valid_NL), y_NS)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        if cuda:
            torch.cuda.synchronize()
        if step >= 5:
            times.append(time.perf_counter() - start)
    peak = torch.cuda.max_memory_allocated() / 2**30 if cuda else float("nan")
    return statistics.median(times), str(model.attention_choice), peak


def step_flops(recipe: Recipe, lookback: int) -> float:
    """Return the floating-point operations of a step, by the formula at the top."""
    config, windows = recipe.model, recipe.train.batch_size
    bars = -(-lookback // LENGTH_MULTIPLE) * LENGTH_MULTIPLE
    block = 4 * config.d_model**2 + 2 * config.d_model * config.d_ff
    matmul = config.n_layers * block + config.input_dim * config.d_model
    attention = config.n_layers * 4 * windows * bars**2 * config.d_model
    return 3 * (2 * matmul * windows * bars + attention)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--windows", type=Path, default=Path("data/windows"))
    parser.add_argument("--recipe", default="auto")
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--steps", type=int, default=20, help="timed steps after 5 of warm-up")
    parser.add_argument("--epochs", type=int, default=0, help="also train this many epochs")
    parser.add_argument("--json", type=Path, help="write the rows to this file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
