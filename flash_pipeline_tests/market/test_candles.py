from flash_pipeline.market import CANDLE_COLUMNS, CANDLE_SCHEMA, empty_candles


def test_columns_are_in_the_order_of_the_exchanges_row():
    assert CANDLE_COLUMNS == ("start_time", "open", "high", "low", "close", "volume", "turnover")


def test_only_the_turnover_may_be_missing():
    assert [field.name for field in CANDLE_SCHEMA if field.nullable] == ["turnover"]


def test_no_candles_still_have_the_schema():
    candles = empty_candles()
    assert candles.num_rows == 0
    assert candles.schema.equals(CANDLE_SCHEMA, check_metadata=True)
