"""What the MLflow UI shows of a version and its run."""

import json


def version(tracked, tracked_model):
    return tracked.client.get_model_version(tracked.name, tracked_model.version)


def test_a_version_carries_a_card_of_what_it_is(tracked, tracked_model, bundle):
    card = version(tracked, tracked_model).description
    origin = bundle.provenance
    for told in (
        "# flash-attention-trader",
        "**synthetic candles of a simulator**",
        f"`{origin.snapshot[:12]}`",
        f"`{origin.recipe}`",
        "| validation loss | ",
        "2024-01-01T0",
        "## Intended use and limits",
        "its forecasts of a real one mean nothing",
        'load_model("models:/flash-attention-trader@champion")',
        "BTCUSDT, ETHUSDT",
    ):
        assert told in card
    assert not any("None" in line or "nan" in line for line in card.splitlines())


def test_a_run_names_its_data_by_the_snapshot(tracked, tracked_model, frame, split):
    (given,) = tracked.client.get_run(tracked_model.run_id).inputs.dataset_inputs
    assert given.dataset.name == "windows"
    assert frame.snapshot.startswith(given.dataset.digest)
    assert json.loads(given.dataset.source)["uri"] == tracked.settings.windows.as_uri()
    profile = json.loads(given.dataset.profile)
    assert profile["snapshot"] == frame.snapshot
    assert profile["training windows"] == len(split.train_N)
    assert (given.tags[0].key, given.tags[0].value) == ("mlflow.data.context", "training")


def test_a_run_has_the_machines_use(tracked, tracked_model):
    metrics = tracked.client.get_run(tracked_model.run_id).data.metrics
    assert metrics["system/system_memory_usage_megabytes"] > 0


def test_the_logged_model_belongs_to_the_run_and_its_experiment(tracked, tracked_model):
    run = tracked.client.get_run(tracked_model.run_id)
    (model,) = tracked.client.search_logged_models([run.info.experiment_id])
    assert model.source_run_id == tracked_model.run_id
    assert model.status == "READY"
    assert model.params == run.data.params
    linked = [{"name": tracked.name, "version": int(tracked_model.version)}]
    assert json.loads(model.tags["mlflow.modelVersions"]) == linked
