import json

import numpy as np

from flash_pipeline.exchange.decimals import decimal_text
from flash_pipeline.exchange.rows import rows_json


def test_rows_are_arrays_of_strings():
    assert json.loads(rows_json([np.array([2, 1]), np.array([0.5, 7.0])])) == [
        ["2", "0.5"],
        ["1", "7"],
    ]


def test_a_missing_value_is_empty():
    assert rows_json([np.array([1]), np.array([np.nan])]) == '[["1",""]]'


def test_no_rows_are_an_empty_array():
    assert rows_json([np.array([], dtype=np.int64), np.array([])]) == "[]"


def test_columns_may_run_backwards():
    column = np.array([1.5, 2.5, 1e12, 1e-9])
    assert json.loads(rows_json([column[::-1]])) == [
        [decimal_text(x)] for x in column.tolist()[::-1]
    ]


def test_equals_what_json_makes_of_the_single_texts():
    random = np.random.default_rng(5)
    columns = [np.arange(500), *(10.0 ** random.uniform(-9, 14, (6, 500)))]
    texts = [[decimal_text(x) for x in column.tolist()] for column in columns[1:]]
    rows = [list(row) for row in zip(map(str, range(500)), *texts, strict=True)]
    assert rows_json(columns) == json.dumps(rows, separators=(",", ":"))
