import pytest

from flash_pipeline.training.tracking.store import experiment_id
from flash_pipeline.training.tracking.trials import backtest_sharpes, trained_models


@pytest.fixture
def trained(registry, tmp_path):
    """Return a function that registers a trained model, backtested where a ratio is given."""
    client = registry.client
    experiment = experiment_id(client, registry.settings)

    def trained(sharpe=None):
        run = client.create_run(experiment)
        model = registry.register(run.info.artifact_uri, run.info.run_id, {})
        if sharpe is not None:
            folder = tmp_path / "report"
            folder.mkdir(exist_ok=True)
            registry.add_report(model, folder, {"sharpe_annual": sharpe}, made_at=1)
        return model

    return trained


def test_of_no_models_nothing_is_known(registry, trained):
    assert trained_models(registry) == 0
    assert backtest_sharpes(registry, trained()) == ()


def test_every_training_is_counted_and_the_ratios_are_those_of_the_others(registry, trained):
    for sharpe in (1.5, None, -0.5):
        trained(sharpe)
    judged = trained(9.0)
    assert trained_models(registry) == 4
    assert sorted(backtest_sharpes(registry, judged)) == [-0.5, 1.5]


def test_a_deleted_version_counts_still(registry, trained):
    first = trained(1.5)
    judged = trained()
    registry.client.delete_model_version("flash-attention-trader", first.version)
    assert trained_models(registry) == 2
    assert backtest_sharpes(registry, judged) == ()


def test_a_report_made_again_replaces_the_ratio(registry, trained, tmp_path):
    first = trained(1.5)
    registry.add_report(first, tmp_path / "report", {"sharpe_annual": 0.5}, made_at=2)
    assert backtest_sharpes(registry, trained()) == (0.5,)
