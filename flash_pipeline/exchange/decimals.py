"""Numbers as the exchange writes them: strings, in plain notation, without trailing zeros."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

_PLAIN_FROM, _PLAIN_BELOW = 1e-6, 1e10  # sizes that Arrow writes without an exponent


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


def decimal_texts(values: npt.NDArray[np.float64]) -> pa.Array:
    """Return `decimal_text` of each value, five times as fast for prices and volumes.

    Parameters
    ----------
    values : array [n]
        float64; NaN becomes the empty string.

    Returns
    -------
    pa.Array
        n strings.

    Examples
    --------
    >>> decimal_texts(np.array([96455.0, 5e-08, np.nan])).to_pylist()
    ['96455', '0.00000005', '']
    """
    texts = pa.array(values).cast(pa.string())  # also the shortest, but with exponents
    size = np.abs(values)
    plain = (size < _PLAIN_BELOW) & ((size >= _PLAIN_FROM) | (size == 0))
    if plain.all():
        return texts
    others = [decimal_text(value) for value in values[~plain].tolist()]
    return pc.replace_with_mask(texts, pa.array(~plain), pa.array(others, pa.string()))
