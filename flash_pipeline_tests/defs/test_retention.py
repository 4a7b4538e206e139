"""The daily pruning: Dagster's own records, the job with its dry run, the schedule, the command."""

import json
import os
import time
from datetime import datetime
from pathlib import Path

import dagster as dg
import duckdb
import pytest
from pydantic import ValidationError

from flash_pipeline.definitions import defs
from flash_pipeline.defs import retention as module
from flash_pipeline.defs.history import databases, old_runs, old_ticks, orphaned_logs
from flash_pipeline.defs.retention import RetentionConfig, daily_retention
from flash_pipeline.evaluation.reigns import past_champions
from flash_pipeline.storage.retention import carry_out
from flash_pipeline_tests.defs.aged_home import YEAR_S, old_report, settings

DAY_MS = 86_400_000


def soon():
    return int(time.time() * 1000) + 60_000


@pytest.fixture
def instance(tmp_path):
    (tmp_path / "dagster").mkdir()
    with dg.DagsterInstance.local_temp(str(tmp_path / "dagster")) as instance:
        yield instance


@dg.asset(
    partitions_def=dg.StaticPartitionsDefinition(["a", "b"]),
    check_specs=[dg.AssetCheckSpec("ok", asset="monthly")],
)
def monthly():
    return dg.MaterializeResult(check_results=[dg.AssetCheckResult(passed=True, check_name="ok")])


@dg.asset
def newest():
    return dg.MaterializeResult()


def materialize(instance, key):
    return dg.materialize([monthly], instance=instance, partition_key=key).run_id


def prune_runs(instance):
    return carry_out(old_runs(instance, before=soon()), dry_run=False)


def checks(instance):
    with instance.event_log_storage.index_connection() as connection:
        found = connection.exec_driver_sql("SELECT count(*) FROM asset_check_executions")
        return found.scalar()


def test_old_runs_go_with_their_logs_but_for_the_makers_of_what_is_newest(instance):
    old_a, a, b = (materialize(instance, key) for key in ("a", "a", "b"))
    old, new = (dg.materialize([newest], instance=instance).run_id for _ in range(2))
    history = Path(instance.event_log_storage.path_for_shard("x")).parent
    assert (history / f"{old_a}.db").exists()
    pruning = prune_runs(instance)
    assert {item.name for item in pruning.items} == {old_a, old}
    assert pruning.failed == ()
    assert all(item.size > 10_000 for item in pruning.items)
    assert {run.run_id for run in instance.get_runs()} == {a, b, new}
    assert {path.stem for path in history.glob("*.db")} == {"index", a, b, new}
    assert instance.get_materialized_partitions(dg.AssetKey("monthly")) == {"a", "b"}
    assert instance.get_latest_materialization_event(dg.AssetKey("newest")).run_id == new
    assert checks(instance) == 2
    assert prune_runs(instance).items == ()


def test_runs_that_are_young_or_at_work_stay(instance):
    dg.materialize([newest], instance=instance)
    dg.materialize([newest], instance=instance)
    assert list(old_runs(instance, before=soon() - DAY_MS)) == []
    job = defs.resolve_job_def("refresh")
    for status in (dg.DagsterRunStatus.STARTED, dg.DagsterRunStatus.STARTING):
        instance.create_run_for_job(job, status=status)
    assert len(prune_runs(instance).items) == 1
    assert len(instance.get_runs()) == 3


def test_a_removal_killed_before_its_last_step_is_ended_by_the_next(instance, monkeypatch):
    old, _ = (dg.materialize([newest], instance=instance).run_id for _ in range(2))

    def killed(_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(instance.run_storage, "delete_run", killed)
        with pytest.raises(KeyboardInterrupt):
            prune_runs(instance)
    assert instance.has_run(old)
    assert [item.name for item in prune_runs(instance).items] == [old]
    assert not instance.has_run(old)


def test_logs_of_runs_deleted_by_hand_go(instance):
    run_id = dg.materialize([newest], instance=instance).run_id
    instance.delete_run(run_id)
    shard = Path(instance.event_log_storage.path_for_shard(run_id))
    assert shard.exists(), "Dagster leaves the file"
    assert list(orphaned_logs(instance, before=soon() - DAY_MS)) == []
    carry_out(orphaned_logs(instance, before=soon()), dry_run=False)
    assert not shard.exists()
    assert list(orphaned_logs(instance, before=soon())) == []


def test_the_log_files_of_old_ticks_go(instance):
    from dagster._core.definitions.run_request import InstigatorType
    from dagster._core.remote_origin import RemoteInstigatorOrigin
    from dagster._core.scheduler.instigation import (
        InstigatorState,
        InstigatorStatus,
        TickData,
        TickStatus,
    )

    origin = RemoteInstigatorOrigin(_repository_origin(), "stale_data_alert")
    state = InstigatorState(origin, InstigatorType.SENSOR, InstigatorStatus.RUNNING)
    instance.add_instigator_state(state)
    for age in (YEAR_S, 0):
        instance.create_tick(
            TickData(
                state.instigator_origin_id,
                state.instigator_name,
                InstigatorType.SENSOR,
                TickStatus.SKIPPED,
                time.time() - age,
                skip_reason="in time",
                selector_id=state.selector_id,
            )
        )
    folder = Path(instance.storage_directory()) / "__repository__" / "stale_data_alert"
    folder.mkdir(parents=True)
    for name, age in (("1.err", YEAR_S), ("2.err", 0)):
        (folder / name).write_text("x")
        os.utime(folder / name, (time.time() - age,) * 2)
    items = list(old_ticks(instance, before=soon() - DAY_MS))
    assert [(item.kind, item.name, item.size) for item in items] == [
        ("Dagster ticks", "stale_data_alert", 1)
    ]
    carry_out(items, dry_run=False)
    assert [path.name for path in folder.iterdir()] == ["2.err"]
    assert len(instance.get_ticks(state.instigator_origin_id, state.selector_id)) == 1
    assert list(old_ticks(instance, before=soon() - DAY_MS)) == []


def _repository_origin():
    from dagster._core.remote_origin import InProcessCodeLocationOrigin, RemoteRepositoryOrigin
    from dagster._core.types.loadable_target_origin import LoadableTargetOrigin

    target = LoadableTargetOrigin(module_name="flash_pipeline.definitions")
    return RemoteRepositoryOrigin(InProcessCodeLocationOrigin(target), "__repository__")


def test_dagster_s_databases_are_found(instance):
    dg.materialize([newest], instance=instance)
    assert all(path.name in {"index.db", "runs.db", "schedules.db"} for path in databases(instance))
    assert all(path.is_file() for path in databases(instance)[:2])


def run_job(instance, **config):
    return defs.resolve_job_def("retention").execute_in_process(
        instance=instance,
        run_config={"ops": {"remove_what_is_old": {"config": config}}},
        raise_on_error=False,
    )


def listed(result):
    (event,) = [e for e in result.all_events if e.event_type_value == "STEP_OUTPUT"]
    return {key: value.value for key, value in event.step_output_data.metadata.items()}


def test_the_job_lists_in_a_dry_run_and_removes_otherwise(instance):
    folder, newer = old_report(), old_report("20200102T0000Z")
    dry = run_job(instance, reports=1, dry_run=True)
    assert (listed(dry)["dry_run"], listed(dry)["items"], listed(dry)["bytes"]) == (True, 1, 100)
    assert folder.exists()
    assert listed(run_job(instance, reports=1))["items"] == 1
    assert (folder.exists(), newer.exists()) == (False, True)
    assert listed(run_job(instance, reports=1))["items"] == 0


def test_the_report_of_the_newest_contest_stays(instance):
    folder, _ = old_report(), old_report("20200102T0000Z")
    contest = {"made_at": 1_577_836_800_000, "challenger": {"version": "1"}, "champion": None}
    settings().contest.write_text(json.dumps(contest))
    run_job(instance, reports=1)
    assert folder.exists()


def test_the_versions_of_the_contest_and_of_a_rollback_are_needed():
    contest = {"challenger": {"version": "9"}, "champion": {"version": "7"}, "rival": "7"}
    with duckdb.connect(str(settings().warehouse)) as connection:
        log_promotions(connection, ("promoted", "4", None), ("promoted", "6", "4"))
    assert module._needed_versions(settings(), contest, 1) == {"9", "7", "6", "4"}


def log_promotions(connection, *changes):
    connection.execute(
        "CREATE TABLE promotions (number INTEGER, action VARCHAR, challenger VARCHAR, "
        "champion VARCHAR)"
    )
    for number, change in enumerate(changes):
        connection.execute("INSERT INTO promotions VALUES (?, ?, ?, ?)", [number, *change])


def test_past_champions_follow_promotions_and_rollbacks():
    with duckdb.connect() as connection:
        assert past_champions(connection, 5) == ()
        log_promotions(
            connection,
            ("promoted", "2", "1"),
            ("refused", "3", "2"),
            ("promoted", "4", "2"),
            ("promoted", "5", "4"),
            ("rolled back", "4", "5"),
            ("rolled back", "2", "4"),
        )
        assert past_champions(connection, 5) == ("2", "1")
        assert past_champions(connection, 0) == ("2",)


def test_something_that_cannot_be_removed_fails_the_job_and_the_rest_goes(instance, monkeypatch):
    stuck, other = old_report(), old_report("20190101T0000Z")
    real = Path.rename

    def refuse(path, target):
        if path == stuck:
            raise PermissionError("read-only")
        return real(path, target)

    old_report("20200103T0000Z")
    monkeypatch.setattr(Path, "rename", refuse)
    result = run_job(instance, reports=1)
    assert not result.success
    assert (stuck.exists(), other.exists()) == (True, False)


@pytest.mark.parametrize(
    "config", [{"reports": 0}, {"model_versions": 0}, {"champions": 0}, {"dagster_days": 0}]
)
def test_a_config_that_would_keep_nothing_is_refused(config):
    with pytest.raises(ValidationError, match="greater than or equal to 1"):
        RetentionConfig(**config)


def test_every_field_of_the_config_says_what_it_is():
    assert all(field.description for field in RetentionConfig.model_fields.values())
    assert not RetentionConfig().dry_run


def evaluate(instance, tick):
    with dg.build_schedule_context(
        instance=instance, scheduled_execution_time=datetime.fromisoformat(tick)
    ) as context:
        return daily_retention(context)


def test_the_schedule_asks_for_one_run_a_day_between_the_hourly_ones(instance):
    first, second = (evaluate(instance, f"2024-06-20T0{h}:32:00+00:00") for h in (3, 4))
    assert first.run_key != second.run_key, "a failed one is asked for again"
    assert first.tags[module.DAY_TAG] == second.tags[module.DAY_TAG] == "2024-06-20"
    assert first.run_config == {}
    assert daily_retention.default_status == dg.DefaultScheduleStatus.RUNNING


def test_the_schedule_waits_while_a_run_is_active(instance):
    job = defs.resolve_job_def("refresh")
    run = instance.create_run_for_job(job, status=dg.DagsterRunStatus.STARTING)
    assert run.run_id in evaluate(instance, "2024-06-20T03:32:00+00:00").skip_message


def test_the_last_tick_of_a_day_asks_in_any_case(instance):
    instance.create_run_for_job(
        defs.resolve_job_def("refresh"), status=dg.DagsterRunStatus.STARTING
    )
    assert evaluate(instance, "2024-06-20T06:32:00+00:00").tags[module.DAY_TAG] == "2024-06-20"


@pytest.mark.parametrize(
    ("status", "again"),
    [
        (dg.DagsterRunStatus.SUCCESS, False),
        (dg.DagsterRunStatus.STARTING, False),
        (dg.DagsterRunStatus.FAILURE, True),
        (dg.DagsterRunStatus.CANCELED, True),
    ],
)
def test_a_day_s_run_is_asked_for_again_only_where_it_failed(instance, status, again):
    tags = {module.DAY_TAG: "2024-06-20"}
    instance.create_run_for_job(defs.resolve_job_def("retention"), tags=tags, status=status)
    asked = evaluate(instance, "2024-06-20T06:32:00+00:00")
    assert isinstance(asked, dg.RunRequest) == again
    assert isinstance(evaluate(instance, "2024-06-21T06:32:00+00:00"), dg.RunRequest)


def test_the_versions_that_the_newest_sessions_of_long_sequences_name_are_needed():
    assert module._needed_sequences(settings()) == {}
    for folder, version in (("order_book_model", "3"), ("portfolio", "12")):
        (settings().home / folder).mkdir()
        (settings().home / folder / "session.json").write_text(json.dumps({"version": version}))
    assert module._needed_sequences(settings()) == {
        "flash-order-book": {"3"},
        "flash-portfolio": {"12"},
    }


def test_what_a_killed_fetch_of_order_books_left_goes_and_the_books_stay(instance):
    home, books = settings().home, settings().order_book
    stored = books / "symbol=BTCUSDT" / "day=2020-01-01.parquet"
    journal = stored.with_suffix(".journal")
    fetched = books / "archive" / "2020-01-01_BTCUSDT_ob500.data.zip"
    simulated = books / "archive" / "127.0.0.1_8123" / "simulated" / fetched.name
    left = [path.with_name(f".tmp-{path.name}") for path in (stored, fetched, simulated)]
    left.append(home / "walk_forward" / ".tmp-plan.json")
    for path in (stored, journal, fetched, simulated, *left):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
        os.utime(path, (time.time() - YEAR_S,) * 2)
    assert listed(run_job(instance))["items"] == 4
    assert [path.exists() for path in left] == [False] * 4
    assert all(path.exists() for path in (stored, journal, fetched, simulated))
