"""Shows what leaking folds report: `make leak-demo`, or `python -m benchmarks.leak_demo`.

The same gradient boosting, on the same windows, tested in three ways:

- shuffled folds, as a library's default `KFold(shuffle=True)`: next to every window tested, windows
  of the hours before and after are trained on, whose labels span nearly the same hours;
- purged k-fold: what a label of a test range overlaps is left out of the training;
- purged walk-forward: trained on the past alone, as a trader would have had to.

The features and the model cannot know the future in any of them; the folds alone differ.
"""

import argparse
import json
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.recorded import VARIABLE, chosen_windows
from flash_pipeline.errors import FlashPipelineError
from flash_pipeline.evaluation.scores import Outcome, measure
from flash_pipeline.evaluation.statistics import Interval, block_length, stationary_weights
from flash_pipeline.market import iso_utc
from flash_pipeline.training.baselines import Boosting
from flash_pipeline.windows import (
    Fold,
    PurgedConfig,
    Split,
    WalkForwardConfig,
    WindowFrame,
    purged_folds,
    walk_forward,
)

FOLDS = 5
LOOKBACK = 168
HORIZON = 24
SEED = 58

Results = dict[str, dict[str, Interval]]


def main() -> None:
    """Measure the three ways, print them side by side and say what they mean."""
    options = _options()
    frame, source = chosen_windows(options.data, LOOKBACK, HORIZON)
    first, last = (iso_utc(int(frame.made_at_N[n])) for n in (0, -1))
    print(f"{len(frame.anchor_N):,} windows of {', '.join(frame.symbols)}, {first} to {last},")
    print(f"from {source}; labels {frame.horizon} bars ahead; {FOLDS} folds\n", flush=True)
    begun = time.perf_counter()
    results = compare(frame)
    print(table(results))
    print(f"\n{in_words(results, frame)}\n({time.perf_counter() - begun:.0f} s)")
    if options.json:
        rows = {way: {k: asdict(v) for k, v in row.items()} for way, row in results.items()}
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def compare(frame: WindowFrame) -> Results:
    """Return the measures of the three ways, all on the dates that the walk-forward tests."""
    honest = walk_forward(frame, WalkForwardConfig(folds=FOLDS))
    dates_N = np.concatenate([fold.split.test_N for fold in honest])
    ways = {
        "shuffled folds": shuffled_folds(frame),
        "purged k-fold": purged_folds(frame, PurgedConfig(groups=FOLDS)),
        "purged walk-forward": honest,
    }
    resamples = stationary_weights(len(dates_N), block_length(frame.horizon, len(dates_N)))
    return {
        way: measure(tested(frame, folds).at(dates_N), frame.horizon, resamples)
        for way, folds in ways.items()
    }


def shuffled_folds(frame: WindowFrame) -> list[Fold]:
    """Return folds that know nothing of time, as many cross-validations are made."""
    known_N = np.random.default_rng(SEED).permutation(np.flatnonzero(frame.known_N))
    parts = np.array_split(known_N, FOLDS)
    folds = []
    for number, test_N in enumerate(parts, 1):
        rest_N = np.setdiff1d(known_N, test_N)
        chosen = np.random.default_rng(number).random(len(rest_N)) < WalkForwardConfig().validation
        folds.append(Fold(number, Split(rest_N[~chosen], rest_N[chosen], np.sort(test_N))))
    return folds


def tested(frame: WindowFrame, folds: Iterable[Fold]) -> Outcome:
    """Return the booster's predictions of every test range; NaN where there is none."""
    prediction_NS = np.full(frame.label_NS.shape, np.nan)
    for fold in folds:
        model = Boosting.fit(frame, fold.split)
        prediction_NS[fold.split.test_N] = model.predict(frame, fold.split.test_N).value_NS
    label_NS = frame.label_NS.astype(np.float64)
    return Outcome("boosting", "regression", frame.made_at_N, prediction_NS, label_NS, None, None)


def table(results: Results) -> str:
    """Return the measures with their 95 % intervals, one line each."""
    lines = [f"{'':22}{'rank IC':>24}{'hit rate':>26}{'R2 against zero':>28}"]
    for way, row in results.items():
        shown = [_shown(row[name]) for name in ("rank_ic", "hit_rate", "r2_against_zero")]
        lines.append(f"{way:22}{shown[0]:>24}{shown[1]:>26}{shown[2]:>28}")
    return "\n".join(lines)


def in_words(results: Results, frame: WindowFrame) -> str:
    """Say what the figures mean."""
    leaked, honest = (results[way]["rank_ic"] for way in ("shuffled folds", "purged walk-forward"))
    verdict = "is no evidence of any skill" if honest.low <= 0 <= honest.high else "differs from 0"
    return (
        f"Shuffled folds report a rank IC of {leaked.value:.3f}, the walk-forward one of "
        f"{honest.value:.3f}, on the same dates.\n"
        f"Labels {frame.horizon} bars long overlap, so shuffling lets the model look up the answer "
        "in its neighbours;\nof that nothing is left when it is trained on the past alone, and "
        f"what remains {verdict}\n(95 % interval {honest.low:+.3f} to {honest.high:+.3f}). Only "
        "the walk-forward figure could have been traded on."
    )


def _shown(interval: Interval) -> str:
    return f"{interval.value:+.3f} [{interval.low:+.3f}, {interval.high:+.3f}]"


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help=f"folder of recorded candles, or {VARIABLE}")
    parser.add_argument("--json", type=Path, help="write the measures to this file")
    return parser.parse_args()


if __name__ == "__main__":
    try:
        main()
    except FlashPipelineError as error:
        raise SystemExit(f"{type(error).__name__}: {error}") from None
