"""Slices in order of time: train, valid (early stopping), calibration (Platt), then a gap, then test.

The gap is the label delay: a model that is trained at instant T knows labels only of what happened before T - delay, and is
used from T on. So the test slice starts a delay after the last row that anything was fitted on. Between the fitted slices
there is no gap; they are all known at T.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .hyperparameters import Hyperparameters
from .refusal import Refusal

SLICES = ("train", "valid", "calibration", "test")


@dataclass(frozen=True)
class Split:
    # Row ranges [start, end) in order of time, by slice; what is between calibration and test is the gap.
    ranges: dict[str, tuple[int, int]]
    gap_ms: int
    gap_rows: int

    def rows(self, name: str) -> slice:
        return slice(*self.ranges[name])

    def count(self, name: str) -> int:
        start, end = self.ranges[name]
        return end - start


def split_by_time(as_of_ms: np.ndarray, label: np.ndarray, wanted: Hyperparameters, label_delay_ms: int) -> Split:
    """`as_of_ms` ascending. Rows of one instant stay together. Raises Refusal when a slice is empty or has one class."""
    rows = len(as_of_ms)
    if rows < wanted.min_rows:
        raise Refusal(
            "too_few_rows", f"{rows} labelled rows, at least {wanted.min_rows} are needed", "widen --from and --to, or set min_rows"
        )
    _both_classes("training set", label)
    gap_ms = wanted.gap_ms if wanted.gap_ms >= 0 else label_delay_ms
    test_start = _start_at(as_of_ms, 1 - wanted.test_share)
    fitted_end = int(np.searchsorted(as_of_ms, as_of_ms[test_start] - gap_ms, side="left"))
    fitted = as_of_ms[:fitted_end]
    share = 1 - wanted.test_share
    if fitted_end >= 4:
        calibration_start = _start_at(fitted, 1 - wanted.calibration_share / share)
        valid_start = _start_at(fitted, 1 - (wanted.calibration_share + wanted.valid_share) / share)
    else:
        calibration_start = valid_start = 0
    ranges = {
        "train": (0, valid_start),
        "valid": (valid_start, calibration_start),
        "calibration": (calibration_start, fitted_end),
        "test": (test_start, rows),
    }
    for name, (start, end) in ranges.items():
        if end <= start:
            days = (int(as_of_ms[-1]) - int(as_of_ms[0])) / 86_400_000
            raise Refusal(
                "slice_empty",
                f"no row is left for {name}: the rows span {days:.1f} days and the gap takes {gap_ms / 86_400_000:.1f} of them",
                "widen --from and --to, or set gap_ms",
            )
        _both_classes(f"{name} slice", label[start:end])
    return Split(ranges, gap_ms, test_start - fitted_end)


def _start_at(times: np.ndarray, share: float) -> int:
    """The first row of the instant that the row at `share` belongs to."""
    row = min(len(times) - 1, max(0, int(round(len(times) * share))))
    return int(np.searchsorted(times, times[row], side="left"))


def _both_classes(what: str, label: np.ndarray) -> None:
    positives = int(label.sum())
    if positives in (0, len(label)):
        found = "no positive" if positives == 0 else "no negative"
        raise Refusal("one_class", f"the {what} has {found} among {len(label)} rows", "widen --from and --to so that both occur")
