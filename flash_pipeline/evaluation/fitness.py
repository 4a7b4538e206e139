"""Whether a model can predict from the windows at hand, and why not.

The words follow its name: "champion 7 predicts BTCUSDT (the windows: ETHUSDT)".
"""

from flash_pipeline.training.bundle import ModelBundle, UnreadableBundle
from flash_pipeline.windows.blocks import WindowFrame


def obsolete(bundle: ModelBundle | UnreadableBundle, frame: WindowFrame) -> str:
    """Say why no configuration of this home makes a model predict again; empty where one does.

    It cannot be read any more, takes features that are no longer computed, or was trained on
    candles of the other kind. Nothing but another model gives a forecast then.
    """
    if isinstance(bundle, UnreadableBundle):
        return f"cannot be read, {bundle.reason}"
    if bundle.provenance.synthetic != frame.synthetic:
        return "was trained on candles of another kind (simulated or real)"
    if bundle.feature_names != frame.features:
        return (
            f"takes the features {', '.join(bundle.feature_names)} (the windows: "
            f"{', '.join(frame.features)})"
        )
    return ""


def misfit(bundle: ModelBundle, frame: WindowFrame) -> str:
    """Say which symbols, horizon, interval or lookback a model has other than the windows.

    Empty where it can predict from them; it may look back less far than they do.
    """
    names = ", ".join(frame.symbols)
    told = [
        (bundle.symbols != frame.symbols, f"predicts {', '.join(bundle.symbols)}", names),
        (bundle.horizon != frame.horizon, f"predicts {bundle.horizon} bars ahead", frame.horizon),
        (
            bundle.interval != frame.interval.value,
            f"takes candles of interval {bundle.interval}",
            frame.interval.value,
        ),
        (bundle.lookback > frame.lookback, f"needs {bundle.lookback} bars", frame.lookback),
    ]
    return " and ".join(f"{mine} (the windows: {theirs})" for bad, mine, theirs in told if bad)
