"""Writes a model artefact for a list of features, trained on noise: what it weighs matters here, not what it knows.

`make_model.py FEATURES.json FOLDER [TREES]`, 200 trees if not told otherwise, in the Python environment of the trainer. FEATURES: {service, plan_hash, features}.
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

import lightgbm
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[2] / "training"))
from trainer.artefact import write_artefact  # noqa: E402
from trainer.data import Feature  # noqa: E402
from trainer.encode import Encoder  # noqa: E402
from trainer.explain import sidecar  # noqa: E402
from trainer.export_onnx import to_onnx  # noqa: E402
from trainer.golden import golden_rows, hostile_rows  # noqa: E402
from trainer.json_text import to_json  # noqa: E402
from trainer.trees import flatten  # noqa: E402

LEAVES, ROWS = 31, 30_000
COUNTRIES = ["SE", "NO", "DE", "FR", "DK"]
A, B = 1.1, -0.2

if __name__ == "__main__":
    TREES = int(sys.argv[3]) if len(sys.argv) > 3 else 200
    given, folder = json.loads(Path(sys.argv[1]).read_text()), Path(sys.argv[2])
    features = [Feature(one["name"], one["dtype"]) for one in given["features"]]
    categories = {i: COUNTRIES for i, one in enumerate(features) if one.dtype == "string"}
    random = np.random.default_rng(5)
    x = np.abs(random.normal(0, 100, (ROWS, len(features))))
    for index in categories:
        x[:, index] = random.integers(0, len(COUNTRIES), ROWS)
    x[random.random(x.shape) < 0.05] = np.nan
    y = random.random(ROWS) < 1 / (1 + np.exp(3 - np.nan_to_num(x[:, 0]) / 80 - np.nan_to_num(x[:, 5]) / 150))
    settings = {"objective": "binary", "num_leaves": LEAVES, "verbosity": -1, "num_threads": 2, "seed": 1}
    booster = lightgbm.train(settings, lightgbm.Dataset(x, y, categorical_feature=list(categories)), TREES)
    trees = flatten(booster, TREES)
    hostile = hostile_rows(x, trees, Encoder(features, categories), 64, random)
    proto = to_onnx(trees, x.shape[1], A, B, {"service": given["service"], "plan_hash": given["plan_hash"]})
    described = [
        {"name": one.name, "dtype": one.dtype, **({"categories": categories[i]} if i in categories else {})}
        for i, one in enumerate(features)
    ]
    manifest = {"version": 1, "service": given["service"], "model": "bench", "plan_hash": given["plan_hash"], "created_ms": 0}
    folder.mkdir(parents=True, exist_ok=True)
    files = {
        "model.onnx": proto.SerializeToString(deterministic=True),
        "golden.json": to_json(golden_rows(booster, TREES, A, B, hostile)),
        "trees.json": to_json(sidecar(trees, x.shape[1], A, B)),
    }
    write_artefact(folder, files, {**manifest, "features": described, "metrics": {}, "training_set": {}})
