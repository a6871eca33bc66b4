"""The program as SageMaker starts it: a process, with files before and after."""
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path

import synthetic

ROOT = Path(__file__).parents[2]
FEATURES = synthetic.small_features()
HYPERPARAMETERS = {"num_trees": "12", "num_threads": "1", "learning_rate": "0.2", "created_ms": "1760000000000"}


class Job(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.TemporaryDirectory()
        cls.addClassCleanup(cls.shared.cleanup)
        cls.set = Path(cls.shared.name) / "set"
        cls.values = synthetic.columns(FEATURES, 2_500, 1, base=-2)
        synthetic.write(cls.set, FEATURES, cls.values, synthetic.manifest(FEATURES, cls.values))

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.base = Path(folder.name)

    def prepare(self, training_set=None, **hyperparameters):
        config = self.base / "input" / "config"
        config.mkdir(parents=True)
        (self.base / "input" / "data").mkdir()
        (self.base / "input" / "data" / "train").symlink_to(training_set or self.set)
        (config / "hyperparameters.json").write_text(json.dumps({**HYPERPARAMETERS, **hyperparameters}))
        (config / "inputdataconfig.json").write_text('{"train": {"TrainingInputMode": "File"}}')

    def start(self, *argv):
        environment = {**os.environ, "SAGEMAKER_BASE_DIR": str(self.base), "PYTHONPATH": str(ROOT / "training")}
        command = [sys.executable, "-m", "trainer", *(argv or ("train",))]
        return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run_to_end(self, *argv):
        process = self.start(*argv)
        out, _ = process.communicate(timeout=120)
        return process.returncode, out

    def failure(self):
        return (self.base / "output" / "failure").read_text()

    def artefact(self, name="manifest.json"):
        return json.loads((self.base / "model" / name).read_text())

    def test_leaves_a_whole_artefact_and_the_metric_lines(self):
        self.prepare()
        code, out = self.run_to_end()
        self.assertEqual(code, 0, out)
        self.assertFalse((self.base / "output" / "failure").exists())
        manifest = self.artefact()
        for name, digest in manifest["files"].items():
            self.assertEqual(hashlib.sha256((self.base / "model" / name).read_bytes()).hexdigest(), digest)
        self.assertEqual(
            {path.name for path in (self.base / "model").iterdir()}, {*manifest["files"], "manifest.json"}
        )
        self.assertEqual(set(os.listdir(self.base / "output" / "data")), {"metrics.json", "report.html"})
        self.assertEqual((manifest["service"], manifest["plan_hash"]), ("fraud", "0123456789abcdef"))
        self.assertEqual([feature["name"] for feature in manifest["features"]], [feature["name"] for feature in FEATURES])
        self.assertNotIn("ZZ", manifest["features"][4]["categories"])
        self.assertEqual(manifest["training_set"]["label_delay_ms"], 5 * synthetic.DAY_MS)
        for feature, seen in manifest["statistics"].items():
            self.assertEqual(len(seen["counts"]), len(seen["bins"]) + 1)
            rows = self.artefact("metrics.json")["slices"]["train"]["rows"]
            self.assertEqual(sum(seen["counts"]), round(rows * (1 - seen["null_rate"])), feature)
        # What SageMaker's metric definitions would find is what the manifest says.
        for name in ("pr_auc", "roc_auc", "recall_at_fpr_1pct", "card_precision_at_100", "log_loss", "brier", "base_rate"):
            found = re.findall(rf"^\[test\] {name}=([0-9.eE+-]+);$", out, re.M)
            self.assertEqual(len(found), 1, name)
            self.assertAlmostEqual(float(found[0]), manifest["metrics"][name], 8)
        self.assertGreater(manifest["metrics"]["roc_auc"], 0.65)
        golden = self.artefact("golden.json")
        self.assertEqual({len(golden[name]) for name in ("rows", "raw", "probability")}, {64})

    def test_the_slices_leave_the_label_delay_out(self):
        self.prepare()
        self.run_to_end()
        slices = self.artefact("metrics.json")["slices"]
        self.assertGreaterEqual(slices["test"]["from_ms"] - slices["calibration"]["to_ms"], 5 * synthetic.DAY_MS)
        self.assertLess(slices["train"]["to_ms"], slices["valid"]["from_ms"])
        self.assertLess(slices["valid"]["to_ms"], slices["calibration"]["from_ms"])

    def test_the_same_rows_give_the_same_model(self):
        self.prepare()
        self.run_to_end()
        first = self.artefact()["files"]
        os.rename(self.base / "model", self.base / "first")
        self.run_to_end()
        for name in ("model.onnx", "golden.json", "trees.json"):
            self.assertEqual(first[name], self.artefact()["files"][name])

    def with_champion(self, change=lambda folder: None, later_days=0.0):
        """A job beside the model that it made before, on rows `later_days` later. Returns (output, manifest, the champion's)."""
        self.prepare()
        self.run_to_end()
        os.rename(self.base / "model", self.base / "input" / "data" / "champion")
        champion = self.base / "input" / "data" / "champion"
        change(champion)
        channels = {name: {"TrainingInputMode": "File"} for name in ("train", "champion")}
        (self.base / "input" / "config" / "inputdataconfig.json").write_text(json.dumps(channels))
        if later_days:
            values = {**self.values, "as_of_ms": [at + int(later_days * synthetic.DAY_MS) for at in self.values["as_of_ms"]]}
            synthetic.write(self.base / "later", FEATURES, values, synthetic.manifest(FEATURES, values))
            (self.base / "input" / "data" / "train").unlink()
            (self.base / "input" / "data" / "train").symlink_to(self.base / "later")
        code, out = self.run_to_end()
        self.assertEqual(code, 0, out)
        return out, self.artefact(), champion

    def test_a_champion_is_measured_on_the_same_rows(self):
        # The same model on the same rows: what it is told to score must be what it scored itself.
        out, manifest, champion = self.with_champion()
        digest = hashlib.sha256((champion / "manifest.json").read_bytes()).hexdigest()
        self.assertEqual(manifest["champion"]["manifest_sha256"], digest)
        for name, value in manifest["champion"]["metrics"].items():
            self.assertAlmostEqual(value, manifest["metrics"][name], 12, name)
        self.assertIn("the champion on the same rows: pr_auc=", out)

    def test_a_champion_that_knows_the_rows_is_not_measured_on_them(self):
        out, manifest, _ = self.with_champion(later_days=-20)
        self.assertNotIn("champion", manifest)
        self.assertIn("is not measured on the test slice: it was fitted on rows that this job tests on", out)

    def test_a_champion_with_another_input_is_not_measured(self):
        def renamed(folder):
            path = folder / "manifest.json"
            manifest = json.loads(path.read_text())
            manifest["features"][0]["name"] = "gone"
            path.write_text(json.dumps(manifest))

        out, manifest, _ = self.with_champion(renamed)
        self.assertNotIn("champion", manifest)
        self.assertIn("the training set has no gone of dtype", out)

    def test_a_broken_champion_keeps_no_model_from_being_trained(self):
        out, manifest, _ = self.with_champion(lambda folder: (folder / "trees.json").write_text("{}"))
        self.assertNotIn("champion", manifest)
        self.assertIn("its trees.json is not the one that its manifest names", out)

    def test_what_cannot_be_trained_is_told_in_the_failure_file(self):
        one_class = {**self.values, "label": [0.0] * len(self.values["label"])}
        folder = self.base / "one"
        synthetic.write(folder, FEATURES, one_class, synthetic.manifest(FEATURES, one_class))
        self.prepare(training_set=folder)
        code, out = self.run_to_end()
        self.assertEqual(code, 1)
        self.assertTrue(self.failure().startswith("one_class: the training set has no positive among 2500 rows"))
        self.assertIn("refused: one_class", out)
        self.assertEqual(os.listdir(self.base / "model"), [])

    def test_weighed_classes_are_calibrated_back_to_the_base_rate(self):
        self.prepare(class_weight="balanced", num_trees="40")
        code, out = self.run_to_end()
        self.assertEqual(code, 0, out)
        self.assertIn("average_precision=", out)
        metrics = self.artefact("metrics.json")
        said = [part["mean_probability"] for part in metrics["calibration"]]
        self.assertAlmostEqual(sum(said) / len(said), metrics["base_rate"], delta=0.05)
        self.assertGreater(metrics["roc_auc"], 0.65)

    def test_another_plan_is_refused(self):
        self.prepare(plan_hash="ffff")
        self.assertEqual(self.run_to_end()[0], 1)
        self.assertIn("plan_hash_mismatch", self.failure())

    def test_wrong_usage(self):
        self.prepare()
        self.assertEqual(self.run_to_end("serve")[0], 2)
        self.assertIn("(given: serve)", self.failure())

    def test_sigterm_ends_with_the_trees_that_are_done_and_a_checkpoint_goes_on(self):
        (self.base / "checkpoints").mkdir()
        self.prepare(num_trees="3000", early_stopping_rounds="3000", learning_rate="0.001", checkpoint_every="10")
        process = self.start()
        seen = []
        for line in process.stdout:
            seen.append(line)
            if "trees=20;" in line:
                process.send_signal(signal.SIGTERM)
                break
        asked = time.monotonic()
        rest, _ = process.communicate(timeout=100)
        self.assertEqual(process.returncode, 0, "".join(seen) + rest)
        self.assertLess(time.monotonic() - asked, 60)
        trees = self.artefact("metrics.json")["trees"]
        self.assertTrue(trees["stopped"])
        self.assertTrue(20 <= trees["trained"] < 3000, trees)
        self.assertEqual(len(self.artefact("trees.json")["roots"]), trees["used"])

        hyperparameters = self.base / "input" / "config" / "hyperparameters.json"
        more = {**json.loads(hyperparameters.read_text()), "num_trees": str(trees["trained"] + 5)}
        hyperparameters.write_text(json.dumps(more))
        code, out = self.run_to_end()
        self.assertEqual(code, 0, out)
        self.assertIn(f"resumed at tree {trees['trained']}", out)
        self.assertEqual(self.artefact("metrics.json")["trees"]["trained"], trees["trained"] + 5)

        # Of other settings it is no checkpoint.
        hyperparameters.write_text(json.dumps({**more, "num_trees": "3", "learning_rate": "0.3"}))
        code, out = self.run_to_end()
        self.assertIn("checkpoint is of other rows or settings: training starts anew", out)
        self.assertEqual(self.artefact("metrics.json")["trees"]["trained"], 3)

    def test_a_checkpoint_that_cannot_be_read_is_no_obstacle(self):
        (self.base / "checkpoints").mkdir()
        (self.base / "checkpoints" / "checkpoint.json").write_text('{"fingerprint": ')
        self.prepare()
        code, out = self.run_to_end()
        self.assertEqual(code, 0, out)
        self.assertIn("checkpoint cannot be read", out)
