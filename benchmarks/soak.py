"""Runs the schedule for weeks of the exchange's time: `python -m benchmarks.soak`.

The exchange is the embedded one with a fast clock and with faults. `dagster dev` runs as always,
but its schedules are evaluated here, at the ticks of the exchange's clock, by the call with which
the UI tests a schedule; what they want is launched as the daemon launches it, into its queue. The
server is killed and started again at random; in the last third it is left alone, so that growth
of memory shows. Then every candle is compared with those of an exchange without faults.
"""

import argparse
import contextlib
import json
import os
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import yaml

from benchmarks.soak_audit import Finding, audit_home, audit_instance
from benchmarks.soak_definitions import DAY_VARIABLE
from benchmarks.soak_plan import (
    DAY_MS,
    HOUR_MS,
    Kill,
    Sample,
    ends_of,
    newest_retention,
    newest_tick,
    plan_kills,
)
from benchmarks.soak_report import findings_of_failures, findings_of_growth, save, summary
from benchmarks.soak_server import FINAL, DagsterDev, ServerAway, memory_by_role, processes_of
from benchmarks.soak_webhook import Webhook
from flash_pipeline.defs.instance import prepare_instance
from flash_pipeline.exchange import Clock, Faults, FaultSpec, embedded_exchange
from flash_pipeline.market import iso_utc, parse_instant
from flash_pipeline.settings import VARIABLES, Settings

START = "2025-12-19T22:30:00Z"
"""So that a month and a year end within two weeks."""

SAMPLE_EVERY_S = 10.0
_SAMPLES, _STARTED = "samples.jsonl", "started.json"
LEAK_PATIENCE_S = 300.0
_LAST_TICKS = 6
_LAST_WAIT_S = 30.0
_RETENTION = {
    "report_days": 1,
    "reports": 20,
    "model_days": 1,
    "model_versions": 10,
    "mlflow_run_days": 1,
    "dagster_days": 1,
    "tick_days": 1,
    "clock_days": 36_500,  # the exchange has a clock of its own
}
"""So short that what grows has stopped growing after a few days."""

_MONITORING = {"start_timeout_seconds": 30, "poll_interval_seconds": 10}
"""Dagster's 180 and 120 s are many hours of a fast clock: a run that was killed as it started
keeps others from starting until then."""


@dataclass
class Soak:
    """A soak at work: what drives it, and what it has seen."""

    server: DagsterDev
    clock: Clock
    start_ms: int
    home: Path
    dagster_home: Path
    log: Path
    last_tick: int = 0
    pruned_for: int = 0
    life: int = 0
    ticks: Counter[str] = field(default_factory=Counter)
    """Evaluations of the schedules by how they ended."""
    launched: dict[str, str] = field(default_factory=dict)
    """Job by run."""
    starts_s: list[float] = field(default_factory=list)
    leaks: list[str] = field(default_factory=list)
    lingering: dict[int, tuple[str, str, float]] = field(default_factory=dict)
    """Processes that an end has left: command, which end, and when."""
    samples: list[Sample] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    _sampled: float = 0.0

    @property
    def hour(self) -> float:
        """Hours of the exchange since the start."""
        return (self.clock.now_ms() - self.start_ms) / HOUR_MS

    def note(self, what: str) -> None:
        """Print and log a line with the exchange's time."""
        line = f"{iso_utc(self.clock.now_ms())} hour {self.hour:6.1f}  {what}"
        print(line, flush=True)
        with self.log.open("a") as file:
            file.write(line + "\n")

    def start(self) -> None:
        """Start `dagster dev`."""
        self.starts_s.append(self.server.start())
        self.life += 1
        self.note(f"dagster dev answers after {self.starts_s[-1]:.1f} s")

    def end(self, kind: str) -> None:
        """End `dagster dev`, and see whether a process of it stays."""
        busy = [run["id"][:8] for run in self._runs() if run["status"] not in FINAL]
        if kind == "SIGKILL":
            self.server.kill()
            took = 0.0
        else:
            took = self.server.interrupt()
        left = processes_of(self.home)
        for number, command in left.items():
            self.lingering[number] = (command, f"{kind} at hour {self.hour:.0f}", time.monotonic())
        self.note(
            f"{kind} took {took:.1f} s, runs at work {busy}, {len(left)} processes stay for now"
        )
        self.events.append({"hour": self.hour, "kind": kind, "at_work": len(busy)})

    def look_for_leaks(self, patience_s: float = LEAK_PATIENCE_S) -> None:
        """Count what an end has left behind, once it had the time to end by itself.

        After Ctrl-C a run at work goes on to its end, and its code server with it.
        """
        alive = processes_of(self.home) if self.lingering else {}
        for number, (command, end, since) in list(self.lingering.items()):
            if alive.get(number) != command:
                del self.lingering[number]
            elif time.monotonic() - since > patience_s:
                self.leaks.append(f"after {end}: {command}")
                del self.lingering[number]

    def step(self) -> None:
        """Do what is due: the day's pruning, the hour's tick, a sample."""
        now = self.clock.now_ms()
        retention, tick = newest_retention(now), newest_tick(now)
        try:
            if retention > max(self.pruned_for, self.start_ms):
                config = {"ops": {"remove_what_is_old": {"config": _RETENTION}}}
                if self._evaluate("daily_retention", retention, config):
                    self.pruned_for = retention
            if tick > self.last_tick:
                self.last_tick = tick
                self._evaluate("hourly", tick, {})
        except ServerAway as error:
            self.ticks["server away"] += 1
            self.note(f"not evaluated: {error}")
        self.sample()

    def _evaluate(self, schedule: str, tick: int, config: dict[str, Any]) -> bool:
        """Evaluate a schedule, launch what it wants, and say whether it wanted anything."""
        said = self.server.evaluate(schedule, tick / 1000)
        if said.skipped:
            self.ticks[f"{schedule}: skipped"] += 1
            return False
        for request in said.requests:
            job = request["jobName"] or ("refresh" if schedule == "hourly" else "retention")
            run = self.server.launch(job, request, config, **{"soak/tick": iso_utc(tick)})
            self.launched[run] = job
        self.ticks[f"{schedule}: run"] += len(said.requests)
        return bool(said.requests)

    def sample(self) -> None:
        """Measure memory and disk, now and then."""
        if time.monotonic() - self._sampled < SAMPLE_EVERY_S:
            return
        self._sampled = time.monotonic()
        self.look_for_leaks()
        memory = memory_by_role(self.home)
        self.samples.append(Sample(self.hour, self.life, memory, disk_by_part(self.home)))
        with self.log.with_name(_SAMPLES).open("a") as file:  # a soak that breaks off keeps them
            file.write(json.dumps(asdict(self.samples[-1])) + "\n")

    def finish(self) -> bool:
        """Let the last run end, and go on hour by hour until one has succeeded."""
        for _ in range(_LAST_TICKS):
            self._wait_until_idle()
            before = set(self.launched)
            while not set(self.launched) - before:
                self.step()
                time.sleep(0.3)
            self._wait_until_idle()
            (run, *_) = set(self.launched) - before
            status = {run["id"]: run["status"] for run in self._runs(50)}.get(run)
            if self.launched[run] == "refresh" and status == "SUCCESS":
                return True
        return False

    def _wait_until_idle(self) -> None:
        while any(run["status"] not in FINAL for run in self._runs()):
            self.sample()
            time.sleep(0.5)

    def _runs(self, limit: int = 10) -> list[dict[str, Any]]:
        try:
            return self.server.runs(limit)
        except ServerAway:
            return []


def disk_by_part(home: Path) -> dict[str, int]:
    """Return the bytes below a home by its entries; what vanishes meanwhile counts as nothing."""
    found: dict[str, int] = {}
    for folder, _, names in os.walk(home):  # which passes over folders that vanish
        for path in (Path(folder, name) for name in names):
            with contextlib.suppress(OSError):
                size = path.lstat().st_blocks * 512
                part = path.relative_to(home).parts[0].removesuffix("-wal").removesuffix("-shm")
                part = "other" if part.startswith(".") else part
                found[part] = found.get(part, 0) + size
    return found


def environment(home: Path, url: str, webhook: str, speed: float) -> dict[str, str]:
    """Return the variables of `dagster dev`: this process's without the project's own."""
    kept = {k: v for k, v in os.environ.items() if k not in VARIABLES and "MLFLOW" not in k}
    settings = Settings(home=home)
    instance = prepare_instance(settings, {}) / "dagster.yaml"
    content = yaml.safe_load(instance.read_text(encoding="utf-8"))
    content["run_monitoring"] |= _MONITORING
    instance.write_text(yaml.safe_dump(content), encoding="utf-8")
    return {
        **kept,
        "FLASH_PIPELINE_HOME": str(home),
        "FLASH_PIPELINE_BYBIT_URL": url,
        "FLASH_PIPELINE_WEBHOOK_URL": webhook,
        "FLASH_PIPELINE_STALE_BARS": "24",
        "DAGSTER_HOME": str(instance.parent),
        "DAGSTER_DISABLE_TELEMETRY": "yes",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
        "OMP_NUM_THREADS": "1",
        DAY_VARIABLE: str(round(DAY_MS / speed)),
    }


def run(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Do the soak and return its result."""
    home, webhook = folder / "home", Webhook()
    clock = Clock(parse_instant(options.start), options.speed)
    start_ms = _started(folder / _STARTED, parse_instant(options.start))
    faults = Faults(FaultSpec.parse(options.faults))
    kills = plan_kills(options.hours, options.kills, options.seed)
    begun = time.monotonic()
    with embedded_exchange(clock=clock, faults=faults) as url:
        environ = environment(home, url, webhook.url, options.speed)
        server = DagsterDev(home, environ, folder / "dagster.log")
        dagster_home = Path(environ["DAGSTER_HOME"])
        soak = Soak(server, clock, start_ms, home, dagster_home, folder / "soak.log")
        resume(soak)
        try:
            soak.start()
            _drive(soak, kills, options.hours)
            complete = soak.finish()
            _await_alerts(soak, webhook)
            soak.end("SIGINT")
            time.sleep(_LAST_WAIT_S)  # no run is at work: nothing has a reason to stay
            soak.look_for_leaks(_LAST_WAIT_S / 2)
        finally:
            server.kill_all()
    return _result(soak, options, complete, webhook, faults, time.monotonic() - begun)


def _started(path: Path, now_ms: int) -> int:
    """Return when the soak of a folder began, ms since the epoch, and write it down at first."""
    if path.is_file():
        return int(json.loads(path.read_text())["start_ms"])
    path.write_text(json.dumps({"start_ms": now_ms}))
    return now_ms


def resume(soak: Soak) -> None:
    """Take over what a soak that broke off has written: its samples, and the ends so far."""
    samples = soak.log.with_name(_SAMPLES)
    if samples.is_file():
        soak.samples = [Sample(**json.loads(line)) for line in samples.read_text().splitlines()]
    if soak.log.is_file():
        soak.events = ends_of(soak.log.read_text())
        soak.life = len(soak.events) + 1
        soak.events.append({"hour": soak.hour, "kind": "resumed", "at_work": 0})


def _drive(soak: Soak, kills: Sequence[Kill], hours: float) -> None:
    waiting = [kill for kill in kills if kill.hour > soak.hour]
    while soak.hour < hours:
        if waiting and soak.hour >= waiting[0].hour:
            kill = waiting.pop(0)
            soak.end(kill.kind)
            time.sleep(kill.down_s)
            soak.start()
        soak.step()
        time.sleep(0.2)


def _await_alerts(soak: Soak, webhook: Webhook) -> None:
    """Give the sensor of failed runs, evaluated once a minute, the time to report the last ones."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        with dg.DagsterInstance.from_config(str(soak.dagster_home)) as instance:
            failed = _by_status(instance, soak).get("FAILURE", [])
        if all(any(run in text for text in webhook.texts) for run in failed):
            return
        time.sleep(5)


def _by_status(instance: dg.DagsterInstance, soak: Soak) -> dict[str, list[str]]:
    """Return the launched runs by status; `removed` are those that retention has removed."""
    found: dict[str, list[str]] = {}
    for run_id in soak.launched:
        run = instance.get_run_by_id(run_id)
        found.setdefault("removed" if run is None else run.status.value, []).append(run_id)
    return found


def _result(
    soak: Soak,
    options: argparse.Namespace,
    complete: bool,
    webhook: Webhook,
    faults: Faults,
    seconds: float,
) -> dict[str, Any]:
    with dg.DagsterInstance.from_config(str(soak.dagster_home)) as instance:
        statuses = _by_status(instance, soak)
        of_daemon = [r for r in instance.get_run_ids() if r not in soak.launched]
        findings = audit_instance(instance)
    findings += audit_home(Settings(home=soak.home), soak.start_ms, soak.last_tick)
    findings += [
        Finding("the last tick succeeds", complete, f"at {iso_utc(soak.last_tick)}"),
        Finding("no process stays after an end", not soak.leaks, "; ".join(soak.leaks[:3])),
        *findings_of_failures(soak.launched, statuses.get("FAILURE", []), webhook.texts),
        *findings_of_growth(soak.samples),
    ]
    return {
        "date": f"{datetime.now(UTC):%Y-%m-%d}",
        "options": {name: str(value) for name, value in vars(options).items() if name != "out"},
        "minutes": round(seconds / 60, 1),
        "hours": round(soak.hour, 1),
        "ticks": dict(soak.ticks),
        "runs": {status: len(runs) for status, runs in statuses.items()},
        "runs_of_the_daemon_left": len(of_daemon),
        "alerts": len(webhook.texts),
        "alerts_of_late_data": sum("data is" in text for text in webhook.texts),
        "faults": dict(faults.counts),
        "requests": sum(faults.requests.values()),
        "ends": soak.events,
        "starts_s": [round(value, 1) for value in soak.starts_s],
        "findings": [asdict(finding) for finding in findings],
        "samples": [asdict(sample) for sample in soak.samples],
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Soak, write the result, and return 1 where something that must hold does not."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--hours", type=float, default=500.0, help="of the exchange's clock")
    parser.add_argument("--kills", type=int, default=20, help="ends of dagster dev at random")
    parser.add_argument("--speed", type=float, default=480.0, help="exchange seconds per second")
    parser.add_argument("--seed", type=int, default=7, help="of the kills")
    parser.add_argument("--start", default=START, help="the exchange's clock at first")
    parser.add_argument("--faults", default="seed=7,rate=0.03", help="what goes wrong on purpose")
    parser.add_argument("--folder", type=Path, required=True, help="empty; holds home and logs")
    parser.add_argument(
        "--resume", action="store_true", help="go on with what broke off, from --start on"
    )
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args(arguments)
    # A shell ignores SIGINT for what it starts in the background, and what that starts in turn.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    options.folder.mkdir(parents=True, exist_ok=True)
    if any(options.folder.iterdir()) and not options.resume:
        parser.error(f"--folder {options.folder} is not empty: name another, or --resume")
    result = run(options, options.folder.resolve())
    print(summary(result))
    print(f"wrote {save(result, options.out)}")
    return int(not all(finding["ok"] for finding in result["findings"]))


if __name__ == "__main__":
    sys.exit(main())
