"""Numbers as the exchange writes them: strings, in plain notation, without trailing zeros."""

import numpy as np


def decimal_text(value: float) -> str:
    """Return the shortest plain decimal that reads back as the very same float64.

    NaN, a value that the source does not have, becomes the empty string.

    Examples
    --------
    >>> [decimal_text(x) for x in (96455.0, 0.1, 5e-06, -1.5e-06, 1e17, float("nan"))]
    ['96455', '0.1', '0.000005', '-0.0000015', '100000000000000000', '']
    """
    text = repr(value)
    if text.endswith(".0"):
        return text[:-2]
    if "e" in text:
        return np.format_float_positional(value, trim="-")
    return "" if text == "nan" else text
