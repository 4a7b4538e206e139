"""Faults of the body: bytes that are not what the headers promise."""

from flash_pipeline.exchange.answer import HTML, JSON, Answer
from flash_pipeline.exchange.faults.fault import Ask, Fault

OVERSIZED_BYTES = 17 * 2**20
"""Length of an oversized body: more than any answer of the exchange by far."""


def truncated_json(answer: Answer, ask: Ask) -> Answer:
    """A body that ends in the middle, with the right length of that part."""
    cut = ask.random.randrange(1, len(answer.body)) if len(answer.body) > 1 else 0
    return Answer(answer.status, answer.headers, answer.body[:cut])


def oversized_body(answer: Answer, ask: Ask) -> Answer:
    """A body of 17 MiB: the true one, and blanks that JSON allows."""
    return Answer(answer.status, answer.headers, answer.body.ljust(OVERSIZED_BYTES))


def json_as_html(answer: Answer, ask: Ask) -> Answer:
    """The true body under the content type of a page."""
    return Answer(answer.status, {**answer.headers, "content-type": HTML}, answer.body)


def html_as_json(answer: Answer, ask: Ask) -> Answer:
    """A page for people, HTTP 200, under the content type of JSON."""
    return Answer.text(200, "<html><body>We will be back soon.</body></html>", JSON)


BODIES = (
    Fault(truncated_json),
    Fault(oversized_body),
    Fault(json_as_html),
    Fault(html_as_json),
)
"""Every kind of this module."""
