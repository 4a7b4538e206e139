"""How long a group of long sequences takes, from nothing: `python -m benchmarks.long_sequences`.

Materializes the group `order_book` or `portfolio`, by default in the demo recipe, in a fresh home
beside the embedded exchange, and prints the seconds of the whole run and of each of its assets,
the tokens of a window, the attention of each training, the GPU, its peak memory, and what the
report found.

With `--home` it can be killed and called again: assets that were done are not made again, and a
training goes on from its checkpoint. An asset's seconds are then those of its last process, and
`processes` says how many began it; those of a training are of all, less what a kill threw away.
"""

import argparse
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flash_pipeline.storage.files import replacing_file

if TYPE_CHECKING:
    from flash_pipeline.training.book_results import BookAttention

GROUPS = {
    "order_book": ("order_book_snapshots", "order_book_model", "order_book_report"),
    "portfolio": ("market_candles", "market_panel", "portfolio_model", "portfolio_report"),
}
"""Assets of each group, in the order in which they are made."""

PROGRESS = "long_sequences.json"
"""File below the home: what was done before a kill. Gone once all is done."""

FOUND = {
    "order_book": ("verdict", "scores", "scores_over_state"),
    "portfolio": ("verdict", "metrics", "sharpe_less_equal_weight", "sharpe_joint_less_axial"),
}
"""What is kept of a report's `metrics.json`."""

_LAGS = 12
"""Lags that are told of each layer, those that were read most."""

Figures = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a group and print what it took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--group", choices=GROUPS, required=True)
    parser.add_argument("--recipe", default="demo")
    parser.add_argument(
        "--config",
        type=Path,
        help="run configuration (YAML), as `dagster job execute -c` takes it: ops and resources",
    )
    parser.add_argument("--home", type=Path, help="folder to keep; a temporary one by default")
    parser.add_argument("--json", type=Path, help="file to write the figures to")
    options = parser.parse_args(arguments)
    config = _read_config(parser, options.config, GROUPS[options.group])
    with tempfile.TemporaryDirectory(prefix="long-sequences-") as folder:
        home = (options.home or Path(folder) / "home").resolve()
        home.mkdir(parents=True, exist_ok=True)
        os.environ["FLASH_PIPELINE_HOME"] = str(home)
        os.environ["FLASH_PIPELINE_RECIPE"] = options.recipe
        for name in ("FLASH_PIPELINE_BYBIT_URL", "MLFLOW_TRACKING_URI"):
            os.environ.pop(name, None)
        asked = {"group": options.group, "recipe": options.recipe, "config": config}
        began = time.monotonic()
        whole = _materialize(asked, home, Path(folder))
        whole |= {"seconds": round(time.monotonic() - began, 1), **_hardware()}
        if whole["success"]:
            whole |= {**_trainings(options.group), "report": _report(options.group)}
    print(json.dumps(whole, indent=2))
    if options.json is not None:
        options.json.write_text(json.dumps(whole, indent=2) + "\n")
    return 0 if whole["success"] else 1


def _read_config(
    parser: argparse.ArgumentParser, path: Path | None, assets: Sequence[str]
) -> Figures:
    import yaml

    try:
        config = {} if path is None else yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except (OSError, yaml.YAMLError) as error:
        parser.error(f"--config {path} cannot be read: {error}")
    unknown = sorted({*config.get("ops", {})} - {*assets})
    if unknown:
        parser.error(f"--config {path} names {unknown[0]!r}: expected {', '.join(assets)}")
    return {name: config[name] for name in ("ops", "resources") if name in config}


def _materialize(asked: Mapping[str, Any], home: Path, scratch: Path) -> Figures:
    """Make the assets that are left, one after the other, and note each as it is done.

    Dagster's instance is of this process alone, in a folder of its own outside the working
    directory.
    """
    import dagster as dg

    from flash_pipeline.definitions import defs
    from flash_pipeline.defs.failures import failure_reason

    progress = _progress(asked, home)
    job = defs.resolve_job_def(asked["group"])
    dagster = scratch / "dagster"
    dagster.mkdir()
    with dg.DagsterInstance.ephemeral(tempdir=str(dagster)) as instance:
        for asset in GROUPS[asked["group"]]:
            if asset in progress["assets"]:
                continue
            progress["processes"][asset] = progress["processes"].get(asset, 0) + 1
            _save(home, progress)
            _reset_peak()
            result = job.execute_in_process(
                run_config=_config_of(asked["config"], asset),
                instance=instance,
                raise_on_error=False,
                asset_selection=[dg.AssetKey(asset)],
            )
            if not result.success:
                return {**progress, "success": False, "reason": failure_reason(result)}
            progress["assets"][asset] = _seconds(result, asset)
            progress["peak_gpu_gib"][asset] = _peak_gib()
            _save(home, progress)
    (home / PROGRESS).unlink(missing_ok=True)
    return {**progress, "success": True}


def _seconds(result: Any, asset: str) -> float:  # noqa: ANN401  (Dagster's, imported late)
    """Return the seconds of an asset's step, without those of its checks."""
    return round(
        sum(
            event.step_success_data.duration_ms / 1000
            for event in result.all_events
            if event.is_step_success and event.step_key == asset
        ),
        1,
    )


def _config_of(config: Mapping[str, Any], asset: str) -> Figures:
    """Return the part of a run's configuration that an asset's own run takes."""
    ops = {name: each for name, each in config.get("ops", {}).items() if name == asset}
    return {**config, "ops": ops}


def _progress(asked: Mapping[str, Any], home: Path) -> Figures:
    """Return what an earlier process did on the same terms; nothing where there was none."""
    try:
        known = json.loads((home / PROGRESS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        known = {}
    if {name: known.get(name) for name in asked} == dict(asked):
        return dict(known)
    return {**asked, "assets": {}, "processes": {}, "peak_gpu_gib": {}}


def _save(home: Path, progress: Figures) -> None:
    with replacing_file(home / PROGRESS) as path:
        path.write_text(json.dumps(progress), encoding="utf-8")


def _trainings(group: str) -> Figures:
    """Return the tokens of a window, and how each training went; of a book where it looked."""
    from flash_pipeline.settings import Settings

    settings = Settings.from_environment()
    told = ("attention", "form", "seconds", "resumed", "epochs", "best_step", "history")
    more: Figures = {}
    if group == "order_book":
        from flash_pipeline.training.book_results import BookResults, results_folder

        results = BookResults.load(results_folder(settings))
        facts, more = results.facts, {"looked_at": looked_at(results.attention)}
        named = facts["trainings"]
        tokens = facts["levels"] * 2 * facts["history_length"]
    else:
        from flash_pipeline.training.portfolio_session import Decisions

        decisions = Decisions.load(settings.portfolio)
        named = {f"fold {fit['fold']}, {fit['training']}": fit for fit in decisions.facts["fits"]}
        tokens = decisions.facts["recipe"]["model"]["lookback"] * len(decisions.symbols)
    trainings = {
        name: {key: each[key] for key in told if key in each} for name, each in named.items()
    }
    return {"tokens": tokens, "trainings": trainings, **more}


def looked_at(attention: "BookAttention") -> Figures:
    """Return, for each layer, the lags that were read most and the share of every level."""
    from flash_pipeline.evaluation.book_figures import level_shares

    layers: Figures = {}
    for i, share_T in enumerate(attention.by_lag_LT):
        lags = sorted((-share_T).argsort()[:_LAGS].tolist())
        own = dataclasses.replace(attention, by_cell_LGG=attention.by_cell_LGG[i : i + 1])
        layers[f"layer {i + 1}"] = {
            "lags": {lag: round(float(share_T[lag]), 4) for lag in lags},
            "levels": level_shares(own).sum(axis=1).round(4).tolist(),
        }
    return layers


def _report(group: str) -> Figures:
    """Return what the newest report says, without what is as long as its history."""
    from flash_pipeline.settings import Settings

    settings = Settings.from_environment()
    folder = settings.portfolio_report
    if group == "order_book":
        folder = max(settings.reports.glob("order-book-*"), key=lambda path: path.stat().st_mtime)
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {name: metrics[name] for name in FOUND[group]}


def _hardware() -> Figures:
    from benchmarks.gpu.hardware import hardware_name, versions
    from flash_pipeline.training.bundle import default_device

    today = datetime.now(UTC).date().isoformat()
    return {"date": today, "hardware": hardware_name(default_device()), "versions": versions()}


def _reset_peak() -> None:
    import torch

    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak_gib() -> float | None:
    import torch

    if not torch.cuda.is_available():
        return None
    return round(torch.cuda.max_memory_allocated() / 2**30, 2)


if __name__ == "__main__":
    raise SystemExit(main())
