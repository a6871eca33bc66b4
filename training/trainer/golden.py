"""Rows that travel with the model, and the proof that what is exported is what was trained.

Hostile on purpose: values exactly on thresholds and one step beside them, nulls where training had none, categories that
training never saw, extremes.
"""
from __future__ import annotations

import numpy as np

from .calibrate import sigmoid
from .encode import ZERO, Encoder
from .refusal import Refusal
from .trees import MEMBER, Trees

TOLERANCE = 1e-9
CHECKED_ROWS = 2_000
EXTREMES = (0.0, -1.0, 1e308, -1e308, 2.0**24 + 1, 2.0**53, 1e-30, 1e-300, 0.1)


def hostile_rows(x: np.ndarray, trees: Trees, encoder: Encoder, count: int, random: np.random.Generator) -> np.ndarray:
    """`count` rows: a quarter as they are, the rest with a few values replaced."""
    rows = x[random.integers(0, len(x), count)].copy()
    numeric = [index for index in range(x.shape[1]) if index not in encoder.categories]
    splits = np.flatnonzero((trees.kind != MEMBER) & np.isfinite(trees.threshold))
    for at in range(count):
        row, how = rows[at], at % 4
        if how == 1:
            row[random.random(len(row)) < random.choice([0.1, 0.5, 1.0])] = np.nan
        elif how == 2 and len(splits):
            for node in random.choice(splits, min(6, len(splits)), replace=False):
                threshold = trees.threshold[node]
                row[trees.feature[node]] = random.choice(
                    [threshold, np.nextafter(threshold, np.inf), np.nextafter(threshold, -np.inf)]
                )
        elif how == 3:
            for index in encoder.categorical:
                row[index] = random.choice([-1.0, float(len(encoder.categories[index])), 0.0, np.nan])
            if numeric:
                row[random.choice(numeric)] = random.choice(EXTREMES)
    rows[np.abs(rows) <= ZERO] = 0.0
    return rows


def verify(booster, iterations: int, trees: Trees, x: np.ndarray) -> float:
    """The greatest difference between the exported arrays and LightGBM over `x`. Raises Refusal above 1e-9."""
    wanted = booster.predict(x, raw_score=True, num_iteration=iterations)
    got = trees.score(x)
    worst = float(np.max(np.abs(wanted - got)))
    if not worst <= TOLERANCE:
        row = int(np.argmax(np.abs(wanted - got)))
        raise Refusal(
            "export_differs",
            f"the exported model is {worst:g} off LightGBM (row {row} of {len(x)}: {got[row]:.12g}, not {wanted[row]:.12g})",
            "the model is not written; report this as a fault of the exporter",
        )
    return worst


def golden_rows(booster, iterations: int, a: float, b: float, x: np.ndarray) -> dict:
    raw = a * booster.predict(x, raw_score=True, num_iteration=iterations) + b
    return {"rows": x, "probability": sigmoid(raw), "raw": raw}
