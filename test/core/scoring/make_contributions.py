"""Writes test/fixtures/models/contributions.json: trees of a small LightGBM model with its own raw scores and `pred_contrib`, for
rows with nulls, with categories that it has seen and not, and on thresholds. Run when the form of trees.json changes."""
from __future__ import annotations

import sys
from pathlib import Path

import lightgbm
import numpy as np

ROOT = Path(__file__).parents[3]
sys.path.insert(0, str(ROOT / "training"))
from trainer.explain import sidecar  # noqa: E402
from trainer.json_text import to_json  # noqa: E402
from trainer.trees import flatten  # noqa: E402

FEATURES, CATEGORICAL, TREES = 7, 3, 25

if __name__ == "__main__":
    random = np.random.default_rng(7)
    x = random.normal(size=(3000, FEATURES))
    x[:, CATEGORICAL] = random.integers(0, 9, len(x))
    x[:, 1] = np.round(x[:, 1] * 4) / 4
    x[random.random(len(x)) < 0.2, 0] = np.nan
    odds = np.nan_to_num(x[:, 0]) + x[:, 1] * x[:, 2] + np.isin(x[:, CATEGORICAL], [2, 5, 7]) * 2 - 1.5
    y = random.random(len(x)) < 1 / (1 + np.exp(-odds))
    settings = {"objective": "binary", "num_leaves": 12, "seed": 1, "deterministic": True, "num_threads": 1, "verbose": -1}
    booster = lightgbm.train(settings, lightgbm.Dataset(x, y, categorical_feature=[CATEGORICAL]), TREES)
    trees = flatten(booster, TREES)
    rows = x[:40].copy()
    rows[20:30][random.random((10, FEATURES)) < 0.4] = np.nan
    rows[30:34, CATEGORICAL] = [-1, 9, 1000, np.nan]
    for at, node in enumerate(random.choice(np.flatnonzero(trees.kind == 0), 6)):
        rows[34 + at, trees.feature[node]] = trees.threshold[node]
    # LightGBM reads these as 0 in pred_contrib and as they are in predict.
    rows[np.abs(rows) < 1.1e-35] = 0
    wanted = {
        "trees": sidecar(trees, FEATURES, 1.0, 0.0),
        "rows": rows,
        "raw": booster.predict(rows, raw_score=True),
        # [rows, features + 1]: the last column is the base.
        "contributions": booster.predict(rows, pred_contrib=True),
    }
    (ROOT / "test" / "fixtures" / "models" / "contributions.json").write_bytes(to_json(wanted) + b"\n")
