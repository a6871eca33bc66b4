"""LightGBM, one tree at a time, so that a job can be stopped after any of them, and continued from a checkpoint."""
from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

import lightgbm
import numpy as np

from .contract import Stop, say, write_file
from .hyperparameters import Hyperparameters
from .refusal import Refusal

HIGHER_IS_BETTER = {"binary_logloss": False, "auc": True, "average_precision": True}


@dataclass
class Fit:
    booster: lightgbm.Booster
    # Trees to use: those up to the best score on the valid slice.
    iterations: int
    trained: int
    stopped: bool


@dataclass
class _Progress:
    best: float | None = None
    best_iteration: int = 0

    def see(self, iteration: int, score: float, higher: bool) -> None:
        if self.best is None or (score > self.best if higher else score < self.best):
            self.best, self.best_iteration = score, iteration


def parameters(wanted: Hyperparameters, label: np.ndarray) -> dict:
    positives = float(label.sum())
    weight = (len(label) - positives) / positives if wanted.class_weight == "balanced" else 1.0
    return {
        "objective": "binary",
        "metric": stopping_metric(wanted),
        "num_leaves": wanted.num_leaves,
        "learning_rate": wanted.learning_rate,
        "min_data_in_leaf": wanted.min_data_in_leaf,
        "feature_fraction": wanted.feature_fraction,
        "bagging_fraction": wanted.bagging_fraction,
        "bagging_freq": 1,
        "lambda_l2": wanted.lambda_l2,
        "max_bin": wanted.max_bin,
        "scale_pos_weight": weight,
        "seed": wanted.seed,
        "num_threads": wanted.num_threads or _threads(len(label)),
        # The same rows give the same model on every machine.
        "deterministic": True,
        "force_row_wise": True,
        "verbosity": -1,
    }


def stopping_metric(wanted: Hyperparameters) -> str:
    """Weighed positives make log loss on unweighed rows worse from the first tree on, and would end training there."""
    if wanted.early_stopping_metric != "auto":
        return wanted.early_stopping_metric
    return "average_precision" if wanted.class_weight == "balanced" else "binary_logloss"


def _threads(rows: int) -> int:
    """Threads wait for each other at every split: on two busy cores, 200,000 rows took two threads 57 s and one 9 s."""
    return max(1, min(os.cpu_count() or 1, rows // 200_000))


def fit(
    train: tuple[np.ndarray, np.ndarray],
    valid: tuple[np.ndarray, np.ndarray],
    categorical: list[int],
    wanted: Hyperparameters,
    stop: Stop,
    checkpoints: Path | None,
) -> Fit:
    """Raises Refusal `stopped_early` when told to stop before the first tree."""
    settings = parameters(wanted, train[1])
    fingerprint = _fingerprint(train, wanted)
    before, progress = _resume(checkpoints, fingerprint)
    data = lightgbm.Dataset(train[0], train[1], categorical_feature=categorical, params=settings)
    check = lightgbm.Dataset(valid[0], valid[1], reference=data)
    metric = stopping_metric(wanted)
    higher = HIGHER_IS_BETTER[metric]

    def after_tree(state: lightgbm.callback.CallbackEnv) -> None:
        done, score = state.iteration + 1, float(state.evaluation_result_list[0][2])
        progress.see(done, score, higher)
        if done % 10 == 0 or done == 1:
            say(f"[progress] trees={done}; of={wanted.num_trees}; {metric}={score:.9g};")
        if checkpoints is not None and done % wanted.checkpoint_every == 0:
            _save(checkpoints, state.model, progress, fingerprint)
        if stop.asked or done - progress.best_iteration >= wanted.early_stopping_rounds:
            raise lightgbm.EarlyStopException(state.iteration, state.evaluation_result_list)

    done = before.num_trees() if before is not None else 0
    booster = before
    if done < wanted.num_trees and not stop.asked:
        booster = lightgbm.train(
            settings,
            data,
            num_boost_round=wanted.num_trees - done,
            valid_sets=[check],
            valid_names=["valid"],
            init_model=before,
            keep_training_booster=True,
            callbacks=[after_tree],
        )
    if booster is None:
        raise Refusal("stopped_early", "the job was told to stop before its first tree", "start it again")
    if checkpoints is not None:
        _save(checkpoints, booster, progress, fingerprint)
    return Fit(booster, progress.best_iteration or booster.num_trees(), booster.num_trees(), stop.asked)


def _fingerprint(train: tuple[np.ndarray, np.ndarray], wanted: Hyperparameters) -> str:
    """A checkpoint of other rows or settings must not be continued."""
    lineage = {"git_commit": "", "created_ms": 0, "num_trees": 0}
    digest = hashlib.sha256(json.dumps({**asdict(wanted), **lineage}, sort_keys=True).encode())
    digest.update(np.ascontiguousarray(train[0]).tobytes())
    digest.update(np.ascontiguousarray(train[1]).tobytes())
    return digest.hexdigest()


def _save(folder: Path, booster: lightgbm.Booster, progress: _Progress, fingerprint: str) -> None:
    state = {"fingerprint": fingerprint, **asdict(progress), "model": booster.model_to_string(num_iteration=-1)}
    write_file(folder / "checkpoint.json", json.dumps(state).encode())


def _resume(folder: Path | None, fingerprint: str) -> tuple[lightgbm.Booster | None, _Progress]:
    if folder is None or not (folder / "checkpoint.json").is_file():
        return None, _Progress()
    try:
        state = json.loads((folder / "checkpoint.json").read_text("utf-8"))
        if state["fingerprint"] != fingerprint:
            say("checkpoint is of other rows or settings: training starts anew")
            return None, _Progress()
        booster = lightgbm.Booster(model_str=state["model"])
        say(f"resumed at tree {booster.num_trees()}")
        return booster, _Progress(state["best"], state["best_iteration"])
    except (ValueError, KeyError, lightgbm.basic.LightGBMError) as error:
        say(f"checkpoint cannot be read ({error}): training starts anew")
        return None, _Progress()
