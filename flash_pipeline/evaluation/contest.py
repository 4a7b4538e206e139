"""The challenger and the champion on the same dates, which neither has seen.

Shape letters: N anchors, T bars, S symbols.
"""

import json
import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt

from flash_pipeline.backtest import (
    BacktestResult,
    Costs,
    Metrics,
    Prices,
    Report,
    ReportContext,
    buy_and_hold,
    simulate,
    summarise,
    write_report,
)
from flash_pipeline.errors import NotEnoughHistory, SchemaMismatch
from flash_pipeline.evaluation.measures import contest_loss, measured_as, prediction_quality
from flash_pipeline.evaluation.trading import (
    gross_cap,
    load_prices,
    predict_windows,
    predictions_table,
    size_positions,
)
from flash_pipeline.market import compact_utc, iso_utc
from flash_pipeline.storage.files import replacing_file
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Split

_LEAST_HORIZONS = 4
_LEAST_ANCHORS = 48


@dataclass(frozen=True)
class Contestant:
    """A registered model and how it did over the dates of a contest."""

    version: str
    """Version in the registry."""
    head: str
    """What it predicts; the levels too where these are quantiles."""
    loss: float
    """Mean loss over the dates in a unit that models of one head share; lower is better."""
    quality: dict[str, float]
    """Rank IC, hit rate and the like; NaN where not defined."""
    metrics: Metrics
    """Of the backtest, after costs."""


@dataclass(frozen=True)
class Contest:
    """What was measured: all that a promotion is decided by."""

    made_at: int
    """Close of the newest bar at hand, ms since the epoch; names the report."""
    anchors: int
    """Dates of the contest."""
    first_made_at: int
    """First date, ms since the epoch."""
    last_made_at: int
    """Last date, ms since the epoch."""
    challenger: Contestant
    """The model of the report."""
    champion: Contestant | None
    """On the same dates; None where there is none that can be compared."""
    champion_absent: str
    """Why there is no champion to compare, empty where there is one."""
    rival: str | None = None
    """Version of the champion that was to be met, comparable or not; None where there was none."""
    champion_unfit: bool = False
    """Whether there is a champion that cannot predict from these windows at all."""

    def save(self, path: Path) -> None:
        """Write the figures as JSON, whole or not at all; NaN becomes null."""
        text = json.dumps(_finite(asdict(self)), indent=2)
        with replacing_file(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Contest":
        """Read what `save` wrote.

        Raises
        ------
        SchemaMismatch
            If there is no such file, or it holds something else.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            contestants = {
                name: None if values[name] is None else _contestant(values[name])
                for name in ("challenger", "champion")
            }
            return cls(**{**values, **contestants})
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise SchemaMismatch(f"{path} holds no contest: {error}") from error


def evaluate_challenger(
    frame: WindowFrame,
    store: KlineStore,
    costs: Costs,
    reports: Path,
    challenger: tuple[str, ModelBundle],
    champion: tuple[str, ModelBundle] | None,
) -> tuple[Contest, Report]:
    """Backtest the challenger, and the champion beside it, and write the challenger's report.

    Every date used comes after the last price that touched either model's weights or choice of
    checkpoint (`Provenance.seen_until`), so a model trained on more recent data shortens the
    contest for both.

    Parameters
    ----------
    challenger, champion : (version, bundle)
        No champion, or one that predicts something else, leaves the challenger alone.

    Returns
    -------
    contest : Contest
        The figures of both over the same dates.
    report : Report
        The challenger's, as written.

    Raises
    ------
    NotEnoughHistory
        If fewer than 48 dates, or 4 horizons, follow what the challenger has seen.
    """
    absent = _unfit(frame, champion)
    unfit = bool(absent)
    absent = absent or ("" if champion is not None else "there is no champion yet")
    rivals = [challenger] if absent or champion is None else [challenger, champion]
    index_N = _unseen(frame, [bundle for _, bundle in rivals])
    least = least_dates(frame.horizon)
    if len(rivals) == 2 and len(index_N) < least:
        absent = f"fewer than {least} dates follow what both models have seen"
        rivals, index_N = [challenger], _unseen(frame, [challenger[1]])
    if len(index_N) < least:
        raise NotEnoughHistory(
            f"{len(index_N)} labelled dates follow what version {challenger[0]} has seen "
            f"(to {iso_utc(challenger[1].provenance.seen_until)}): expected {least}"
        )
    prices = load_prices(frame, store, index_N)
    outcomes = [_run(frame, prices, costs, index_N, *rival) for rival in rivals]
    predictions_NS, result, contestant = outcomes[0]
    met = outcomes[1][2] if len(outcomes) > 1 else None
    benchmark = buy_and_hold(prices, costs)
    made_at = int(frame.made_at_N[-1])
    report = write_report(
        reports / compact_utc(made_at),
        result=result,
        benchmark=benchmark,
        context=ReportContext(
            interval=frame.interval,
            costs=costs,
            horizon=frame.horizon,
            model_version=contestant.version,
            synthetic=frame.synthetic,
        ),
        predictions=predictions_table(frame, index_N, predictions_NS, contestant.version),
        prediction_quality=_readable(contestant, met),
    )
    contest = Contest(
        made_at=made_at,
        anchors=len(index_N),
        first_made_at=int(frame.made_at_N[index_N[0]]),
        last_made_at=int(frame.made_at_N[index_N[-1]]),
        challenger=contestant,
        champion=met,
        champion_absent=absent,
        rival=champion[0] if champion is not None else None,
        champion_unfit=unfit,
    )
    return contest, report


def _run(
    frame: WindowFrame,
    prices: Prices,
    costs: Costs,
    index_N: npt.NDArray[np.int64],
    version: str,
    bundle: ModelBundle,
) -> tuple[npt.NDArray[np.float32], BacktestResult, Contestant]:
    told = predict_windows(frame, bundle, index_N)
    # As live, a symbol whose own newest bar is not known gets no forecast.
    last_N = frame.offset_N[index_N] + frame.lookback - 1
    known_NS = frame.valid_BKS[frame.block_N[index_N], last_N]
    told = replace(told, value_NS=np.where(known_NS, told.value_NS, np.float32(np.nan)))
    weights_TS = size_positions(bundle, told)  # the dates are the bars of the prices
    weights_TS[np.isnan(prices.close_TS)] = 0.0  # before its first close nothing can be held
    result = simulate(weights_TS, prices, costs, gross_cap=gross_cap(bundle))
    metrics = summarise(result, frame.interval.bars_per_year)
    labels_NS = frame.label_NS[index_N].astype(np.float64)
    contestant = Contestant(
        version=version,
        head=measured_as(bundle.config),
        loss=contest_loss(bundle.config, told, labels_NS, metrics),
        quality=prediction_quality(bundle.config, told, labels_NS),
        metrics=metrics,
    )
    return told.value_NS, result, contestant


def least_dates(horizon: int) -> int:
    """Return how many dates a contest needs at a horizon of that many bars: 48, or 4 horizons."""
    return max(_LEAST_ANCHORS, _LEAST_HORIZONS * horizon)


def require_dates(frame: WindowFrame, split: Split) -> None:
    """Refuse a split whose test range is too short for a contest, before anything is trained.

    Raises
    ------
    NotEnoughHistory
        If it has fewer than `least_dates`.
    """
    found, least = len(split.test_N), least_dates(frame.horizon)
    if found < least:
        raise NotEnoughHistory(
            f"{found} dates of {len(frame.anchor_N)} windows are left for the test range: "
            f"expected {least}; use more months, or a shorter lookback"
        )


def _unseen(frame: WindowFrame, bundles: list[ModelBundle]) -> npt.NDArray[np.int64]:
    """Return every date from the first to the last labelled one that no model has seen.

    Dates between them whose label is missing stay in: whether a label will be missing is not
    known when the position is taken.
    """
    seen_until = max(bundle.provenance.seen_until for bundle in bundles)
    labelled = np.flatnonzero(frame.known_N & (frame.made_at_N >= seen_until))
    return np.arange(labelled[0], labelled[-1] + 1) if len(labelled) else labelled


def _contestant(values: dict[str, Any]) -> Contestant:
    metrics, quality = (
        cast(dict[str, Any], {k: math.nan if v is None else v for k, v in values[name].items()})
        for name in ("metrics", "quality")
    )
    return Contestant(**{**values, "metrics": Metrics(**metrics), "quality": quality})


def _finite(value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _unfit(frame: WindowFrame, champion: tuple[str, ModelBundle] | None) -> str:
    """Say why a champion cannot predict from these windows; empty where it can."""
    if champion is None:
        return ""
    version, bundle = champion
    if bundle.provenance.synthetic != frame.synthetic:
        return f"champion {version} was trained on candles of another kind (simulated or real)"
    serves = bundle.serves(
        frame.symbols, frame.features, frame.interval.value, bundle.lookback, frame.horizon
    )
    if not serves:
        return f"champion {version} predicts other symbols or another horizon"
    if bundle.lookback > frame.lookback:
        return f"champion {version} needs {bundle.lookback} bars, the windows have {frame.lookback}"
    return ""


def _readable(challenger: Contestant, champion: Contestant | None) -> dict[str, float | str | None]:
    names = {
        "rank_ic": "Rank IC",
        "cross_sectional_ic": "Cross-sectional rank IC",
        "hit_rate": "Hit rate of predictions",
        "r2_against_zero": "R² against the zero forecast",
        "coverage": "Share of returns between the outer quantiles",
    }
    rows: dict[str, float | str | None] = {
        names[name]: value if np.isfinite(value) else None
        for name, value in challenger.quality.items()
    }
    rows[f"Loss ({challenger.head})"] = challenger.loss
    if champion is not None:
        rows[f"Loss of champion, version {champion.version}"] = champion.loss
        rows["Net return of the champion, same dates"] = champion.metrics.total_return
    return rows
