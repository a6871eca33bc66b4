"""LightGBM's trees as flat arrays: what the ONNX exporter writes, what explanations read, and a walk that proves both.

Children are node indices; a leaf is written as ~leaf (negative). A tree without a split has a leaf for its root.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .refusal import Refusal

NUMERIC, MEMBER = 0, 1


@dataclass(frozen=True)
class Trees:
    roots: np.ndarray  # [T] node, or ~leaf
    feature: np.ndarray  # [M]
    kind: np.ndarray  # [M] NUMERIC: true iff x <= threshold; MEMBER: true iff x is one of members
    threshold: np.ndarray  # [M] float64, may be infinite; NaN for MEMBER
    nan_true: np.ndarray  # [M] bool: where NaN goes
    true: np.ndarray  # [M] child
    false: np.ndarray  # [M] child
    cover: np.ndarray  # [M] training rows
    members: list[np.ndarray]  # [M], empty for NUMERIC
    value: np.ndarray  # [L]
    leaf_cover: np.ndarray  # [L]

    def score(self, x: np.ndarray) -> np.ndarray:
        """[N, F] -> [N]: sum over the trees in order, as LightGBM adds them."""
        total = np.zeros(len(x))
        for root in self.roots:
            total += self.value[self._leaves(int(root), x)]
        return total

    def _leaves(self, root: int, x: np.ndarray) -> np.ndarray:
        at = np.full(len(x), root, dtype=np.int64)
        active = np.flatnonzero(at >= 0)
        while len(active):
            node = at[active]
            value = x[active, self.feature[node]]
            goes = value <= self.threshold[node]
            for one in np.unique(node[self.kind[node] == MEMBER]):
                here = node == one
                goes[here] = np.isin(value[here], self.members[one])
            goes = np.where(np.isnan(value), self.nan_true[node], goes)
            at[active] = np.where(goes, self.true[node], self.false[node])
            active = active[at[active] >= 0]
        return ~at


# Bits of decision_type in LightGBM's model text.
CATEGORICAL, DEFAULT_LEFT = 1, 2
MISSING = {0: "None", 1: "Zero", 2: "NaN"}


def flatten(booster, iterations: int) -> Trees:
    """The first `iterations` trees of a LightGBM booster. Raises Refusal for what ONNX cannot represent.

    Reads the model's text, not dump_model(): that writes every threshold beyond 1e300, infinite or not, as 1e300.
    """
    parts: dict[str, list] = {name: [] for name in ("feature", "kind", "threshold", "nan_true", "true", "false", "cover")}
    members, values, leaf_covers, roots = [], [], [], []
    for tree in _trees_of(booster.model_to_string(num_iteration=iterations)):
        nodes, leaves = len(parts["feature"]), len(values)
        value = _numbers(tree, "leaf_value")
        values.extend(value)
        leaf_covers.extend(_numbers(tree, "leaf_count") or [0.0] * len(value))
        splits = int(tree["num_leaves"]) - 1
        roots.append(nodes if splits else ~leaves)
        if not splits:
            continue

        def moved(child: float) -> int:
            return int(child) + nodes if child >= 0 else ~(int(~int(child)) + leaves)

        decisions = [int(bits) for bits in _numbers(tree, "decision_type")]
        for node, (bits, threshold) in enumerate(zip(decisions, _numbers(tree, "threshold"))):
            kind, threshold, nan_true, codes = _decision(tree, bits, threshold)
            parts["kind"].append(kind)
            parts["threshold"].append(threshold)
            parts["nan_true"].append(nan_true)
            members.append(codes)
        parts["feature"].extend(int(feature) for feature in _numbers(tree, "split_feature"))
        parts["true"].extend(moved(child) for child in _numbers(tree, "left_child"))
        parts["false"].extend(moved(child) for child in _numbers(tree, "right_child"))
        parts["cover"].extend(_numbers(tree, "internal_count"))
    kinds = {"threshold": np.float64, "cover": np.float64, "nan_true": bool}
    arrays = {name: np.array(part, dtype=kinds.get(name, np.int64)) for name, part in parts.items()}
    return Trees(
        roots=np.array(roots, dtype=np.int64),
        **arrays,
        members=members,
        value=np.array(values, dtype=np.float64),
        leaf_cover=np.array(leaf_covers, dtype=np.float64),
    )


def _trees_of(text: str) -> list[dict[str, str]]:
    """The `name=value` lines of each block that starts with `Tree=`."""
    body = text.split("\nend of trees", 1)[0]
    blocks = body.split("\nTree=")[1:]
    return [dict(line.split("=", 1) for line in block.splitlines()[1:] if "=" in line) for block in blocks]


def _numbers(tree: dict[str, str], name: str) -> list[float]:
    return [float(word) for word in tree.get(name, "").split()]


def _decision(tree: dict[str, str], bits: int, threshold: float) -> tuple[int, float, bool, np.ndarray]:
    """(kind, threshold, where NaN goes, members) of one node."""
    if bits & CATEGORICAL:
        # The threshold numbers a set of categories; sets are bits of 32-bit words. NaN always goes to the right.
        bounds, words = _numbers(tree, "cat_boundaries"), _numbers(tree, "cat_threshold")
        first, last = int(bounds[int(threshold)]), int(bounds[int(threshold) + 1])
        codes = [32 * at + bit for at, word in enumerate(words[first:last]) for bit in range(32) if int(word) >> bit & 1]
        return MEMBER, np.nan, False, np.array(codes, dtype=np.float64)
    missing = MISSING.get(bits >> 2 & 3)
    if missing == "NaN":
        return NUMERIC, threshold, bool(bits & DEFAULT_LEFT), np.empty(0)
    if missing == "None":
        # NaN is then read as 0.
        return NUMERIC, threshold, bool(0.0 <= threshold), np.empty(0)
    raise Refusal("missing_type", f"a tree treats {missing} as missing, which ONNX cannot say", "unset zero_as_missing")
