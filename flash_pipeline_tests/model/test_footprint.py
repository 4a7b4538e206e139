import pytest

from flash_pipeline.model import footprint
from flash_pipeline.model.footprint import fitting_chunk, fitting_rows
from flash_pipeline.model.streaming import stream

SLIDING = {"span": "sliding", "window": 6, "positions": "rotary"}
PAIR_BYTES = 2 * 16  # of the tiny model's two heads


@pytest.mark.parametrize(
    ("attention", "span", "masked", "bounded"),
    [
        ("reference", {}, False, True),
        ("reference", SLIDING, True, True),
        ("sdpa", {}, False, False),
        ("sdpa", {}, True, False),
        ("sdpa", {"span": "causal"}, False, False),
        ("sdpa", {"span": "causal"}, True, True),
        ("sdpa", SLIDING, False, True),
        ("tiled", SLIDING, True, False),
    ],
)
def test_only_attention_that_holds_every_pair_of_bars_bounds_the_rows(
    make_model, monkeypatch, attention, span, masked, bounded
):
    monkeypatch.setattr(footprint, "SCORE_BYTES", 5 * PAIR_BYTES * 64**2)
    model = make_model(attention=attention, **span)
    assert fitting_rows(model, 64, masked=masked) == (5 if bounded else None)


def test_the_rows_are_those_of_the_padded_length_and_at_least_one(make_model, monkeypatch):
    model = make_model(attention="reference")
    monkeypatch.setattr(footprint, "SCORE_BYTES", 5 * PAIR_BYTES * 64**2)
    assert fitting_rows(model, 60, masked=True) == 5
    monkeypatch.setattr(footprint, "SCORE_BYTES", 1)
    assert fitting_rows(model, 60, masked=True) == 1


def test_a_chunk_is_halved_until_it_fits_with_the_reach_before_it(make_model, monkeypatch):
    model = make_model(attention="reference", **SLIDING)
    monkeypatch.setattr(footprint, "SCORE_BYTES", PAIR_BYTES * 35**2)
    assert fitting_chunk(model, 1000, 100, masked=False) == 25
    assert fitting_chunk(model, 35, 100, masked=False) == 100, "no pass is longer than the series"
    monkeypatch.setattr(footprint, "SCORE_BYTES", 1)
    assert fitting_chunk(model, 1000, 100, masked=False) == 1


def test_a_series_streams_in_chunks_that_fit(make_model, bars, monkeypatch):
    model = make_model(attention="reference", **SLIDING)
    seen = []
    model.blocks[0].register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[1]))
    whole_TS = stream(model, bars(1, 150)[0])
    assert seen == [150]
    seen.clear()
    monkeypatch.setattr(footprint, "SCORE_BYTES", PAIR_BYTES * 50**2)
    parts_TS = stream(model, bars(1, 150)[0])
    assert max(seen) <= 50
    assert parts_TS.allclose(whole_TS, rtol=1e-4, atol=1e-5)
