"""`trees.json`: what explanations need and ONNX does not carry, covers above all. Expected values of nodes follow from the
covers; LightGBM's own `internal_value` is up to 0.03 off their cover-weighted mean and is not used."""
from __future__ import annotations

import numpy as np

from .trees import MEMBER, Trees


def sidecar(trees: Trees, feature_count: int, a: float, b: float) -> dict:
    """Children and roots are node indices, or ~leaf. `members[i]` belongs to the i-th node with `kind` 1. Values are those of the
    trees: the raw score is a * (their sum) + b."""
    return {
        "version": 1,
        "feature_count": feature_count,
        "calibration": {"a": a, "b": b},
        "roots": trees.roots,
        "nodes": {
            "feature": trees.feature,
            "kind": trees.kind,
            "threshold": trees.threshold,
            "nan_true": trees.nan_true.astype(np.int64),
            "true": trees.true,
            "false": trees.false,
            "cover": trees.cover,
        },
        "members": [trees.members[node] for node in np.flatnonzero(trees.kind == MEMBER)],
        "leaves": {"value": trees.value, "cover": trees.leaf_cover},
    }
