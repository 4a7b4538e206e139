"""What a soak has shown, as a page of text, as JSON and as a picture."""

import json
import platform
from collections import Counter
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.soak_audit import Finding
from benchmarks.soak_plan import Growth, Sample, disk_growth, memory_growth, peaks
from flash_pipeline.training.runtime import usable_cores

_MIB = 2**20
_PACKAGES = ("dagster", "dagster-webserver", "mlflow", "duckdb", "torch")


def findings_of_failures(
    launched: Sequence[str], failed: Sequence[str], alerts: Sequence[str]
) -> list[Finding]:
    """Return whether each failed run was reported once, and none failed but with its server."""
    alerts = [text for text in alerts if " failed." in text]
    told = Counter(run for text in alerts for run in launched if run in text)
    silent = [run[:8] for run in failed if not told[run]]
    twice = [run[:8] for run, times in told.items() if times > 1]
    # A run that went with its server, or waited to start when it did.
    # What Dagster's own daemon asks for, by this machine's clock, is not the exchange's hour.
    own = [
        text
        for text in alerts
        if any(run in text for run in launched)
        and "was killed" not in text
        and "seconds to start" not in text
    ]
    return [
        Finding(
            "every failed run is reported once",
            not silent and not twice,
            f"{len(told)} reported; not {silent[:3]}; twice {twice[:3]}",
        ),
        Finding("no run fails but with its server", not own, f"{len(own)} {own[:1]}"),
    ]


def findings_of_growth(samples: Sequence[Sample]) -> list[Finding]:
    """Return whether memory stays flat in the last life, and the disk over the whole time."""
    memory, disk = memory_growth(samples), disk_growth(samples)
    return [
        Finding("memory stays flat", all(each.flat for each in memory.values()), _grown(memory)),
        Finding("the disk stays flat", disk["all"].flat, _grown(disk)),
    ]


def _grown(parts: Mapping[str, Growth]) -> str:
    return ", ".join(
        f"{name} {each.early / _MIB:.1f} to {each.late / _MIB:.1f} MiB"
        for name, each in sorted(parts.items())
    )


def summary(result: Mapping[str, Any]) -> str:
    """Return the page."""
    ends = result["ends"]
    samples = [Sample(**sample) for sample in result["samples"]]
    lines = [
        f"{result['hours']} hours of the exchange in {result['minutes']} minutes, "
        f"{len(ends)} ends of dagster dev ({sum(end['at_work'] > 0 for end in ends)} amid a run)",
        f"ticks: {_counts(result['ticks'])}",
        f"runs: {_counts(result['runs'])}; "
        f"{result['runs_of_the_daemon_left']} left of the daemon's own",
        f"requests: {result['requests']:,}, faults: {sum(result['faults'].values()):,} of "
        f"{len(result['faults'])} kinds",
        f"alerts: {result['alerts']}, {result['alerts_of_late_data']} of late data",
        f"peak memory: {_counts({k: f'{v / _MIB:.0f} MiB' for k, v in peaks(samples).items()})}",
        "",
    ]
    lines += [
        f"{'ok  ' if finding['ok'] else 'FAIL'} {finding['name']}: {finding['detail']}"
        for finding in result["findings"]
    ]
    return "\n".join(lines)


def _counts(found: Mapping[str, object]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(found.items()))


def save(result: dict[str, Any], folder: Path) -> Path:
    """Write JSON and picture, named by hardware and date, and return the JSON's path."""
    cores = usable_cores()
    result = {
        "hardware": f"CPU, {cores} cores ({platform.machine()})",
        "versions": {name: version(name) for name in _PACKAGES}
        | {"python": platform.python_version()},
        **result,
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"soak_cpu-{cores}-cores_{result['date']}.json"
    path.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    draw(result, path.with_suffix(".png"))
    return path


def draw(result: Mapping[str, Any], path: Path) -> None:
    """Draw memory by role and disk by part over the hours, with the ends of `dagster dev`."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    samples = result["samples"]
    hours = [sample["hour"] for sample in samples]
    figure, (top, bottom) = plt.subplots(2, 1, figsize=(10, 7), sharex=True, layout="constrained")
    for name in sorted({name for sample in samples for name in sample["memory"]}):
        own = [(s["hour"], s["memory"][name] / _MIB) for s in samples if name in s["memory"]]
        top.plot(*zip(*own, strict=True), ".", markersize=3, label=name)
    parts = sorted({name for sample in samples for name in sample["disk"]})
    bottom.stackplot(
        hours,
        [[sample["disk"].get(name, 0) / _MIB for sample in samples] for name in parts],
        labels=parts,
    )
    for axes in (top, bottom):
        for end in result["ends"]:
            style = "-" if end["kind"] == "SIGKILL" else ":"
            axes.axvline(end["hour"], color="grey", linewidth=0.6, linestyle=style)
        axes.legend(loc="upper left", fontsize="small", ncols=4)
        axes.grid(alpha=0.3)
    top.set(ylabel="resident memory, MiB", title="dagster dev over weeks of the exchange's time")
    bottom.set(xlabel="hours of the exchange's clock", ylabel="disk, MiB")
    figure.savefig(path, dpi=110)
    plt.close(figure)
