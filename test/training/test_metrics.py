import unittest

import numpy as np

from trainer import metrics
from trainer.calibrate import fit_platt, sigmoid


class Ranking(unittest.TestCase):
    # Ranked: 1 0 1 1 0 0; precision at each positive 1, 2/3, 3/4.
    label = np.array([0, 1, 1, 0, 1, 0.0])
    score = np.array([0.7, 0.9, 0.6, 0.3, 0.5, 0.1])

    def test_average_precision_by_hand(self):
        self.assertAlmostEqual(metrics.pr_auc(self.label, self.score), (1 + 2 / 3 + 3 / 4) / 3, 15)

    def test_roc_auc_counts_pairs_in_the_right_order(self):
        # 9 pairs; 0.6 and 0.5 lie below the negative 0.7.
        self.assertAlmostEqual(metrics.roc_auc(self.label, self.score), 7 / 9, 15)

    def test_roc_auc_of_equal_scores_counts_half(self):
        self.assertEqual(metrics.roc_auc(np.array([0, 1.0]), np.array([0.4, 0.4])), 0.5)
        # pairs: (0.8 vs 0.8) half, (0.8 vs 0.2) one, (0.5 vs 0.8) none, (0.5 vs 0.2) one
        self.assertEqual(metrics.roc_auc(np.array([1, 0, 1, 0.0]), np.array([0.8, 0.8, 0.5, 0.2])), 2.5 / 4)

    def test_average_precision_of_equal_scores_is_the_base_rate(self):
        self.assertEqual(metrics.pr_auc(np.array([1, 0, 0, 0.0]), np.zeros(4)), 0.25)

    def test_no_measure_depends_on_the_order_of_rows(self):
        random = np.random.default_rng(3)
        label = (random.random(400) < 0.2).astype(float)
        score = np.round(random.random(400) + 0.3 * label, 1)
        order = random.permutation(400)
        for measure in (metrics.pr_auc, metrics.roc_auc, metrics.recall_at_fpr):
            self.assertAlmostEqual(measure(label, score), measure(label[order], score[order]), 14)

    def test_roc_auc_equals_the_naive_count_of_pairs(self):
        random = np.random.default_rng(5)
        label = (random.random(120) < 0.3).astype(float)
        score = np.round(random.random(120), 1)
        ones, zeros = score[label == 1], score[label == 0]
        pairs = [(one > zero) + 0.5 * (one == zero) for one in ones for zero in zeros]
        self.assertAlmostEqual(metrics.roc_auc(label, score), float(np.mean(pairs)), 13)

    def test_recall_at_one_percent_false_positives(self):
        # 200 negatives, so two may be above the threshold; of 4 positives three lie above the third negative.
        label = np.array([1, 0, 1, 0, 1, 0, 1] + [0] * 197, dtype=float)
        score = np.array([10, 9, 8, 7, 6, 5, 4] + [0] * 197, dtype=float)
        self.assertEqual(metrics.recall_at_fpr(label, score), 0.75)

    def test_recall_is_zero_when_every_threshold_lets_too_many_pass(self):
        self.assertEqual(metrics.recall_at_fpr(np.array([1, 0, 0, 0.0]), np.array([1, 1, 0, 0.0])), 0)


class Cards(unittest.TestCase):
    def test_a_card_is_counted_once_a_day_with_its_greatest_score(self):
        day = metrics.DAY_MS
        as_of = np.array([0, 1, 2, 3, day, day + 1])
        cards = np.array(["a", "a", "b", "c", "a", "b"], dtype=object)
        label = np.array([0, 1, 0, 1, 0, 1.0])
        score = np.array([0.9, 0.1, 0.8, 0.7, 0.2, 0.1])
        # first day, top 2: a (compromised by its second payment) and b; second day, top 2: a and b (compromised)
        self.assertEqual(metrics.card_precision(as_of, cards, label, score, top=2), (0.5 + 0.5) / 2)
        self.assertEqual(metrics.card_precision(as_of, cards, label, score, top=1), (1 + 0) / 2)
        self.assertAlmostEqual(metrics.card_precision(as_of, cards, label, score, top=100), (2 / 3 + 1 / 2) / 2, 15)

    def test_rows_without_a_card_are_left_out(self):
        cards = np.array([None, "a"], dtype=object)
        self.assertEqual(metrics.card_precision(np.array([0, 1]), cards, np.array([1, 0.0]), np.array([2, 1.0])), 0)


class Probabilities(unittest.TestCase):
    def test_log_loss_and_brier_by_hand(self):
        label, p = np.array([1, 0.0]), np.array([0.8, 0.4])
        self.assertAlmostEqual(metrics.log_loss(label, p), -(np.log(0.8) + np.log(0.6)) / 2, 15)
        self.assertAlmostEqual(metrics.brier(label, p), (0.04 + 0.16) / 2, 15)

    def test_log_loss_of_a_certain_error_is_finite(self):
        self.assertLess(metrics.log_loss(np.array([1.0]), np.array([0.0])), 40)

    def test_calibration_table_has_parts_of_equal_size_in_order(self):
        p = np.linspace(0.01, 0.99, 100)
        label = (np.arange(100) % 4 == 0).astype(float)
        table = metrics.calibration_table(label, p, bins=4)
        self.assertEqual([row["rows"] for row in table], [25] * 4)
        self.assertAlmostEqual(table[0]["mean_probability"], p[:25].mean(), 15)
        self.assertEqual(table[0]["share_positive"], 7 / 25)
        self.assertEqual(table[0]["to"], p[24])

    def test_sigmoid_far_out_neither_overflows_nor_leaves_its_bounds(self):
        with np.errstate(all="raise", under="ignore"):
            got = sigmoid(np.array([-1e4, -40, 0, 40, 1e4]))
        self.assertEqual(got[0], 0)
        self.assertEqual(got[2], 0.5)
        self.assertEqual(got[4], 1)


class Platt(unittest.TestCase):
    def test_finds_the_scale_and_shift_that_made_the_labels(self):
        random = np.random.default_rng(11)
        score = random.normal(0, 2, 200_000)
        label = (random.random(200_000) < sigmoid(0.7 * score - 1.5)).astype(float)
        a, b = fit_platt(score, label)
        self.assertAlmostEqual(a, 0.7, 1)
        self.assertAlmostEqual(b, -1.5, 1)

    def test_gives_the_mean_of_the_labels_back(self):
        random = np.random.default_rng(12)
        score = random.normal(-1e6, 1e3, 5_000)
        label = (random.random(5_000) < sigmoid((score + 1e6) / 1e3 - 2)).astype(float)
        a, b = fit_platt(score, label)
        self.assertAlmostEqual(sigmoid(a * score + b).mean(), label.mean(), 3)

    def test_stays_finite_when_the_score_separates_the_classes(self):
        a, b = fit_platt(np.array([-2, -1, 1, 2.0] * 10), np.array([0, 0, 1, 1.0] * 10))
        self.assertTrue(np.isfinite([a, b]).all())
        self.assertGreater(a, 0)

    def test_a_score_without_meaning_gives_every_row_the_base_rate(self):
        a, b = fit_platt(np.ones(100), np.array([1.0] * 20 + [0.0] * 80))
        self.assertEqual(a, 0)
        self.assertAlmostEqual(sigmoid(np.array([b]))[0], 0.2, 1)
        a, _ = fit_platt(np.array([1.0] * 20 + [0.0] * 20), np.array([0.0] * 20 + [1.0] * 20))
        self.assertEqual(a, 0)
