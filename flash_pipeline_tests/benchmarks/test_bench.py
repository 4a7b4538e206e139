"""The benchmarks at tiny sizes: that they run and write, not what they measure."""

import json
import time

import pytest
import torch

from benchmarks import latency, report, train, windows
from benchmarks.gpu import (
    goals,
    growth,
    kernels,
    kernels_table,
    sequences,
)
from benchmarks.gpu.__main__ import PARTS, main
from benchmarks.gpu.bench import LATE, LEFT_OUT, Bench, DeviceLost
from benchmarks.gpu.part import Part
from benchmarks.gpu.plots import PLOTS, draw
from benchmarks.gpu.suite import describe, run_parts
from benchmarks.gpu.tables import time_cell
from benchmarks.gpu.works import Attention, chapter_config, recipe_config, train_row
from flash_pipeline.errors import AttentionUnsupported
from flash_pipeline.model.speeds import SpeedTable
from flash_pipeline.order_book.features import FEATURES as BOOK_FEATURES
from flash_pipeline.portfolio import FEATURES as MARKET_FEATURES
from flash_pipeline.training.book_recipes import full_book_recipe
from flash_pipeline.training.portfolio_recipes import full_portfolio
from flash_pipeline_tests.test_imports import BLOCK, python

HEAD = {"driver": "1.2", "date": "2026-01-02", "versions": {"torch": "2", "cuda": "13"}}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    """The folder of a whole run at tiny sizes, and what it printed and returned."""
    out = tmp_path_factory.mktemp("results")
    code = main(["--tiny", "--out", str(out), "--write-speeds", str(out / "speeds.json")])
    return out, code


@pytest.fixture
def bench():
    return Bench(torch.device("cpu"), "tiny")


def result_of(part, rows, **changes):
    head = HEAD | {"theme": part.name, "title": part.title, "hardware": "NVIDIA H200"}
    more = {
        "configuration": {"batch": "16"},
        "formula": part.formula,
        "least_runs": 5,
        "warm_up": 2,
    }
    return head | more | {"rows": rows} | changes


def test_the_suite_writes_a_result_and_a_plot_of_every_part(tiny):
    out, code = tiny
    assert code == 0
    for part in PARTS:
        (path,) = out.glob(f"{part.name}_*.json")
        assert path.with_suffix(".png").is_file()
        result = json.loads(path.read_text())
        assert result["theme"] == part.name
        assert result["rows"]
        assert result["versions"]["torch"] == torch.__version__


def test_every_row_of_the_suite_has_a_figure_or_says_why_not(tiny):
    out, _ = tiny
    for path in out.glob("*_*.json"):
        for row in json.loads(path.read_text())["rows"]:
            assert row.get("ms") or row.get("note") or {"difference", "bytes"} & set(row), row
            assert "Error" not in row.get("note", ""), row


def test_one_sliding_pass_gives_the_predictions_of_all_windows(tiny):
    (path,) = tiny[0].glob("goals_*.json")
    (row,) = [row for row in json.loads(path.read_text())["rows"] if "difference" in row]
    assert row["met"]


def test_the_speeds_written_are_those_that_auto_reads(tiny):
    table = SpeedTable.from_dict(json.loads((tiny[0] / "speeds.json").read_text()))
    assert {row.span for row in table.rows} == {"causal", "full", "sliding"}
    assert "sdpa" in table.ranking(16, "causal", 64)


def test_speeds_are_not_written_without_the_kernels(tmp_path, capsys):
    code = main(["--tiny", "--only", "windows", "--out", str(tmp_path), "--write-speeds"])
    assert code == 2
    assert "`kernels` was not run" in capsys.readouterr().out


def test_a_table_of_speeds_that_lacks_a_span_is_refused_unless_asked_for(tmp_path, capsys):
    timed = {"backend": "sdpa_cudnn", "head_size": 64, "span": "causal", "batch": 1, "ms": 2.0}
    late = timed | {"span": "full", "ms": None}
    rows = [timed | {"length": 2048}, timed | {"length": 512, "ms": 1.0}, late | {"length": 512}]
    (tmp_path / "kernels.json").write_text(json.dumps(result_of(kernels.PART, rows)))
    arguments = [str(tmp_path / "kernels.json"), "--out", str(tmp_path / "speeds.json")]
    assert kernels_table.main(arguments) == 2
    assert "nothing was measured for full, sliding" in capsys.readouterr().out
    assert not (tmp_path / "speeds.json").exists()
    assert kernels_table.main([*arguments, "--incomplete"]) == 0
    table = json.loads((tmp_path / "speeds.json").read_text())
    assert [row["length"] for row in table["rows"]] == [512, 2048]
    assert table["missing"] == [{"head_size": 64, "span": "full", "length": 512}]


def test_the_shipped_speeds_are_those_of_the_stored_result():
    _, stored = report.newest(report.PROJECT / "benchmarks" / "results")["kernels"]
    shipped = json.loads((report.PROJECT / kernels_table.SPEEDS).read_text(encoding="utf-8"))
    assert shipped == kernels_table.speeds(stored)


def test_backends_that_can_win_are_measured_before_those_far_behind(pretended_gpu):
    rows = list(kernels.PART.rows(pretended_gpu))
    last = max(i for i, row in enumerate(rows) if row["backend"] in kernels.FAST)
    first = min(i for i, row in enumerate(rows) if row["backend"] in kernels.SLOW)
    assert last < first
    assert [(row["span"], row["head_size"], row["length"]) for row in rows[:10:5]] == [
        ("sliding", 128, 512),
        ("sliding", 64, 512),
    ]
    assert [row for row in rows[first:] if row["note"].startswith(LEFT_OUT)]


def test_a_time_that_was_taken_once_is_marked():
    row = {"ms": 1035.0, "runs": 1, "note": ""}
    assert time_cell(row) == "1,040†"
    assert time_cell(row | {"runs": 5}) == "1,040"


def test_the_readme_shows_what_ran_and_points_to_the_rest(pretended_gpu, tmp_path):
    rows = list(goals.PART.rows(pretended_gpu))
    late = rows[3] | {"ms": None, "note": LATE, "variant": "a form that nobody ran"}
    for part, found in ((goals.PART, [*rows, late]), (growth.PART, [])):
        (tmp_path / f"{part.name}.json").write_text(json.dumps(result_of(part, found)))
    text = "<!-- result: summary -->\n<!-- end: summary -->\n"
    filled = report.rendered(text, report.newest(tmp_path), report.PROJECT)
    assert "recipe `full`" in filled
    assert "a form that nobody ran" not in filled
    assert "not run yet is listed in [docs/performance.md]" in filled
    assert "a form that nobody ran" in goals.PART.tables([*rows, late])[0].note


def test_an_unknown_part_is_refused_by_name(capsys):
    with pytest.raises(SystemExit):
        main(["--only", "goals,speed"])
    assert "speed" in capsys.readouterr().err


def test_without_a_gpu_the_suite_names_the_other_one(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main(["--out", str(tmp_path)]) == 2
    assert "benchmarks.cpu" in capsys.readouterr().out


def test_a_gpus_part_lays_out_and_draws_whatever_it_found(gpu_part, pretended_gpu, tmp_path):
    rows = list(gpu_part.rows(pretended_gpu))
    assert len(rows) > 3
    json.dumps(rows)
    for table in gpu_part.tables(rows):
        assert all(len(line) == len(table.header) for line in table.cells)
    draw(result_of(gpu_part, rows), tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000


def test_a_part_in_which_nothing_ran_still_has_tables_and_a_plot(gpu_part, bench, tmp_path):
    bench.deadline = time.monotonic() - 1
    rows = list(gpu_part.rows(bench))
    assert {row["note"].partition(":")[0] for row in rows} <= {"not run", "refused", "left out"}
    assert all(table.markdown() for table in gpu_part.tables(rows))
    draw(result_of(gpu_part, rows), tmp_path / "plot.png")


def test_every_part_has_a_plot():
    assert {part.name for part in PARTS} == set(PLOTS)


def test_a_work_that_fails_leaves_its_reason(bench):
    def broken():
        raise AttentionUnsupported("flex was asked for, but the device is cpu")

    assert bench.attempt(broken).note == "refused: the device is cpu"

    def short_of_memory():
        raise torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 TiB")

    assert bench.attempt(short_of_memory).note == "out of memory"
    assert bench.attempt(lambda: 1 / 0).note.startswith("ZeroDivisionError")


def test_a_work_is_measured_several_times_and_in_order(bench):
    calls = []
    measured = bench.attempt(lambda: lambda: calls.append(1))
    assert measured.runs == 5
    assert len(calls) == 7
    assert measured.ms >= 0


def test_a_slow_loser_is_timed_once(bench):
    measured = bench.attempt(lambda: lambda: time.sleep(0.06), rival_ms=1.0)
    assert measured.runs == 1


def test_a_lost_gpu_keeps_what_was_measured(bench, tmp_path):
    def rows(_bench):
        yield {"work": "first", "ms": 1.0, "note": ""}
        raise DeviceLost("illegal access")

    part = Part("growth", "Lost", lambda _: {}, "", 1, rows, lambda _: [])
    with pytest.raises(DeviceLost):
        run_parts([part], bench, tmp_path)
    (path,) = tmp_path.glob("*.json")
    assert json.loads(path.read_text())["rows"][0]["work"] == "first"


def test_a_part_that_breaks_off_keeps_its_rows_and_stops_no_other(bench, tmp_path, capsys):
    def rows(_bench):
        yield {"work": "first", "ms": 1.0, "note": ""}
        raise ZeroDivisionError

    broken = Part("growth", "Broken", lambda _: {}, "", 1, rows, lambda _: [])
    run_parts([broken, windows.PART], bench, tmp_path)
    assert bench.failed == ["growth"]
    assert [result["theme"] for result in bench.results] == ["growth", "windows"]
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_a_measurement_for_which_there_was_no_time_is_made_by_the_next_part(bench):
    bench.deadline = time.monotonic() - 1
    assert bench.once("step", lambda: "late") == "late"
    bench.deadline = float("inf")
    assert bench.once("step", lambda: "measured") == "measured"
    assert bench.once("step", lambda: "again") == "measured"


def test_recomputation_and_captured_steps_run_without_a_gpu_too(bench):
    row = train_row(bench, recipe_config(bench, 32), 2, form="captured", recompute=True)
    assert row["ms"] > 0
    assert row["form"] == "eager"


def test_the_project_s_form_streams_once_it_slides(bench):
    assert recipe_config(bench, 32, span="sliding", window=8).streams
    assert chapter_config(bench, 32).supervision == "last"


def test_the_backward_pass_is_timed_apart(bench):
    for phase in ("forward", "backward", "both"):
        assert bench.attempt(lambda p=phase: Attention(1, 32, 2, 8).work(bench, "sdpa", p)).ms > 0


def test_stored_windows_are_measured_in_place_of_synthetic_ones(bench, stored_windows):
    bench.windows = stored_windows
    rows = list(windows.PART.rows(bench))
    assert [row["layout"] for row in rows if row["work"] == "write"] == [
        windows.BLOCKS,
        windows.NAIVE,
    ]


def test_a_report_fills_the_regions_of_measured_themes_alone(pretended_gpu, tmp_path):
    part = kernels.PART
    rows = [row for _, row in zip(range(30), part.rows(pretended_gpu), strict=False)]
    for hardware, driver in (("CPU, 2 cores (x86_64)", "none"), ("NVIDIA H200", "1.2")):
        result = result_of(part, rows, hardware=hardware, driver=driver)
        (tmp_path / f"kernels_{driver}.json").write_text(json.dumps(result))
    text = "a\n<!-- result: kernels -->\nold\n<!-- end: kernels -->\n" + (
        "<!-- result: growth -->\nkept\n<!-- end: growth -->\n"
    )
    filled = report.rendered(text, report.newest(tmp_path), tmp_path)
    assert "old" not in filled
    assert "kept" in filled
    assert "NVIDIA H200" in filled
    assert report.rendered(filled, report.newest(tmp_path), tmp_path) == filled
    only_cpu = report.newest(tmp_path, "cpu-2-cores")
    assert "CPU, 2 cores" in report.rendered(text, only_cpu, tmp_path)


def test_the_documents_say_what_the_results_say(capsys):
    assert report.main(["--check"]) == 0, capsys.readouterr().out


def test_a_result_is_described_with_hardware_versions_and_formula(pretended_gpu):
    part = kernels.PART
    rows = [row for _, row in zip(range(10), part.rows(pretended_gpu), strict=False)]
    text = describe(result_of(part, rows), part)
    for expected in ("NVIDIA H200", "torch 2", "batch: 16", "FLOPs", "flash_attn"):
        assert expected in text


@pytest.mark.parametrize(
    "module", ["benchmarks.gpu.__main__", "benchmarks.train", "benchmarks.latency"]
)
def test_a_gpu_machine_without_the_frameworks_can_run_them(module):
    packages = {"dagster", "mlflow", "duckdb", "requests", "pandas"}
    done = python(BLOCK.format(packages=packages, module=module))
    assert done.returncode == 0, done.stderr


def test_the_windows_benchmark_runs_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["windows", "--tiny", "--out", str(tmp_path)])
    windows.main()
    assert "one row per window" in capsys.readouterr().out
    assert len(list(tmp_path.glob("windows_*.json"))) == 1


def test_the_latency_benchmark_runs_alone_and_measures_what_is_missing(
    tmp_path, monkeypatch, capsys
):
    arguments = ["latency", "--tiny", "--cpu", "--out", str(tmp_path)]
    monkeypatch.setattr("sys.argv", arguments)
    latency.main()
    (path,) = tmp_path.glob("latency_*.json")
    result = json.loads(path.read_text())
    whole = {(row["variant"], row["threads"]): row for row in result["rows"]}
    for name in (latency.LAST, latency.MODEL):
        assert whole[name, 2]["runs"] == 5
    lost = next(row for row in result["rows"] if row["variant"] == latency.MODEL)
    lost |= {"ms": None, "note": LATE}
    path.write_text(json.dumps(result))
    monkeypatch.setattr("sys.argv", [*arguments, "--missing"])
    latency.main()
    rows = json.loads(path.read_text())["rows"]
    again = {(row["variant"], row["threads"]): row for row in rows}
    assert again[latency.MODEL, 2]["runs"] == 5
    assert again[latency.LAST, 2] == whole[latency.LAST, 2]
    assert "model.predict" in capsys.readouterr().out


def test_no_variant_of_the_latency_takes_the_time_of_another():
    bench = Bench(torch.device("cpu"), "full", deadline=time.monotonic() + 60.0)
    until = latency._share(bench.deadline, 5) - time.monotonic()
    assert until == pytest.approx(12.0, abs=0.5)
    assert latency._share(float("inf"), 5) == float("inf")
    past = time.monotonic() - 1
    assert len(latency._seconds(lambda: None, 10_000, bench, past)) == latency.LEAST_CALLS
    assert len(latency._seconds(lambda: None, 2_000, bench, float("inf"))) == 2_000
    bench.deadline = past
    assert len(latency._seconds(lambda: None, 10_000, bench, past)) == 1


def test_sequences_are_measured_with_the_inputs_that_the_models_are_shipped_with():
    full = Bench(torch.device("cpu"), "full")
    book, market = (sequences._config(full, name, 100_000) for name in ("order book", "portfolio"))
    assert book.n_features == len(BOOK_FEATURES) == full_book_recipe().model.n_features
    assert market.n_features == len(MARKET_FEATURES) == full_portfolio().model.n_features
    assert book.n_horizons == len(full_book_recipe().horizons)


def test_a_recipe_is_trained_on_stored_windows(tmp_path, monkeypatch, capsys, long_windows):
    written = tmp_path / "train.json"
    arguments = ["--windows", str(long_windows), "--recipe", "demo", "--epochs", "1"]
    monkeypatch.setattr("sys.argv", ["train", *arguments, "--json", str(written)])
    train.main()
    assert "test_windows" in capsys.readouterr().out
    assert len(json.loads(written.read_text())["losses"]) == 1
