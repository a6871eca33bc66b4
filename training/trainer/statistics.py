"""What each feature looked like in training: drift is measured against it."""
from __future__ import annotations

import numpy as np

from .encode import Encoder

NUMERIC_BINS = 20
CATEGORY_BINS = 30


def statistics(x: np.ndarray, encoder: Encoder) -> dict[str, dict]:
    """By feature: share of nulls, mean, and counts of the values that are not null between the edges `bins`: the first at or
    below the first edge, the last above the last, so one count more than edges. Of a string the values are category codes."""
    out = {}
    for index, feature in enumerate(encoder.features):
        column = x[:, index]
        known = column[~np.isnan(column)]
        if index in encoder.categories:
            # -1 (seen too rarely to have a code) is the first bin; codes are in order of frequency.
            edges = np.arange(-0.5, min(len(encoder.categories[index]), CATEGORY_BINS) - 0.5)
        else:
            edges = np.unique(np.quantile(known, np.linspace(0, 1, NUMERIC_BINS + 1)[1:-1], method="lower")) if len(known) else known
        counts = np.bincount(np.searchsorted(edges, known, side="left"), minlength=len(edges) + 1)
        finite = known[np.isfinite(known)]
        out[feature.name] = {
            "null_rate": float(1 - len(known) / len(column)),
            "mean": float(finite.mean()) if len(finite) else None,
            "bins": edges,
            "counts": counts,
        }
    return out
