import unittest

import numpy as np

from trainer.hyperparameters import Hyperparameters, parse
from trainer.refusal import Refusal
from trainer.split import SLICES, split_by_time

HOUR = 3_600_000


def hours(count):
    return np.arange(count, dtype=np.int64) * HOUR


def labels(count):
    return (np.arange(count) % 5 == 0).astype(float)


class Split(unittest.TestCase):
    wanted = Hyperparameters(min_rows=10)

    def test_slices_follow_one_another_and_the_test_slice_starts_a_delay_later(self):
        split = split_by_time(hours(1000), labels(1000), self.wanted, 50 * HOUR)
        ends = [split.ranges[name] for name in SLICES]
        self.assertEqual(ends[0][0], 0)
        self.assertEqual(ends[0][1], ends[1][0])
        self.assertEqual(ends[1][1], ends[2][0])
        self.assertEqual(ends[3], (800, 1000))
        # rows before 800 h - 50 h
        self.assertEqual(ends[2][1], 750)
        self.assertEqual(split.gap_rows, 50)

    def test_no_gap_without_a_delay(self):
        split = split_by_time(hours(1000), labels(1000), self.wanted, 0)
        self.assertEqual(split.ranges["calibration"][1], split.ranges["test"][0])

    def test_gap_ms_overrides_the_delay(self):
        split = split_by_time(hours(1000), labels(1000), Hyperparameters(min_rows=10, gap_ms=0), 50 * HOUR)
        self.assertEqual(split.gap_rows, 0)

    def test_rows_of_one_instant_stay_together(self):
        times = hours(1000) // (7 * HOUR) * 7 * HOUR
        split = split_by_time(times, labels(1000), self.wanted, 0)
        for name in ("valid", "calibration", "test"):
            start = split.ranges[name][0]
            self.assertNotEqual(times[start - 1], times[start])

    def refused(self, code, *given):
        with self.assertRaises(Refusal) as caught:
            split_by_time(*given)
        self.assertEqual(caught.exception.code, code)
        return str(caught.exception)

    def test_too_few_rows(self):
        message = self.refused("too_few_rows", hours(100), labels(100), Hyperparameters(), 0)
        self.assertIn("100 labelled rows, at least 500 are needed", message)

    def test_one_class(self):
        message = self.refused("one_class", hours(100), np.zeros(100), self.wanted, 0)
        self.assertIn("the training set has no positive among 100 rows", message)
        self.assertIn("no negative", self.refused("one_class", hours(100), np.ones(100), self.wanted, 0))

    def test_one_class_in_a_slice_names_the_slice(self):
        label = labels(1000)
        label[800:] = 0
        self.assertIn("the test slice has no positive", self.refused("one_class", hours(1000), label, self.wanted, 0))

    def test_a_gap_longer_than_the_rows_says_what_it_takes(self):
        message = self.refused("slice_empty", hours(240), labels(240), self.wanted, 30 * 24 * HOUR)
        self.assertIn("the rows span 10.0 days and the gap takes 30.0 of them", message)


class Parsing(unittest.TestCase):
    def test_values_are_strings_as_sagemaker_sends_them(self):
        got = parse({"num_trees": "31", "learning_rate": "0.08", "class_weight": "balanced", "plan_hash": "0123"})
        self.assertEqual((got.num_trees, got.learning_rate, got.class_weight), (31, 0.08, "balanced"))
        # A hash of digits alone must stay the string that it is.
        self.assertEqual(got.plan_hash, "0123")
        self.assertEqual(parse({"plan_hash": "4012345678901234"}).plan_hash, "4012345678901234")

    def test_json_encoded_strings_of_the_sdk(self):
        self.assertEqual(parse({"class_weight": '"balanced"'}).class_weight, "balanced")

    def test_the_sdks_own_names_are_passed_over(self):
        self.assertEqual(parse({"sagemaker_program": "train.py"}), Hyperparameters())

    def test_refusals_name_value_and_repair(self):
        for given, words in (
            ({"num_tree": "3"}, "hyperparameter_unknown: no hyperparameter num_tree; use service"),
            ({"num_trees": "many"}, "num_trees is many; use a whole number"),
            ({"num_trees": "2.5"}, "num_trees is 2.5; use a whole number"),
            ({"num_trees": "1e999"}, "num_trees is 1e999; use a whole number"),
            ({"num_trees": "true"}, "num_trees is true; use a whole number"),
            ({"num_trees": "null"}, "num_trees is null; use a whole number"),
            ({"learning_rate": "[0.1]"}, "learning_rate is [0.1]; use a number"),
            # What would else end the job as a fault of the program, some of it only after training.
            ({"seed": "-1"}, "seed is -1; use 0 to 2147483647"),
            ({"seed": "4294967296"}, "seed is 4294967296; use 0 to 2147483647"),
            ({"checkpoint_every": "0"}, "checkpoint_every is 0; use 1 to 5000"),
            ({"num_threads": "-3"}, "num_threads is -3; use 0 to 1024"),
            ({"gap_ms": "1e30"}, "gap_ms is 1000000000000000019884624838656; use -1 to"),
            ({"created_ms": "1e20"}, "created_ms is 100000000000000000000; use 0 to"),
            ({"learning_rate": "nan"}, "learning_rate is nan; use 1e-06 to 1"),
            ({"num_trees": "0"}, "num_trees is 0; use 1 to 5000"),
            ({"class_weight": "twice"}, "class_weight is twice; use none or balanced"),
            ({"test_share": "0.7"}, "leave at least 0.1 of the rows for training"),
        ):
            with self.assertRaises(Refusal) as caught:
                parse(given)
            self.assertIn(words, str(caught.exception))
