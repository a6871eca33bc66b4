import unittest

import lightgbm
import numpy as np

from trainer.data import Feature
from trainer.encode import Encoder, fit_encoder
from trainer.export_onnx import to_onnx
from trainer.golden import hostile_rows, verify
from trainer.json_text import to_json
from trainer.refusal import Refusal
from trainer.trees import MEMBER, flatten


def boosted(x, y, rounds=8, categorical=(), **settings):
    settings = {"objective": "binary", "min_data_in_leaf": 3, "num_threads": 1, "verbosity": -1, "seed": 1, **settings}
    return lightgbm.train(settings, lightgbm.Dataset(x, y, categorical_feature=list(categorical)), rounds)


def data(rows=400, width=4, seed=1):
    random = np.random.default_rng(seed)
    x = random.normal(size=(rows, width))
    return x, (x[:, 0] + x[:, 1] > 0.3).astype(float), random


class Walk(unittest.TestCase):
    def equal(self, booster, x, rounds=8):
        trees = flatten(booster, rounds)
        self.assertEqual(verify(booster, rounds, trees, x), 0)
        return trees

    def test_null_goes_where_training_sent_it(self):
        x, y, random = data()
        x[random.random(x.shape) < 0.3] = np.nan
        trees = self.equal(boosted(x, y), x)
        self.assertEqual(set(trees.nan_true), {True, False})

    def test_null_that_training_never_saw_is_read_as_zero(self):
        x, y, _ = data()
        trees = flatten(boosted(x, y), 8)
        self.equal(boosted(x, y), np.full((1, 4), np.nan))
        self.assertTrue((trees.nan_true == (trees.threshold >= 0)).all())

    def test_infinite_thresholds(self):
        x, y, random = data()
        x[:, 0] = np.where(random.random(400) < 0.5, np.nan, x[:, 0])
        y = np.isnan(x[:, 0]).astype(float)
        booster = boosted(x, y)
        trees = flatten(booster, 8)
        self.assertTrue(np.isinf(trees.threshold).any())
        hostile = np.array([[np.inf] * 4, [-np.inf] * 4, [1e308] * 4, [-1e308] * 4, [1e300] * 4, [np.nan] * 4])
        self.equal(booster, hostile)

    def test_categories_unseen_negative_and_null(self):
        x, _, random = data()
        x[:, 0] = random.integers(0, 40, 400)
        y = (x[:, 0] % 3 == 0).astype(float)
        booster = boosted(x, y, categorical=[0], min_data_per_group=1, cat_smooth=0, max_cat_to_onehot=4)
        trees = flatten(booster, 8)
        self.assertGreater((trees.kind == MEMBER).sum(), 0)
        probe = np.repeat(x[:50], 5, axis=0)
        probe[:, 0] = np.tile([-1, 40, 1e9, np.nan, 7], 50)
        self.equal(booster, probe)

    def test_a_tree_without_a_split(self):
        x, y, _ = data()
        booster = boosted(x, y, min_data_in_leaf=400)
        trees = self.equal(booster, x)
        self.assertTrue((trees.roots < 0).all())
        to_onnx(trees, 4, 1.0, 0.0, {})

    def test_only_the_best_trees_are_exported(self):
        x, y, _ = data()
        booster = boosted(x, y, 8)
        trees = flatten(booster, 3)
        self.assertEqual(len(trees.roots), 3)
        self.assertEqual(verify(booster, 3, trees, x), 0)

    def test_zero_as_missing_is_refused(self):
        x, y, _ = data()
        x[:, 0] = np.where(np.arange(400) % 3 == 0, 0.0, x[:, 0])
        with self.assertRaisesRegex(Refusal, "missing_type: a tree treats Zero as missing"):
            flatten(boosted(x, y, zero_as_missing=True), 8)

    def test_covers_add_up(self):
        x, y, _ = data()
        trees = flatten(boosted(x, y), 8)

        def cover(child):
            return trees.cover[child] if child >= 0 else trees.leaf_cover[~child]

        for node in range(len(trees.feature)):
            self.assertEqual(trees.cover[node], cover(trees.true[node]) + cover(trees.false[node]))
        self.assertEqual({cover(root) for root in trees.roots}, {400})


class Refused(unittest.TestCase):
    def test_an_export_that_misses_lightgbm_is_not_written(self):
        x, y, _ = data()
        booster = boosted(x, y)
        for change in ("value", "threshold", "true"):
            trees = flatten(booster, 8)
            array = getattr(trees, change)
            if change == "value":
                array += 2e-9
            elif change == "threshold":
                array += 0.3
            else:
                array[:], trees.false[:] = trees.false.copy(), array.copy()
            with self.assertRaisesRegex(Refusal, "export_differs: the exported model is .* off LightGBM"):
                verify(booster, 8, trees, x)

    def test_a_score_that_is_not_a_number_is_not_let_through(self):
        x, y, _ = data()
        booster = boosted(x, y)
        trees = flatten(booster, 8)
        trees.value[0] = np.nan
        with self.assertRaisesRegex(Refusal, "export_differs"):
            verify(booster, 8, trees, x)


class Encoding(unittest.TestCase):
    features = [Feature("n", "double"), Feature("s", "string")]

    def test_categories_are_those_of_the_rows_given_most_frequent_first(self):
        column = np.array(["b", "a", None, "b", "ä", "a", "b"], dtype=object)
        encoder = fit_encoder(self.features, [np.zeros(7), column], 10)
        self.assertEqual(encoder.categories, {1: ["b", "a", "ä"]})
        self.assertEqual(fit_encoder(self.features, [np.zeros(7), column], 1).categories, {1: ["b"]})

    def test_unseen_is_minus_one_null_is_nan_and_tiny_is_zero(self):
        encoder = Encoder(self.features, {1: ["b", "a"]})
        numbers = np.array([1.0000000180025095e-35, -1e-40, 1.1e-35, np.nan, -0.0])
        strings = np.array(["a", "zz", None, "b", ""], dtype=object)
        x = encoder.encode([numbers, strings])
        np.testing.assert_array_equal(x[:, 0], [0, 0, 1.1e-35, np.nan, 0])
        self.assertFalse(np.signbit(x[4, 0]))
        np.testing.assert_array_equal(x[:, 1], [1, -1, np.nan, 0, -1])

    def test_hostile_rows_hold_what_they_say(self):
        x, y, random = data()
        x[:, 3] = random.integers(0, 5, 400)
        booster = boosted(x, y, categorical=[3])
        trees = flatten(booster, 8)
        encoder = Encoder([Feature(str(i), "double") for i in range(3)] + [Feature("3", "string")], {3: list("abcde")})
        rows = hostile_rows(x, trees, encoder, 64, np.random.default_rng(1))
        self.assertTrue(np.isnan(rows).any())
        self.assertTrue(np.isin(rows[:, 0], trees.threshold[trees.feature == 0]).any())
        self.assertTrue({-1.0, 5.0} <= set(rows[~np.isnan(rows[:, 3]), 3]))


class Text(unittest.TestCase):
    def test_numbers_read_back_the_same(self):
        values = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 2.0**53 + 2, -0.0, 1e15, 3.0, 1e-7]
        import json

        self.assertEqual(json.loads(to_json(values)), values)

    def test_null_and_infinity_stay_json(self):
        self.assertEqual(to_json({"a": np.array([np.nan, np.inf, -np.inf]), "ü": True}), '{"a":[null,1e999,-1e999],"ü":true}'.encode())
