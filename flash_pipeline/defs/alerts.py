"""Alerts: a failed run, and data that grows old. To the log always, to a webhook where one is set.

The webhook takes what Slack's takes: `{"text": "..."}`. Its address comes from the settings of the
process that evaluates the sensor; it is in no config, metadata or log.
"""

import json
import logging
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass

import dagster as dg

from flash_pipeline.defs.failures import error_words
from flash_pipeline.defs.jobs import exchange_now, keeps_time
from flash_pipeline.defs.resources import PipelineResource
from flash_pipeline.errors import AlertNotDelivered, WarehouseLocked
from flash_pipeline.market import iso_utc
from flash_pipeline.settings import Settings, redacted
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline.transport.webhook import post_json

REPEAT_MS = 24 * 3_600_000
"""Data that stays old is reported again after this long."""

RETRY_MS = 15 * 60_000
"""What the webhook did not take is posted again after this long."""

_LONGEST = 2_000  # characters of an error in a message
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

    def to_cursor(self) -> str:
        """Return the text that `from_cursor` reads."""
        return json.dumps(asdict(self))

    @classmethod
    def from_cursor(cls, text: str | None) -> "Alarm | None":
        """Return what a cursor holds; None without one, or with one that cannot be read."""
        try:
            return cls(**json.loads(text or ""))
        except (ValueError, TypeError):
            return None


@dg.sensor(
    name="stale_data_alert",
    description="Reports when the newest candle or forecast is older than "
    "FLASH_PIPELINE_STALE_BARS bars, again once a day, and once when all is well again.",
    minimum_interval_seconds=300,
    default_status=dg.DefaultSensorStatus.RUNNING,
)
def stale_data_alert(
    context: dg.SensorEvaluationContext, pipeline: PipelineResource
) -> dg.SkipReason:
    """Report data that grows old."""
    settings = Settings.from_environment()
    now = int(time.time() * 1000)
    clock = now if keeps_time(settings, pipeline, now) else exchange_now(settings, now)
    try:
        closes = dict(newest_closes(settings, pipeline))
    except WarehouseLocked as error:
        return dg.SkipReason(f"not looked at: {error}")
    bar = pipeline.store(settings).interval.milliseconds
    late = {
        name: close for name, close in closes.items() if clock - close > settings.stale_bars * bar
    }
    alarm = Alarm.from_cursor(context.cursor)
    if late:
        words = "; ".join(
            f"the newest {name} is of {iso_utc(close)}, {(clock - close) // bar} bars ago"
            for name, close in late.items()
        )
        alarm = _raise_alarm(settings, context.log, alarm, words, now)
        context.update_cursor(alarm.to_cursor())
        return dg.SkipReason(f"late since {iso_utc(alarm.since)}: {words}")
    if alarm is not None:
        left = _end_alarm(settings, context.log, alarm, now)
        context.update_cursor(left.to_cursor() if left is not None else "")
    told = ", ".join(f"newest {name} {iso_utc(close)}" for name, close in closes.items())
    return dg.SkipReason(f"in time: {told}" if told else "nothing is stored yet")


def newest_closes(settings: Settings, pipeline: PipelineResource) -> Iterator[tuple[str, int]]:
    """Yield the close of the newest candle of any symbol, and of the newest bar with a forecast.

    In ms since the epoch; what there is none of is left out.

    Raises
    ------
    WarehouseLocked
        If another process holds the forecasts for longer than a sensor can wait.
    """
    store = pipeline.store(settings)
    starts = (store.newest_start(symbol) for symbol in pipeline.resolve().data.symbols)
    known = [start for start in starts if start is not None]
    if known:
        yield "candle", max(known) + store.interval.milliseconds
    if settings.warehouse.is_file():
        with open_warehouse(settings.warehouse, read_only=True, wait_s=_PATIENCE_S) as connection:
            if connection.execute(_HAS_FORECASTS_SQL).fetchall():
                ((made_at,),) = connection.execute(_NEWEST_FORECAST_SQL).fetchall()
                if made_at is not None:
                    yield "forecast", int(made_at)


def _raise_alarm(
    settings: Settings, log: logging.Logger, alarm: Alarm | None, words: str, now: int
) -> Alarm:
    """Report what is late where that is due, and return what to remember."""
    if alarm is None or alarm.over:
        alarm = Alarm(since=now, next_at=now)
    if now < alarm.next_at:
        return alarm
    taken = deliver(settings, log, f"flash_pipeline: data is late: {words}.")
    wait = REPEAT_MS if taken else RETRY_MS
    return Alarm(alarm.since, now + wait, alarm.told or taken)


def _end_alarm(settings: Settings, log: logging.Logger, alarm: Alarm, now: int) -> Alarm | None:
    """Report that all is well again; return what to remember where the webhook did not take it."""
    text = f"flash_pipeline: data is in time again; it was late from {iso_utc(alarm.since)}."
    if not alarm.told:  # the webhook has no report that would be taken back
        log.info(text)
        return None
    if alarm.over and now < alarm.next_at:
        return alarm
    if deliver(settings, log, text, warn=False):
        return None
    return Alarm(alarm.since, now + RETRY_MS, told=True, over=True)


ALERTS = [run_failure_alert, stale_data_alert]
"""Every sensor of the project."""
