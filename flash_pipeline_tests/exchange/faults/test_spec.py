import json

import pytest

from flash_pipeline.errors import InvalidConfig
from flash_pipeline.exchange.faults import KINDS, FaultSpec


def test_a_line_gives_every_option():
    spec = FaultSpec.parse("seed=7, rate=0.3, kinds=latency+ban_403, burst=3, latency_ms=5")
    assert spec == FaultSpec(7, 0.3, ("latency", "ban_403"), 3, 5.0)


def test_what_is_left_out_has_its_default():
    assert FaultSpec.parse("seed=7") == FaultSpec(seed=7)
    assert FaultSpec.parse("kinds=all").kinds == tuple(KINDS)


def test_a_file_gives_the_same(tmp_path):
    file = tmp_path / "faults.json"
    file.write_text(json.dumps({"seed": 7, "kinds": ["latency", "ban_403"]}))
    assert FaultSpec.parse(str(file)) == FaultSpec.parse("seed=7,kinds=latency+ban_403")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("rate=2", "rate 2"),
        ("rate=often", "'rate=often'"),
        ("burst=0", "burst 0"),
        ("latency_ms=-1", "latency_ms -1"),
        ("kinds=earthquake", "'earthquake'"),
        ("kinds=", "''"),
        ("speed=9", "'speed'"),
        ("nowhere.json", "'nowhere.json'"),
    ],
)
def test_a_wrong_value_is_named(text, named):
    with pytest.raises(InvalidConfig, match=named):
        FaultSpec.parse(text)


def test_a_file_of_another_shape_is_refused(tmp_path):
    file = tmp_path / "faults.json"
    file.write_text("[1]")
    with pytest.raises(InvalidConfig, match="no JSON object"):
        FaultSpec.parse(str(file))


def test_there_are_more_kinds_than_anyone_has_met_and_each_says_what_it_is():
    assert len(KINDS) >= 22
    assert all(fault.about.endswith(".") or ":" in fault.about for fault in KINDS.values())
