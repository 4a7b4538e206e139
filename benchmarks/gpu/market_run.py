"""Trains the whole market's model at full size on a simulated panel of 100 assets.

    python -m benchmarks.gpu.market_run --steps 200 --out "$OUT"

Needs torch, numpy and pyarrow alone. The market is a factor model drawn here in one go (market,
sectors, own noise with clustered volatility, late listings, delistings): nothing in it can be
predicted, so that what is measured is the training, and what it reports is what noise looks like.
Writes `market_run.json` (losses, seconds a step, memory, decisions' figures) and the weights
`market_<variant>.pt`.
"""

import argparse
import dataclasses
import json
import math
import time
from pathlib import Path

import numpy as np
import torch

from flash_pipeline.market import parse_instant
from flash_pipeline.portfolio import MarketPanel, UniverseConfig, WalkConfig, build_panel
from flash_pipeline.portfolio.ranges import walk_forward
from flash_pipeline.training.portfolio_fit import MarketTensors, decide, fit_portfolio
from flash_pipeline.training.portfolio_recipes import VARIANTS, PortfolioRecipe, full_portfolio

FIRST = parse_instant("2024-01-01")
HOUR_MS = 3_600_000
SECTORS = 6


def main() -> None:
    """Run both variants and write what came out."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=200, help="steps of each variant")
    parser.add_argument("--batch", type=int, default=1, help="windows in a step")
    parser.add_argument("--assets", type=int, default=100, help="members of the market")
    parser.add_argument("--lookback", type=int, default=2048, help="hours of a window")
    parser.add_argument("--months", type=int, default=14, help="months of the panel")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=VARIANTS)
    parser.add_argument("--out", type=Path, default=Path())
    options = parser.parse_args()
    recipe = _recipe(options)
    panel = simulated_panel(options.assets, options.months * 730, recipe.universe)
    fold = walk_forward(panel, options.lookback, recipe.horizon, recipe.walk)[0]
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    name = torch.cuda.get_device_name() if device.type == "cuda" else "cpu"
    least = min(recipe.train.least_hours, len(fold.train) // 4)
    tensors = MarketTensors(panel, fold.train, recipe.horizon, least)
    result = {
        "device": name,
        "torch": torch.__version__,
        "tokens": options.lookback * options.assets,
        "columns": len(panel.symbols),
        "recipe": recipe.to_dict(),
        "fold": fold.to_dict(panel),
        "variants": {},
    }
    for variant in options.variants:
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        fit = fit_portfolio(
            tensors, fold, recipe.config(len(panel.symbols), variant), recipe.train, 58
        )
        rows = list(fold.test)[:: recipe.horizon]
        began = time.perf_counter()
        weights = decide(fit.model, tensors, rows)
        figures = {
            "seconds": fit.seconds,
            "seconds_a_step": fit.seconds / recipe.train.steps,
            "attention": fit.attention,
            "history": [vars(look) for look in fit.history],
            "best_step": fit.best.step,
            "decisions": len(rows),
            "seconds_a_decision": (time.perf_counter() - began) / len(rows),
            "gross": float(np.abs(weights).sum(1).mean()),
            "net": float(weights.sum(1).mean()),
            "test_sharpe_net": _sharpe(panel, rows, weights, recipe),
            "peak_gib": torch.cuda.max_memory_allocated() / 2**30 if device.type == "cuda" else 0,
        }
        result["variants"][variant] = figures
        torch.save(fit.model.state_dict(), options.out / f"market_{variant}.pt")
        (options.out / "market_run.json").write_text(json.dumps(result, indent=1) + "\n")
        shown = {k: v for k, v in figures.items() if k != "history"}
        print(variant, json.dumps(shown))
        for look in fit.history:
            print(f"  step {look.step}: {look.train_loss:+.4f} {look.validation_loss:+.4f}")


def simulated_panel(n_assets: int, hours: int, universe: UniverseConfig) -> MarketPanel:
    """Return a panel of a factor market, a sixth more instruments than members."""
    random = np.random.default_rng(20200325)
    count = n_assets + max(2, n_assets // 6)
    sector_A = random.integers(SECTORS, size=count)
    market_T1 = 0.45 * _factor(random, hours, 1)
    sectors_TK = 0.35 * _factor(random, hours, SECTORS)
    own_TA = random.uniform(0.4, 1.0, count) * _factor(random, hours, count)
    beta_A, sector_beta_A = random.uniform(0.7, 1.6, count), random.uniform(0.6, 1.4, count)
    log_TA = market_T1 * beta_A + sectors_TK[:, sector_A] * sector_beta_A + own_TA
    log_TA /= math.sqrt(8760)
    close_TA = 10.0 * np.exp(np.cumsum(log_TA - log_TA.var(axis=0) / 2, axis=0))
    open_TA = np.vstack([np.full((1, count), 10.0), close_TA[:-1]])
    volume_A = 10.0 ** random.uniform(5, 8, count)
    turnover_TA = volume_A * np.exp(0.4 * random.standard_normal((hours, count)))
    candles = {
        "open": open_TA,
        "high": np.maximum(open_TA, close_TA) * 1.001,
        "low": np.minimum(open_TA, close_TA) * 0.999,
        "close": close_TA,
        "turnover": turnover_TA,
    }
    listed_A = np.where(random.random(count) < 0.2, random.integers(0, hours, count), 0)
    gone_A = np.where(random.random(count) < 0.1, random.integers(hours // 3, hours, count), hours)
    row_T1 = np.arange(hours)[:, None]
    away_TA = (row_T1 < listed_A) | (row_T1 >= gone_A)
    candles = {name: np.where(away_TA, np.nan, values) for name, values in candles.items()}
    names = [f"SIM{a:03d}USDT" for a in range(count)]
    start_T = FIRST + HOUR_MS * np.arange(hours, dtype=np.int64)
    return build_panel(names, start_T, candles, universe, synthetic=True)


def _factor(random: np.random.Generator, hours: int, count: int) -> np.ndarray:
    """Return returns of unit variance whose volatility clusters, [hours, count]."""
    level = random.standard_normal(count) * 0.4
    volatility = np.empty((hours, count))
    for t, noise in enumerate(random.standard_normal((hours, count))):
        level = 0.99 * level + 0.4 * math.sqrt(1 - 0.99**2) * noise
        volatility[t] = np.exp(level - 0.16)
    return volatility * random.standard_t(5, (hours, count)) * math.sqrt(3 / 5)


def _recipe(options: argparse.Namespace) -> PortfolioRecipe:
    full = full_portfolio()
    model = dataclasses.replace(full.model, lookback=options.lookback)
    every = max(1, options.steps // 5)
    train = dataclasses.replace(
        full.train, steps=options.steps, batch_size=options.batch, validate_every=every
    )
    universe = dataclasses.replace(full.universe, n_assets=options.assets)
    walk = WalkConfig(folds=1, history=0.85)
    return dataclasses.replace(full, model=model, train=train, universe=universe, walk=walk)


def _sharpe(
    panel: MarketPanel, rows: list[int], weights_NA: np.ndarray, recipe: PortfolioRecipe
) -> float:
    """Return the yearly Sharpe ratio of the decisions, net of what their changes cost."""
    earned_NA = weights_NA * np.nan_to_num(panel.forward_returns(recipe.horizon)[rows])
    change_N = np.abs(np.diff(weights_NA, axis=0, prepend=0)).sum(1)
    net_N = earned_NA.sum(1) - recipe.model.head_options.turnover_cost * change_N
    return float(net_N.mean() / net_N.std() * math.sqrt(8760 / recipe.horizon))


if __name__ == "__main__":
    main()
