from dataclasses import replace

import numpy as np
import pytest

from flash_pipeline.order_book.quality import book_problems
from flash_pipeline_tests.order_book.conftest import made_series


def spoilt(change):
    series = made_series(20)
    book, time = series.book_TLS2.copy(), series.time_T.copy()
    change(book, time)
    return replace(series, book_TLS2=book, time_T=time)


def test_sound_books_have_no_problem():
    assert book_problems(made_series(20)) == []
    thin = spoilt(lambda book, _: book.__setitem__((5, 2, 1), np.nan))
    assert book_problems(thin) == []


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ((5, 0, 0, 0), 9.0, "crossed"),
        ((5, 0, 0), np.nan, "no best price"),
        ((5, 1, 1, 0), 1.0, "out of order"),
        ((5, 1, 1), np.nan, "follows an absent one"),
        ((5, 1, 1, 1), 0.0, "size is not above 0"),
    ],
)
def test_each_problem_is_named_with_its_time(place, value, words):
    problems = book_problems(spoilt(lambda book, _: book.__setitem__(place, value)))
    assert any(words in problem and "2026-03-10" in problem for problem in problems)


def test_times_must_ascend():
    problems = book_problems(spoilt(lambda _, time: time.__setitem__(7, time[6])))
    assert len(problems) == 1
    assert "not after the one before" in problems[0]
