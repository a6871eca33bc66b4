"""Which features the model leans on."""
from __future__ import annotations

import numpy as np


def importance(booster, iterations: int, x: np.ndarray, names: list[str], a: float) -> list[dict]:
    """Mean absolute contribution to the raw score (exact TreeSHAP, in log-odds) over `x`, and LightGBM's gain; greatest first."""
    contributions = booster.predict(x, pred_contrib=True, num_iteration=iterations)[:, :-1]
    mean = np.abs(a * contributions).mean(axis=0)
    gain = booster.feature_importance("gain", iteration=iterations)
    order = np.argsort(-mean, kind="stable")
    return [{"feature": names[i], "mean_abs_contribution": float(mean[i]), "gain": float(gain[i])} for i in order]
