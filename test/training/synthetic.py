"""Training sets that no store made: seeded, small, learnable, with every dtype, nulls and a category that comes late.

`python synthetic.py FOLDER [ROWS] [SEED]` writes one with the features of the fraud service.
"""
from __future__ import annotations

import json
import sys
from pathlib import Path

import duckdb
import numpy as np

DAY_MS = 86_400_000
START_MS = 1_700_000_000_000 // DAY_MS * DAY_MS
COUNTRIES = ["AT", "BR", "CH", "DE", "FR", "GB", "JP", "US"]
PLAN = Path(__file__).parents[2] / "features" / "plan.snapshot.json"
LONG = "BIGINT"
TYPES = {"double": "DOUBLE", "int64": "BIGINT", "string": "VARCHAR", "boolean": "BOOLEAN"}
REQUEST = "request:"


def fraud_features() -> tuple[str, list[dict]]:
    """(plan hash, features with dtypes) of the committed plan's fraud service, in its order."""
    plan = json.loads(PLAN.read_text())
    service = next(given for given in plan["services"] if given["name"] == "fraud")
    dtypes = {feature["name"]: feature["dtype"] for view in plan["views"] for feature in view["features"]}
    features = [{"name": name, "dtype": dtypes[name]} for name in service["features"]]
    features += [{"name": name, "dtype": "boolean" if name == "country_changed" else "double"} for name in service["onDemand"]]
    features += [{"name": f"{REQUEST}{name}", "dtype": dtype} for name, dtype in service["request"].items()]
    return plan["hash"], features


def small_features() -> list[dict]:
    return [
        {"name": "card_activity:tx_count_1h", "dtype": "int64"},
        {"name": "amount_to_mean", "dtype": "double"},
        {"name": "country_changed", "dtype": "boolean"},
        {"name": "request:amount", "dtype": "double"},
        {"name": "request:country", "dtype": "string"},
    ]


def columns(features: list[dict], rows: int, seed: int, days: float = 40, base: float = -4.2) -> dict[str, list]:
    """Column name to values; None is null. Odds of a positive follow a few of the features."""
    random = np.random.default_rng(seed)
    as_of = np.sort(START_MS + random.integers(0, int(days * DAY_MS), rows))
    signal = np.full(rows, float(base))
    out: dict[str, list] = {
        "event_id": [f"e{row:07d}" for row in range(rows)],
        "card_id": [f"c{card}" for card in random.zipf(1.3, rows) % 400],
        "as_of_ms": as_of.tolist(),
    }
    for index, feature in enumerate(features):
        name, dtype = feature["name"], feature["dtype"]
        if dtype == "string":
            late = as_of > START_MS + 0.8 * days * DAY_MS
            codes = random.integers(0, len(COUNTRIES), rows)
            values = np.array(COUNTRIES, dtype=object)[codes]
            values[late & (random.random(rows) < 0.1)] = "ZZ"
            signal += np.where(np.isin(codes, [1, 6]), 1.2, 0) if name.startswith(REQUEST) else 0
        elif dtype == "boolean":
            values = random.random(rows) < 0.15
            signal += 1.5 * values
        elif dtype == "int64":
            values = random.poisson(2 + index % 5, rows)
            signal += 0.5 * np.maximum(values - 4, 0) if "tx_count_1h" in name and "card" in name else 0
        else:
            values = np.round(random.lognormal(3 + index % 3, 1, rows), 2)
            signal += 0.8 * np.log1p(values) - 3 if name == "request:amount" else 0
        null = random.random(rows) < (0 if name.startswith(REQUEST) else 0.08)
        out[name] = [None if gone else value for gone, value in zip(null, values.tolist())]
    out["label"] = (random.random(rows) < 1 / (1 + np.exp(-signal))).astype(float).tolist()
    return out


def manifest(features: list[dict], values: dict[str, list], **changes) -> dict:
    return {
        "version": 1,
        "service": "fraud",
        "plan_hash": "0123456789abcdef",
        "label_delay_ms": 5 * DAY_MS,
        "as_of_rule": "event_time",
        "from_ms": values["as_of_ms"][0],
        "to_ms": values["as_of_ms"][-1] + 1,
        "row_count": len(values["as_of_ms"]),
        "positives": int(sum(label or 0 for label in values["label"])),
        "own_event_visible_rows": 0,
        "sources": [],
        "features": features,
        **changes,
    }


def write(folder: Path, features: list[dict], values: dict[str, list], manifest_: dict, parts: int = 2) -> None:
    """Parquet parts and manifest.json, as `freshet training-set` writes them."""
    folder.mkdir(parents=True, exist_ok=True)
    types = {"event_id": "VARCHAR", "card_id": "VARCHAR", "as_of_ms": "BIGINT", "label": "DOUBLE"}
    types |= {feature["name"]: TYPES.get(feature["dtype"], "DOUBLE") for feature in features}
    lines = folder / ".rows.ndjson"
    names = list(values)
    rows = zip(*(values[name] for name in names))
    lines.write_text("".join(json.dumps(dict(zip(names, row))) + "\n" for row in rows))
    described = ", ".join(f"'{name}': '{types.get(name, LONG)}'" for name in names)
    count = len(values["as_of_ms"])
    with duckdb.connect() as connection:
        connection.execute(
            f"CREATE TABLE rows AS SELECT * FROM read_json('{lines}', format = 'newline_delimited', columns = {{{described}}})"
        )
        for part in range(parts):
            low, high = count * part // parts, count * (part + 1) // parts
            connection.execute(
                f"COPY (SELECT * FROM rows LIMIT {high - low} OFFSET {low}) TO '{folder / f'part-{part}.parquet'}' (FORMAT parquet)"
            )
    lines.unlink()
    (folder / "manifest.json").write_text(json.dumps(manifest_))


if __name__ == "__main__":
    target = Path(sys.argv[1])
    count, chosen = int(sys.argv[2]) if len(sys.argv) > 2 else 4_000, int(sys.argv[3]) if len(sys.argv) > 3 else 1
    plan_hash, wanted = fraud_features()
    made = columns(wanted, count, chosen)
    write(target, wanted, made, manifest(wanted, made, plan_hash=plan_hash))
