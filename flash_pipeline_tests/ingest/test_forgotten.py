"""A symbol that the exchange has forgotten holds up no other."""

import pytest

from flash_pipeline.errors import InconsistentAnswer, UnknownSymbol
from flash_pipeline.ingest import ask_about_known

ALL = ("AUSDT", "BUSDT", "CUSDT")
LATER = "2024-06-03T00:30Z"


@pytest.fixture
def source(market, series):
    return market(**{symbol: series("2024-06-01", 96) for symbol in ALL})


def forgetting(*symbols):
    def distort(asked, answer):
        if asked.symbol in symbols:
            raise UnknownSymbol(f"symbol {asked.symbol!r} is unknown", symbol=asked.symbol)
        return answer

    return distort


def forget(source, *symbols):
    """Forget them in every answer, the list of instruments included."""
    source.distort = forgetting(*symbols)
    delisted = source.delisted

    def ask(asked):
        for symbol in asked:
            if symbol in symbols:
                raise UnknownSymbol("forgotten", symbol=symbol)
        return delisted(asked)

    source.delisted = ask


def test_one_with_candles_counts_as_delisted_and_the_others_go_on(refresh, source, store, ledger):
    refresh(source, "2024-06-02T00:30Z", "2024-06", symbols=ALL, ledger=ledger)
    forget(source, "BUSDT")
    done, _ = refresh(source, LATER, "2024-06", symbols=ALL, ledger=ledger)
    assert [store.read_all(symbol).num_rows for symbol in ALL] == [48, 24, 48]
    assert (done.forgotten, done.unknown) == (("BUSDT",), ())
    assert done.missing_by_cause == {"delisted": 24}
    (gap,) = ledger.open_gaps()["BUSDT"]
    assert gap.cause == "delisted"


def test_those_without_candles_are_named_once_the_others_are_stored(refresh, source, store):
    forget(source, "AUSDT", "BUSDT")
    with pytest.raises(UnknownSymbol, match="'AUSDT', 'BUSDT'"):
        refresh(source, LATER, "2024-06", symbols=ALL)
    assert store.read_all("CUSDT").num_rows == 48


def test_a_delisting_beside_a_forgotten_symbol_is_told(refresh, source, ledger):
    refresh(source, "2024-06-02T00:30Z", "2024-06", symbols=ALL, ledger=ledger)
    source.truth["CUSDT"] = source.truth["CUSDT"].slice(0, 30)
    source.gone = frozenset({"CUSDT"})
    forget(source, "BUSDT")
    done, _ = refresh(source, LATER, "2024-06", symbols=ALL, ledger=ledger)
    assert done.missing_by_cause == {"delisted": 24 + 18}


def test_one_that_the_list_still_has_is_a_contradiction(refresh, source, files):
    refresh(source, "2024-06-02T00:30Z", "2024-06", symbols=["BUSDT"])
    before = files()
    source.distort = forgetting("BUSDT")
    with pytest.raises(InconsistentAnswer, match="'BUSDT' is unknown, but it is traded"):
        refresh(source, LATER, "2024-06", symbols=["BUSDT"])
    assert files() == before


def test_a_question_about_many_is_asked_about_those_that_are_known():
    def ask(symbols):
        for symbol in symbols:
            if symbol != "BUSDT":
                raise UnknownSymbol("forgotten", symbol=symbol)
        return list(symbols)

    assert ask_about_known(ask, ALL, []) == (["BUSDT"], ("AUSDT", "CUSDT"))
    assert ask_about_known(ask, ["AUSDT"], []) == ([], ("AUSDT",))


def test_an_error_about_no_symbol_in_particular_is_raised():
    def ask(symbols):
        raise UnknownSymbol("which?")

    with pytest.raises(UnknownSymbol, match="which"):
        ask_about_known(ask, ALL, [])
