import json
import tempfile
import unittest
from pathlib import Path

import numpy as np

import synthetic
from trainer.data import read_training_set
from trainer.encode import fit_encoder
from trainer.hyperparameters import Hyperparameters
from trainer.refusal import Refusal


class Reading(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.features = synthetic.small_features()
        self.values = synthetic.columns(self.features, 60, 3)

    def write(self, **changes):
        synthetic.write(self.folder, self.features, self.values, synthetic.manifest(self.features, self.values, **changes))

    def read(self, **wanted):
        return read_training_set(self.folder, Hyperparameters(**wanted))

    def refused(self, code, **wanted):
        with self.assertRaises(Refusal) as caught:
            self.read(**wanted)
        self.assertEqual(caught.exception.code, code)
        return str(caught.exception)

    def edit(self, **changes):
        path = self.folder / "manifest.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    def test_columns_come_in_the_manifests_order_with_null_as_nan(self):
        self.write()
        data = self.read()
        self.assertEqual([feature.name for feature in data.features], [feature["name"] for feature in self.features])
        for feature, column in zip(data.features, data.columns):
            wanted = self.values[feature.name]
            if feature.dtype == "string":
                self.assertEqual(list(column), wanted)
            else:
                np.testing.assert_array_equal(column, [np.nan if value is None else float(value) for value in wanted])
        self.assertEqual(list(data.cards), self.values["card_id"])

    def test_null_strings_are_none_and_no_category(self):
        self.values["request:country"][4] = None
        self.values["request:country"][40] = None
        self.values["card_id"][7] = None
        self.write()
        data = self.read()
        self.assertEqual(list(data.columns[-1]), self.values["request:country"])
        self.assertEqual(list(data.cards), self.values["card_id"])
        encoder = fit_encoder(data.features, data.columns, 200)
        self.assertEqual(sorted(encoder.categories[4]), sorted(set(self.values["request:country"]) - {None}))
        codes = encoder.encode(data.columns)[:, 4]
        self.assertEqual(list(np.flatnonzero(np.isnan(codes))), [4, 40])

    def test_a_string_column_may_be_null_throughout(self):
        self.values["request:country"] = [None] * 60
        self.write()
        self.assertEqual(list(self.read().columns[-1]), [None] * 60)

    def test_rows_are_in_order_of_time_whatever_the_files_hold(self):
        self.values["as_of_ms"] = self.values["as_of_ms"][::-1]
        self.write()
        data = self.read()
        self.assertTrue((np.diff(data.as_of_ms) >= 0).all())
        self.assertEqual(list(data.label), self.values["label"][::-1])

    def test_rows_of_one_instant_without_ids_stay_as_they_lie(self):
        self.values["as_of_ms"] = [self.values["as_of_ms"][0]] * 60
        del self.values["event_id"]
        # A column of the user's that is called as DuckDB calls the number of a row.
        self.values["file_row_number"] = list(range(60))[::-1]
        self.write()
        self.assertEqual(list(self.read().cards), self.values["card_id"])

    def test_rows_whose_label_is_not_known_are_left_out_and_counted(self):
        self.values["label"][5] = None
        self.write()
        data = self.read()
        self.assertEqual((len(data.label), data.unlabelled), (59, 1))

    def test_no_card_column_is_no_error(self):
        del self.values["card_id"]
        self.write()
        self.assertIsNone(self.read().cards)

    def test_another_plan_or_service_is_refused(self):
        self.write()
        message = self.refused("plan_hash_mismatch", plan_hash="fedc")
        self.assertIn("the training set is of plan_hash 0123456789abcdef, training was asked for fedc", message)
        self.refused("service_mismatch", service="offers")
        self.read(plan_hash="0123456789abcdef", service="fraud")

    def test_another_tenant_is_refused_and_a_set_of_nobody_is_not(self):
        self.write(tenant="team-a")
        message = self.refused("tenant_mismatch", tenant="team-b")
        self.assertIn("the training set is of tenant team-a, training was asked for team-b", message)
        self.read(tenant="team-a")
        self.read()
        self.write()
        self.read(tenant="team-b")

    def test_no_manifest_says_what_is_there(self):
        self.write()
        (self.folder / "manifest.json").unlink()
        self.assertIn("(found: part-0.parquet, part-1.parquet)", self.refused("manifest_missing"))

    def test_broken_manifests(self):
        self.write()
        self.edit(version=2)
        self.refused("manifest_invalid")
        (self.folder / "manifest.json").write_text("{")
        self.refused("manifest_invalid")

    def test_an_unknown_dtype_names_the_feature(self):
        self.write()
        self.edit(features=[*self.features, {"name": "x", "dtype": "decimal"}])
        self.assertIn("feature x has dtype decimal; use double, int64, string, boolean", self.refused("dtype_unknown"))

    def test_a_missing_column_is_named(self):
        self.write()
        self.edit(features=[*self.features, {"name": "gone", "dtype": "double"}])
        self.assertIn("has no column gone", self.refused("column_missing"))

    def test_a_column_of_another_type_is_named(self):
        self.write()
        self.edit(features=[{"name": "request:country", "dtype": "double"}])
        message = self.refused("column_type")
        self.assertIn("column request:country is VARCHAR, the manifest says double", message)

    def test_a_feature_named_twice(self):
        self.write()
        self.edit(features=[*self.features, self.features[0]])
        self.refused("feature_repeated")

    def test_no_files(self):
        self.write()
        for path in self.folder.glob("*.parquet"):
            path.unlink()
        self.refused("no_rows")

    def test_a_corrupt_file_is_named(self):
        self.write()
        path = self.folder / "part-1.parquet"
        whole = path.read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
        self.assertIn("part-1.parquet cannot be read", self.refused("parquet_invalid"))

    def test_a_file_with_bad_pages_is_named(self):
        self.write()
        path = self.folder / "part-1.parquet"
        whole = bytearray(path.read_bytes())
        whole[4:400] = b"\xff" * 396
        path.write_bytes(whole)
        self.assertIn("part-1.parquet cannot be read", self.refused("parquet_invalid"))

    def test_rows_that_the_manifest_does_not_count(self):
        self.write(row_count=61)
        self.assertIn("the manifest counts 61 rows, the files hold 60", self.refused("row_count"))

    def test_labels_other_than_zero_and_one(self):
        self.values["label"][0] = 2.0
        self.write()
        self.assertIn("a label is 2", self.refused("label_invalid"))
