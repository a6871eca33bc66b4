"""Against a running API: FRESHET_URL and FRESHET_KEY, a key with every scope of a tenant that nobody else uses."""

from __future__ import annotations

import os
import tempfile
import time
import unittest
import uuid
from typing import Any

from freshet import Client, FreshetError

try:
    import pandas
except ImportError:
    pandas = None  # type: ignore[assignment]
URL, KEY = os.environ.get("FRESHET_URL"), os.environ.get("FRESHET_KEY")
FEATURES = ["card_activity:tx_count_1h", "card_activity:amount_sum_1h"]


def now_ms() -> int:
    return int(time.time() * 1000)


def payment(card: str, **more: Any) -> dict[str, Any]:
    fixed = {"merchant_id": "m1", "currency": "EUR", "country": "SE", "merchant_category": "fuel", "status": "approved"}
    return {"transaction_id": str(uuid.uuid4()), "event_time": now_ms(), "card_id": card, "amount": 10.0, **fixed, **more}


@unittest.skipUnless(URL and KEY, "FRESHET_URL and FRESHET_KEY name no API")
class Live(unittest.TestCase):
    client: Client
    card: str

    @classmethod
    def setUpClass(cls) -> None:
        assert URL is not None and KEY is not None
        cls.client = Client(URL, KEY)
        cls.card = f"c-{uuid.uuid4()}"
        events = [payment(cls.card) for _ in range(3)]
        with cls.client.events("transactions") as sender:
            # Twice: an event's id keeps it from counting twice.
            for event in events + events:
                sender.send(event)
        end = time.monotonic() + 60
        while cls.client.online(FEATURES, card_id=cls.card).value(FEATURES[0]) != 3:
            assert time.monotonic() < end, "the events did not become features"
            time.sleep(0.3)

    @classmethod
    def tearDownClass(cls) -> None:
        cls.client.close()

    def test_reads(self) -> None:
        row = self.client.online(FEATURES, {"card_id": self.card})
        self.assertEqual(row.values_by_name(), {FEATURES[0]: 3, FEATURES[1]: 30})
        self.assertEqual((row[FEATURES[0]].status, row.degraded_reason), ("PRESENT", None))
        rows = self.client.batch([{"card_id": self.card}, {"card_id": "none"}] * 75, FEATURES)
        self.assertEqual([row.value(FEATURES[0]) for row in rows], [3, None] * 75)
        self.assertEqual(self.client.entity("card", self.card).value(FEATURES[1]), 30)
        row = self.client.online(
            service="fraud",
            request={"amount": 10.0, "country": "SE"},
            **{"card_id": self.card, "merchant_id": "m1"},
        )
        self.assertEqual(row.value("amount_to_mean"), 1)

    def test_scores(self) -> None:
        row = {"card_id": self.card, "merchant_id": "m1", "amount": 10.0, "country": "SE"}
        score = self.client.score("fraud", row, explain=True)
        self.assertEqual((score["degraded"], score["explanation"]["method"]), (False, "rules"))
        self.assertEqual([one["score"] for one in self.client.score_batch("fraud", [row] * 150)], [score["score"]] * 150)
        ranked = self.client.rank("recommendation", {"user_id": "u1", "category": None, "candidates": ["i1", "i2"]})
        self.assertEqual({item["id"] for item in ranked["items"]}, {"i1", "i2"})

    def test_pushed_features(self) -> None:
        name = f"python:age_{uuid.uuid4().hex[:8]}"
        self.client.register(name, dtype="int64", entity="card", ttl="1d")
        rows = [{"id": f"{self.card}-{i}", "event_time_ms": now_ms(), "values": [i]} for i in range(600)]
        rows[550]["values"] = ["many"]
        self.assertEqual([one["index"] for one in self.client.push([name], rows)], [550])
        self.assertEqual(self.client.online([name], card_id=f"{self.card}-599").value(name), 599)

    def test_an_error_has_the_api_s_words(self) -> None:
        with self.assertRaises(FreshetError) as caught:
            self.client.online(["card_activity:none"], card_id="c")
        error = caught.exception
        self.assertEqual((error.status, error.code, error.field), (404, "feature_unknown", "features[0]"))
        self.assertIn("card_activity:", error.repair or "")
        with Client(URL or "", "fk_none_none") as stranger, self.assertRaises(FreshetError) as caught:
            stranger.entity("card", "c")
        self.assertEqual(caught.exception.code, "api_key_invalid")

    def test_features_as_they_were(self) -> None:
        row = {"as_of_ms": now_ms(), "card_id": self.card, "merchant_id": "m1", "amount": 10.0, "country": "SE"}
        job = self.client.historical("fraud", [row]).wait(timeout=120)
        self.assertEqual((job.state, job.progress), ("done", 1))
        self.assertEqual(self.client.historical_job(job.id).state, "done")
        with tempfile.TemporaryDirectory() as folder:
            names = [path.name for path in job.download(folder)]
        self.assertIn("manifest.json", names)
        self.assertTrue(any(name.endswith(".parquet") for name in names))

    def test_a_job_that_has_ended_is_not_cancelled(self) -> None:
        job = self.client.historical("fraud", [{"as_of_ms": now_ms(), "card_id": self.card, "amount": 1.0}]).wait(120)
        with self.assertRaises(FreshetError) as caught:
            job.cancel()
        self.assertEqual((caught.exception.status, caught.exception.code), (409, "job_ended"))

    @unittest.skipIf(pandas is None, "pandas is not installed")
    def test_frames(self) -> None:
        frame = pandas.DataFrame({"card_id": [self.card, "none", None], "note": ["x", "y", "z"]}, index=[7, 8, 9])
        read = self.client.features_frame(frame, FEATURES, keys=["card_id"])
        self.assertEqual(list(read.columns), ["card_id", "note", *FEATURES])
        self.assertEqual(list(read.index), [7, 8, 9])
        self.assertEqual(read.loc[7, FEATURES[0]], 3)
        self.assertTrue(read[FEATURES[0]].isna().tolist() == [False, True, True])
        to_score = pandas.DataFrame(
            {"card_id": [self.card] * 2, "merchant_id": "m1", "amount": [10.0, float("nan")], "country": ["SE", None]}
        )
        scored = self.client.score_frame("fraud", to_score)
        self.assertEqual(list(scored.columns)[-4:], ["score", "decision", "model_version", "variant"])
        times = pandas.Timestamp.now("UTC")
        events = pandas.DataFrame([payment(f"{self.card}-f", event_time=times) for _ in range(2)])
        self.assertEqual([result["status"] for result in self.client.send("transactions", events)], ["queued"] * 2)
        naive = events.assign(event_time=pandas.Timestamp("2026-01-31"))
        with self.assertRaisesRegex(ValueError, "times of event_time have no zone"):
            self.client.send("transactions", naive)

    @unittest.skipIf(pandas is None, "pandas is not installed")
    def test_frames_of_pushed_and_past_values(self) -> None:
        name = f"python:tier_{uuid.uuid4().hex[:8]}"
        self.client.register(name, dtype="string", entity="card", ttl="1d")
        frame = pandas.DataFrame({"card": [self.card, "c2"], "tier": ["gold", None], "at": pandas.Timestamp.now("UTC")})
        self.assertEqual(self.client.push_frame(frame, {name: "tier"}, id="card", event_time="at"), [])
        self.assertEqual(self.client.online([name], card_id=self.card).value(name), "gold")
        rows = pandas.DataFrame(
            {"as_of_ms": [now_ms()] * 2, "card_id": [self.card, "none"], "merchant_id": "m1", "amount": 1.0, "country": "SE"}
        )
        past = self.client.historical("fraud", rows).to_pandas()
        self.assertEqual(len(past), 2)
        self.assertEqual(past.loc[past["card_id"] == self.card, FEATURES[0]].tolist(), [3])
