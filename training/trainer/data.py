"""The training set: Parquet files and their manifest, as `freshet training-set` writes them, to numpy."""
from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import duckdb
import numpy as np

from .hyperparameters import Hyperparameters
from .refusal import Refusal

DTYPES = ("double", "int64", "string", "boolean")
# What DuckDB calls the columns that each dtype may be stored as. A feature that is null in every row may have any type.
STORED = {
    "double": ("DOUBLE", "FLOAT", "BIGINT", "INTEGER", "SMALLINT", "TINYINT", "DECIMAL"),
    "int64": ("BIGINT", "INTEGER", "SMALLINT", "TINYINT", "HUGEINT", "UBIGINT", "UINTEGER", "DOUBLE"),
    "string": ("VARCHAR",),
    "boolean": ("BOOLEAN",),
}


@dataclass(frozen=True)
class Feature:
    name: str
    dtype: str


@dataclass
class TrainingSet:
    """Rows in order of time. `columns[i]` belongs to `features[i]`: float64 with NaN for null, or str | None for strings."""

    manifest: dict
    features: list[Feature]
    columns: list[np.ndarray]
    as_of_ms: np.ndarray
    label: np.ndarray
    cards: np.ndarray | None
    unlabelled: int


def read_manifest(folder: Path, wanted: Hyperparameters) -> dict:
    """Raises Refusal when there is none, or it is that of another service, plan or tenant."""
    path = folder / "manifest.json"
    try:
        manifest = json.loads(path.read_text("utf-8"))
    except FileNotFoundError as error:
        found = ", ".join(sorted(entry.name for entry in folder.iterdir())[:5]) or "nothing"
        raise Refusal(
            "manifest_missing", f"the training set has no manifest.json (found: {found})", "build it with `freshet training-set`"
        ) from error
    except ValueError as error:
        raise Refusal("manifest_invalid", f"manifest.json is not JSON ({error})", "build the training set again") from error
    if not isinstance(manifest, dict) or manifest.get("version") != 1:
        raise Refusal("manifest_invalid", "manifest.json is not of version 1", "build the training set again")
    for name in ("service", "plan_hash", "label_delay_ms", "features"):
        if name not in manifest:
            raise Refusal("manifest_invalid", f"manifest.json has no {name}", "build the training set again")
    for name in ("service", "plan_hash"):
        expected = getattr(wanted, name)
        if expected and manifest[name] != expected:
            raise Refusal(
                f"{name}_mismatch",
                f"the training set is of {name} {manifest[name]}, training was asked for {expected}",
                "build the training set again from the present definitions",
            )
    # A set that was not made from an archive names no tenant: it is nobody's.
    owner = manifest.get("tenant")
    if wanted.tenant and owner is not None and owner != wanted.tenant:
        raise Refusal(
            "tenant_mismatch",
            f"the training set is of tenant {owner}, training was asked for {wanted.tenant}",
            "train for the tenant that it is of, or on a set of this tenant",
        )
    return manifest


def read_features(manifest: dict) -> list[Feature]:
    features = [Feature(str(given.get("name")), str(given.get("dtype"))) for given in manifest["features"]]
    if not features:
        raise Refusal("no_features", "the manifest names no feature", "build the training set again")
    for feature in features:
        if feature.dtype not in DTYPES:
            raise Refusal("dtype_unknown", f"feature {feature.name} has dtype {feature.dtype}", f"use {', '.join(DTYPES)}")
    names = [feature.name for feature in features]
    for name in sorted(set(names)):
        if names.count(name) > 1:
            raise Refusal("feature_repeated", f"the manifest names {name} twice", "build the training set again")
    return features


def read_training_set(folder: Path, wanted: Hyperparameters) -> TrainingSet:
    """Raises Refusal for everything that is wrong with the files, naming the file or column."""
    manifest = read_manifest(folder, wanted)
    features = read_features(manifest)
    files = sorted(str(path) for path in folder.rglob("*.parquet"))
    if not files:
        raise Refusal("no_rows", "the training set has no Parquet file", "build it with `freshet training-set`")
    with duckdb.connect(":memory:") as connection:
        connection.execute("SET enable_progress_bar = false")
        stored = _columns(connection, files)
        _check_columns(features, stored)
        card = wanted.card_key if wanted.card_key in stored else None
        wanted_columns = [_select(feature, index) for index, feature in enumerate(features)]
        if card is not None:
            wanted_columns.append(f"CAST({_quoted(card)} AS VARCHAR) AS card")
        # A stable order: equal instants must fall alike in two runs, or two models differ. Rows without ids stay as they lie.
        order = f"as_of_ms{', event_id' if 'event_id' in stored else ''}, \"row as it lies\""
        sql = (
            f"SELECT CAST(as_of_ms AS BIGINT) AS as_of_ms, CAST(label AS DOUBLE) AS label, {', '.join(wanted_columns)}"
            f' FROM (SELECT *, row_number() OVER () AS "row as it lies" FROM read_parquet(?)) ORDER BY {order}'
        )
        rows = _run(connection, sql, files)
    declared = manifest.get("row_count")
    if declared is not None and int(declared) != len(rows["label"]):
        raise Refusal(
            "row_count", f"the manifest counts {declared} rows, the files hold {len(rows['label'])}", "build the training set again"
        )
    return _assemble(manifest, features, rows, card is not None)


def _assemble(manifest: dict, features: list[Feature], rows: dict, has_cards: bool) -> TrainingSet:
    as_of, label = rows["as_of_ms"], _floats(rows["label"])
    if np.ma.isMaskedArray(as_of) and as_of.mask.any():
        raise Refusal("time_missing", f"{int(as_of.mask.sum())} rows have no as_of_ms", "build the training set again")
    known = ~np.isnan(label)
    strange = known & (label != 0) & (label != 1)
    if strange.any():
        raise Refusal("label_invalid", f"a label is {label[strange][0]:g}", "labels are 0 and 1, or null when unknown")
    columns = [
        (_strings(rows[f"f{index}"]) if feature.dtype == "string" else _floats(rows[f"f{index}"]))[known]
        for index, feature in enumerate(features)
    ]
    return TrainingSet(
        manifest=manifest,
        features=features,
        columns=columns,
        as_of_ms=np.asarray(as_of, dtype=np.int64)[known],
        label=label[known],
        cards=_strings(rows["card"])[known] if has_cards else None,
        unlabelled=int((~known).sum()),
    )


def _columns(connection, files: list[str]) -> dict[str, str]:
    described = _run_rows(connection, "DESCRIBE SELECT * FROM read_parquet(?, union_by_name = false)", files)
    return {str(row[0]): str(row[1]) for row in described}


def _check_columns(features: list[Feature], stored: dict[str, str]) -> None:
    for name in ("as_of_ms", "label", *(feature.name for feature in features)):
        if name not in stored:
            some = ", ".join(sorted(stored)[:8])
            raise Refusal("column_missing", f"the training set has no column {name} (found: {some}, ...)", "build it again")
    for feature in features:
        kind = stored[feature.name].split("(")[0]
        if kind not in STORED[feature.dtype] and kind not in ('"NULL"', "NULL"):
            raise Refusal(
                "column_type", f"column {feature.name} is {kind}, the manifest says {feature.dtype}", "build the training set again"
            )


def _select(feature: Feature, index: int) -> str:
    kind = "VARCHAR" if feature.dtype == "string" else "DOUBLE"
    return f"CAST({_quoted(feature.name)} AS {kind}) AS f{index}"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _run(connection, sql: str, files: list[str]) -> dict:
    try:
        return connection.execute(sql, [files]).fetchnumpy()
    except duckdb.Error as error:
        raise _file_refusal(connection, files, error) from error


def _run_rows(connection, sql: str, files: list[str]) -> list:
    try:
        return connection.execute(sql, [files]).fetchall()
    except duckdb.Error as error:
        raise _file_refusal(connection, files, error) from error


def _file_refusal(connection, files: list[str], error: Exception) -> Refusal:
    """Which file it is, since DuckDB does not always say."""
    for path in files:
        try:
            connection.execute("SELECT sum(hash(COLUMNS(*))) FROM read_parquet(?)", [[path]]).fetchall()
        except duckdb.Error as cause:
            first = str(cause).splitlines()[0]
            return Refusal("parquet_invalid", f"{Path(path).name} cannot be read ({first})", "build the training set again")
    return Refusal("parquet_invalid", f"the files do not fit together ({str(error).splitlines()[0]})", "build the training set again")


def _floats(values) -> np.ndarray:
    return np.ma.filled(np.ma.asarray(values, dtype=np.float64), np.nan)


def _strings(values) -> np.ndarray:
    # Not with np.ma.filled: told to fill with None, it takes numpy's own filler, which for objects is "?".
    masked = np.ma.asarray(values, dtype=object)
    strings = np.array(masked.data, dtype=object)
    strings[np.ma.getmaskarray(masked)] = None
    return strings
