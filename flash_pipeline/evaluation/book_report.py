"""The report on an order book's model, beside logistic imbalance, order flow and state.

<folder>/report.html     self-contained
<folder>/metrics.json    every number of the page
<folder>/*.png           gain, reliability, levels, interactions, lags
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from flash_pipeline.backtest.page import components
from flash_pipeline.evaluation.book_figures import (
    gain_picture,
    interaction_picture,
    lags_picture,
    level_matrix,
    level_shares,
    levels_picture,
    reliability_picture,
)
from flash_pipeline.evaluation.book_scores import (
    REFERENCE,
    STATE,
    HeldOut,
    Score,
    as_json,
    calibration,
    difference,
    score,
    verdict,
    window_losses,
)
from flash_pipeline.market import iso_utc
from flash_pipeline.storage.files import replacing_folder
from flash_pipeline.training.book_results import BookResults
from flash_pipeline.training.book_session import CHAMPION_NAME

JOINT = "joint"
"""Name of the registered model's forecasts."""

CAPTIONS = {
    "gain.png": "How much lower than logistic imbalance's each model's log loss is",
    "reliability.png": "How often what was forecast came",
    "levels.png": "Which levels the last snapshot's tokens attend to",
    "interactions.png": "How the levels attend to one another",
    "lags.png": "How far back the last snapshot's tokens attend",
}
"""Pictures by file, in the order of the page."""


@dataclass(frozen=True)
class BookReport:
    """A written report."""

    folder: Path
    """Where the files lie."""
    scores: tuple[Score, ...]
    """Of every model, over all horizons and at each; gains are over logistic imbalance."""
    over_state: tuple[Score, ...]
    """The same with gains over logistic state; none where that was not fitted."""
    verdict: str
    """In words, of the joint model."""
    pictures: Mapping[str, bytes]
    """PNGs by file name."""
    edge: tuple[float, float] | None
    """Interval of the log loss that it saves over the champion on the same windows; None where
    there is no other champion, or none that forecasts the same."""

    def figures(self) -> dict[str, float]:
        """Return the finite measures, by `model.measure` and `model.measure_horizon`."""
        named = {}
        for row in self.scores:
            end = f"_{row.horizon}" if row.horizon else ""
            for measure in (
                "log_loss",
                "accuracy",
                "mcc",
                "rank_correlation",
                "gain",
                "direction_gain",
            ):
                value = getattr(row, measure)
                if value == value:
                    named[f"{row.model.replace(' ', '_')}.{measure}{end}"] = float(value)
        for row in self.over_state:
            if row.gain == row.gain:
                end = f"_{row.horizon}" if row.horizon else ""
                named[f"{row.model.replace(' ', '_')}.gain_over_state{end}"] = float(row.gain)
        return named


def write_book_report(folder: Path, results: BookResults) -> BookReport:
    """Measure the forecasts of held-out windows, judge them, and write the folder, whole or not.

    Parameters
    ----------
    folder : Path
        The report's own folder; one that is there is replaced.
    results : BookResults
        Of `run_book_session`.
    """
    held = held_out(results)
    rows = score(held, results.forecasts)
    beside = score(held, results.forecasts, STATE) if STATE in results.forecasts else []
    joint = verdict(rows, JOINT)
    if beside:
        joint += f"; it {verdict(beside, JOINT, STATE)}"
    shown = {name: calibration(held, results.forecasts[name]) for name in (JOINT, REFERENCE)}
    pictures = {
        "gain.png": gain_picture(rows),
        "reliability.png": reliability_picture(shown),
        "levels.png": levels_picture(results.attention),
        "interactions.png": interaction_picture(results.attention),
        "lags.png": lags_picture(results.attention, held.cadence_ms),
    }
    report = BookReport(folder, tuple(rows), tuple(beside), joint, pictures, _edge(held, results))
    numbers = {
        "verdict": joint,
        "verdicts": {name: verdict(rows, name) for name in results.forecasts if name != REFERENCE},
        "scores": as_json(rows),
        "scores_over_state": as_json(beside),
        "calibration": shown,
        "edge_over_champion": report.edge,
        "attention": {
            "by_level_and_side": level_shares(results.attention).tolist(),
            "level_by_level": level_matrix(results.attention).tolist(),
            "by_lag": results.attention.by_lag_LT.tolist(),
            "windows": results.attention.windows,
        },
        "facts": dict(results.facts),
    }
    page = _page(results, report)
    with replacing_folder(folder) as temporary:
        (temporary / "report.html").write_text(page, encoding="utf-8")
        text = json.dumps(numbers, indent=2, allow_nan=False)
        (temporary / "metrics.json").write_text(text + "\n", encoding="utf-8")
        for name, png in pictures.items():
            (temporary / name).write_bytes(png)
    return report


def held_out(results: BookResults) -> HeldOut:
    """Return the held-out windows of a session."""
    facts = results.facts
    return HeldOut(
        results.time_N,
        results.label_NH,
        results.move_NH,
        tuple(facts["horizons"]),
        facts["stride_ms"],
        facts["cadence_ms"],
        facts["history_length"],
    )


def score_table(report: BookReport) -> list[dict[str, str]]:
    """Return the scores as texts, a row for each model and horizon."""
    over_state = {(row.model, row.horizon): row for row in report.over_state}
    return [
        {
            "model": row.model,
            "horizon": str(row.horizon) if row.horizon else "all",
            "log loss": f"{row.log_loss:.4f}",
            "accuracy": f"{row.accuracy:.1%}",
            "MCC": f"{row.mcc:+.3f}",
            "rank correlation": ""
            if row.rank_correlation != row.rank_correlation
            else f"{row.rank_correlation:+.3f}",
            "better than imbalance": "" if row.model == REFERENCE else _gained(row),
            "better than state": ""
            if row.model == STATE
            else _gained(over_state.get((row.model, row.horizon))),
            "on direction alone, than imbalance": ""
            if row.model == REFERENCE
            else f"{row.direction_gain:+.3f} [{row.direction_low:+.3f}, {row.direction_high:+.3f}]",
        }
        for row in report.scores
    ]


def _gained(row: Score | None) -> str:
    if row is None:
        return ""
    return f"{row.gain:+.3f} [{row.gain_low:+.3f}, {row.gain_high:+.3f}]"


def _edge(held: HeldOut, results: BookResults) -> tuple[float, float] | None:
    if CHAMPION_NAME not in results.forecasts:
        return None
    own, other = (window_losses(held, results.forecasts[name]) for name in (JOINT, CHAMPION_NAME))
    _, low, high = difference(held, own, other, None)
    return low, high


def _page(results: BookResults, report: BookReport) -> str:
    environment = Environment(
        loader=PackageLoader("flash_pipeline.evaluation", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    facts = results.facts
    rows = score_table(report)
    return environment.get_template("order_book.html").render(
        symbols=", ".join(facts["symbols"]),
        period=facts["held_out"],
        synthetic=facts["synthetic"],
        version=facts["version"],
        headline=f"The order-book model {report.verdict}.",
        columns=list(rows[0]),
        rows=[list(row.values()) for row in rows],
        pictures=[
            (caption, base64.b64encode(report.pictures[name]).decode())
            for name, caption in CAPTIONS.items()
        ],
        facts=_told(facts, results),
        page_style=components([])["page_style"],
    )


_TAUGHT = {
    "dense": "a label for every snapshot of a window",
    "last": "a label for the last snapshot of a window",
}


def _told(facts: Mapping[str, Any], results: BookResults) -> list[tuple[str, str]]:
    """Return what the numbers rest on, by a name for people."""
    tokens = facts["history_length"] * facts["levels"] * 2
    seconds = facts["cadence_ms"] / 1000
    train, validation, test = facts["windows"]
    limits = ", ".join(
        f"{limit:.3g} bp over {horizon * seconds:g} s"
        for horizon, limit in zip(facts["horizons"], facts["threshold_bp"], strict=True)
    )
    return [
        (
            "Window",
            f"{facts['history_length']} snapshots of {facts['levels']} levels on 2 sides, one "
            f"every {seconds:g} s: {tokens:,} tokens",
        ),
        ("Flat", f"moves of the mid price up to {limits}, learnt on training snapshots"),
        ("Windows", f"{train:,} training, {validation:,} validation, {test:,} held out"),
        (
            "Trained",
            f"{iso_utc(facts['train_from'])} to {iso_utc(facts['train_until'])}; labels that reach "
            "into the next range are left out",
        ),
        (
            "Intervals",
            "stationary block bootstrap over held-out instants, 95 %, blocks of an hour or more, "
            "of a quarter of the range where that is shorter",
        ),
        (
            "State",
            "logistic regression on imbalance, volatility, spread, past moves and order flow",
        ),
        (
            "Attention",
            f"exact, of the last snapshot's tokens, mean over {results.attention.windows} windows "
            "and all heads: what was read, not what caused a forecast",
        ),
        *(
            (
                f"Training, {name}",
                f"{each['parameters']:,} parameters, {each['layers']} layers, {each['seconds']} s, "
                f"{_TAUGHT[each.get('supervision', 'last')]}, {each['attention']}, {each['form']}",
            )
            for name, each in facts["trainings"].items()
        ),
    ]
