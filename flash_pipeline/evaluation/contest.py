"""The challenger, the champion and baselines on the same dates, which none of them has seen.

Shape letters: N anchors, T bars, S symbols.
"""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
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
from flash_pipeline.evaluation.measures import (
    contest_loss,
    forecast_losses,
    measured_as,
    prediction_quality,
)
from flash_pipeline.evaluation.quality import mean_by_date
from flash_pipeline.evaluation.rivals import Rival, no_position, rival_track
from flash_pipeline.evaluation.tracks import Track, Tracks
from flash_pipeline.evaluation.trading import (
    as_live,
    gross_cap,
    load_prices,
    predict_windows,
    predictions_table,
    size_positions,
)
from flash_pipeline.market import compact_utc, iso_utc
from flash_pipeline.storage.files import replacing_file
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.training.bundle import ModelBundle, UnreadableBundle
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
    tracks: Tracks = field(compare=False)
    """What each earned and lost date by date: saved beside the figures, as Parquet."""
    rival: str | None = None
    """Version of the champion that was to be met, comparable or not; None where there was none."""
    champion_unfit: bool = False
    """Whether there is a champion that cannot predict from these windows at all."""

    def save(self, path: Path) -> None:
        """Write the figures as JSON and the tracks as Parquet beside it, each whole or not at all.

        NaN becomes null.
        """
        figures = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "tracks"}
        text = json.dumps(_finite(figures), indent=2)
        self.tracks.save(path.with_suffix(".parquet"), self._mark())
        with replacing_file(path) as temporary:
            temporary.write_text(text + "\n", encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> "Contest":
        """Read what `save` wrote.

        Raises
        ------
        SchemaMismatch
            If there are no such files, they hold something else, or the two are not of one contest.
        """
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            contestants = {
                name: None if values[name] is None else _contestant(values[name])
                for name in ("challenger", "champion")
            }
            tracks, mark = Tracks.load(path.with_suffix(".parquet"))
            contest = cls(**{**values, **contestants, "tracks": tracks})
        except (OSError, ValueError, TypeError, KeyError, SchemaMismatch) as error:
            raise SchemaMismatch(f"{path} holds no contest: {error}") from error
        if contest._mark() != mark:
            raise SchemaMismatch(
                f"{path} holds no contest: its tracks are of {mark}, its figures of "
                f"{contest._mark()}: materialize backtest_report again"
            )
        return contest

    def _mark(self) -> dict[str, Any]:
        """Return what the figures and the tracks of one contest have in common."""
        return {
            "made_at": self.made_at,
            "first_made_at": self.first_made_at,
            "challenger": self.challenger.version,
            "rival": self.rival,
        }


@dataclass(frozen=True)
class _Outcome:
    """How one contestant did."""

    predictions_NS: npt.NDArray[np.float32]
    result: BacktestResult
    contestant: Contestant
    track: Track


def evaluate_challenger(
    frame: WindowFrame,
    store: KlineStore,
    costs: Costs,
    reports: Path,
    challenger: tuple[str, ModelBundle],
    champion: tuple[str, ModelBundle | UnreadableBundle] | None,
    baselines: Sequence[Rival] = (),
) -> tuple[Contest, Report]:
    """Backtest the challenger, and the champion beside it, and write the challenger's report.

    Every date used comes after the last price that touched any model's weights or choice of
    checkpoint (`Provenance.seen_until`), so a model trained on more recent data shortens the
    contest for all.

    Parameters
    ----------
    challenger, champion : (version, bundle)
        No champion, or one that predicts something else or cannot be read any more, leaves the
        challenger alone with the baselines.
    baselines : sequence of Rival
        Simple models, traded at the same costs: see `fit_rivals`. Holding no position is among
        them in any case.

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
    rivals = [challenger]
    if not absent and champion is not None and isinstance(champion[1], ModelBundle):
        rivals.append((champion[0], champion[1]))
    seen = [bundle.provenance.seen_until for _, bundle in rivals]
    simple = [baseline.seen_until for baseline in baselines]
    index_N = _unseen(frame, max(seen + simple))
    least = least_dates(frame.horizon)
    if len(rivals) == 2 and len(index_N) < least:
        absent = f"fewer than {least} dates follow what both models have seen"
        rivals, index_N = [challenger], _unseen(frame, max([seen[0], *simple]))
    if len(index_N) < least:
        raise NotEnoughHistory(
            f"{len(index_N)} labelled dates follow what version {challenger[0]} has seen "
            f"(to {iso_utc(challenger[1].provenance.seen_until)}): expected {least}"
        )
    prices = load_prices(frame, store, index_N)
    mine, *others = [_run(frame, prices, costs, index_N, *rival) for rival in rivals]
    met = others[0] if others else None
    made_at = int(frame.made_at_N[-1])
    report = write_report(
        reports / compact_utc(made_at),
        result=mine.result,
        benchmark=buy_and_hold(prices, costs),
        context=ReportContext(
            interval=frame.interval,
            costs=costs,
            horizon=frame.horizon,
            model_version=challenger[0],
            synthetic=frame.synthetic,
        ),
        predictions=predictions_table(frame, index_N, mine.predictions_NS, challenger[0]),
        prediction_quality=_readable(mine.contestant, met.contestant if met else None),
    )
    contest = Contest(
        made_at=made_at,
        anchors=len(index_N),
        first_made_at=int(frame.made_at_N[index_N[0]]),
        last_made_at=int(frame.made_at_N[index_N[-1]]),
        challenger=mine.contestant,
        champion=met.contestant if met else None,
        champion_absent=absent,
        tracks=Tracks(
            mine.track,
            met.track if met else None,
            (
                no_position(frame, index_N),
                *(rival_track(each, frame, prices, costs, index_N) for each in baselines),
            ),
        ),
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
) -> _Outcome:
    told = as_live(frame, predict_windows(frame, bundle, index_N), index_N)
    weights_TS = size_positions(bundle, told)  # the dates are the bars of the prices
    weights_TS[np.isnan(prices.close_TS)] = 0.0  # before its first close nothing can be held
    result = simulate(weights_TS, prices, costs, gross_cap=gross_cap(bundle))
    metrics = summarise(result, frame.interval.bars_per_year)
    labels_NS = frame.label_NS[index_N].astype(np.float64)
    losses_NS = forecast_losses(bundle.config, told, labels_NS)
    unit = measured_as(bundle.config)
    contestant = Contestant(
        version=version,
        head=unit,
        loss=contest_loss(bundle.config, told, labels_NS, metrics),
        quality=prediction_quality(bundle.config, told, labels_NS),
        metrics=metrics,
    )
    track = Track(
        name=version,
        symbols=frame.symbols,
        horizon=frame.horizon,
        made_at_T=frame.made_at_N[index_N],
        net_return_T=result.returns_T,
        loss_T=np.full(len(index_N), np.nan) if losses_NS is None else mean_by_date(losses_NS),
        measured_as="" if losses_NS is None else unit,
    )
    return _Outcome(told.value_NS, result, contestant, track)


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


def _unseen(frame: WindowFrame, seen_until: int) -> npt.NDArray[np.int64]:
    """Return every date from the first to the last labelled one after what the models have seen.

    Dates between them whose label is missing stay in: whether a label will be missing is not
    known when the position is taken.
    """
    labelled = np.flatnonzero(frame.known_N & (frame.made_at_N >= seen_until))
    return np.arange(labelled[0], labelled[-1] + 1) if len(labelled) else labelled


def _contestant(values: dict[str, Any]) -> Contestant:
    metrics, quality = (
        cast(dict[str, Any], {k: math.nan if v is None else v for k, v in values[name].items()})
        for name in ("metrics", "quality")
    )
    return Contestant(**{**values, "metrics": Metrics(**metrics), "quality": quality})


def _finite(value: Any) -> Any:  # noqa: ANN401  (any JSON value)
    if isinstance(value, Contestant):
        value = asdict(value)
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _unfit(frame: WindowFrame, champion: tuple[str, ModelBundle | UnreadableBundle] | None) -> str:
    """Say why a champion cannot predict from these windows; empty where it can."""
    if champion is None:
        return ""
    version, bundle = champion
    if isinstance(bundle, UnreadableBundle):
        return f"champion {version} cannot be read, {bundle.reason}"
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
        rows["Net return of the champion, same dates"] = champion.metrics.total_return_fraction
    return rows
