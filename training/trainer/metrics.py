"""Measures of a ranking and of probabilities, in numpy. Labels are 0 and 1; a greater score means more likely 1.

Equal scores are one threshold: no measure depends on the order of rows.
"""
from __future__ import annotations

import numpy as np

DAY_MS = 86_400_000


def thresholds(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(score, true positives, false positives) at each distinct score, from the greatest: rows with at least that score."""
    order = np.argsort(-score, kind="stable")
    score, label = score[order], label[order]
    ends = np.append(np.flatnonzero(np.diff(score)), len(score) - 1)
    true = np.cumsum(label)[ends]
    return score[ends], true, ends + 1 - true


def roc_curve(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(false positive rate, true positive rate), from (0, 0) to (1, 1)."""
    _, true, false = thresholds(label, score)
    return np.append(0, false / false[-1]), np.append(0, true / true[-1])


def pr_curve(label: np.ndarray, score: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(recall, precision) at each distinct score."""
    _, true, false = thresholds(label, score)
    return true / true[-1], true / (true + false)


def roc_auc(label: np.ndarray, score: np.ndarray) -> float:
    fpr, tpr = roc_curve(label, score)
    return float(np.sum(np.diff(fpr) * (tpr[1:] + tpr[:-1]) / 2))


def pr_auc(label: np.ndarray, score: np.ndarray) -> float:
    """Average precision: the sum of precision times the step of recall. No interpolation, which would flatter."""
    recall, precision = pr_curve(label, score)
    return float(np.sum(np.diff(np.append(0, recall)) * precision))


def recall_at_fpr(label: np.ndarray, score: np.ndarray, most: float = 0.01) -> float:
    """The greatest recall of a threshold whose false positive rate is at most `most`; 0 when no threshold is that strict."""
    fpr, tpr = roc_curve(label, score)
    return float(tpr[fpr <= most].max())


def card_precision(as_of_ms: np.ndarray, cards: np.ndarray, label: np.ndarray, score: np.ndarray, top: int = 100) -> float:
    """What a team that calls `top` cards a day finds: for each day, the share of compromised ones (a label 1 that day) among
    the cards with the greatest scores; then the mean over days. Days with fewer cards count all of them. Cards without a
    key are left out; equal scores are taken in order of the card's name."""
    shares = []
    days = as_of_ms // DAY_MS
    for day in np.unique(days):
        best: dict[str, tuple[float, float]] = {}
        for row in np.flatnonzero(days == day):
            card = cards[row]
            if card is None:
                continue
            before = best.get(card, (-np.inf, 0.0))
            best[card] = (max(before[0], score[row]), max(before[1], label[row]))
        ranked = sorted(best.items(), key=lambda item: (-item[1][0], item[0]))[:top]
        if ranked:
            shares.append(sum(compromised for _, (_, compromised) in ranked) / len(ranked))
    return float(np.mean(shares)) if shares else float("nan")


def log_loss(label: np.ndarray, probability: np.ndarray) -> float:
    p = np.clip(probability, 1e-15, 1 - 1e-15)
    return float(-np.mean(label * np.log(p) + (1 - label) * np.log1p(-p)))


def brier(label: np.ndarray, probability: np.ndarray) -> float:
    return float(np.mean((probability - label) ** 2))


def calibration_table(label: np.ndarray, probability: np.ndarray, bins: int = 10) -> list[dict]:
    """Rows in order of probability, cut into parts of equal size: mean probability beside the share of ones."""
    order = np.argsort(probability, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    return [
        {
            "from": float(probability[part[0]]),
            "to": float(probability[part[-1]]),
            "rows": len(part),
            "mean_probability": float(probability[part].mean()),
            "share_positive": float(label[part].mean()),
        }
        for part in parts
    ]


def summary(label: np.ndarray, raw: np.ndarray, probability: np.ndarray) -> dict[str, float]:
    """Ranked by the raw score: far out, probabilities of different scores are equal numbers."""
    return {
        "pr_auc": pr_auc(label, raw),
        "roc_auc": roc_auc(label, raw),
        "recall_at_fpr_1pct": recall_at_fpr(label, raw),
        "log_loss": log_loss(label, probability),
        "brier": brier(label, probability),
        "base_rate": float(label.mean()),
    }
