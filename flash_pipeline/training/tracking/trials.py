"""The models that were trained, and how their backtests went."""

from flash_pipeline.training.tracking.registry import MODEL_NAME, RegisteredModel, Registry
from flash_pipeline.training.tracking.store import experiment_id

NEWEST = 200
"""Models whose backtests are looked up, at most: enough for their variance, at 2 ms each."""

_SHARPE = "backtest.sharpe_annual"


def trained_models(registry: Registry) -> int:
    """Return how many models were ever registered: every training of the experiment is one.

    It is the number of the newest version, so that a version that was deleted still counts.
    """
    found = registry.client.search_model_versions(
        f"name = '{MODEL_NAME}'", max_results=1, order_by=["version_number DESC"]
    )
    return int(found[0].version) if found else 0


def backtest_sharpes(registry: Registry, but: RegisteredModel) -> tuple[float, ...]:
    """Return the annualised Sharpe ratios of the newest models' newest backtests.

    Parameters
    ----------
    but : RegisteredModel
        A model that is left out: the one that is judged.

    Returns
    -------
    tuple of float
        In no particular order, none for a model that was never backtested or never traded.
    """
    found = registry.client.search_model_versions(
        f"name = '{MODEL_NAME}'", max_results=NEWEST, order_by=["version_number DESC"]
    )
    ids = sorted({str(each.run_id) for each in found} - {but.run_id})
    if not ids:
        return ()
    listed = ", ".join(f"'{run_id}'" for run_id in ids)
    runs = registry.client.search_runs(
        [experiment_id(registry.client, registry.settings)],
        f"attributes.run_id IN ({listed})",
        max_results=NEWEST,
    )
    found_S = (run.data.metrics.get(_SHARPE) for run in runs)
    return tuple(float(sharpe) for sharpe in found_S if sharpe is not None)
