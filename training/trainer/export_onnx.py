"""Trees to ONNX: one double-precision ai.onnx.ml v5 TreeEnsemble, Platt's a and b, and the sigmoid.

Input `features` [N, F] double; outputs `raw` (after Platt, before the sigmoid) and `probability`, both [N, 1] double. Double
throughout, because a float32 threshold or input sends rows the other way; one ensemble with one target, because the merging of
equal subtrees in onnxruntime is only right for one.
"""
from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .trees import MEMBER, Trees

OPSET, ML_OPSET, IR_VERSION = 18, 5, 9
# nodes_modes of TreeEnsemble-5
BRANCH_LEQ, BRANCH_MEMBER = 0, 6
AGGREGATE_SUM, POST_NONE = 1, 0


def to_onnx(trees: Trees, feature_count: int, a: float, b: float, metadata: dict[str, str]) -> onnx.ModelProto:
    nodes = [
        helper.make_node("TreeEnsemble", ["features"], ["score"], name="trees", domain="ai.onnx.ml", **_ensemble(trees)),
        helper.make_node("Mul", ["score", "a"], ["scaled"], name="platt_a"),
        helper.make_node("Add", ["scaled", "b"], ["raw"], name="platt_b"),
        helper.make_node("Sigmoid", ["raw"], ["probability"], name="sigmoid"),
    ]
    graph = helper.make_graph(
        nodes,
        "freshet",
        [helper.make_tensor_value_info("features", TensorProto.DOUBLE, ["N", feature_count])],
        [helper.make_tensor_value_info(name, TensorProto.DOUBLE, ["N", 1]) for name in ("probability", "raw")],
        [numpy_helper.from_array(np.array([value], dtype=np.float64), name) for name, value in (("a", a), ("b", b))],
    )
    model = helper.make_model(
        graph,
        producer_name="freshet",
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid("ai.onnx.ml", ML_OPSET)],
        ir_version=IR_VERSION,
    )
    helper.set_model_props(model, metadata)
    onnx.checker.check_model(model)
    return model


def _ensemble(trees: Trees) -> dict:
    """Attributes of TreeEnsemble-5. A tree that is a single leaf becomes a node both sides of which are that leaf: the operator
    has no root that is a leaf."""
    feature, mode, split, nan_true = list(trees.feature), [], list(trees.threshold), list(trees.nan_true)
    true, false = list(trees.true), list(trees.false)
    mode = [BRANCH_MEMBER if kind == MEMBER else BRANCH_LEQ for kind in trees.kind]
    roots = []
    for root in trees.roots:
        if root < 0:
            for column, value in ((feature, 0), (mode, BRANCH_LEQ), (split, 0.0), (nan_true, True), (true, root), (false, root)):
                column.append(value)
            root = len(feature) - 1
        roots.append(int(root))
    members: list[float] = []
    for node in np.flatnonzero(trees.kind == MEMBER):
        # One run for each MEMBER node, in order of the nodes, ended by NaN.
        members.extend([*trees.members[node], np.nan])
    split = [0.0 if at == BRANCH_MEMBER else value for at, value in zip(mode, split)]
    attributes = {
        "aggregate_function": AGGREGATE_SUM,
        "post_transform": POST_NONE,
        "n_targets": 1,
        "tree_roots": roots,
        "nodes_featureids": [int(value) for value in feature],
        "nodes_modes": numpy_helper.from_array(np.array(mode, dtype=np.uint8), "nodes_modes"),
        "nodes_splits": numpy_helper.from_array(np.array(split, dtype=np.float64), "nodes_splits"),
        "nodes_missing_value_tracks_true": [int(value) for value in nan_true],
        "nodes_truenodeids": [_index(child) for child in true],
        "nodes_trueleafs": [int(child < 0) for child in true],
        "nodes_falsenodeids": [_index(child) for child in false],
        "nodes_falseleafs": [int(child < 0) for child in false],
        "leaf_targetids": [0] * len(trees.value),
        "leaf_weights": numpy_helper.from_array(trees.value, "leaf_weights"),
    }
    if members:
        attributes["membership_values"] = numpy_helper.from_array(np.array(members, dtype=np.float64), "membership_values")
    return attributes


def _index(child: int) -> int:
    return int(~child if child < 0 else child)
