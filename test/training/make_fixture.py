"""Writes test/fixtures/models/fraud: a small artefact that the trainer makes of synthetic rows. Run when the format changes."""
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[2]
FIXTURE = ROOT / "test" / "fixtures" / "models" / "fraud"
HYPERPARAMETERS = {
    "num_trees": "30",
    "num_leaves": "8",
    "learning_rate": "0.15",
    "num_threads": "1",
    "gap_ms": "86400000",
    "created_ms": "1760000000000",
    "git_commit": "0000000000000000000000000000000000000000",
}

if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        base = Path(folder)
        config = base / "input" / "config"
        config.mkdir(parents=True)
        subprocess.run([sys.executable, Path(__file__).with_name("synthetic.py"), base / "input/data/train", "5000"], check=True)
        (config / "hyperparameters.json").write_text(json.dumps(HYPERPARAMETERS))
        (config / "inputdataconfig.json").write_text(json.dumps({"train": {"TrainingInputMode": "File"}}))
        environment = {**os.environ, "SAGEMAKER_BASE_DIR": folder, "PYTHONPATH": str(ROOT / "training")}
        subprocess.run([sys.executable, "-m", "trainer", "train"], check=True, env=environment)
        shutil.rmtree(FIXTURE, ignore_errors=True)
        shutil.copytree(base / "model", FIXTURE)
