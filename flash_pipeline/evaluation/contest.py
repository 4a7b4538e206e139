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
    FoldRow,
    Metrics,
    Report,
    ReportContext,
    Trials,
    write_report,
)
from flash_pipeline.errors import NotEnoughHistory, SchemaMismatch
from flash_pipeline.evaluation.entrants import Contestant, readable, run_model
from flash_pipeline.evaluation.fitness import misfit, obsolete
from flash_pipeline.evaluation.identity import contest_digest
from flash_pipeline.evaluation.rivals import Rival, no_position, rival_track, trade_rival
from flash_pipeline.evaluation.terms import Terms, open_venue
from flash_pipeline.evaluation.tracks import Tracks
from flash_pipeline.evaluation.trading import load_prices, predictions_table
from flash_pipeline.evaluation.tried import Tried
from flash_pipeline.market import compact_utc, iso_utc
from flash_pipeline.storage.files import replacing_file
from flash_pipeline.storage.klines import KlineStore
from flash_pipeline.training.bundle import ModelBundle, UnreadableBundle
from flash_pipeline.windows.blocks import WindowFrame
from flash_pipeline.windows.split import Split

_LEAST_HORIZONS = 4
_LEAST_ANCHORS = 48


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
    """Whether there is a champion that no configuration of this home can predict with again."""
    terms: str = ""
    """Hash of the dates, of what trading costs and of who competes: see `contest_digest`."""

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
            "terms": self.terms,
        }


@dataclass(frozen=True)
class Beside:
    """What a report shows beside the contest."""

    folds: Sequence[FoldRow] = ()
    """Of a walk-forward of the recipe."""
    tried: Tried | None = None
    """Which other models were tried; None where that is not known: nothing is deflated then."""
    remarks: tuple[tuple[str, str], ...] = ()
    """Further rows of the assumptions: a name and a few words each."""

    def trials(self, result: BacktestResult, bars_per_year: float) -> Trials | None:
        """Return the trials with the judged model's own backtest; None where not known."""
        return None if self.tried is None else self.tried.with_own(result, bars_per_year)

    @property
    def rows(self) -> tuple[tuple[str, str], ...]:
        """All further rows."""
        told = () if self.tried is None else (("Trials", self.tried.told),)
        return (*self.remarks, *told)


NOTHING_BESIDE = Beside()
"""No folds, and no other models known."""


def evaluate_challenger(
    frame: WindowFrame,
    store: KlineStore,
    terms: Terms,
    reports: Path,
    challenger: tuple[str, ModelBundle],
    champion: tuple[str, ModelBundle | UnreadableBundle] | None,
    baselines: Sequence[Rival] = (),
    *,
    beside: Beside = NOTHING_BESIDE,
) -> tuple[Contest, Report]:
    """Backtest the challenger, the champion and baselines, and write the challenger's report.

    Every date used comes after the last price that touched any model's weights or choice of
    checkpoint (`Provenance.seen_until`), so a model trained on more recent data shortens the
    contest for all. Everyone trades on the same terms.

    Parameters
    ----------
    terms : Terms
        Costs, account, caps, lots and funding.
    challenger, champion : (version, bundle)
        No champion, or one that predicts something else or cannot be read any more, leaves the
        challenger alone with the baselines.
    baselines : sequence of Rival
        Simple models: see `gather_rivals`. Holding no position is among them in any case.
    beside : Beside
        What else the report shows.

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
    unfit, absent = _absent(frame, champion)
    opponent = None
    if not absent and champion is not None and isinstance(champion[1], ModelBundle):
        opponent = champion[0], champion[1]
    meeting = _meet(frame, challenger, opponent, baselines)
    if opponent is not None and meeting.champion is None:
        absent = f"fewer than {least_dates(frame.horizon)} dates follow what both models have seen"
    index_N = meeting.index_N
    venue = open_venue(terms, load_prices(frame, store, index_N))
    mine = run_model(frame, venue, index_N, *challenger)
    met = None if meeting.champion is None else run_model(frame, venue, index_N, *meeting.champion)
    simple = {each.name: trade_rival(each, frame, venue, index_N) for each in meeting.baselines}
    made_at = int(frame.made_at_N[-1])
    report = write_report(
        reports / compact_utc(made_at),
        result=mine.result,
        benchmark=venue.buy_and_hold(),
        context=ReportContext(
            interval=frame.interval,
            costs=terms.costs,
            horizon=frame.horizon,
            model_version=challenger[0],
            synthetic=frame.synthetic,
            funding=venue.funding.told,
            account=venue.account,
            trials=beside.trials(mine.result, frame.interval.bars_per_year),
            remarks=(*venue.remarks, *meeting.remarks, *beside.rows),
        ),
        predictions=predictions_table(frame, index_N, mine.predictions_NS, challenger[0]),
        prediction_quality=readable(mine.contestant, met.contestant if met else None),
        baselines=simple,
        folds=beside.folds,
    )
    tracks = [rival_track(name, frame, index_N, result) for name, result in simple.items()]
    contest = Contest(
        made_at=made_at,
        anchors=len(index_N),
        first_made_at=int(frame.made_at_N[index_N[0]]),
        last_made_at=int(frame.made_at_N[index_N[-1]]),
        challenger=mine.contestant,
        champion=met.contestant if met else None,
        champion_absent=absent,
        tracks=Tracks(
            mine.track, met.track if met else None, (no_position(frame, index_N), *tracks)
        ),
        rival=champion[0] if champion is not None else None,
        champion_unfit=unfit,
        terms=contest_digest(venue, frame.made_at_N[index_N], meeting.baselines),
    )
    return contest, report


@dataclass(frozen=True)
class _Meeting:
    """Who meets the challenger, and on which dates."""

    index_N: npt.NDArray[np.int64]
    champion: tuple[str, ModelBundle] | None
    baselines: Sequence[Rival]
    remarks: tuple[tuple[str, str], ...] = ()


def _meet(
    frame: WindowFrame,
    challenger: tuple[str, ModelBundle],
    champion: tuple[str, ModelBundle] | None,
    baselines: Sequence[Rival],
) -> _Meeting:
    """Let as many compete as leave enough dates: rather no baselines than no champion."""
    least = least_dates(frame.horizon)
    own = challenger[1].provenance.seen_until
    index_N = _unseen(frame, own)
    for opponent in dict.fromkeys((champion is not None, False)):
        for simple in (baselines, ()):
            seen = [own, *(each.seen_until for each in simple)]
            if opponent and champion is not None:
                seen.append(champion[1].provenance.seen_until)
            index_N = _unseen(frame, max(seen))
            if len(index_N) >= least:
                few = ", ".join(each.name for each in baselines if not simple)
                told = f"{few}: fewer than {least} dates follow what they have seen"
                remarks = (("Baselines left out", told),) if few else ()
                return _Meeting(index_N, champion if opponent else None, simple, remarks)
    raise NotEnoughHistory(
        f"{len(index_N)} labelled dates follow what version {challenger[0]} has seen "
        f"(to {iso_utc(own)}): expected {least}"
    )


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


def _absent(
    frame: WindowFrame, champion: tuple[str, ModelBundle | UnreadableBundle] | None
) -> tuple[bool, str]:
    """Say whether a champion can never predict here again, and why it does not compete."""
    if champion is None:
        return False, "there is no champion yet"
    version, bundle = champion
    why = obsolete(bundle, frame)
    if why or isinstance(bundle, UnreadableBundle):
        return True, f"champion {version} {why}"
    why = misfit(bundle, frame)
    return False, f"champion {version} {why}" if why else ""
