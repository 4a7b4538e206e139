from pathlib import Path

import pytest

from flash_pipeline.errors import HomeNotWritable, InvalidSetting
from flash_pipeline.settings import RECIPE_CHOICES, YAHOO_URLS, Settings, redacted

PROJECT = Path(__file__).parents[1]


def _read(**variables: str) -> Settings:
    return Settings.from_environment(variables)


def test_nothing_set_gives_every_default():
    settings = _read()
    assert settings.home == PROJECT / "data"
    assert settings.bybit_urls == ()
    assert settings.recipe == "auto"
    assert settings.tracking_uri == f"sqlite:///{PROJECT}/data/mlflow.db"


def test_empty_variables_count_as_unset():
    empty = _read(
        FLASH_PIPELINE_HOME="",
        FLASH_PIPELINE_BYBIT_URL="",
        FLASH_PIPELINE_YAHOO="",
        FLASH_PIPELINE_YAHOO_URL="",
        FLASH_PIPELINE_RECIPE="",
        FLASH_PIPELINE_MLFLOW_UI="",
        MLFLOW_TRACKING_URI="",
    )
    assert empty == _read()


def test_the_default_home_is_the_projects_wherever_it_is_started_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _read().home == PROJECT / "data"


def test_the_process_environment_is_read_by_default(tmp_path, monkeypatch):
    monkeypatch.setenv("FLASH_PIPELINE_HOME", str(tmp_path))
    monkeypatch.setenv("FLASH_PIPELINE_BYBIT_URL", "https://api.bybit.com")
    monkeypatch.setenv("FLASH_PIPELINE_RECIPE", "demo")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert Settings.from_environment() == Settings(
        home=tmp_path.resolve(),
        bybit_urls=("https://api.bybit.com", "https://api.bytick.com"),
        recipe="demo",
        tracking_uri="http://127.0.0.1:5000",
    )


def test_the_mlflow_ui_is_an_address_without_a_password():
    assert _read(FLASH_PIPELINE_MLFLOW_UI=" http://127.0.0.1:5001/ ").mlflow_ui == (
        "http://127.0.0.1:5001"
    )
    for bad in ("localhost:5001", "https://me:secret@mlflow.example"):
        with pytest.raises(InvalidSetting, match="FLASH_PIPELINE_MLFLOW_UI=") as caught:
            _read(FLASH_PIPELINE_MLFLOW_UI=bad)
        assert "secret" not in str(caught.value)


def test_everything_that_a_run_writes_lives_under_the_home(tmp_path):
    settings = Settings(home=tmp_path)
    paths = [
        value
        for name in dir(Settings)
        if isinstance(getattr(Settings, name), property)
        and isinstance(value := getattr(settings, name), Path)
    ]
    assert len(paths) >= 8
    assert len(set(paths)) == len(paths)
    assert {path.parent for path in paths} == {tmp_path}


def test_the_tracking_store_moves_with_the_home(tmp_path):
    assert _read(FLASH_PIPELINE_HOME=str(tmp_path)).tracking_uri == (
        f"sqlite:///{tmp_path.resolve()}/mlflow.db"
    )


def test_a_relative_home_is_made_absolute(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert _read(FLASH_PIPELINE_HOME="here/data").home == tmp_path.resolve() / "here/data"


def test_a_tilde_is_the_users_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert _read(FLASH_PIPELINE_HOME="~/candles").home == tmp_path.resolve() / "candles"


def test_a_tilde_of_nobody_is_refused_by_the_variables_name():
    with pytest.raises(InvalidSetting, match="FLASH_PIPELINE_HOME='~no-such-user/x'"):
        _read(FLASH_PIPELINE_HOME="~no-such-user/x")


@pytest.mark.parametrize("recipe", RECIPE_CHOICES)
def test_every_recipe_choice_is_accepted(recipe):
    assert _read(FLASH_PIPELINE_RECIPE=recipe).recipe == recipe


def test_an_unknown_recipe_is_named_with_the_choices():
    with pytest.raises(InvalidSetting, match=r"FLASH_PIPELINE_RECIPE='huge'.*auto, demo, seed"):
        _read(FLASH_PIPELINE_RECIPE="huge")


@pytest.mark.parametrize(
    ("url", "kept"),
    [
        ("https://api.bytick.com", "https://api.bytick.com"),
        ("https://api.bytick.com/", "https://api.bytick.com"),
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_exchange_url_is_kept_without_its_last_slash(url, kept):
    assert _read(FLASH_PIPELINE_BYBIT_URL=url).bybit_urls == (kept,)


@pytest.mark.parametrize("url", ["https://api.bybit.com", " https://api.bybit.com/"])
def test_the_exchanges_own_host_alone_gets_its_fallback(url):
    hosts = _read(FLASH_PIPELINE_BYBIT_URL=url).bybit_urls
    assert hosts == ("https://api.bybit.com", "https://api.bytick.com")


def test_the_exchanges_fallback_is_none_of_yahoos_hosts():
    settings = _read(FLASH_PIPELINE_YAHOO_URL="https://api.bybit.com")
    assert settings.yahoo_urls == ("https://api.bybit.com",)


@pytest.mark.parametrize("variable", ["FLASH_PIPELINE_BYBIT_URL", "FLASH_PIPELINE_YAHOO_URL"])
@pytest.mark.parametrize("url", ["https://me:secret@host", "https://host?token=secret"])
def test_a_url_with_a_password_is_refused_without_telling_it(variable, url):
    with pytest.raises(InvalidSetting, match=rf"{variable}='https://.*\*\*\*") as caught:
        _read(**{variable: url})
    assert "secret" not in str(caught.value)


def test_a_list_of_hosts_is_kept_as_it_is_each_host_once():
    text = "https://api.bytick.com/, https://api.bybit.com ,https://api.bytick.com"
    hosts = _read(FLASH_PIPELINE_BYBIT_URL=text).bybit_urls
    assert hosts == ("https://api.bytick.com", "https://api.bybit.com")


@pytest.mark.parametrize(
    "url",
    [
        "api.bybit.com",
        "ftp://api.bybit.com",
        "https://",
        "http:///v5",
        " ",
        "/",
        "http://[::1",
        "http://host:port",
        "http://host:65536",
        "http://host:0",
        ",",
        "https://api.bybit.com,",
        "https://api.bybit.com,ftp://api.bytick.com",
        "https://api.bybit.com https://api.bytick.com",
    ],
)
def test_a_url_that_cannot_be_used_is_named_with_its_variable(url):
    with pytest.raises(InvalidSetting, match=r"FLASH_PIPELINE_BYBIT_URL=.*is no URL"):
        _read(FLASH_PIPELINE_BYBIT_URL=url)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("AAPL=AAPL", (("AAPL", "AAPL"),)),
        ("SPX=^GSPC, BTCUSD=BTC-USD", (("SPX", "^GSPC"), ("BTCUSD", "BTC-USD"))),
        ("EURUSD=EURUSD=X,BRKB=BRK-B", (("EURUSD", "EURUSD=X"), ("BRKB", "BRK-B"))),
        ("BHP=BHP.AX,MM=M&M.NS", (("BHP", "BHP.AX"), ("MM", "M&M.NS"))),
        ("  ", ()),
    ],
)
def test_tickers_of_yahoo_are_named_by_symbol(text, pairs):
    assert _read(FLASH_PIPELINE_YAHOO=text).yahoo_tickers == pairs


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("AAPL", "ticker '' for AAPL"),
        ("AAPL=", "ticker '' for AAPL"),
        ("=AAPL", "symbol ''"),
        ("AAPL=AAPL,", "symbol ''"),
        ("spx=^GSPC", "symbol 'spx'"),
        ("A=A", "symbol 'A'"),
        ("SPX=^gspc", "ticker '^gspc' for SPX"),
        ("SPX=../quote", "ticker '../quote' for SPX"),
        ("SPX=..", "ticker '..' for SPX"),
        ("SPX=A B", "ticker 'A B' for SPX"),
        ("SPX=" + "A" * 25, "ticker 'AAAA"),
        ("SPX=^GSPC,SPX=SPY", "names 'SPX' more than once"),
        ("SPX=^GSPC,SPY=^GSPC", "names '^GSPC' more than once"),
    ],
)
def test_a_ticker_that_cannot_be_used_is_named(text, words):
    with pytest.raises(InvalidSetting, match="FLASH_PIPELINE_YAHOO") as caught:
        _read(FLASH_PIPELINE_YAHOO=text)
    assert words in str(caught.value)


def test_yahoo_is_the_real_one_beside_a_real_exchange():
    assert _read(FLASH_PIPELINE_BYBIT_URL="https://api.bybit.com").yahoo_urls == YAHOO_URLS


def test_yahoo_is_the_embedded_one_beside_the_embedded_exchange():
    assert _read().yahoo_urls == ()


def test_hosts_of_yahoo_are_kept_as_they_are():
    hosts = _read(FLASH_PIPELINE_YAHOO_URL="http://127.0.0.1:8900/, https://b").yahoo_urls
    assert hosts == ("http://127.0.0.1:8900", "https://b")


def test_a_url_of_yahoo_that_cannot_be_used_is_named_with_its_variable():
    with pytest.raises(InvalidSetting, match=r"FLASH_PIPELINE_YAHOO_URL='ftp://x' is no URL"):
        _read(FLASH_PIPELINE_YAHOO_URL="ftp://x")


def test_a_home_is_made_and_left_empty(tmp_path):
    home = tmp_path / "a" / "b"
    assert Settings(home=home).require_home() == home
    assert list(home.iterdir()) == []


def test_a_home_that_cannot_be_written_is_named_with_the_reason(tmp_path):
    (tmp_path / "file").write_text("in the way")
    home = tmp_path / "file" / "home"
    with pytest.raises(HomeNotWritable, match=rf"{home}.*cannot be written: Not a directory"):
        Settings(home=home).require_home()


def test_a_home_that_is_a_file_is_refused(tmp_path):
    home = tmp_path / "file"
    home.write_text("in the way")
    with pytest.raises(HomeNotWritable, match="FLASH_PIPELINE_HOME="):
        Settings(home=home).require_home()
    assert home.read_text() == "in the way"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@127.0.0.1:1/x", "postgresql://***@127.0.0.1:1/x"),
        ("https://me@host", "https://***@host"),
        ("sqlite:////home/me@work/mlflow.db", "sqlite:////home/me@work/mlflow.db"),
        (
            "no answer from http://me:secret@host: refused",
            "no answer from http://***@host: refused",
        ),
    ],
)
def test_user_and_password_of_a_uri_are_not_shown(uri, shown):
    assert redacted(uri) == shown


@pytest.mark.parametrize(
    "uri", ["postgresql://me:sec/ret@host/x", "mysql://host/x?password=sec/ret"]
)
def test_a_password_in_an_unusual_place_is_not_shown(uri):
    assert "ret" not in redacted(uri)


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example.com/services/T-secret",
        "ftp://hooks.example.com/T-secret",
        "hooks.example.com/T-secret",
        "https://me:T-secret@hooks.example.com/x",
        "https:///T-secret",
        "https://hooks.example.com/T secret",
    ],
)
def test_a_webhook_that_is_not_safe_is_refused_without_being_shown(url):
    with pytest.raises(InvalidSetting, match="FLASH_PIPELINE_WEBHOOK_URL cannot be used") as caught:
        Settings.from_environment({"FLASH_PIPELINE_WEBHOOK_URL": url})
    assert "secret" not in str(caught.value).replace("it is a secret", "")


@pytest.mark.parametrize(
    "url",
    ["https://hooks.example.com/services/T-1", "http://127.0.0.1:80/x", "http://[::1]:9/x", ""],
)
def test_a_webhook_is_https_or_on_this_machine(url):
    settings = Settings.from_environment({"FLASH_PIPELINE_WEBHOOK_URL": f" {url} "})
    assert settings.webhook_url == url
    assert not url or url not in repr(settings)


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("FLASH_PIPELINE_ON_GPU_TROUBLE", "pray", "expected one of fail, cpu, skip"),
        ("FLASH_PIPELINE_FREE_DISK_GIB", "-1", "expected GiB, 0 or more"),
        ("FLASH_PIPELINE_FREE_DISK_GIB", "nan", "expected GiB, 0 or more"),
        ("FLASH_PIPELINE_FREE_MEMORY_GIB", "2GB", "expected GiB, 0 or more"),
        ("FLASH_PIPELINE_STALE_BARS", "0", "expected 1 to"),
        ("FLASH_PIPELINE_STALE_BARS", "1.5", "expected 1 to"),
    ],
)
def test_a_bound_that_cannot_be_used_is_named_with_its_value(variable, value, words):
    with pytest.raises(InvalidSetting, match=words) as caught:
        Settings.from_environment({variable: value})
    assert f"{variable}={value!r}" in str(caught.value)


def test_bounds_are_read():
    settings = Settings.from_environment(
        {
            "FLASH_PIPELINE_ON_GPU_TROUBLE": "skip",
            "FLASH_PIPELINE_FREE_DISK_GIB": "10.5",
            "FLASH_PIPELINE_FREE_MEMORY_GIB": "0",
            "FLASH_PIPELINE_STALE_BARS": "6",
        }
    )
    assert (settings.on_gpu_trouble, settings.free_disk_gib) == ("skip", 10.5)
    assert (settings.free_memory_gib, settings.stale_bars) == (0.0, 6)
