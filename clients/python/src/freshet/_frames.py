"""pandas in and out. Imported only by calls that take or give frames."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Sequence

if TYPE_CHECKING:
    import pandas as pd


def need_pandas() -> Any:
    try:
        import pandas
    except ImportError as error:
        raise ImportError("this call needs pandas: pip install 'freshet[pandas]'") from error
    return pandas


def records(frame: pd.DataFrame, columns: Sequence[str] | None = None) -> list[dict[str, Any]]:
    """Rows as JSON holds them: missing values are None, numpy's scalars are Python's, times have their zone.

    :raises ValueError: for a time without a zone, or a column that is not there
    """
    names = [str(name) for name in frame.columns] if columns is None else list(columns)
    absent = [name for name in names if name not in frame.columns]
    if absent:
        raise ValueError(f"the frame has no column {absent[0]!r}; it has {', '.join(map(str, frame.columns))}")
    lists = [[plain(value, name) for value in frame[name]] for name in names]
    return [dict(zip(names, row)) for row in zip(*lists)] if names else [{} for _ in range(len(frame))]


def plain(value: Any, name: str = "") -> Any:
    pandas = need_pandas()
    if isinstance(value, (list, dict, tuple)):
        return value
    if value is None or value is pandas.NA or value is pandas.NaT:
        return None
    if hasattr(value, "isoformat"):
        if getattr(value, "tzinfo", None) is None:
            raise ValueError(f"times of {name} have no zone: use .dt.tz_localize(\"UTC\") or epoch milliseconds")
        return value.isoformat()
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
