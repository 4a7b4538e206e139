import re

from flash_pipeline.features import CATALOG, FEATURE_NAMES, WARMUP_BARS


def test_the_chapters_five_features_are_in_order():
    assert FEATURE_NAMES == (
        "log_return",
        "volatility",
        "volume_ma_ratio",
        "price_ma_ratio",
        "rsi",
    )


def test_the_longest_warmup_is_a_day_and_the_change_into_it():
    assert WARMUP_BARS == 25


def test_no_window_reaches_further_back_than_the_warmup():
    for feature in CATALOG:
        windows = [int(n) for n in re.findall(r"\{(?:w|full):(\d+)\}", feature.sql)]
        assert all(2 <= n <= feature.warmup for n in windows), feature.name


def test_every_feature_says_its_unit_and_formula():
    assert all(feature.unit and feature.formula for feature in CATALOG)
