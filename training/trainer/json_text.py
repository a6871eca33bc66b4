"""JSON as the artefact holds it: shortest numbers that read back the same, null for NaN, and 1e999 for infinity (a JSON
number that both Python and JavaScript read as infinity)."""
from __future__ import annotations

import json
import math

import numpy as np


def to_json(value, indent: int | None = None) -> bytes:
    return (_text(value, indent, 0) + ("\n" if indent is not None else "")).encode("utf-8")


def _text(value, indent: int | None, depth: int) -> str:
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if isinstance(value, dict):
        inner = [f"{json.dumps(str(key), ensure_ascii=False)}:{' ' if indent else ''}{_text(item, indent, depth + 1)}" for key, item in value.items()]
        return _wrapped("{", "}", inner, indent, depth)
    if isinstance(value, (list, tuple)):
        inner = [_text(item, indent, depth + 1) for item in value]
        # Lists of numbers and words on one line; they are what makes these files long.
        flat = all(item is None or isinstance(item, (str, int, float)) for item in value)
        return _wrapped("[", "]", inner, None if flat else indent, depth)
    if isinstance(value, (bool, np.bool_)):
        return "true" if value else "false"
    if isinstance(value, (float, np.floating)):
        number = float(value)
        if math.isnan(number):
            return "null"
        if math.isinf(number):
            return "1e999" if number > 0 else "-1e999"
        return str(int(number)) if number == int(number) and abs(number) < 1e15 else repr(number)
    if isinstance(value, np.integer):
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def _wrapped(opening: str, closing: str, inner: list[str], indent: int | None, depth: int) -> str:
    if indent is None or not inner:
        return opening + ",".join(inner) + closing
    pad = "\n" + " " * (indent * (depth + 1))
    return opening + pad + f",{pad}".join(inner) + "\n" + " " * (indent * depth) + closing
