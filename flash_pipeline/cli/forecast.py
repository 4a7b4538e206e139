"""`flash_pipeline forecast`: the newest forecasts that are stored."""

import re
import time
from typing import TYPE_CHECKING, Any

import click

from flash_pipeline.cli.output import (
    duration_words,
    json_option,
    prediction_words,
    print_json,
    print_table,
)
from flash_pipeline.cli.used_home import require_used_home
from flash_pipeline.errors import DataError, InvalidInput

if TYPE_CHECKING:
    from flash_pipeline.settings import Settings

_PATIENCE_S = 10.0
_FRESH_BARS = 2
"""A forecast is made every bar, so an older one than this was followed by none."""
_BOUNDS = ("lower", "upper", "coverage")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


def _seconds(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    """Return the seconds of a span of time such as 90m, 2h or 1d."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,6}(?:\.\d{1,3})?)([smhd])", text)
    if match is None:
        raise click.BadParameter(f"{text!r} is no span of time: expected such as 90m, 2h or 1d")
    return float(match[1]) * _SECONDS[match[2]]


@click.command()
@click.option("--symbols", metavar="A,B", help="Only these symbols; by default all there are.")
@click.option(
    "--max-age",
    "max_age_s",
    metavar="2h",
    callback=_seconds,
    help="Exit with 1 where a forecast is older: a number and s, m, h or d.",
)
@json_option
def forecast(symbols: str | None, max_age_s: float | None, as_json: bool) -> None:
    """Show the champion's newest forecast of each symbol.

    A forecast is stale once two bars have passed since the last candle that it saw, or the
    --max-age. Ages are by this machine's clock.
    """
    from flash_pipeline.settings import Settings

    rows = newest_forecasts(Settings.from_environment(), symbols, time.time(), max_age_s)
    if as_json:
        print_json({"model_version": rows[0]["model_version"], "forecasts": rows})
    else:
        _print(rows)
    old = [row for row in rows if max_age_s is not None and row["age_s"] > max_age_s]
    if max_age_s is not None and old:
        raise DataError(
            f"the newest forecast of {old[0]['symbol']} is {duration_words(old[0]['age_s'])} old: "
            f"expected at most {duration_words(max_age_s)}"
        )


def newest_forecasts(
    settings: "Settings", symbols: str | None, now_s: float, max_age_s: float | None
) -> list[dict[str, Any]]:
    """Return the champion's newest forecast of each symbol, with its age.

    Parameters
    ----------
    symbols : str or None
        Those wanted, with commas between; None for all.
    now_s : float
        Seconds since the epoch.
    max_age_s : float or None
        Seconds after which a forecast is stale; None for two of its bars.

    Returns
    -------
    list of dict
        The columns of the table, its bounds null where there are none, and `age_s`, `stale`,
        `made_at_utc`, `until_utc`.

    Raises
    ------
    HomeUnused
        If no run has ever written to the home.
    ModelNotRegistered
        If there is no champion.
    DataError
        If it has made no forecast.
    InvalidInput
        If it has made none of a symbol that is wanted.
    """
    require_used_home(settings)
    from flash_pipeline.evaluation import latest_forecasts
    from flash_pipeline.evaluation.forecasts import FORECASTS_TABLE
    from flash_pipeline.market import Interval, iso_utc, parse_symbols
    from flash_pipeline.storage.warehouse import has_table, open_warehouse
    from flash_pipeline.training.tracking import CHAMPION, Registry

    wanted = parse_symbols(symbols.split(",")) if symbols is not None else None
    champion, stored = Registry(settings).require(CHAMPION).version, []
    with open_warehouse(settings.warehouse, read_only=True, wait_s=_PATIENCE_S) as connection:
        if has_table(connection, FORECASTS_TABLE):
            stored = latest_forecasts(connection, version=champion).to_pylist()
    if not stored:
        raise DataError(
            f"champion {champion} has made no forecast yet: materialize forecasts, or run the job"
        )
    known = [row["symbol"] for row in stored]
    missing = [symbol for symbol in wanted or () if symbol not in known]
    if missing:
        raise InvalidInput(
            f"champion {champion} has made no forecast of {missing[0]!r}: expected one of "
            f"{', '.join(known)}"
        )
    rows = [row for row in stored if wanted is None or row["symbol"] in wanted]
    for row in rows:
        for name in _BOUNDS:  # a table from before these columns
            row.setdefault(name)
        bar_s = Interval.parse(row["interval"]).milliseconds / 1000
        row["age_s"] = round(now_s - row["made_at"] / 1000, 3)
        row["stale"] = row["age_s"] > (_FRESH_BARS * bar_s if max_age_s is None else max_age_s)
        row["made_at_utc"] = iso_utc(row["made_at"])
        row["until_utc"] = iso_utc(row["made_at"] + row["horizon"] * int(1000 * bar_s))
    return rows


def _print(rows: list[dict[str, Any]]) -> None:
    if rows[0]["synthetic"]:
        click.echo("SYNTHETIC MARKET: a simulator made the candles")
    lines = [
        (
            row["symbol"],
            row["made_at_utc"],
            row["until_utc"],
            prediction_words(row["head"], row["prediction"]).strip(),
            _band(row),
            row["model_version"],
            duration_words(max(0.0, row["age_s"])) + (" STALE" if row["stale"] else ""),
        )
        for row in rows
    ]
    columns = ("symbol", "made at", "until", "prediction", "between", "version", "age")
    styles = ["yellow" if row["stale"] else "" for row in rows]
    print_table(columns, lines, right=("version",), styles=styles)


def _band(row: dict[str, Any]) -> str:
    if row["lower"] is None:
        return "-"
    return f"{row['lower']:+.3%} and {row['upper']:+.3%} ({row['coverage']:.0%})"
