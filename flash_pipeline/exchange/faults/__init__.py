"""Faults on purpose: what exchanges, their proxies and networks do to a client, seeded.

    app  --->  middleware.py  --->  the connection
                   |  decisions.py   whether this attempt at this query fails, and how
                   |  kinds.py       refusals.py bodies.py rows.py clocks.py   another answer
                   |                 delivery.py                              another way to give it

What is injected is a pure function of the seed, the path, the query and the number of the attempt
at that query. So a failure can be replayed, whatever the order of a client's threads.
"""

from flash_pipeline.exchange.faults.decisions import Injection
from flash_pipeline.exchange.faults.kinds import KINDS
from flash_pipeline.exchange.faults.middleware import Faults
from flash_pipeline.exchange.faults.spec import FaultSpec

__all__ = ["KINDS", "FaultSpec", "Faults", "Injection"]
