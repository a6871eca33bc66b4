import re
import unittest
import xml.etree.ElementTree as xml

import numpy as np

from trainer import charts, metrics
from trainer.report import render


def detail():
    part = {"rows": 10, "positives": 2, "from_ms": 1_700_000_000_000, "to_ms": 1_700_100_000_000, "pr_auc": 0.5, "roc_auc": 0.7}
    part |= {"recall_at_fpr_1pct": 0.2, "log_loss": 0.1, "brier": 0.01, "base_rate": 0.02}
    return {
        "slices": {name: part for name in ("train", "valid", "calibration", "test")},
        "gap_ms": 86_400_000,
        "gap_rows": 3,
        "rows_unlabelled": 4,
        "trees": {"used": 5, "trained": 9, "stopped": True},
        "calibration": [
            {"from": 0, "to": 0.1, "rows": 5, "mean_probability": 0.01, "share_positive": 0.0},
            {"from": 0.1, "to": 1, "rows": 5, "mean_probability": 0.3, "share_positive": 0.4},
        ],
        "importance": [{"feature": "a:<b>", "mean_abs_contribution": 0.4, "gain": 1}],
    }


def manifest():
    return {
        "service": "fraud",
        "model": "<script>",
        "plan_hash": "0123",
        "git_commit": None,
        "created_ms": 1_760_000_000_000,
        "features": [{"name": "a:<b>", "dtype": "double"}, {"name": "s", "dtype": "string", "categories": ["x"]}],
        "statistics": {"a:<b>": {"null_rate": 0.1, "mean": None}, "s": {"null_rate": 0, "mean": 0.0}},
        "metrics": {**detail()["slices"]["test"], "card_precision_at_100": None},
        "hyperparameters": {"num_trees": 9},
    }


class Report(unittest.TestCase):
    random = np.random.default_rng(1)
    label = (random.random(2_000) < 0.05).astype(float)
    raw = random.normal(-3, 1, 2_000) + 2 * label

    def setUp(self):
        self.page = render(manifest(), detail(), self.label, self.raw)

    def test_needs_no_other_file(self):
        self.assertEqual(re.findall(r"(?:src|href)=|url\(|@import|<script|https?:", self.page), [])

    def test_shows_names_as_text(self):
        self.assertNotIn("<script>", self.page)
        self.assertIn("&lt;script&gt;", self.page)
        self.assertIn("a:&lt;b&gt;", self.page)

    def test_has_both_schemes_and_every_curve(self):
        self.assertIn("prefers-color-scheme: dark", self.page)
        for name in ("precision and recall", "receiver operating", "calibration", "scores of both", "importance", "slices in time"):
            self.assertRegex(self.page, f'aria-label="[^"]*{name}')

    def test_every_drawing_is_well_formed_and_of_numbers(self):
        drawings = re.findall(r"<svg.*?</svg>", self.page, re.S)
        self.assertEqual(len(drawings), 6)
        for drawing in drawings:
            xml.fromstring(drawing)
            self.assertNotRegex(drawing, r"\bnan\b|\binf\b")

    def test_an_unmeasured_metric_is_a_dash(self):
        self.assertRegex(self.page, "<b>–</b><span class=\"soft\">card precision@100")

    def test_says_when_training_was_stopped(self):
        self.assertIn("5 of 9 trees, stopped before its end", self.page)

    def test_a_thinned_curve_keeps_what_few_rows_make_of_it(self):
        # Nine tenths of the positives among the first 200 of 30,000 rows.
        xs = np.append(np.linspace(0, 0.9, 200), np.linspace(0.9, 1, 29_800))
        kept, _ = charts.thinned(xs, 1 - xs)
        self.assertLessEqual(len(kept), 240)
        self.assertLess(float(np.max(np.diff(kept))), 0.02)

    def test_curves_keep_their_ends_when_thinned(self):
        xs, ys = charts.thinned(*metrics.roc_curve(self.label, self.raw))
        self.assertLessEqual(len(xs), charts.MOST_POINTS)
        self.assertEqual((xs[0], ys[0], xs[-1], ys[-1]), (0, 0, 1, 1))

    def test_a_model_that_gives_every_row_one_score_can_be_drawn(self):
        page = render(manifest(), detail(), self.label, np.zeros(2_000))
        for drawing in re.findall(r"<svg.*?</svg>", page, re.S):
            self.assertNotRegex(drawing, r"\bnan\b|\binf\b")
