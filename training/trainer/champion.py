"""How the model that stands does on the rows that this job tests on: the gate then compares both on the same rows.

The artefact comes in a channel of its own, which may be missing. A champion that cannot be measured keeps no model from being
trained: the gate falls back to what each model's own test slice said.
"""
from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np

from .data import Feature, TrainingSet
from .encode import Encoder
from .split import Split
from .trees import MEMBER, Trees

CHANNEL = "champion"


class Unmeasurable(Exception):
    """Says why, as the end of a sentence."""


def champion_scores(folder: Path, data: TrainingSet, split: Split) -> tuple[str, np.ndarray]:
    """(SHA-256 of the champion's manifest, calibrated raw scores of the test slice). Raises Unmeasurable."""
    try:
        text = (folder / "manifest.json").read_bytes()
        manifest, sidecar = json.loads(text), (folder / "trees.json").read_bytes()
        if hashlib.sha256(sidecar).hexdigest() != manifest["files"]["trees.json"]:
            raise Unmeasurable("its trees.json is not the one that its manifest names")
        _check_unseen(manifest.get("fitted", {}).get("to_ms"), int(data.as_of_ms[split.rows("test")][0]))
        columns, encoder = _inputs(manifest["features"], data, split)
        trees, a, b = _read_trees(json.loads(sidecar))
        raw = a * trees.score(encoder.encode(columns)) + b
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise Unmeasurable(f"its artefact cannot be read ({type(error).__name__})") from error
    if not np.isfinite(raw).all():
        raise Unmeasurable("not all of its scores are numbers")
    return hashlib.sha256(text).hexdigest(), raw


def _check_unseen(fitted_to_ms: int | None, test_from_ms: int) -> None:
    """What a model was fitted on, it knows: measured there it would look better than it is."""
    if fitted_to_ms is None:
        raise Unmeasurable("its manifest does not say up to when its rows were")
    if fitted_to_ms >= test_from_ms:
        raise Unmeasurable("it was fitted on rows that this job tests on")


def _inputs(features: list[dict], data: TrainingSet, split: Split) -> tuple[list[np.ndarray], Encoder]:
    given = {feature: column for feature, column in zip(data.features, data.columns)}
    wanted = [Feature(one["name"], one["dtype"]) for one in features]
    for feature in wanted:
        if feature not in given:
            raise Unmeasurable(f"the training set has no {feature.name} of dtype {feature.dtype}")
    categories = {index: one["categories"] for index, one in enumerate(features) if one["dtype"] == "string"}
    return [given[feature][split.rows("test")] for feature in wanted], Encoder(wanted, categories)


def _read_trees(sidecar: dict) -> tuple[Trees, float, float]:
    """The inverse of `explain.sidecar`."""
    nodes, leaves, calibration = sidecar["nodes"], sidecar["leaves"], sidecar["calibration"]
    kind = np.array(nodes["kind"], dtype=np.int64)
    members = [np.empty(0)] * len(kind)
    for node, codes in zip(np.flatnonzero(kind == MEMBER), sidecar["members"]):
        members[node] = np.array(codes, dtype=np.float64)
    whole = {name: np.array(nodes[name], dtype=np.int64) for name in ("feature", "true", "false")}
    trees = Trees(
        roots=np.array(sidecar["roots"], dtype=np.int64),
        kind=kind,
        # A null is NaN.
        threshold=np.array(nodes["threshold"], dtype=np.float64),
        nan_true=np.array(nodes["nan_true"], dtype=bool),
        **whole,
        cover=np.array(nodes["cover"], dtype=np.float64),
        members=members,
        value=np.array(leaves["value"], dtype=np.float64),
        leaf_cover=np.array(leaves["cover"], dtype=np.float64),
    )
    return trees, float(calibration["a"]), float(calibration["b"])
