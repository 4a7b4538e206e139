from datetime import date

import pytest

from flash_pipeline.archives import find_files
from flash_pipeline.errors import InvalidInput, InvalidInterval, InvalidSymbol
from flash_pipeline.market import Interval

MONTH = "BTCUSDT_60_2024-06-01_2024-06-30.csv.gz"


@pytest.fixture
def touch(tmp_path):
    """Make empty files of some names below a folder."""

    def touch(*names):
        for name in names:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).touch()
        return tmp_path

    return touch


def test_a_name_says_symbol_interval_format_and_days(touch):
    folder = touch(MONTH, "ETHUSDT_D.parquet", "XRPUSDT_5.csv")
    found = {file.symbol: file for file in find_files([folder])}
    assert found["BTCUSDT"].days == (date(2024, 6, 1), date(2024, 6, 30))
    assert [each.format for each in found.values()] == ["archive", "recording", "recording"]
    assert [each.interval for each in found.values()] == [
        Interval.HOUR_1,
        Interval.DAY_1,
        Interval.MIN_5,
    ]


def test_folders_of_symbols_and_years_are_looked_through(touch):
    folder = touch(f"BTCUSDT/2024/{MONTH}", "ETHUSDT/2024/ETHUSDT_60_2024-06-01_2024-06-30.csv")
    assert [file.symbol for file in find_files([folder])] == ["BTCUSDT", "ETHUSDT"]


def test_other_files_of_a_folder_are_left_alone(touch):
    folder = touch(MONTH, "README.md", "BTCUSDT_funding.parquet", "binance_BTCUSDT_60.parquet")
    assert [file.path.name for file in find_files([folder])] == [MONTH]


def test_a_file_that_is_named_twice_is_found_once(touch):
    folder = touch(MONTH)
    assert len(find_files([folder, folder / MONTH, folder / ".." / folder.name])) == 1


@pytest.mark.parametrize(
    ("wanted", "name"), [("archive", MONTH), ("recording", "BTCUSDT_60.parquet")]
)
def test_only_files_of_the_format_that_is_asked_for_are_found(touch, wanted, name):
    folder = touch(MONTH, "BTCUSDT_60.parquet")
    assert [file.path.name for file in find_files([folder], [wanted])] == [name]


def test_what_does_not_exist_is_refused(tmp_path):
    with pytest.raises(InvalidInput, match="nothing does not exist"):
        find_files([tmp_path / "nothing"])


def test_a_folder_without_candles_is_refused(touch):
    with pytest.raises(InvalidInput, match="holds no candles: expected files such as BTCUSDT_60_"):
        find_files([touch("README.md")])


@pytest.mark.parametrize("name", ["README.md", "BTCUSDT.csv", "BTCUSDT_funding.parquet"])
def test_a_file_of_another_name_is_refused_where_it_is_given_itself(touch, name):
    with pytest.raises(InvalidInput, match="is not named as a candle file"):
        find_files([touch(name) / name])


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("btc_60.csv", InvalidSymbol, "'btc'"),
        ("BTCUSDT_7.parquet", InvalidInterval, "'7'"),
        ("BTCUSDT_60_2024-06-31_2024-06-30.csv.gz", InvalidInput, "misnamed"),
        ("BTCUSDT_60_2024-06-30_2024-06-01.csv", InvalidInput, "2024-06-01 comes before"),
    ],
)
def test_a_name_whose_parts_are_none_is_refused(touch, name, kind, words):
    with pytest.raises(kind, match=f"{name} is misnamed") as caught:
        find_files([touch(name)])
    assert words in str(caught.value)
