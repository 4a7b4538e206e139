"""Times one hourly tick as the schedule makes it: `python -m benchmarks.tick --recipe demo`.

    --part tick      `dagster dev` on a home that has a champion, and an exchange whose clock is
                     moved on by an hour for each tick: queue, start of the run's process with its
                     imports, every step, processor time. Each tick is a fresh process.
    --part training  what of a tick runs on a GPU: a warm-started training on stored windows, the
                     forecast and the predictions of the test range, each time in a fresh process.
                     Needs torch, numpy and pyarrow only.

The tick of `full` wants a GPU; what decides its training can be timed alone there, without
Dagster, by `--part training`.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

BUDGETS_S = {"demo": 60.0, "full": 90.0}
"""Seconds of wall time that a tick may take: `demo` on 2 CPU cores, `full` on one H200."""
TRAINING_BUDGET_S = 30.0
"""Of which the training, at `full`."""

Row = dict[str, Any]

_NOW = "2026-03-10T09:30:00Z"
_HOUR_NS = 3_600 * 10**9
_PATIENCE_S = 600.0
_PACKAGES = ("dagster", "mlflow", "duckdb", "torch", "flash-attn", "pyarrow", "numpy")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the table, store the result; 1 where the budget is not met."""
    options = _parser().parse_args(arguments)
    if options.once is not None:
        print(json.dumps(train_once(options.once, options.recipe)))
        return 0
    began = time.perf_counter()
    first: Row = {}
    if options.part == "training":
        rows = list(trainings(options.windows, options.recipe, options.runs))
    else:
        first, *rows = ticks(options.runs, options.recipe)
    result = described(options, rows, time.perf_counter() - began, first)
    print(table(result))
    print(f"wrote {save(result, options.out)}")
    return int(not result["met"])


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--part", choices=("tick", "training"), default="tick")
    parser.add_argument("--recipe", choices=tuple(BUDGETS_S), default="demo")
    parser.add_argument("--runs", type=int, default=5, help="ticks; their medians are reported")
    parser.add_argument("--windows", type=Path, help="stored windows; by default made at random")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)  # the fresh process
    return parser


def ticks(runs: int, recipe: str) -> Iterator[Row]:
    """Yield the phases of each tick, seconds; the first has no champion and makes one."""
    from benchmarks.soak_server import DagsterDev
    from flash_pipeline.defs.instance import prepare_instance
    from flash_pipeline.exchange import Clock, embedded_exchange
    from flash_pipeline.market import parse_instant
    from flash_pipeline.settings import Settings

    hours = [0]
    clock = Clock(parse_instant(_NOW), monotonic_ns=lambda: hours[0] * _HOUR_NS)
    with tempfile.TemporaryDirectory() as folder, embedded_exchange(clock=clock) as url:
        home = Path(folder) / "home"
        environ = {
            **{name: value for name, value in os.environ.items() if "MLFLOW" not in name},
            "FLASH_PIPELINE_HOME": str(home),
            "FLASH_PIPELINE_BYBIT_URL": url,
            "FLASH_PIPELINE_RECIPE": recipe,
            "DAGSTER_HOME": str(prepare_instance(Settings(home=home), {})),
            "DAGSTER_DISABLE_TELEMETRY": "yes",
        }
        server = DagsterDev(
            home, environ, Path(folder) / "log", definitions="flash_pipeline.definitions"
        )
        try:
            server.start()
            for number in range(runs + 1):
                row = _tick(server, clock.now_ms(), Path(environ["DAGSTER_HOME"]))
                print(f"tick {number}: {row['total']:.1f} s from start to end", flush=True)
                yield row
                hours[0] += 1
        finally:
            server.kill_all()


def _tick(server: Any, now_ms: int, dagster_home: Path) -> Row:  # noqa: ANN401 - imported late
    from benchmarks.soak_plan import newest_tick
    from benchmarks.soak_server import FINAL, cpu_of_runs

    (request,) = server.evaluate("hourly", newest_tick(now_ms) / 1000).requests
    run_id = server.launch("refresh", request, {})
    deadline, cpu = time.monotonic() + _PATIENCE_S, dict[int, float]()
    while time.monotonic() < deadline:
        cpu |= cpu_of_runs(server.home)
        status = {run["id"]: run["status"] for run in server.runs(3)}[run_id]
        if status in FINAL:
            break
        time.sleep(0.5)
    if status != "SUCCESS":
        raise SystemExit(f"the tick ended as {status}: {_why(dagster_home, run_id)}")
    return phases(dagster_home, run_id) | {"cpu": sum(cpu.values())}


def _why(dagster_home: Path, run_id: str) -> str:
    import dagster as dg

    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        events = [entry.dagster_event for entry in instance.all_logs(run_id)]
    failed = [event for event in events if event and event.is_step_failure]
    return "\n".join(
        f"{event.step_key}: {event.step_failure_data.error_display_string}" for event in failed
    )


def phases(dagster_home: Path, run_id: str) -> Row:
    """Return what the event log of a run says: seconds by phase, and by step."""
    import dagster as dg

    with dg.DagsterInstance.from_config(str(dagster_home)) as instance:
        events = [entry for entry in instance.all_logs(run_id) if entry.dagster_event]
        steps = {
            stats.step_key: stats.end_time - stats.start_time
            for stats in instance.get_run_step_stats(run_id)
            if stats.start_time and stats.end_time
        }
    at = {entry.dagster_event.event_type_value: entry.timestamp for entry in events}
    first = min(
        entry.timestamp for entry in events if entry.dagster_event.event_type_value == "STEP_START"
    )
    total = at["PIPELINE_SUCCESS"] - at["PIPELINE_STARTING"]
    return {
        "queue": at["PIPELINE_STARTING"] - at["PIPELINE_ENQUEUED"],
        "process and imports": at["PIPELINE_START"] - at["PIPELINE_STARTING"],
        "resources": first - at["PIPELINE_START"],
        **steps,
        "between steps": at["PIPELINE_SUCCESS"] - first - sum(steps.values()),
        "total": total,
    }


def trainings(windows: Path | None, recipe: str, runs: int) -> Iterator[Row]:
    """Yield the phases of a tick that a GPU does, seconds, each from a fresh process."""
    from flash_pipeline.training.trainer import train
    from flash_pipeline.windows import chronological_split, read_windows

    with tempfile.TemporaryDirectory() as folder:
        place = windows or _random_windows(Path(folder) / "windows", recipe)
        frame = read_windows(place)
        wanted = _fitting(recipe, frame).with_training(epochs=1)
        parent = train(frame, chronological_split(frame, wanted.split), wanted).bundle
        (Path(folder) / "parent").mkdir()
        parent.save(Path(folder) / "parent")
        os.environ["TICK_WINDOWS"] = str(place)
        for number in range(runs):
            begun = time.perf_counter()
            done = subprocess.run(
                [
                    *(sys.executable, "-m", "benchmarks.tick", "--recipe", recipe),
                    *("--once", str(Path(folder) / "parent")),
                ],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                raise SystemExit(done.stderr)
            whole = time.perf_counter() - begun
            told = json.loads(done.stdout.splitlines()[-1])
            row = {**told["seconds"], "total": whole}
            print(
                f"training {number + 1}: {row['training']:.1f} s of {whole:.1f}, "
                f"attention {told['attention']}",
                flush=True,
            )
            yield row


def _fitting(name: str, frame: Any) -> Any:  # noqa: ANN401 - torch is imported late
    """Return a recipe for the symbols and the length of stored windows."""
    from flash_pipeline.training.recipes import get_recipe

    return get_recipe(name).with_data(
        symbols=frame.symbols, lookback=frame.lookback, horizon=frame.horizon
    )


def _random_windows(folder: Path, recipe: str) -> Path:
    """Store windows of a random panel as long as the recipe's history."""
    from benchmarks.gpu.works import HORIZON, synthetic_panel
    from flash_pipeline.training.recipes import get_recipe
    from flash_pipeline.windows import write_windows

    data = get_recipe(recipe).data
    panel = synthetic_panel(data.months * 730)
    write_windows(
        panel,
        folder,
        lookback=data.lookback,
        horizon=HORIZON,
        stride=data.lookback,
        synthetic=True,
    )
    return folder


def train_once(parent: Path, recipe: str) -> Row:
    """Do what a GPU does of a tick, from imports on, and return the seconds of each part."""
    marks = [("start", time.perf_counter())]

    def mark(name: str) -> None:
        marks.append((name, time.perf_counter()))

    import numpy as np

    from flash_pipeline.training.bundle import ModelBundle, default_device
    from flash_pipeline.training.predictor import Predictor
    from flash_pipeline.training.trainer import Parent, train
    from flash_pipeline.windows import chronological_split, read_windows

    mark("imports")
    default_device()
    frame = read_windows(Path(os.environ["TICK_WINDOWS"]))
    wanted = _fitting(recipe, frame)
    split = chronological_split(frame, wanted.split)
    bundle = ModelBundle.load(parent)
    mark("windows and champion")
    trained = train(frame, split, wanted, parent=Parent("1", bundle))
    mark("training")
    for each in (trained.bundle, bundle):
        predictor, first = Predictor(each), int(split.test_N[0])
        bars = len(split.test_N) + each.lookback - 1
        x_TSF = frame.along_time(frame.x_BKSF)[first : first + bars]
        if each.config.streams:
            predictor.predict_series(x_TSF.reshape(bars, -1))
        else:
            predictor.predict_windows(frame.batch(split.test_N, each.lookback))
    mark("test range, two models")
    Predictor(bundle).predict_windows(frame.batch(np.array([len(frame.anchor_N) - 1])))
    mark("forecast")
    seconds = {name: at - marks[i][1] for i, (name, at) in enumerate(marks[1:])}
    return {"attention": trained.attention, "seconds": seconds}


def described(
    options: argparse.Namespace, rows: Sequence[Row], seconds: float, first: Row | None = None
) -> dict[str, Any]:
    """Return the result: hardware, versions, medians, and whether the budgets are met."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    medians = {name: statistics.median(row.get(name, 0.0) for row in rows) for name in names}
    budgets = _budgets(options.part, options.recipe)
    met = all(medians[phase] < budget for phase, budget in budgets.items())
    return {
        "part": options.part,
        "recipe": options.recipe,
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "hardware": _hardware(),
        "versions": _versions(),
        "runs": len(rows),
        "windows": str(options.windows.name) if options.windows else "as the recipe has them",
        "seconds": round(seconds, 1),
        "medians": {name: round(value, 3) for name, value in medians.items()},
        "total_s": round(medians["total"], 1),
        "first_s": round(first["total"], 1) if first else None,
        "budgets_s": budgets,
        "met": met,
        "rows": [{name: round(value, 3) for name, value in row.items()} for row in rows],
    }


def _budgets(part: str, recipe: str) -> dict[str, float]:
    """Return the seconds that each phase may take."""
    training = {"training" if part == "training" else "trained_model": TRAINING_BUDGET_S}
    wanted = training if recipe == "full" else {}
    return wanted if part == "training" else {"total": BUDGETS_S[recipe], **wanted}


def _hardware() -> str:
    from flash_pipeline.training.bundle import default_device
    from flash_pipeline.training.runtime import usable_cores

    if default_device().type == "cuda":
        import torch

        return torch.cuda.get_device_name()
    return f"CPU, {usable_cores()} cores ({platform.machine()})"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


def table(result: Mapping[str, Any]) -> str:
    """Return the medians as a Markdown table."""
    lines = [
        f"{result['hardware']}, recipe {result['recipe']}, {result['part']}, {result['date']}, "
        f"medians of {result['runs']}",
        "",
        "| phase | s |",
        "|---|---|",
    ]
    lines += [f"| {name} | {value:.2f} |" for name, value in result["medians"].items()]
    verdict = "met" if result["met"] else "NOT met"
    budgets = ", ".join(f"{phase} {budget:g} s" for phase, budget in result["budgets_s"].items())
    return "\n".join([*lines, "", f"budget {budgets or 'none'}: {verdict}"])


def save(result: Mapping[str, Any], folder: Path) -> Path:
    """Write the result as JSON, named by part, recipe, hardware and date."""
    from benchmarks.gpu.hardware import slug

    folder.mkdir(parents=True, exist_ok=True)
    theme = "tick" if result["part"] == "tick" else "tick-training"
    path = folder / f"{theme}-{result['recipe']}_{slug(result['hardware'])}_{result['date']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
