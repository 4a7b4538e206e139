"""Walks a recipe and the baselines through a history: `python -m benchmarks.walkforward --help`.

Without Dagster, MLflow and DuckDB, so that a GPU machine can run it: from stored windows, or from
recorded candles (see `benchmarks.recorded`). Folds already stored in --out by the same recipe on
the same windows are not run again. Prints hardware, versions and the folds' dates, then a table of
all models with 95 % intervals and the time of each, and writes both as JSON. Where LightGBM is not
installed, name the models without `boosting`, run that elsewhere, and join the two by --with.
"""

import argparse
import dataclasses
import json
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from benchmarks.gpu.hardware import driver, hardware_name, versions
from benchmarks.recorded import VARIABLE, chosen_windows
from flash_pipeline.errors import FlashPipelineError
from flash_pipeline.evaluation.contenders import CONTENDERS, ENSEMBLE
from flash_pipeline.evaluation.scores import ALL, flat_predictions, score
from flash_pipeline.evaluation.walkforward import (
    add_models,
    describe_predictions,
    is_of,
    join_folds,
    read_predictions,
    run_fold,
    write_predictions,
)
from flash_pipeline.training.bundle import default_device
from flash_pipeline.training.recipes import Recipe, get_recipe
from flash_pipeline.windows import WalkForwardConfig, WindowFrame, read_windows, walk_forward

SHOWN = ("rank_ic", "cross_sectional_ic", "icir", "hit_rate", "r2_against_zero", "coverage")
"""Measures of the table."""

Seconds = dict[str, float]


def main() -> None:
    """Run the folds, join them and print what came of it."""
    options = _options()
    begun = time.perf_counter()
    recipe = get_recipe(options.recipe)
    frame, source = _windows(options, recipe)
    recipe = recipe.with_data(symbols=frame.symbols, lookback=frame.lookback, horizon=frame.horizon)
    if options.epochs:
        recipe = recipe.with_training(epochs=options.epochs)
    config = WalkForwardConfig(folds=options.folds, growth=options.growth)
    print(f"{hardware_name(default_device())}, {versions()}")
    print(f"{len(frame.anchor_N):,} windows of {frame.lookback} bars from {source}; {config}\n")
    seconds = _run(frame, recipe, config, options.models, options.out)
    table = join_folds(sorted(options.out.glob("fold-*.parquet")), options.out / "all.parquet")
    for path in options.others or []:
        table = add_models(table, read_predictions(path))
    whole = time.perf_counter() - begun
    scores = score(table)
    print(_table(scores, seconds))
    print(f"nearly constant: {flat_predictions(table) or 'none'}")
    print(
        f"{whole:.1f} s in all, {time.perf_counter() - begun - whole:.1f} s more for the measures"
    )
    result = {
        "hardware": hardware_name(default_device()),
        "driver": driver(),
        "versions": versions(),
        "recipe": recipe.to_dict(),
        "config": dataclasses.asdict(config),
        "meta": dataclasses.asdict(describe_predictions(table)),
        "seconds": {"whole": round(whole, 1), **seconds},
        "flat": flat_predictions(table),
        "scores": scores.to_pylist(),
    }
    (options.out / "result.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def _windows(options: argparse.Namespace, recipe: Recipe) -> tuple[WindowFrame, str]:
    if options.windows:
        return read_windows(options.windows), "stored windows"
    lookback = options.lookback or recipe.data.lookback
    return chosen_windows(options.data, lookback, recipe.data.horizon)


def _run(
    frame: WindowFrame,
    recipe: Recipe,
    config: WalkForwardConfig,
    models: Sequence[str],
    out: Path,
) -> Seconds:
    """Run the folds that are not stored yet; return the seconds of each model."""
    total: Seconds = {}
    folds = walk_forward(frame, config)
    paths = {fold.number: out / f"fold-{fold.number}.parquet" for fold in folds}
    for path in set(out.glob("fold-*.parquet")) - set(paths.values()):
        path.unlink()
    for fold in folds:
        path, dates = paths[fold.number], fold.to_dict(frame)["test"]
        if is_of(path, frame, fold, recipe, models):
            print(f"fold {fold.number}, {dates['from']} to {dates['to']}: stored before")
            continue
        ran = run_fold(frame, fold, recipe, models)
        write_predictions(ran.table, path)
        spent = ", ".join(f"{name} {value:.1f}" for name, value in ran.seconds.items())
        print(f"fold {fold.number}, {dates['from']} to {dates['to']}: {spent} s", flush=True)
        for name, value in ran.seconds.items():
            total[name] = round(total.get(name, 0.0) + value, 2)
    return total


def _table(scores: pa.Table, seconds: Mapping[str, float]) -> str:
    """Return the measures over all dates, one line per model."""
    rows: dict[str, dict[str, Any]] = {}
    for row in scores.filter(pc.equal(scores["scope"], ALL)).to_pylist():
        rows.setdefault(row["model"], {})[row["measure"]] = row
    lines = ["", "".join([f"{'':13}", *(f"{name:>26}" for name in SHOWN), f"{'s':>8}"])]
    for model, row in rows.items():
        cells = [_cell(row.get(name)) for name in SHOWN]
        lines.append("".join([f"{model:13}", *cells, f"{seconds.get(model, 0):8.1f}"]))
    return "\n".join(lines)


def _cell(row: Mapping[str, Any] | None) -> str:
    if row is None or row["value"] is None:
        return f"{'':>26}"
    ends = "" if row["low"] is None else f" [{row['low']:+.3f}, {row['high']:+.3f}]"
    return f"{row['value']:+.3f}{ends}".rjust(26)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--windows", type=Path, help="folder of stored windows")
    parser.add_argument("--data", type=Path, help=f"folder of recorded candles, or {VARIABLE}")
    parser.add_argument("--recipe", default="auto")
    parser.add_argument("--lookback", type=int, default=0, help="in place of the recipe's")
    parser.add_argument("--epochs", type=int, default=0, help="in place of the recipe's")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--growth", default="expanding", help="or rolling")
    parser.add_argument(
        "--models",
        type=lambda text: text.split(","),
        default=[name for name in CONTENDERS if name != ENSEMBLE],
        help=f"some of {','.join(CONTENDERS)}; all but the ensemble by default",
    )
    parser.add_argument("--with", dest="others", type=Path, nargs="*", help="tables to join")
    parser.add_argument("--out", type=Path, default=Path("data/walk_forward"))
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except FlashPipelineError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
