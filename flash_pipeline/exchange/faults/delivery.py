"""Faults of the way: answers that come late, in part, or not at all."""

import asyncio

from starlette.types import Receive

from flash_pipeline.exchange.answer import Answer
from flash_pipeline.exchange.faults.fault import Ask, Fault, Line

LONGEST_S = 60.0
"""Seconds after which a request that hangs is given up; clients should leave before."""

_DRIP_S = 0.05  # between two bytes: shorter than any read timeout
_EARLY_PART = (0.1, 0.9)  # of a body that is cut off


async def latency(answer: Answer, ask: Ask, line: Line) -> None:
    """Give the whole answer, late."""
    await asyncio.sleep(line.latency_s)
    await answer.send(line.send)


async def read_timeout(answer: Answer, ask: Ask, line: Line) -> None:
    """Give nothing until the client leaves."""
    await _until_gone(line, LONGEST_S)
    await _reset(line)


async def reset_before_answer(answer: Answer, ask: Ask, line: Line) -> None:
    """Reset the connection instead of an answer."""
    await _reset(line)


async def reset_in_body(answer: Answer, ask: Ask, line: Line) -> None:
    """Announce the whole body, give a part of it and reset the connection."""
    await _send_part(answer, ask, line)
    await _reset(line)


async def close_in_body(answer: Answer, ask: Ask, line: Line) -> None:
    """Announce the whole body, give a part of it and close the connection in good order."""
    await _send_part(answer, ask, line)
    line.connection.close()
    await _until_gone(line, LONGEST_S)


async def drip_body(answer: Answer, ask: Ask, line: Line) -> None:
    """Give the body byte by byte, so slowly that only a deadline of the whole ends it."""
    await line.send(answer.start())
    for byte in answer.body[: round(LONGEST_S / _DRIP_S)]:
        message = {"type": "http.response.body", "body": bytes([byte]), "more_body": True}
        await line.send(message)
        if await _until_gone(line, _DRIP_S):
            break
    await _reset(line)


DELIVERY = (
    Fault(deliver=latency),
    Fault(deliver=read_timeout),
    Fault(deliver=reset_before_answer),
    Fault(deliver=reset_in_body),
    Fault(deliver=close_in_body),
    Fault(deliver=drip_body),
)
"""Every kind of this module."""


async def _send_part(answer: Answer, ask: Ask, line: Line) -> None:
    part = answer.body[: int(len(answer.body) * ask.random.uniform(*_EARLY_PART))]
    await line.send(answer.start())
    await line.send({"type": "http.response.body", "body": part, "more_body": True})


async def _reset(line: Line) -> None:
    line.connection.reset()
    # The server learns of it in the next turn of its loop, and then misses no end of the answer.
    await asyncio.sleep(0)


async def _until_gone(line: Line, seconds: float) -> bool:
    """Wait, at most until the client leaves, and say whether it has."""
    line.connection.waiting = True
    try:
        await asyncio.wait_for(_gone(line.receive), seconds)
    except TimeoutError:
        return False
    finally:
        line.connection.waiting = False
    return True


async def _gone(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
