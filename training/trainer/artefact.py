"""The folder that a model is: written file by file, the manifest last, so a folder with a manifest is whole."""
from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path

from .contract import write_file
from .encode import Encoder
from .hyperparameters import Hyperparameters
from .json_text import to_json

LINEAGE = ("service", "plan_hash", "tenant", "model_name", "git_commit", "created_ms")


def manifest(
    training_set: dict,
    wanted: Hyperparameters,
    created_ms: int,
    encoder: Encoder,
    calibration: tuple[float, float],
    metrics: dict,
    statistics: dict,
    fitted: dict,
    champion: dict | None,
) -> dict:
    features = [
        {
            "name": feature.name,
            "dtype": feature.dtype,
            **({"categories": encoder.categories[index]} if index in encoder.categories else {}),
        }
        for index, feature in enumerate(encoder.features)
    ]
    return {
        "version": 1,
        "service": training_set["service"],
        "model": wanted.model_name or f"{training_set['service']}-lightgbm",
        "plan_hash": training_set["plan_hash"],
        "created_ms": created_ms,
        "git_commit": wanted.git_commit or None,
        "training_set": training_set,
        "features": features,
        "calibration": {"a": calibration[0], "b": calibration[1]},
        "metrics": metrics,
        "statistics": statistics,
        "hyperparameters": {name: value for name, value in asdict(wanted).items() if name not in LINEAGE},
        "fitted": fitted,
        **({} if champion is None else {"champion": champion}),
    }


def write_artefact(folder: Path, files: dict[str, bytes], manifest_: dict) -> None:
    """Writes `files`, then manifest.json with their SHA-256."""
    for name, data in files.items():
        write_file(folder / name, data)
    digests = {name: hashlib.sha256(data).hexdigest() for name, data in sorted(files.items())}
    write_file(folder / "manifest.json", to_json({**manifest_, "files": digests}, indent=2))
