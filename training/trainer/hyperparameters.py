"""What a job may set. SageMaker hands over strings; names that are not here are refused, since a typo trains silently otherwise."""
from __future__ import annotations

import json
from dataclasses import dataclass, fields

from .refusal import Refusal


@dataclass(frozen=True)
class Hyperparameters:
    # What the training set has to be of; empty accepts any.
    service: str = ""
    plan_hash: str = ""
    tenant: str = ""
    # Lineage, written to the manifest as it is.
    model_name: str = ""
    git_commit: str = ""
    created_ms: int = 0
    # Time-ordered slices: shares of the rows; the gap before the test slice is the label delay unless set (>= 0).
    valid_share: float = 0.15
    calibration_share: float = 0.15
    test_share: float = 0.2
    gap_ms: int = -1
    min_rows: int = 500
    # LightGBM
    num_trees: int = 300
    num_leaves: int = 15
    learning_rate: float = 0.05
    min_data_in_leaf: int = 40
    feature_fraction: float = 0.8
    bagging_fraction: float = 0.8
    lambda_l2: float = 5.0
    max_bin: int = 255
    early_stopping_rounds: int = 40
    # auto: binary_logloss, or average_precision when classes are weighed (weights shift every probability).
    early_stopping_metric: str = "auto"
    class_weight: str = "none"
    max_categories: int = 200
    num_threads: int = 0
    seed: int = 7
    # Key whose cards are counted in card precision@100.
    card_key: str = "card_id"
    golden_rows: int = 64
    checkpoint_every: int = 20


# (name, smallest, largest), both allowed.
RANGES = [
    ("valid_share", 0.01, 0.5),
    ("calibration_share", 0.01, 0.5),
    ("test_share", 0.01, 0.8),
    ("num_trees", 1, 5_000),
    ("num_leaves", 2, 4_096),
    ("learning_rate", 1e-6, 1),
    ("min_data_in_leaf", 1, 1_000_000),
    ("feature_fraction", 0.01, 1),
    ("bagging_fraction", 0.01, 1),
    ("lambda_l2", 0, 1e9),
    ("max_bin", 2, 65_535),
    ("early_stopping_rounds", 1, 5_000),
    ("max_categories", 1, 20_000),
    ("golden_rows", 50, 1_000),
    ("min_rows", 10, 10**9),
    ("checkpoint_every", 1, 5_000),
    ("num_threads", 0, 1_024),
    # LightGBM keeps it in 32 bits, numpy takes none below 0.
    ("seed", 0, 2**31 - 1),
    # -1 is the label delay; ten years.
    ("gap_ms", -1, 10 * 366 * 86_400_000),
    ("created_ms", 0, 10**14),
]
CHOICES = {"class_weight": ("none", "balanced"), "early_stopping_metric": ("auto", "binary_logloss", "average_precision", "auc")}


def parse(given: dict[str, str]) -> Hyperparameters:
    """Raises Refusal `hyperparameter_unknown` or `hyperparameter_invalid`."""
    types = {field.name: type(field.default) for field in fields(Hyperparameters)}
    values = {}
    for name, text in given.items():
        if name.startswith("sagemaker_"):  # SageMaker's SDK adds its own
            continue
        if name not in types:
            raise Refusal("hyperparameter_unknown", f"no hyperparameter {name}", f"use {', '.join(types)}")
        values[name] = _value(name, text, types[name])
    chosen = Hyperparameters(**values)
    for name, low, high in RANGES:
        value = getattr(chosen, name)
        if not low <= value <= high:
            _invalid(name, value, f"use {low} to {high}")
    for name, allowed in CHOICES.items():
        if getattr(chosen, name) not in allowed:
            _invalid(name, getattr(chosen, name), f"use {' or '.join(allowed)}")
    if chosen.valid_share + chosen.calibration_share + chosen.test_share > 0.9:
        _invalid("test_share", chosen.test_share, "leave at least 0.1 of the rows for training")
    return chosen


def _value(name: str, text: str, kind: type):
    try:
        decoded = json.loads(text)  # the SDK writes strings as JSON: "\"none\""
    except ValueError:
        decoded = text
    try:
        if kind is str:
            return decoded if isinstance(decoded, str) else text
        # true would be 1.
        if isinstance(decoded, bool):
            raise ValueError
        number = float(decoded)
        if kind is int and number != int(number):
            raise ValueError
        return kind(number)
    except (TypeError, ValueError, OverflowError):
        _invalid(name, text, "use a whole number" if kind is int else "use a number")


def _invalid(name: str, value, repair: str):
    raise Refusal("hyperparameter_invalid", f"{name} is {value}", repair)
