"""report.html."""
from __future__ import annotations

import numpy as np


def render(manifest: dict, detail: dict, label: np.ndarray, raw: np.ndarray) -> str:
    return f"<!doctype html><title>{manifest['model']}</title>"
