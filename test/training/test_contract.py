import json
import tempfile
import unittest
from pathlib import Path

from trainer.contract import FAILURE_CHARACTERS, read_job, write_failure, write_file
from trainer.refusal import Refusal


class Contract(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.base = Path(folder.name)
        self.config = self.base / "input" / "config"
        (self.base / "input" / "data" / "train").mkdir(parents=True)
        self.config.mkdir()
        self.put("hyperparameters", {"num_trees": "31"})
        self.put("inputdataconfig", {"train": {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated"}})
        self.put("resourceconfig", {"current_host": "algo-1", "hosts": ["algo-1"], "network_interface_name": "eth0"})

    def put(self, name, value):
        (self.config / f"{name}.json").write_text(value if isinstance(value, str) else json.dumps(value))

    def read(self, **environment):
        return read_job({"SAGEMAKER_BASE_DIR": str(self.base), **environment})

    def refused(self, **environment):
        with self.assertRaises(Refusal) as caught:
            self.read(**environment)
        return str(caught.exception)

    def test_reads_the_platforms_files(self):
        job = self.read(TRAINING_JOB_NAME="job-7")
        self.assertEqual(job.hyperparameters, {"num_trees": "31"})
        self.assertEqual(job.channel("train"), self.base / "input/data/train")
        self.assertEqual((job.model, job.output), (self.base / "model", self.base / "output/data"))
        self.assertTrue(job.model.is_dir() and job.output.is_dir())
        self.assertIsNone(job.checkpoints)
        self.assertEqual(job.name, "job-7")

    def test_checkpoints_are_there_only_when_the_job_has_them(self):
        (self.base / "checkpoints").mkdir()
        self.assertEqual(self.read().checkpoints, self.base / "checkpoints")

    def test_the_platform_may_leave_out_what_is_empty(self):
        for name in ("hyperparameters", "resourceconfig"):
            (self.config / f"{name}.json").unlink()
        self.assertEqual(self.read().hyperparameters, {})

    def test_files_that_hold_no_object_are_refused_by_name(self):
        for name in ("hyperparameters", "inputdataconfig", "resourceconfig"):
            for wrong in ("[1]", "null", "3"):
                with self.subTest(name=name, wrong=wrong):
                    self.put(name, wrong)
                    self.assertIn(f"{name}.json holds no object", self.refused())
            self.put(name, {})
        self.put("inputdataconfig", {"train": "File"})
        self.assertIn("channel train of inputdataconfig.json holds no object", self.refused())
        self.put("inputdataconfig", {})
        self.assertIn("SM_HPS holds no object", self.refused(SM_HPS="[1]"))

    def test_the_toolkits_variables_override(self):
        job = self.read(
            SM_HPS='{"num_trees": 5, "seed": 1}',
            SM_HP_SEED="2",
            SM_MODEL_DIR=str(self.base / "m"),
            SM_OUTPUT_DATA_DIR=str(self.base / "o"),
            SM_CHANNEL_TRAIN=str(self.base),
            SM_CHANNEL_EXTRA=str(self.base / "x"),
        )
        self.assertEqual(job.hyperparameters, {"num_trees": "5", "seed": "2"})
        self.assertEqual((job.model, job.output), (self.base / "m", self.base / "o"))
        self.assertEqual(job.channels, {"train": self.base, "extra": self.base / "x"})

    def test_channels_of_the_toolkit_lie_where_the_platform_puts_them(self):
        (self.config / "inputdataconfig.json").unlink()
        self.assertEqual(self.read(SM_CHANNELS='["train"]').channel("train"), self.base / "input/data/train")

    def test_refusals(self):
        self.assertIn("no channel valid (given: train)", str(self.missing("valid")))
        self.put("inputdataconfig", {"train": {"TrainingInputMode": "Pipe"}})
        self.assertIn("channel train comes in Pipe mode; use TrainingInputMode File", self.refused())
        self.put("inputdataconfig", {})
        self.put("resourceconfig", {"hosts": ["algo-1", "algo-2"]})
        self.assertIn("training runs on one instance (given: 2)", self.refused())
        self.assertIn("SM_HPS is not JSON", self.refused(SM_HPS="{", SM_HOSTS='["a"]'))
        self.put("hyperparameters", "{")
        self.assertIn("hyperparameters.json is not JSON", self.refused(SM_HOSTS='["a"]'))

    def missing(self, name):
        with self.assertRaises(Refusal) as caught:
            self.read().channel(name)
        return caught.exception

    def test_the_failure_file_holds_what_sagemaker_shows(self):
        write_failure("x" * 2_000, {"SAGEMAKER_BASE_DIR": str(self.base)})
        self.assertEqual((self.base / "output" / "failure").read_text(), "x" * FAILURE_CHARACTERS)

    def test_files_are_whole_or_not_there(self):
        write_file(self.base / "a", b"1")
        write_file(self.base / "a", b"22")
        self.assertEqual((self.base / "a").read_bytes(), b"22")
        self.assertEqual([path.name for path in self.base.glob(".*")], [])
