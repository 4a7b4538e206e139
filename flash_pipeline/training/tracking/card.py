"""The model card: what a registered version is, for whoever meets it in the MLflow UI."""

from flash_pipeline.market import Interval, iso_utc
from flash_pipeline.training.bundle import ModelBundle
from flash_pipeline.training.intervals import COVERAGE
from flash_pipeline.training.tracking.served import expected_inputs
from flash_pipeline.training.trainer import Training

_UNITS = {
    "regression": "log return over the horizon",
    "quantile": "log return over the horizon (the median)",
    "direction": "probability of a rise over the horizon",
    "allocation": "weight in the portfolio, -1 to 1",
}


def model_card(name: str, training: Training) -> str:
    """Return the description of a version, in Markdown.

    Parameters
    ----------
    name : str
        Name of the registered model.
    """
    bundle, best = training.bundle, training.best
    origin, config = bundle.provenance, bundle.config
    hours = bundle.horizon * Interval.parse(bundle.interval).milliseconds / 3_600_000
    kind = "**synthetic candles of a simulator**" if origin.synthetic else "real candles"
    rows = {
        "predicts": _UNITS[config.head],
        "horizon": f"{hours:g} hours: {bundle.horizon} bars of interval {bundle.interval}",
        "symbols": ", ".join(bundle.symbols),
        "features": ", ".join(bundle.feature_names),
        "model": f"{config.n_layers} layers, width {config.d_model}, {training.parameters:,} "
        f"parameters, members: {len(bundle.member_weights)}, lookback {bundle.lookback} bars",
        "recipe": f"`{origin.recipe}`, fingerprint `{origin.fingerprint[:12]}`",
        "data": f"{kind}, snapshot `{origin.snapshot[:12]}`",
        "trained on": f"{iso_utc(origin.train_from)} to {iso_utc(origin.train_until)}",
        "chosen on": f"prices to {iso_utc(origin.seen_until)}, none later",
        "start": f"version {origin.parent}" if origin.parent else "random weights",
        "validation loss": f"{best.validation_loss:.4g} (training {best.train_loss:.4g}), epoch "
        f"{best.number}",
        "interval": _interval(bundle),
    }
    given = "windows" if bundle.sessional else "candles"
    table = "\n".join(f"| {key} | {value} |" for key, value in rows.items())
    return f"""# {name}

A transformer that forecasts from candles, trained by the job that its tags name.

| | |
|---|---|
{table}

Its figures on test data and after costs are in the report of its run.

## Intended use and limits

For research, and for comparison with simple baselines. It is no advice to trade.
{_limit(origin.synthetic)}
It knows these symbols, this interval and this horizon alone, and nothing of events that candles do
not show.

## How to load it

```python
import mlflow

model = mlflow.pyfunc.load_model("models:/{name}@champion")
model.predict({given})  # symbol, made_at, horizon, prediction, lower, upper
```

It takes {expected_inputs(bundle)}.
"""


def _limit(synthetic: bool) -> str:
    if synthetic:
        return "It learnt from a simulated market: its forecasts of a real one mean nothing."
    return "Markets change: what held over its training span may not hold after it."


def _interval(bundle: ModelBundle) -> str:
    if bundle.config.head == "quantile":
        levels = bundle.config.head_options.quantiles
        return f"quantiles {levels[0]:.0%} and {levels[-1]:.0%}, as the head predicts them"
    if bundle.half_width_S is None:
        return "none: the head predicts no return"
    return f"about {COVERAGE:.0%} of outcomes, split conformal on the validation range"
