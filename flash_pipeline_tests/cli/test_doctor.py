"""`flash_pipeline doctor`: what is wrong with the machine or the settings, and how to mend it."""

import json
import os
import socket
import subprocess
import sys
from contextlib import closing

import pytest

from flash_pipeline.cli.doctor import home, machine, processes, services, variables
from flash_pipeline.cli.doctor.finding import Finding, worst
from flash_pipeline.errors import CircuitOpen, CountryBlocked, ExchangeUnreachable
from flash_pipeline.exchange import Clock, embedded_exchange
from flash_pipeline.market import parse_instant
from flash_pipeline.settings import VARIABLES, Settings
from flash_pipeline.storage.lock import claim_home
from flash_pipeline.storage.warehouse import open_warehouse
from flash_pipeline.training.bundle import default_device
from flash_pipeline_tests.cli.conftest import free_port
from flash_pipeline_tests.conftest import VARIABLES as TEST_VARIABLES

HOLD = """
import sys, duckdb
connection = duckdb.connect(sys.argv[1])
print("held", flush=True)
sys.stdin.read()
"""


def by_check(findings) -> dict[str, Finding]:
    return {each.check: each for each in findings}


@pytest.fixture
def settings(tmp_path):
    return Settings(home=tmp_path / "home")


@pytest.fixture
def holder(settings):
    """Another process that has the warehouse open."""
    with open_warehouse(settings.warehouse) as connection:
        connection.execute("CREATE TABLE anything (n INTEGER)")
    command = [sys.executable, "-c", HOLD, str(settings.warehouse)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "held\n"
        yield process
        process.stdin.close()


def test_a_machine_before_its_first_run_is_well_and_nothing_is_written(command):
    done = command("doctor", "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == (1 if answer["status"] == "fail" else 0)
    found = {each["check"]: each for each in answer["findings"]}
    for check in ("python", "gpu", "attention", "variables", "home", "disk", "run", "warehouse",
                  "mlflow", "exchange"):  # fmt: skip
        assert found[check]["status"] != "fail", found[check]
    assert not command.home.exists()


def test_findings_are_printed_with_how_to_mend_them(command):
    done = command("doctor", FLASH_PIPELINE_HOM="x", FLASH_PIPELINE_HOME="/dev/null/home")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    place = next(n for n, line in enumerate(lines) if "/dev/null/home cannot be written" in line)
    assert lines[place].startswith("fail  home ")
    assert "-> take the right to write there" in lines[place + 1]
    place = next(n for n, line in enumerate(lines) if "FLASH_PIPELINE_HOM is set" in line)
    assert lines[place].startswith("warn  variables ")
    assert "-> unset it, or write FLASH_PIPELINE_HOME" in lines[place + 1]


def test_a_setting_that_cannot_be_used_fails_and_ends_what_depends_on_it(command):
    done = command("doctor", "--json", FLASH_PIPELINE_RECIPE="huge")
    found = by_check(Finding(**each) for each in json.loads(done.stdout)["findings"])
    assert done.returncode == 1
    assert "FLASH_PIPELINE_RECIPE='huge' is unknown" in found["settings"].found
    assert found["python"].status == "ok"
    assert "warehouse" not in found


def test_a_run_and_a_reader_of_the_warehouse_are_named(command, settings, holder):
    with claim_home(settings.home) as claim:
        claim.name_run("a-run")
        done = command("doctor", "--json")
    found = by_check(Finding(**each) for each in json.loads(done.stdout)["findings"])
    assert (found["run"].status, found["warehouse"].status) == ("warn", "warn")
    assert "run a-run is active" in found["run"].found
    assert f"is held by process {holder.pid} ({sys.executable}" in found["warehouse"].found
    assert done.returncode == 0


def test_a_warehouse_that_cannot_be_opened_is_a_finding(settings):
    settings.home.mkdir(exist_ok=True)
    settings.warehouse.write_bytes(b"no database")
    found = home.check_warehouse(settings)
    assert found.status == "fail"
    assert found.found.startswith(f"{settings.warehouse} cannot be opened: ")
    assert "move the file away" in found.mend


def test_a_check_that_breaks_is_a_finding_and_the_rest_goes_on(command, invoke, monkeypatch):
    def broken():
        raise RuntimeError("CUDA error:\n  unknown, postgresql://me:secret@host/x")

    monkeypatch.setattr(machine, "check_gpu", broken)
    done = invoke(command.home, "doctor", "--json")
    found = by_check(Finding(**each) for each in json.loads(done.stdout)["findings"])
    assert (done.exit_code, found["gpu"].status) == (1, "fail")
    assert found["gpu"].found == (
        "cannot be examined: RuntimeError: CUDA error: unknown, postgresql://***@host/x"
    )
    assert found["home"].status == "ok"


def test_the_variables_known_are_those_of_the_tests_too():
    assert set(TEST_VARIABLES) <= set(VARIABLES)


def test_variables_are_shown_without_their_passwords():
    environ = {"MLFLOW_TRACKING_URI": "postgresql://me:secret@host/db", "HOME": "/home/me"}
    (found,) = variables.check_variables(environ)
    assert found.found == "MLFLOW_TRACKING_URI=postgresql://***@host/db"


def test_missing_and_wrong_packages_fail(monkeypatch):
    stated = ["click>=999", "no-such-package>=1", "rich>=1", "torch>=999 ; extra == 'gpu'"]
    monkeypatch.setattr("importlib.metadata.requires", lambda _: stated)
    found = [each.found for each in machine.check_packages() if each.status == "fail"]
    assert len(found) == 2
    assert found[0].startswith("click ")
    assert found[0].endswith("is installed: expected click>=999")
    assert found[1] == "no-such-package is not installed: expected no-such-package>=1"


@pytest.mark.skipif(default_device().type == "cuda", reason="torch uses the GPU here")
def test_a_gpu_that_torch_cannot_use_is_a_warning(monkeypatch, tmp_path):
    program = tmp_path / "nvidia-smi"
    program.write_text("#!/bin/sh\necho 'NVIDIA H200, 580.1, 143771, 512, 3'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (found,) = machine.check_gpu()
    assert found.status == "warn"
    assert found.found.startswith("NVIDIA H200 is here, and torch ")


@pytest.mark.parametrize(
    ("used_mib", "busy", "status"),
    [("512", "3", "ok"), ("142000", "3", "warn"), ("512", "98", "warn"), ("[N/A]", "[N/A]", "ok")],
)
def test_a_gpu_that_other_work_holds_is_a_warning(used_mib, busy, status):
    found = machine.describe_gpu("NVIDIA H200", "580.1", "143771", used_mib, busy)
    assert found.status == status
    assert "NVIDIA H200, driver 580.1" in found.found


@pytest.mark.skipif(default_device().type == "cuda", reason="of a machine without a GPU")
def test_the_attention_of_the_recipe_comes_with_its_reason():
    found = by_check(machine.check_attention("demo"))
    assert found["attention"].found.startswith("recipe demo: sdpa (")
    assert "the device is cpu" in found["attention"].found
    assert {each.status for each in found.values()} == {"ok"}


def test_a_home_that_is_a_file_cannot_be_written(settings):
    settings.home.write_text("")
    assert by_check(home.check_folders(settings, None))["home"].status == "fail"


def test_dagsters_home_elsewhere_is_looked_at_too(settings):
    found = by_check(home.check_folders(settings, "/dev/null/dagster"))
    assert found["home"].status == "ok"
    assert found["dagster home"].status == "fail"
    assert "DAGSTER_HOME" in found["dagster home"].mend


@pytest.mark.parametrize(("gib", "status"), [(0.1, "fail"), (1, "warn"), (100, "ok")])
def test_little_room_on_the_disk_is_told(settings, monkeypatch, gib, status):
    usage = (2**40, 0, int(gib * 2**30))
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": usage[2]}))
    assert home.check_disk(settings).status == status


def test_a_warehouse_that_is_no_database_fails(settings):
    settings.home.mkdir()
    settings.warehouse.write_text("not a database, and long enough to be read as one" * 100)
    found = home.check_warehouse(settings)
    assert found.status == "fail"
    assert "move the file away" in found.mend


def test_mlflow_that_does_not_answer_fails(settings):
    uri = f"http://127.0.0.1:{free_port()}"
    found = services.check_tracking(Settings(home=settings.home, tracking_uri=uri))
    assert found.status == "fail"
    assert f"MLFLOW_TRACKING_URI='{uri}' does not answer" in found.found


def test_a_taken_port_is_a_warning_that_names_its_holder(settings):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = services.check_port("Dagster", port, settings)
    assert (found.check, found.status) == (f"port {port}", "warn")
    assert str(os.getpid()) in found.found
    assert found.mend == "end it, or flash_pipeline dev --dagster-port N"


LISTEN = """
import socket, sys
with socket.create_server(("127.0.0.1", 0)) as taken:
    print(taken.getsockname()[1], flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_a_port_that_dev_has_taken_for_this_home_is_well(settings):
    environ = {**os.environ, "MLFLOW_BACKEND_STORE_URI": settings.tracking_uri}
    with subprocess.Popen(
        [sys.executable, "-c", LISTEN],
        env=environ,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        port = int(process.stdout.readline())
        found = services.check_port("MLflow", port, settings)
        process.stdin.close()
    assert found.status == "ok"
    assert f"in use by flash_pipeline dev: process {process.pid}" in found.found


def test_a_free_port_is_well(settings):
    assert services.check_port("MLflow", free_port(), settings).status == "ok"


def test_an_exchange_on_this_machine_may_have_a_clock_of_its_own(settings):
    with embedded_exchange(clock=Clock(parse_instant("2024-03-20"), speed=0)) as url:
        (found,) = services.check_exchange(Settings(home=settings.home, bybit_urls=(url,)))
    assert found.status == "ok"
    assert "with a clock -" in found.found


def test_one_host_that_is_away_beside_one_that_answers_is_a_warning(settings):
    away = f"http://127.0.0.1:{free_port()}"
    with embedded_exchange() as url:
        found = services.check_exchange(Settings(home=settings.home, bybit_urls=(away, url)))
    assert [each.status for each in found] == ["warn", "ok"]
    found = services.check_exchange(Settings(home=settings.home, bybit_urls=(away,)))
    assert [each.status for each in found] == ["fail"]
    assert found[0].mend.startswith("look at the network")


@pytest.mark.parametrize(
    ("skew_s", "status", "words"),
    [
        (0.0, "ok", ""),
        (-30.0, "warn", "30.0 s ahead of its clock"),
        (30.0, "warn", "30.0 s behind its clock"),
        (600.0, "fail", "600.0 s behind its clock"),
    ],
)
def test_a_clock_that_is_wrong_is_told_with_how_far(monkeypatch, skew_s, status, words):
    monkeypatch.setattr(services, "time", type("Still", (), {"time": staticmethod(lambda: 1e9)}))
    found = services.ask_host("exchange", "https://far.example", lambda: int((1e9 + skew_s) * 1000))
    assert found.status == status
    assert words in found.found


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (CountryBlocked("no"), "the host of your region"),
        (CircuitOpen("no", until=1), "wait until then"),
        (ExchangeUnreachable("no"), "the network"),
    ],
)
def test_what_an_exchange_refuses_is_mended_by_its_kind(error, words):
    def fail():
        raise error

    assert words in services.ask_host("exchange", "https://far.example", fail).mend


def test_yahoo_is_asked_only_where_symbols_come_from_there(settings):
    assert services.check_yahoo(settings) == []
    with embedded_exchange() as url:
        asked = Settings(home=settings.home, yahoo_tickers=(("SPX", "^GSPC"),), yahoo_urls=(url,))
        assert [each.status for each in services.check_yahoo(asked)] == ["ok"]


def test_the_worst_finding_is_the_status_of_all():
    findings = [Finding("a", "ok", ""), Finding("b", "warn", "")]
    assert worst([]) == "ok"
    assert worst(findings) == "warn"
    assert worst([*findings, Finding("c", "fail", "")]) == "fail"


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_who_has_a_file_open_is_found(tmp_path):
    path = tmp_path / "file"
    with closing(path.open("w")):
        assert processes.holders_of(path) == (os.getpid(),)
    assert processes.holders_of(path) == ()
    assert processes.describe(os.getpid()).startswith(f"process {os.getpid()} (")


def test_a_process_is_described_without_its_passwords():
    code = "import sys; sys.stdin.read()"
    command = [sys.executable, "-c", code, "postgresql://me:secret@host/x"]
    with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
        shown = processes.describe(process.pid)
        process.communicate(b"")
    assert "secret" not in shown
