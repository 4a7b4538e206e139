"""Which contest it is: by this a repetition is told from another try on other terms.

Shape letters: S symbols, T bars.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from flash_pipeline.evaluation.rivals import Rival
from flash_pipeline.evaluation.terms import Venue


def contest_digest(
    venue: Venue, made_at_N: npt.NDArray[np.int64], baselines: Sequence[Rival]
) -> str:
    """Return a hash of the dates, of all that trading costs and bounds, and of who competes.

    Parameters
    ----------
    venue : Venue
        Terms and bars. Of lots and funding counts what touches these bars: settlements that are
        stored later change nothing.
    made_at_N : array
        Dates, ms since the epoch.
    baselines : sequence of Rival
        Simple models that compete.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    terms, account = venue.terms, venue.account
    lots_S = () if account.lots is None else vars(account.lots).values()
    values = {
        "costs": asdict(terms.costs),
        "capital": account.capital,
        "maintenance_rate": account.maintenance_rate,
        "caps": [terms.gross_cap, terms.symbol_cap],
        "lots": [np.asarray(each_S).tolist() for each_S in lots_S],
        "symbols": venue.prices.symbols,
        "baselines": sorted((each.name, each.seen_until) for each in baselines),
    }
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(made_at_N, dtype=np.int64).tobytes())
    rate_TS = venue.funding.rate_TS
    if rate_TS is not None:
        digest.update(np.ascontiguousarray(rate_TS, dtype=np.float64).tobytes())
    return digest.hexdigest()[:16]
