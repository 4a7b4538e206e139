"""Faults of the candles: answers of the right form that must not be believed."""

from collections.abc import Sequence
from decimal import Decimal

from flash_pipeline.exchange.answer import Answer
from flash_pipeline.exchange.faults.fault import Ask, Fault, Row

_MOST_ROWS = 1000
_PRICED_COLUMNS = 5  # start and prices
_REVISED_CANDLES = 3  # newest closed ones, which the exchange revises at times
_PRELIMINARY_PART = Decimal("0.75")  # of the final volume and turnover
_OTHER_SYMBOLS = ("BTCUSDT", "ETHUSDT")


def empty_list(answer: Answer, ask: Ask) -> Answer:
    """No rows and no symbol, as before a listing."""
    body = answer.json()
    body["result"] = {"category": "linear", "list": []}
    return answer.with_json(body)


def missing_symbol(answer: Answer, ask: Ask) -> Answer:
    """All rows, but no word on whose they are."""
    body = answer.json()
    del body["result"]["symbol"]
    return answer.with_json(body)


def wrong_symbol(answer: Answer, ask: Ask) -> Answer:
    """Rows that are said to be another instrument's."""
    body = answer.json()
    asked = body["result"]["symbol"]
    body["result"]["symbol"] = next(name for name in _OTHER_SYMBOLS if name != asked)
    return answer.with_json(body)


def duplicated_rows(answer: Answer, ask: Ask) -> Answer:
    """Some rows twice."""
    twice = _some(ask)
    rows = [row for n, row in enumerate(ask.rows) for _ in range(2 if n in twice else 1)]
    return _with_rows(answer, rows)


def conflicting_rows(answer: Answer, ask: Ask) -> Answer:
    """One candle in two versions."""
    n = ask.random.randrange(len(ask.rows))
    return _with_rows(answer, [*ask.rows[: n + 1], _other_close(ask.rows[n]), *ask.rows[n + 1 :]])


def unsorted_rows(answer: Answer, ask: Ask) -> Answer:
    """All rows, in no order."""
    rows = list(ask.rows)
    ask.random.shuffle(rows)
    return _with_rows(answer, rows)


def missing_rows(answer: Answer, ask: Ask) -> Answer:
    """All rows but some."""
    absent = _some(ask)
    return _with_rows(answer, [row for n, row in enumerate(ask.rows) if n not in absent])


def earlier_row(answer: Answer, ask: Ask) -> Answer:
    """One row more, before the window, as if the start had not been on the grid."""
    return _with_rows(answer, [*ask.rows, *ask.beside])


def newest_tail(answer: Answer, ask: Ask) -> Answer:
    """The newest rows there are, as if the range had been wider than the limit."""
    return _with_rows(answer, ask.beside)


def forming_row(answer: Answer, ask: Ask) -> Answer:
    """The candle under way as well, whatever the end that was asked for."""
    return _with_rows(answer, [*ask.beside, *ask.rows])


def blank_numbers(answer: Answer, ask: Ask) -> Answer:
    """A row whose price is the empty string."""
    return _with_rows(answer, _with_close(ask, ""))


def nan_numbers(answer: Answer, ask: Ask) -> Answer:
    """A row whose price is the text NaN."""
    return _with_rows(answer, _with_close(ask, "NaN"))


def high_below_low(answer: Answer, ask: Ask) -> Answer:
    """A row whose high and low are exchanged, and apart: no candle can be so."""
    row = list(ask.rows[n := ask.random.randrange(len(ask.rows))])
    row[2], row[3] = row[3], str(Decimal(row[2]) * 2)
    return _with_rows(answer, _replaced(ask, n, row))


def zero_price(answer: Answer, ask: Ask) -> Answer:
    """A row that was closed, and touched its low, at a price of 0."""
    row = list(ask.rows[n := ask.random.randrange(len(ask.rows))])
    row[3] = row[4] = "0"
    return _with_rows(answer, _replaced(ask, n, row))


def negative_volume(answer: Answer, ask: Ask) -> Answer:
    """A row of a volume below 0."""
    row = list(ask.rows[n := ask.random.randrange(len(ask.rows))])
    row[5] = f"-{row[5]}" if Decimal(row[5]) else "-1"
    return _with_rows(answer, _replaced(ask, n, row))


def preliminary_rows(answer: Answer, ask: Ask) -> Answer:
    """The newest closed candles as they are before their revision: other closes, less volume."""
    since = _newest_closed(ask) - (_REVISED_CANDLES - 1) * ask.interval_ms
    rows = [_preliminary(row) if since <= int(row[0]) else row for row in ask.rows]
    return _with_rows(answer, rows)


def _has_rows(ask: Ask) -> bool:
    return len(ask.rows) > 0


def _has_volumes(ask: Ask) -> bool:
    """Admit candles of trades: those of the mark price have no volume."""
    return _has_rows(ask) and len(ask.rows[0]) > _PRICED_COLUMNS


def _has_several_rows(ask: Ask) -> bool:
    return len(ask.rows) > 1


def _has_closed_rows(ask: Ask) -> bool:
    """Admit windows that end before the candle under way, so that this lies outside."""
    return _has_rows(ask) and int(ask.rows[0][0]) <= _newest_closed(ask)


def _has_newest(ask: Ask) -> bool:
    """Admit windows with the newest closed candle: only that is read again later."""
    return _has_rows(ask) and any(int(row[0]) == _newest_closed(ask) for row in ask.rows[:2])


def _newest(ask: Ask) -> dict[str, str]:
    return _without_range(ask)


def _forming(ask: Ask) -> dict[str, str]:
    return {**_without_range(ask), "limit": "1"}


def _before(ask: Ask) -> dict[str, str]:
    start = str(int(ask.rows[-1][0]) - ask.interval_ms)
    return {**ask.query, "start": start, "end": start, "limit": "1"}


ROWS = (
    Fault(empty_list, applies=_has_rows),
    Fault(missing_symbol, applies=_has_rows),
    Fault(wrong_symbol, applies=_has_rows),
    Fault(duplicated_rows, applies=_has_rows),
    Fault(conflicting_rows, applies=_has_rows),
    Fault(unsorted_rows, applies=_has_several_rows),
    Fault(missing_rows, applies=_has_several_rows),
    Fault(earlier_row, applies=_has_rows, beside=_before),
    Fault(newest_tail, applies=_has_closed_rows, beside=_newest),
    Fault(forming_row, applies=_has_closed_rows, beside=_forming),
    Fault(blank_numbers, applies=_has_rows),
    Fault(nan_numbers, applies=_has_rows),
    Fault(high_below_low, applies=_has_rows),
    Fault(zero_price, applies=_has_rows),
    Fault(negative_volume, applies=_has_volumes),
    Fault(preliminary_rows, applies=_has_newest),
)
"""Every kind of this module."""


def _with_rows(answer: Answer, rows: Sequence[Row]) -> Answer:
    body = answer.json()
    body["result"]["list"] = list(rows)
    return answer.with_json(body)


def _some(ask: Ask) -> set[int]:
    """Return the places of a few rows, at least one and not all of several."""
    count = min(ask.random.randint(1, 5), max(1, len(ask.rows) - 1))
    return set(ask.random.sample(range(len(ask.rows)), count))


def _with_close(ask: Ask, text: str) -> list[Row]:
    n = ask.random.randrange(len(ask.rows))
    row = ask.rows[n]
    return _replaced(ask, n, [*row[:4], text, *row[5:]])


def _replaced(ask: Ask, n: int, row: Row) -> list[Row]:
    return [*ask.rows[:n], row, *ask.rows[n + 1 :]]


def _newest_closed(ask: Ask) -> int:
    return ask.now_ms // ask.interval_ms * ask.interval_ms - ask.interval_ms


def _without_range(ask: Ask) -> dict[str, str]:
    query = {name: value for name, value in ask.query.items() if name not in ("start", "end")}
    return {"limit": str(_MOST_ROWS), **query}


def _other_close(row: Row) -> Row:
    """Return the row with its open as its close; with its high where these are the same."""
    return [*row[:4], row[1] if row[1] != row[4] else row[2], *row[5:]]


def _preliminary(row: Row) -> Row:
    sums = [str(Decimal(text) * _PRELIMINARY_PART) if text else "" for text in row[5:]]
    return [*_other_close(row)[:5], *sums]
