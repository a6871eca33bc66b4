"""`python fuzz_models.py FOLDER COUNT SEED`: small models of odd data, each as an ONNX file with rows and LightGBM's own scores,
for test/training/fuzz.test.ts to score with onnxruntime. Also checks the walk of the exported arrays, which must be exact."""
from __future__ import annotations

import sys
from pathlib import Path

import lightgbm
import numpy as np

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parents[1] / "training"))

from trainer.data import Feature  # noqa: E402
from trainer.encode import ZERO, Encoder  # noqa: E402
from trainer.export_onnx import to_onnx  # noqa: E402
from trainer.golden import hostile_rows  # noqa: E402
from trainer.trees import flatten  # noqa: E402

ROWS = 240
HOSTILE = np.array([np.nan, np.inf, -np.inf, 1e300, -1e300, 1.7976931348623157e308, 1e-34, -1e-34, 5e-324, 0.0, 2.0**53, -1.0, 3.0])


def column(random: np.random.Generator) -> tuple[np.ndarray, bool]:
    """One column of `ROWS` values and whether it is of categories."""
    kind = random.integers(0, 12)
    if kind == 0:
        values = random.normal(size=ROWS)
    elif kind == 1:
        values = 1.7e12 + random.integers(0, 10**9, ROWS)
    elif kind == 2:
        values = 2.0**31 + random.integers(0, 100, ROWS)
    elif kind == 3:
        values = np.float64(0.1) + np.spacing(0.1) * random.integers(0, 50, ROWS)
    elif kind == 4:
        values = random.choice([-1e308, -1e300, -1.0, 0.0, 1.0, 1e300, 1e308], ROWS)
    elif kind == 5:
        values = random.choice([0.0, 1e-34, -1e-34, 1e-30, -1e-30, 1e-20], ROWS)
    elif kind == 6:
        values = np.full(ROWS, random.choice([0.0, 7.0, np.nan]))
    elif kind == 7:
        values = random.choice([np.inf, -np.inf, 0.5, 1.5, 2.5], ROWS)
    elif kind == 8:
        values = random.integers(0, 2, ROWS).astype(float)
    elif kind in (9, 10):
        most = int(random.choice([2, 3, 5, 40, 120]))
        values = random.integers(0, most, ROWS).astype(float)
        values[random.random(ROWS) < 0.1] = random.choice([np.nan, -1.0])
        return values, True
    else:
        values = np.round(random.lognormal(3, 2, ROWS), 2)
    if random.random() < 0.5:
        values = np.where(random.random(ROWS) < random.choice([0.02, 0.3, 0.9]), np.nan, values)
    return values, False


def model(seed: int):
    random = np.random.default_rng(seed)
    width = int(random.integers(1, 7))
    columns, categorical = zip(*(column(random) for _ in range(width)))
    x = np.column_stack(columns)
    x[np.abs(x) <= ZERO] = 0.0
    finite = np.nan_to_num(x, nan=1.0, posinf=2.0, neginf=-2.0)
    ranks = np.argsort(np.argsort(finite[:, 0], kind="stable"), kind="stable") / ROWS
    label = (random.random(ROWS) < random.choice([0.2, 1.0]) * (0.1 + 0.8 * (ranks > 0.6) + 0.1 * np.isnan(x[:, -1]))).astype(float)
    label[:2] = [0.0, 1.0]
    settings = {
        "objective": "binary",
        "num_leaves": int(random.choice([2, 3, 7, 31])),
        "min_data_in_leaf": int(random.choice([1, 5, 40, 200])),
        "min_data_per_group": 1,
        "cat_smooth": 0.0,
        "cat_l2": 0.0,
        "max_cat_to_onehot": int(random.choice([1, 4, 200])),
        "max_bin": int(random.choice([2, 15, 255])),
        "min_data_in_bin": 1,
        "use_missing": bool(random.random() < 0.8),
        "learning_rate": 0.3,
        "scale_pos_weight": float(random.choice([1, 20])),
        "num_threads": 1,
        "verbosity": -1,
        "seed": seed,
    }
    rounds = int(random.choice([1, 3, 12]))
    marked = [index for index in range(width) if categorical[index]]
    booster = lightgbm.train(settings, lightgbm.Dataset(x, label, categorical_feature=marked, params=settings), rounds)
    trees = flatten(booster, rounds)
    encoder = Encoder(
        [Feature(str(i), "string" if categorical[i] else "double") for i in range(width)],
        {i: [""] * (int(np.nanmax(x[:, i], initial=0)) + 1) for i in marked},
    )
    rows = hostile_rows(x, trees, encoder, 120, random)
    odd = random.choice(HOSTILE, (40, width))
    odd[:, marked] = np.where(np.isfinite(odd[:, marked]) & (np.abs(odd[:, marked]) < 1e6), np.trunc(odd[:, marked]), -1.0)
    rows = np.vstack([rows, odd])
    rows[np.abs(rows) <= ZERO] = 0.0
    raw = booster.predict(rows, raw_score=True)
    walked = trees.score(rows)
    if not np.array_equal(raw, walked):
        worst = int(np.argmax(np.abs(raw - walked)))
        raise SystemExit(f"seed {seed}: the walk gives {walked[worst]!r}, LightGBM {raw[worst]!r} for {rows[worst].tolist()}")
    a, b = float(random.choice([1.0, 0.7])), float(random.choice([0.0, -1.25]))
    return to_onnx(trees, width, a, b, {}), rows, a * raw + b, trees


def main(folder: Path, count: int, first: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    seen = {"nodes": 0, "member": 0, "stump": 0, "infinite": 0, "nan_true": 0}
    for seed in range(first, first + count):
        proto, rows, raw, trees = model(seed)
        (folder / f"{seed}.onnx").write_bytes(proto.SerializeToString())
        (folder / f"{seed}.f64").write_bytes(np.column_stack([rows, raw]).astype("<f8").tobytes())
        seen["nodes"] += len(trees.feature)
        seen["member"] += int((trees.kind == 1).sum())
        seen["stump"] += int((trees.roots < 0).sum())
        seen["infinite"] += int(np.isinf(trees.threshold).sum())
        seen["nan_true"] += int(trees.nan_true.sum())
    print(seen)


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
