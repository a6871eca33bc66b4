"""A feature vector as the model reads it. `core/` holds the same rules for serving; golden rows hold the two together.

double and int64 as they are; boolean 0 or 1; null NaN; a string its index in the feature's categories, -1 when it was not
seen in training; and |x| <= ZERO is 0, because LightGBM reads it so and ONNX does not.
"""
from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .data import Feature

# LightGBM's own constant is the float32 1e-35f; written out as a double it is also a threshold that trees split at.
ZERO = 1.0000000180025095e-35


@dataclass(frozen=True)
class Encoder:
    features: list[Feature]
    # By feature index; strings in code order.
    categories: dict[int, list[str]]

    @property
    def categorical(self) -> list[int]:
        return sorted(self.categories)

    def encode(self, columns: list[np.ndarray]) -> np.ndarray:
        """[N, F] float64, C-contiguous."""
        matrix = np.empty((len(columns[0]), len(columns)), dtype=np.float64)
        for index, column in enumerate(columns):
            matrix[:, index] = self._codes(index, column) if index in self.categories else column
        matrix[np.abs(matrix) <= ZERO] = 0.0
        return matrix

    def _codes(self, index: int, column: np.ndarray) -> list[float]:
        codes = {name: float(code) for code, name in enumerate(self.categories[index])}
        return [np.nan if value is None else codes.get(value, -1.0) for value in column]


def fit_encoder(features: list[Feature], columns: list[np.ndarray], max_categories: int) -> Encoder:
    """Categories of the rows given (those of training, never of a later slice), the most frequent first."""
    categories = {}
    for index, feature in enumerate(features):
        if feature.dtype != "string":
            continue
        counts: dict[str, int] = {}
        for value in columns[index]:
            if value is not None:
                counts[value] = counts.get(value, 0) + 1
        ordered = sorted(counts, key=lambda name: (-counts[name], name.encode("utf-8")))
        categories[index] = ordered[:max_categories]
    return Encoder(features, categories)
