"""Alerts: a failed run, data that grows old, a GPU in trouble, a home that nobody prunes.

To the log always, to a webhook where one is set.

The webhook takes what Slack's takes: `{"text": "..."}`. Its address comes from the settings of the
process that evaluates the sensor; it is in no config, metadata or log.
"""

import json
import logging
import time
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime

import dagster as dg

from flash_pipeline.defs.failures import error_words
from flash_pipeline.defs.jobs import exchange_now, keeps_time
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.defs.retention import retention
from flash_pipeline.errors import (
    AlertNotDelivered,
    DataError,
    StorageError,
    WarehouseLocked,
    WarehouseUnusable,
)
from flash_pipeline.market import iso_utc
from flash_pipeline.settings import Settings, redacted
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline.transport.webhook import post_json

REPEAT_MS = 24 * 3_600_000
"""Data that stays old is reported again after this long."""

RETRY_MS = 15 * 60_000
"""What the webhook did not take is posted again after this long."""

UNPRUNED_MS = 48 * 3_600_000
"""A home that was not pruned for this long is reported, where runs were made for as long."""

_LONGEST = 2_000  # characters of an error in a message
_HELD = "held_since"  # beside the alarm in the cursor
_TRAINING, _NO_TROUBLE = "trained_model", "none"  # asset, and its `gpu_trouble` where all is well
_PATIENCE_S = 5.0  # for the warehouse: a sensor is evaluated within a minute

# The names of `evaluation.forecasts`, whose import takes seconds that a sensor does not have.
_NEWEST_FORECAST_SQL = "SELECT max(made_at) FROM forecasts"
_HAS_FORECASTS_SQL = "SELECT 1 FROM information_schema.tables WHERE table_name = 'forecasts'"


def slack_message(text: str) -> dict[str, object]:
    """Return the JSON of a message; `&`, `<` and `>` are escaped as Slack asks.

    Examples
    --------
    >>> slack_message("loss < 1 & falling")
    {'text': 'loss &lt; 1 &amp; falling'}
    """
    for plain, escaped in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;")):
        text = text.replace(plain, escaped)
    return {"text": text}


def deliver(settings: Settings, log: logging.Logger, text: str, *, warn: bool = True) -> bool:
    """Write a message to the log and post it to the webhook; neither ever raises.

    Parameters
    ----------
    log : logging.Logger
        Of the sensor: its lines are on the tick's page and in the daemon's output.
    text : str
        The message; what it holds of passwords in URIs is left out.
    warn : bool
        Whether the log has it as a warning; else as information.

    Returns
    -------
    bool
        False where a webhook is set and did not take it: worth another try later.
    """
    text = redacted(text)
    log.log(logging.WARNING if warn else logging.INFO, text)
    if not settings.webhook_url:
        return True
    try:
        post_json(settings.webhook_url, slack_message(text))
    except AlertNotDelivered as error:
        log.warning(str(error))
        return False
    return True


@dg.run_failure_sensor(
    name="run_failure_alert",
    description="Reports every failed run with its reason: to the log, and to the webhook of "
    "FLASH_PIPELINE_WEBHOOK_URL.",
    minimum_interval_seconds=60,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def run_failure_alert(context: dg.RunFailureSensorContext) -> None:
    """Report a failed run."""
    run = context.dagster_run
    text = f"flash_pipeline: run {run.run_id} of job {run.job_name} failed. {_reason(context)}"
    deliver(Settings.from_environment(), context.log, text)


def _reason(context: dg.RunFailureSensorContext) -> str:
    """Return the first failed step and its words, else those of the run."""
    for event in context.get_step_failure_events():
        words = error_words(event.step_failure_data.error)
        return f"{event.step_key}: {words[:_LONGEST]}"
    return (context.failure_event.message or "no reason is known")[:_LONGEST]


@dataclass(frozen=True)
class Alarm:
    """What the sensor remembers while data is old; stored as its cursor."""

    since: int
    """When it was found first, ms since the epoch."""
    next_at: int
    """When it is reported next, ms since the epoch."""
    told: bool = False
    """Whether the webhook, where one is set, has taken a report."""
    over: bool = False
    """Whether all is well again, which the webhook has not taken yet."""
    late: tuple[str, ...] = ()
    """What was late, by name: it ends when each of them is there and in time."""

    def to_cursor(self) -> str:
        """Return the text that `from_cursor` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_cursor(cls, text: str | None) -> "Alarm | None":
        """Return what a cursor holds; None without one, or with one that cannot be read."""
        try:
            fields = json.loads(text or "")
            fields.pop(_HELD, None)
            return cls(**{**fields, "late": tuple(fields.get("late", ()))})
        except (AttributeError, TypeError, ValueError):
            return None


@dataclass
class Findings:
    """What a look at the home found, by name."""

    late: dict[str, str] = field(default_factory=dict)
    """What is late, in words."""
    well: dict[str, str] = field(default_factory=dict)
    """What is in time, in words."""
    unseen: dict[str, str] = field(default_factory=dict)
    """What could not be looked at now, and why."""
    held_since: int | None = None
    """When the forecasts were found held by another process first, ms since the epoch."""


@dg.sensor(
    name="stale_data_alert",
    description="Reports when the newest candle or forecast is older than "
    "FLASH_PIPELINE_STALE_BARS bars or cannot be read, when the GPU kept a training away, and when "
    "nothing was pruned for two days; again once a day, and once when all is well again.",
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def stale_data_alert(
    context: dg.SensorEvaluationContext, pipeline: PipelineResource
) -> dg.SkipReason:
    """Report data that grows old, and what keeps it from being renewed."""
    settings = Settings.from_environment()
    now = int(time.time() * 1000)
    alarm = Alarm.from_cursor(context.cursor)
    found = _look(context, settings, pipeline, now)
    late = dict(found.late)
    if alarm is not None and not alarm.over:  # what is not there any more is not in time
        for name in alarm.late:
            if name not in late | found.well:
                late[name] = found.unseen.get(name, f"no {name} is there any more")
    if late:
        words = "; ".join(late.values())
        alarm = _raise_alarm(settings, context.log, alarm, words, now)
        alarm = replace(alarm, late=tuple(sorted({*alarm.late, *late})))
        said = f"late since {iso_utc(alarm.since)}: {words}"
    else:
        if alarm is not None and (found.well or alarm.over):
            alarm = _end_alarm(settings, context.log, alarm, now)
        said = (
            f"in time: {', '.join(found.well.values())}" if found.well else "nothing is stored yet"
        )
    if not late and found.unseen:
        said = f"{said}; not looked at: {'; '.join(found.unseen.values())}"
    _remember(context, alarm, found.held_since)
    return dg.SkipReason(said)


def _look(
    context: dg.SensorEvaluationContext, settings: Settings, pipeline: PipelineResource, now: int
) -> Findings:
    """Judge the candles first, then what may be held by others: each for itself."""
    found = Findings()
    store = pipeline.store(settings)
    bar = store.interval.milliseconds
    try:
        clock = now if keeps_time(settings, pipeline, now) else exchange_now(settings, now)
        starts = (store.newest_start(symbol) for symbol in pipeline.resolve().data.symbols)
        newest = max((start + bar for start in starts if start is not None), default=None)
        _judge(found, "candle", newest, clock, settings.stale_bars * bar, bar)
    except DataError as error:
        clock = exchange_now(settings, now)
        found.late["candle"] = f"the candles cannot be read: {error}"
    try:
        _judge(found, "forecast", newest_forecast(settings), clock, settings.stale_bars * bar, bar)
    except WarehouseLocked as error:
        found.held_since = min(_held_since(context.cursor) or now, now)
        where = found.late if now - found.held_since > settings.stale_bars * bar else found.unseen
        where["forecast"] = f"the forecasts are held since {iso_utc(found.held_since)}: {error}"
    except (DataError, StorageError) as error:
        found.late["forecast"] = f"the forecasts cannot be read: {error}"
    _judge_training(found, context.instance)
    _judge_retention(found, context.instance, now)
    return found


def _judge(found: Findings, name: str, close: int | None, clock: int, limit: int, bar: int) -> None:
    if close is None:
        return
    if clock - close > limit:
        found.late[name] = (
            f"the newest {name} is of {iso_utc(close)}, {(clock - close) // bar} bars ago"
        )
    else:
        found.well[name] = f"newest {name} {iso_utc(close)}"


def newest_forecast(settings: Settings) -> int | None:
    """Return the close of the newest bar with a forecast, ms since the epoch; None without any.

    Raises
    ------
    WarehouseLocked
        If another process holds the forecasts for longer than a sensor can wait.
    StorageError
        If they cannot be read.
    """
    if not settings.warehouse.is_file():
        return None
    with open_warehouse(settings.warehouse, read_only=True, wait_s=_PATIENCE_S) as connection:
        import duckdb  # loaded already, by what has opened the file

        try:
            if not connection.execute(_HAS_FORECASTS_SQL).fetchall():
                return None
            ((made_at,),) = connection.execute(_NEWEST_FORECAST_SQL).fetchall()
        except duckdb.Error as error:
            raise WarehouseUnusable(f"{settings.warehouse}: {error}") from error
    return None if made_at is None else int(made_at)


def _judge_training(found: Findings, instance: dg.DagsterInstance) -> None:
    """Find a newest training that was left out, or made on the CPU, for the GPU's sake."""
    event = instance.get_latest_materialization_event(dg.AssetKey(_TRAINING))
    made = None if event is None else event.asset_materialization
    if made is None:
        return
    trouble = str(getattr(made.metadata.get("gpu_trouble"), "value", None) or _NO_TROUBLE)
    if trouble == _NO_TROUBLE:
        found.well["training"] = "training without trouble"
        return
    story = getattr(made.metadata.get("story"), "value", None) or trouble
    found.late["training"] = f"the newest training: {str(story)[:_LONGEST]}"


def _judge_retention(found: Findings, instance: dg.DagsterInstance, now: int) -> None:
    """Find a home that no `retention` has pruned for days, though runs were made all along."""
    limit = datetime.fromtimestamp((now - UNPRUNED_MS) / 1000, tz=UTC)
    done = dg.RunsFilter(job_name=retention.name, statuses=[dg.DagsterRunStatus.SUCCESS])
    newest = instance.get_run_records(done, limit=1)
    if newest and newest[0].create_timestamp >= limit:
        found.well["retention"] = "retention in time"
    elif instance.get_runs(dg.RunsFilter(created_before=limit), limit=1):
        last = f"{newest[0].create_timestamp:%Y-%m-%dT%H:%MZ}" if newest else "never"
        found.late["retention"] = f"the last successful {retention.name}: {last}"


def _remember(
    context: dg.SensorEvaluationContext, alarm: Alarm | None, held_since: int | None
) -> None:
    """Store the alarm, and since when the forecasts are held; a cursor of neither stays none."""
    fields = {} if alarm is None else asdict(alarm)
    if held_since is not None:
        fields[_HELD] = held_since
    if fields or context.cursor:
        context.update_cursor(json.dumps(fields) if fields else "")


def _held_since(cursor: str | None) -> int | None:
    try:
        held = json.loads(cursor or "").get(_HELD)
    except (AttributeError, ValueError):
        return None
    return held if isinstance(held, int) else None


def _raise_alarm(
    settings: Settings, log: logging.Logger, alarm: Alarm | None, words: str, now: int
) -> Alarm:
    """Report what is late where that is due, and return what to remember."""
    if alarm is None or alarm.over:
        alarm = Alarm(since=now, next_at=now)
    if now < alarm.next_at <= now + REPEAT_MS:  # later than that: the clock was wrong then
        return alarm
    taken = deliver(settings, log, f"flash_pipeline: data is late: {words}.")
    wait = REPEAT_MS if taken else RETRY_MS
    return replace(alarm, next_at=now + wait, told=alarm.told or taken)


def _end_alarm(settings: Settings, log: logging.Logger, alarm: Alarm, now: int) -> Alarm | None:
    """Report that all is well again; return what to remember where the webhook did not take it."""
    text = f"flash_pipeline: data is in time again; it was late from {iso_utc(alarm.since)}."
    if not alarm.told:  # the webhook has no report that would be taken back
        log.info(text)
        return None
    if alarm.over and now < alarm.next_at <= now + RETRY_MS:
        return alarm
    if deliver(settings, log, text, warn=False):
        return None
    return Alarm(alarm.since, now + RETRY_MS, told=True, over=True)


ALERTS = [run_failure_alert, stale_data_alert]
"""Every sensor of the project."""
