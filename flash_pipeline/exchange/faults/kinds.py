"""Every kind of fault by its name."""

from collections.abc import Mapping

from flash_pipeline.exchange.faults.bodies import BODIES
from flash_pipeline.exchange.faults.clocks import CLOCKS
from flash_pipeline.exchange.faults.delivery import DELIVERY
from flash_pipeline.exchange.faults.fault import Fault
from flash_pipeline.exchange.faults.refusals import REFUSALS
from flash_pipeline.exchange.faults.rows import ROWS

KINDS: Mapping[str, Fault] = {
    fault.name: fault for fault in (*DELIVERY, *REFUSALS, *BODIES, *ROWS, *CLOCKS)
}
"""Every kind, those of the way first."""
