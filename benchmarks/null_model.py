"""What the promotion gate makes of chance and of a planted signal: `make null-model`.

Random walks are traded on forecasts that are drawn, not trained: `ic * label + sqrt(1 - ic²) *
error`, whose correlation with the label is `ic` in each symbol. Two things decide how much a
range of dates can tell about them:

    error         `fresh`: drawn anew every hour, as if each hour's model made its own mistakes.
                  `persistent`: the label of a second, unseen market, which overlaps from hour to
                  hour as the labels do: the same mistake is made for a day. The hard case.
    correlation   of the returns of two symbols, and of their persistent errors: at 0.7, which is
                  usual among these perpetuals, five symbols are hardly more than one.

In every trial a challenger of chance and one of the planted signal meet a champion of chance and
an account that holds nothing, through the gate as it is used, at the level of a first contest.
With 200 trials, a rate of 5 % has a standard error of 1.5 %. No model, no stored data; results go
to a JSON file.
"""

import argparse
import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.gpu.hardware import hardware_name, slug, versions
from flash_pipeline.backtest import (
    BacktestResult,
    Costs,
    Prices,
    hold_cohorts,
    regression_weights,
    simulate,
)
from flash_pipeline.evaluation.gate import GateRules, available_level, compare, pass_gate
from flash_pipeline.evaluation.tracks import Track, Tracks
from flash_pipeline.market import Interval

Floats = npt.NDArray[np.float64]

HOUR = Interval.HOUR_1
SYMBOLS = ("A", "B", "C", "D", "E")
HORIZON = 24
VOLATILITY = 0.006
"""Standard deviation of an hour's log return."""

IC = 0.10
"""Correlation of the planted signal with its label."""

LEAST_POWER, MOST_PROMOTED, REJECTION = 0.90, 0.05, (0.02, 0.08)
"""What is asked of the gate: promoted signals, promoted chance, rejections at 5 % nominal."""


@dataclass(frozen=True)
class Design:
    """One kind of market and forecaster."""

    hours: int
    """Dates of the contest."""
    error: str
    """`fresh` or `persistent`."""
    correlation: float
    """Of the hourly returns of two symbols, 0 to 1."""


@dataclass(frozen=True)
class Rates:
    """What came of the trials of a design: shares of 1, Sharpe ratios per year."""

    trials: int
    """Seeds."""
    rejected: float
    """Chance against chance: the paired test alone rejects at the level."""
    rejected_gross: float
    """The same of the returns of chance before costs against nothing."""
    chance_promoted: float
    """The gate promotes the challenger of chance."""
    signal_promoted: float
    """The gate promotes the planted signal."""
    chance_sharpe: float
    """Mean net Sharpe ratio of chance."""
    gross_sharpe: float
    """The same before costs."""
    costs_sharpe: float
    """Mean of the costs in units of the account's volatility: what should lie between the two."""
    signal_sharpe: float
    """Mean net Sharpe ratio of the planted signal."""


DESIGNS = tuple(
    Design(hours, error, correlation)
    for error in ("fresh", "persistent")
    for correlation in (0.0, 0.7)
    for hours in (1_300, 2_000, 4_000, 8_000, 16_000, 32_000)
    if error == "persistent" or hours <= 4_000
)
"""1,300 hours are the test range of a year, 16,000 about the folds of a walk-forward over 33
months, 32,000 nearly four years."""


def measure(design: Design, trials: int, rules: GateRules, seed: int = 0) -> Rates:
    """Run the trials of a design, one seed each.

    Parameters
    ----------
    trials : int
        At least 1; seeds are `seed`, `seed + 1` and so on.
    """
    found = [_trial(design, rules, np.random.default_rng(seed + n)) for n in range(trials)]
    means = np.array(found, dtype=np.float64).mean(axis=0)
    return Rates(trials, *(float(value) for value in means))


def _trial(design: Design, rules: GateRules, rng: np.random.Generator) -> tuple[float, ...]:
    returns_TS = _returns(design, rng)
    labels_TS = _labels(returns_TS, design.hours)
    prices = _prices(returns_TS[: design.hours])
    chance, champion, signal = (
        _traded(_forecasts(design, labels_TS, ic, rng), prices) for ic in (0.0, 0.0, IC)
    )
    mine, theirs, skilled = (
        _track(name, result) for name, result in (("2", chance), ("1", champion), ("3", signal))
    )
    nothing = _track("no position", chance, np.zeros(design.hours))
    before_costs = _track("before costs", chance, chance.gross_returns_T)
    level = available_level(0, design.hours, (), rules)
    gates = [
        all(each.favoured for each in pass_gate(tracks, level, rules))
        for tracks in (Tracks(mine, theirs, (nothing,)), Tracks(skilled, theirs, (nothing,)))
    ]
    year = math.sqrt(HOUR.bars_per_year)
    net_T, gross_T = chance.returns_T, chance.gross_returns_T
    return (
        compare(mine, theirs, rules.level, rules).p_value < rules.level,
        compare(before_costs, nothing, rules.level, rules).p_value < rules.level,
        *gates,
        float(net_T.mean() / net_T.std() * year),
        float(gross_T.mean() / gross_T.std() * year),
        float((gross_T - net_T).mean() / net_T.std() * year),
        float(signal.returns_T.mean() / signal.returns_T.std() * year),
    )


def _returns(design: Design, rng: np.random.Generator) -> Floats:
    """Return hourly log returns [hours + horizon + 1, S] of random walks of one correlation."""
    bars = design.hours + HORIZON + 1
    common_T1, own_TS = rng.normal(size=(bars, 1)), rng.normal(size=(bars, len(SYMBOLS)))
    share = design.correlation
    return VOLATILITY * (math.sqrt(share) * common_T1 + math.sqrt(1 - share) * own_TS)


def _labels(returns_TS: Floats, hours: int) -> Floats:
    """Return the log return over the horizon from each bar's close, [hours, S]."""
    total_TS = np.cumsum(returns_TS, axis=0)
    return np.asarray(total_TS[HORIZON : hours + HORIZON] - total_TS[:hours])


def _forecasts(design: Design, labels_TS: Floats, ic: float, rng: np.random.Generator) -> Floats:
    if design.error == "persistent":
        error_TS = _labels(_returns(design, rng), design.hours)
    else:
        error_TS = VOLATILITY * math.sqrt(HORIZON) * rng.normal(size=labels_TS.shape)
    return ic * labels_TS + math.sqrt(1 - ic**2) * error_TS


def _prices(returns_TS: Floats) -> Prices:
    close_TS = 100 * np.exp(np.cumsum(returns_TS, axis=0))
    open_TS = np.vstack([np.full((1, len(SYMBOLS)), 100.0), close_TS[:-1]])
    start_T = np.arange(len(close_TS), dtype=np.int64) * HOUR.milliseconds
    return Prices(start_T, open_TS, close_TS, SYMBOLS)


def _traded(forecasts_TS: Floats, prices: Prices) -> BacktestResult:
    """Return the account that holds each forecast for its horizon, at the usual costs."""
    scale = VOLATILITY * math.sqrt(HORIZON)
    weights_TS = hold_cohorts(regression_weights(forecasts_TS, scale), HORIZON)
    return simulate(weights_TS, prices, Costs())


def _track(name: str, result: BacktestResult, returns_T: Floats | None = None) -> Track:
    dates = len(result.returns_T)
    return Track(
        name=name,
        symbols=SYMBOLS,
        horizon=HORIZON,
        made_at_T=result.start_time_T + HOUR.milliseconds,
        net_return_T=result.returns_T if returns_T is None else returns_T,
        loss_T=np.full(dates, np.nan),
    )


def hours_for_power(found: Sequence[tuple[Design, Rates]]) -> dict[str, int | None]:
    """Return the fewest hours tried at which the signal passes often enough, by kind of design.

    None where no size did.
    """
    needed: dict[str, int | None] = {}
    for design, rates in sorted(found, key=lambda pair: pair[0].hours):
        kind = f"{design.error} errors, correlation {design.correlation:g}"
        enough = rates.signal_promoted >= LEAST_POWER
        if needed.setdefault(kind, design.hours if enough else None) is None and enough:
            needed[kind] = design.hours
    return needed


def pooled(found: Sequence[tuple[Design, Rates]]) -> dict[str, float]:
    """Return the rates at which chance is rejected and promoted, over the trials of all designs.

    Their standard error is that of thousands of trials: single rates of 200 wander by 1.5 %.
    """
    names = ("rejected", "rejected_gross", "chance_promoted")
    weights = [rates.trials for _, rates in found]
    return {
        name: float(np.average([getattr(rates, name) for _, rates in found], weights=weights))
        for name in names
    }


def table(found: Sequence[tuple[Design, Rates]]) -> str:
    """Return the rates as a Markdown table."""
    heads = (
        "hours",
        "error",
        "correlation",
        "test rejects chance",
        "before costs",
        "gate promotes chance",
        f"gate promotes IC {IC:.2f}",
        "Sharpe of chance, net = gross - costs",
        "of the signal",
    )
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    for design, rates in found:
        cells = (
            f"{design.hours:,}",
            design.error,
            f"{design.correlation:g}",
            f"{rates.rejected:.1%}",
            f"{rates.rejected_gross:.1%}",
            f"{rates.chance_promoted:.1%}",
            f"{rates.signal_promoted:.1%}",
            f"{rates.chance_sharpe:+.2f} = {rates.gross_sharpe:+.2f} - {rates.costs_sharpe:.2f}",
            f"{rates.signal_sharpe:+.2f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def as_json(found: Sequence[tuple[Design, Rates]], rules: GateRules) -> dict[str, Any]:
    """Return everything that the file keeps."""
    return {
        "name": "null_model",
        "date": datetime.now(UTC).date().isoformat(),
        "hardware": hardware_name(torch.device("cpu")),
        "versions": versions(),
        "configuration": {
            "symbols": len(SYMBOLS),
            "horizon": HORIZON,
            "volatility_per_hour": VOLATILITY,
            "ic": IC,
            "costs": asdict(Costs()),
            "rules": asdict(rules),
        },
        "rows": [asdict(design) | asdict(rates) for design, rates in found],
        "pooled": pooled(found),
        "hours_for_power": hours_for_power(found),
    }


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every design, print the table and keep it."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--resamples", type=int, default=1000)
    parser.add_argument("--hours", type=int, nargs="*", help="only these sizes")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/results"))
    options = parser.parse_args(arguments)
    rules = GateRules(resamples=options.resamples)
    found = []
    for design in DESIGNS:
        if options.hours and design.hours not in options.hours:
            continue
        found.append((design, measure(design, options.trials, rules)))
        print(f"{design}: {found[-1][1]}", flush=True)
    result = as_json(found, rules)
    print(f"\n{result['hardware']}, {options.trials} trials, {rules}\n\n{table(found)}\n")
    shares = ", ".join(f"{name} {rate:.1%}" for name, rate in result["pooled"].items())
    print(
        f"over all trials: {shares}; asked: rejections of {REJECTION[0]:.0%} to "
        f"{REJECTION[1]:.0%}, chance promoted in {MOST_PROMOTED:.0%} at most"
    )
    for kind, hours in result["hours_for_power"].items():
        told = f"from {hours:,} hours on" if hours else "at none of these sizes"
        print(f"{kind}: the gate promotes IC {IC:.2f} in {LEAST_POWER:.0%} of trials {told}")
    options.out.mkdir(parents=True, exist_ok=True)
    path = options.out / f"null_model_{slug(result['hardware'])}_{result['date']}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(f"kept in {path}")


if __name__ == "__main__":
    main()
