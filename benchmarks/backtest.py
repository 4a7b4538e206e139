"""The backtest engine against vectorbt: equality and time, `python -m benchmarks.backtest`.

Both follow the same target weights at the same prices and fees, vectorbt by
`Portfolio.from_orders` with `targetpercent`, one group and shared cash. Each is given arrays and
returns its measures, its own preparation of the prices included. Groups of runs alternate, so that
a busy machine slows both: `warm` is the median of runs that follow one of their own kind,
`turn_about` of single runs, each of which finds the other's arrays in the caches. vectorbt comes
with `pip install '.[vectorbt]'`; without it only the engine is timed.

    --golden FILE   write the small comparison that the tests hold against, computed by vectorbt

T bars · S symbols
"""

import argparse
import datetime as dt
import gc
import json
import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from flash_pipeline.backtest import Costs, Prices, hold_cohorts, simulate, simulate_many, summarise

Floats = npt.NDArray[np.float64]

BARS, SYMBOLS, HORIZON, SETS = 43_800, 5, 24, 1_000
BARS_PER_YEAR = 8_760
FEE = 0.00055
GROSS = 0.9
"""Below 1, or vectorbt has no cash left for the fees of a full position."""
GROUP = 5
"""Runs of one kind that follow one another."""
GOLDEN_BARS, GOLDEN_SYMBOLS = 120, 3
GOAL_SPEED, GOAL_SWEEP_S, GOAL_EQUAL = 15.0, 10.0, 1e-9


def main() -> None:
    """Compare, time, print and keep the result."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=15, help="runs of each, alternating")
    parser.add_argument("--sets", type=int, default=SETS, help="parameter sets of the sweep")
    parser.add_argument("--bars", type=int, default=BARS, help="hourly bars")
    parser.add_argument("--golden", type=Path, help="write the tests' golden file and end")
    parser.add_argument("--out", type=Path, help="folder of the result; none is kept without")
    options = parser.parse_args()
    if options.golden is not None:
        write_golden(options.golden)
        return
    found = {"hardware": _hardware(), "versions": _versions(), "bars": options.bars}
    found |= {"symbols": SYMBOLS, "horizon": HORIZON, "fee": FEE, "runs": options.runs}
    print(f"{found['hardware']}; {', '.join(f'{k} {v}' for k, v in found['versions'].items())}")
    found |= compare(options.bars, options.runs)
    found |= sweep(options.bars, options.sets)
    if options.out is not None:
        options.out.mkdir(parents=True, exist_ok=True)
        today = dt.datetime.now(tz=dt.UTC).date().isoformat()
        path = options.out / f"backtest_cpu-{os.cpu_count()}-cores_{today}.json"
        path.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def market(n_bars: int, n_symbols: int, seed: int = 0) -> tuple[Floats, Floats, Floats]:
    """Return opens, closes and target weights [T, S] of a random walk with cohorts held a day."""
    rng = np.random.default_rng(seed)
    close_TS = 100 * np.exp(np.cumsum(rng.normal(0, 0.005, (n_bars, n_symbols)), axis=0))
    before_TS = np.vstack([close_TS[:1], close_TS[:-1]])
    open_TS = before_TS * np.exp(rng.normal(0, 0.0005, close_TS.shape))
    signal_TS = rng.uniform(-1, 1, close_TS.shape)
    signal_TS *= GROSS / np.abs(signal_TS).sum(axis=1, keepdims=True)
    return open_TS, close_TS, hold_cohorts(signal_TS, HORIZON)


def priced(open_TS: Floats, close_TS: Floats) -> Prices:
    """Return hourly prices of symbols with made-up names."""
    start_T = 3_600_000 * np.arange(len(open_TS), dtype=np.int64)
    return Prices(start_T, open_TS, close_TS, tuple(f"S{s}USDT" for s in range(open_TS.shape[1])))


def vectorbt_portfolio(open_TS: Floats, close_TS: Floats, target_TS: Floats, every: int = 1) -> Any:  # noqa: ANN401  (vectorbt carries no types)
    """Return vectorbt's portfolio of the same targets, decided at a close, filled at an open."""
    import pandas as pd
    import vectorbt as vbt

    bar_T = np.arange(len(open_TS))
    size_TS = np.vstack([np.zeros((1, open_TS.shape[1])), target_TS[:-1]])
    size_TS[(bar_T == 0) | ((bar_T - 1) % every != 0)] = np.nan  # no order
    index = pd.date_range("2020-01-01", periods=len(bar_T), freq="h")
    return vbt.Portfolio.from_orders(
        pd.DataFrame(close_TS, index=index),
        size=size_TS,
        size_type="targetpercent",
        price=open_TS,
        fees=FEE,
        init_cash=1e6,
        cash_sharing=True,
        group_by=True,
        call_seq="auto",
        freq="1h",
    )


def vectorbt_equity(open_TS: Floats, close_TS: Floats, target_TS: Floats, every: int = 1) -> Floats:
    """Return vectorbt's equity [T] as a multiple of the start."""
    portfolio = vectorbt_portfolio(open_TS, close_TS, target_TS, every)
    return np.asarray(portfolio.value().to_numpy(), dtype=np.float64) / 1e6


def compare(n_bars: int, runs: int) -> dict[str, Any]:
    """Time both on the same arrays, measures included, and compare every bar's equity."""
    open_TS, close_TS, target_TS = market(n_bars, SYMBOLS)
    costs = Costs(fee_rate=FEE, slippage_rate=0.0)

    def ours() -> Floats:
        result = simulate(target_TS, priced(open_TS, close_TS), costs)
        summarise(result, BARS_PER_YEAR)
        return result.equity_T

    def theirs() -> Floats:
        portfolio = vectorbt_portfolio(open_TS, close_TS, target_TS)
        for measure in _MEASURES:
            getattr(portfolio, measure)()
        portfolio.orders.count()
        portfolio.orders.fees.sum()
        portfolio.drawdowns.max_duration()
        return np.asarray(portfolio.value().to_numpy(), dtype=np.float64) / 1e6

    if not _has_vectorbt():
        seconds = _alternating({"engine": ours}, runs, GROUP)["engine"]
        print(f"engine with measures {1e3 * seconds:.1f} ms; vectorbt is not installed")
        return {"engine_ms": 1e3 * seconds}
    away = float(np.abs(ours() / theirs() - 1).max())
    print(f"equity, largest relative difference over {n_bars:,} bars: {away:.1e} ({GOAL_EQUAL:g})")
    found: dict[str, Any] = {"largest_relative_difference": away}
    for name, group in (("warm", GROUP), ("turn_about", 1)):
        seconds = _alternating({"engine": ours, "vectorbt": theirs}, runs, group)
        ratio = seconds["vectorbt"] / seconds["engine"]
        print(f"with measures, {name}: engine {1e3 * seconds['engine']:.1f} ms, ", end="")
        print(
            f"vectorbt {1e3 * seconds['vectorbt']:.1f} ms, {ratio:.1f} times (goal {GOAL_SPEED:g})"
        )
        found |= {f"{work}_{name}_ms": round(1e3 * value, 3) for work, value in seconds.items()}
        found[f"speedup_{name}"] = round(ratio, 2)
    return found


def sweep(n_bars: int, n_sets: int) -> dict[str, Any]:
    """Time many parameter sets, made one after the other."""
    open_TS, close_TS, target_TS = market(n_bars, SYMBOLS)
    sets = (target_TS * ((1 + p) / n_sets) for p in range(n_sets))
    start = time.perf_counter()
    simulate_many(sets, priced(open_TS, close_TS), Costs(), bars_per_year=BARS_PER_YEAR)
    seconds = time.perf_counter() - start
    print(f"{n_sets:,} parameter sets with measures: {seconds:.1f} s (goal {GOAL_SWEEP_S:g})")
    return {"sets": n_sets, "sweep_s": round(seconds, 3)}


def write_golden(path: Path) -> None:
    """Write inputs and vectorbt's equity of a small market, traded every bar and every fifth."""
    open_TS, close_TS, target_TS = market(GOLDEN_BARS, GOLDEN_SYMBOLS, seed=7)
    golden = {
        "made_by": f"python -m benchmarks.backtest --golden, vectorbt {version('vectorbt')}",
        "fee": FEE,
        "open": open_TS.tolist(),
        "close": close_TS.tolist(),
        "target": target_TS.tolist(),
        "equity": {
            str(every): vectorbt_equity(open_TS, close_TS, target_TS, every).tolist()
            for every in (1, 5)
        },
    }
    path.write_text(json.dumps(golden) + "\n", encoding="utf-8")


_MEASURES = (
    *("total_return", "annualized_return", "annualized_volatility", "sharpe_ratio"),
    *("sortino_ratio", "calmar_ratio", "max_drawdown", "gross_exposure"),
)


def _alternating(works: dict[str, Callable[[], Any]], runs: int, group: int) -> dict[str, float]:
    """Return the median seconds of each, in alternating groups of runs after a warm-up."""
    seconds: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(max(runs // group, 1) + 1):
        for name, work in works.items():
            gc.collect()  # vectorbt's portfolios hold themselves
            for run in range(group + 1):
                start = time.perf_counter()
                work()
                if run or group == 1:  # the first finds the other's arrays in the caches
                    seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(values[group:]) for name, values in seconds.items()}


def _has_vectorbt() -> bool:
    try:
        import vectorbt  # noqa: F401
    except ImportError:
        return False
    return True


def _hardware() -> str:
    return f"CPU, {os.cpu_count()} cores ({platform.machine()})"


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in ("numpy", "vectorbt", "numba", "pandas"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "absent"
    return found


if __name__ == "__main__":
    main()
