import numpy as np
import pytest
from matplotlib.figure import Figure

from flash_pipeline.evaluation import figures
from flash_pipeline.evaluation.figures import PricePath, forecast_chart

HOUR_MS = 3_600_000
FIRST_MS = 1_704_067_200_000


def chart(*, symbols=("BTCUSDT", "ETHUSDT"), head="regression", synthetic=True, prediction=0.01):
    close_T = 100 + np.cumsum(np.random.default_rng(0).normal(size=72))
    path = PricePath(FIRST_MS + HOUR_MS * np.arange(72), close_T, prediction)
    return forecast_chart(
        dict.fromkeys(symbols, path),
        head=head,
        horizon_ms=24 * HOUR_MS,
        version="3",
        synthetic=synthetic,
    )


@pytest.mark.parametrize("head", ["regression", "direction", "allocation", "quantile"])
def test_a_forecast_is_drawn_for_every_head_990_pixels_wide(head):
    png = chart(head=head)
    assert png.startswith(b"\x89PNG")
    assert int.from_bytes(png[16:20], "big") == 990


def test_the_median_of_a_quantile_head_is_drawn_as_a_price_and_a_weight_is_not():
    assert figures._words("quantile", 0.01) == "median +1.01%"
    assert lines_of("quantile") == lines_of("regression") == lines_of("allocation") + 1


def lines_of(head):
    axes = Figure().subplots()
    figures._draw(axes, PricePath(np.arange(3) * HOUR_MS, np.ones(3), 0.1), head, HOUR_MS)
    return len(axes.lines)


def test_equal_forecasts_make_equal_pictures_and_others_do_not():
    assert chart() == chart()
    assert chart(prediction=-0.01) != chart()
    assert chart(synthetic=False) != chart()


def test_one_symbol_is_drawn_alone():
    assert chart(symbols=("BTCUSDT",)).startswith(b"\x89PNG")
