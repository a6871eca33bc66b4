"""Platt scaling: p = sigmoid(a * score + b), fitted on rows that the trees have not seen. It stays in log-odds, so
contributions of features still add up to the raw score."""
from __future__ import annotations

import numpy as np


def sigmoid(x: np.ndarray) -> np.ndarray:
    out = np.empty_like(x)
    positive = x >= 0
    out[positive] = 1 / (1 + np.exp(-x[positive]))
    e = np.exp(x[~positive])
    out[~positive] = e / (1 + e)
    return out


def fit_platt(score: np.ndarray, label: np.ndarray, steps: int = 50) -> tuple[float, float]:
    """(a, b) by Newton's method with halved steps, towards Platt's smoothed targets (Platt 1999), which keep a and b finite
    when the score separates the classes. A score that is no better than chance (a <= 0) gives (0, log-odds of the base rate)."""
    positives = float(label.sum())
    negatives = len(label) - positives
    target = np.where(label == 1, (positives + 1) / (positives + 2), 1 / (negatives + 2))
    base = np.log(target.mean() / (1 - target.mean()))
    # Centred and scaled, so that one Newton step is well conditioned for any score.
    centre, scale = float(score.mean()), float(score.std())
    if scale == 0:
        return 0.0, float(base)
    x = np.column_stack([(score - centre) / scale, np.ones(len(score))])
    w = np.array([0.0, base])
    loss = _loss(x, w, target)
    for _ in range(steps):
        p = sigmoid(x @ w)
        gradient = x.T @ (p - target)
        hessian = (x * (p * (1 - p))[:, None]).T @ x + 1e-12 * np.eye(2)
        step = np.linalg.solve(hessian, gradient)
        size = 1.0
        while size > 1e-10 and _loss(x, w - size * step, target) > loss:
            size /= 2
        w = w - size * step
        before, loss = loss, _loss(x, w, target)
        if before - loss <= 1e-12 * abs(before):
            break
    a, b = w[0] / scale, w[1] - w[0] * centre / scale
    return (float(a), float(b)) if a > 0 else (0.0, float(base))


def _loss(x: np.ndarray, w: np.ndarray, target: np.ndarray) -> float:
    z = x @ w
    return float(np.sum(np.logaddexp(0, z) - target * z))
