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
            for row in np.flatnonzero(self.kind[node] == MEMBER):
                goes[row] = value[row] in self.members[node[row]]
            goes = np.where(np.isnan(value), self.nan_true[node], goes)
            at[active] = np.where(goes, self.true[node], self.false[node])
            active = active[at[active] >= 0]
        return ~at


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[tuple] = []
        self.members: list[np.ndarray] = []
        self.leaves: list[tuple[float, float]] = []

    def add(self, given: dict) -> int:
        if "split_feature" not in given:
            self.leaves.append((float(given["leaf_value"]), float(given.get("leaf_count", 0))))
            return ~(len(self.leaves) - 1)
        index = len(self.nodes)
        self.nodes.append(())
        self.members.append(np.empty(0))
        kind, threshold, nan_true, members = _decision(given)
        true = self.add(given["left_child"])
        false = self.add(given["right_child"])
        self.nodes[index] = (int(given["split_feature"]), kind, threshold, nan_true, true, false, float(given["internal_count"]))
        self.members[index] = members
        return index


def _decision(given: dict) -> tuple[int, float, bool, np.ndarray]:
    if given["decision_type"] == "==":
        members = np.array([float(code) for code in str(given["threshold"]).split("||")])
        # Of a category LightGBM sends NaN to the right, always.
        return MEMBER, np.nan, False, members
    if given["decision_type"] != "<=":
        raise Refusal("split_unknown", f"a tree splits by {given['decision_type']}", "this exporter knows <= and ==")
    threshold = float(given["threshold"])
    if abs(threshold) >= 1e300:
        # dump_model writes +-inf as +-1e300.
        threshold = np.inf if threshold > 0 else -np.inf
    missing = given["missing_type"]
    if missing == "NaN":
        return NUMERIC, threshold, bool(given["default_left"]), np.empty(0)
    if missing == "None":
        # NaN is then read as 0.
        return NUMERIC, threshold, bool(0.0 <= threshold), np.empty(0)
    raise Refusal("missing_type", f"a tree treats {missing} as missing, which ONNX cannot say", "unset zero_as_missing")


def flatten(booster, iterations: int) -> Trees:
    """The first `iterations` trees of a LightGBM booster. Raises Refusal for what ONNX cannot represent."""
    builder = _Builder()
    dumped = booster.dump_model(num_iteration=iterations)
    roots = [builder.add(tree["tree_structure"]) for tree in dumped["tree_info"]]
    columns = list(zip(*builder.nodes)) if builder.nodes else [()] * 7
    feature, kind, threshold, nan_true, true, false, cover = columns
    value, leaf_cover = zip(*builder.leaves)
    return Trees(
        roots=np.array(roots, dtype=np.int64),
        feature=np.array(feature, dtype=np.int64),
        kind=np.array(kind, dtype=np.int64),
        threshold=np.array(threshold, dtype=np.float64),
        nan_true=np.array(nan_true, dtype=bool),
        true=np.array(true, dtype=np.int64),
        false=np.array(false, dtype=np.int64),
        cover=np.array(cover, dtype=np.float64),
        members=builder.members,
        value=np.array(value, dtype=np.float64),
        leaf_cover=np.array(leaf_cover, dtype=np.float64),
    )
