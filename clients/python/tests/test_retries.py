"""How calls meet a server that is busy, slow, silent or gone."""

from __future__ import annotations

import time
import unittest
from email.utils import formatdate

from freshet import Client, FreshetError

from .scripted import ScriptedServer, busy, cut, reply

READ = {"features": {"a:b": {"value": 1, "status": "PRESENT", "event_time_ms": 5}}, "as_of_ms": 9, "degraded_reason": None}


class Retries(unittest.TestCase):
    def setUp(self) -> None:
        self.server = ScriptedServer()
        self.addCleanup(self.server.close)

    def read(self, **retry: float):
        with self.server.client(**retry) as client:
            return client.online(["a:b"], id="c")

    def refusal(self, **retry: float) -> FreshetError:
        with self.assertRaises(FreshetError) as caught:
            self.read(**retry)
        return caught.exception

    def test_what_is_busy_or_down_is_asked_again_no_earlier_than_it_says(self) -> None:
        for status in (429, 502, 503, 504):
            self.server.script, self.server.seen = [busy(status, retry_after="1"), reply(200, READ)], []
            self.assertEqual(self.read()["a:b"].value, 1)
            (_, _, first), (_, _, second) = self.server.seen
            self.assertGreaterEqual(second - first, 0.99)

    def test_values_of_snapshots_say_how_old_they_are(self) -> None:
        self.server.script = [reply(200, {**READ, "degraded_reason": "snapshot", "snapshot_age_ms": 61_000}), reply(200, READ)]
        old, new = self.read(), self.read()
        self.assertEqual((old.degraded_reason, old.snapshot_age_ms, new.snapshot_age_ms), ("snapshot", 61_000, None))

    def test_an_http_date_is_waited_for(self) -> None:
        self.server.script = [busy(retry_after=formatdate(time.time() + 2, usegmt=True)), reply(200, READ)]
        self.read()
        self.assertGreater(self.server.seen[1][2] - self.server.seen[0][2], 0.9)

    def test_a_wait_beyond_the_deadline_ends_the_call_at_once(self) -> None:
        self.server.script = [busy(retry_after="3600")]
        error = self.refusal()
        self.assertEqual((error.status, error.code, error.repair, error.request_id), (429, "throttled", "wait", "r1"))
        self.assertEqual(len(self.server.seen), 1)

    def test_a_quota_that_does_not_suffice_is_not_waited_for(self) -> None:
        self.server.script = [reply(429, {"code": "quota_exceeded", "detail": "the call costs 11 tokens"})]
        self.assertEqual(self.refusal().code, "quota_exceeded")
        self.assertEqual(len(self.server.seen), 1)

    def test_four_attempts(self) -> None:
        self.server.script = [busy()]
        self.assertEqual(str(self.refusal()), "too much (throttled); wait")
        self.assertEqual(len(self.server.seen), 4)

    def test_a_refusal_is_not_asked_again(self) -> None:
        self.server.script = [reply(400, {"code": "wrong_type", "detail": "no", "field": "entities.id"})]
        self.assertEqual(str(self.refusal()), "no (wrong_type, entities.id)")
        self.server.script = [reply(500, b"<html>")]
        self.assertEqual(self.refusal().code, "http_500")
        self.assertEqual(len(self.server.seen), 2)

    def test_a_cut_connection_is_made_again(self) -> None:
        self.server.script = [cut, reply(200, READ)]
        self.assertEqual(self.read().as_of_ms, 9)

    def test_silence_ends_within_the_deadline(self) -> None:
        def sleep(_: object) -> None:
            time.sleep(1)

        self.server.script = [sleep]
        began = time.monotonic()
        self.assertEqual(self.refusal(timeout=0.1, deadline=0.4).code, "timeout")
        self.assertLess(time.monotonic() - began, 3)
        self.assertGreater(len(self.server.seen), 1)

    def test_an_answer_that_is_no_json(self) -> None:
        self.server.script = [reply(200, b"hello")]
        self.assertEqual(self.refusal().code, "answer_unreadable")

    def test_nobody_there(self) -> None:
        self.server.close()
        self.assertEqual(self.refusal(deadline=0.2).code, "network")

    def test_a_historical_job_is_not_started_twice(self) -> None:
        self.server.script = [cut]
        with self.server.client() as client, self.assertRaises(FreshetError):
            client.historical("fraud")
        self.assertEqual(len(self.server.seen), 1)

    def test_a_gateway_that_has_no_answer_may_have_started_the_job(self) -> None:
        for status, calls in ((502, 1), (504, 1), (503, 4), (429, 4)):
            self.server.script, self.server.seen = [busy(status)], []
            with self.server.client() as client, self.assertRaises(FreshetError):
                client.historical("fraud")
            self.assertEqual((status, len(self.server.seen)), (status, calls))

    def test_a_connection_is_kept_and_one_that_was_closed_meanwhile_is_made_anew(self) -> None:
        self.server.script = [reply(200, READ)]
        with self.server.client(attempts=1) as client:
            for _ in range(3):
                client.online(["a:b"], id="c")
            self.assertEqual(self.server.connections, 1)
            self.server.script = [reply(200, READ, connection="close"), reply(200, READ)]
            for _ in range(3):
                client.online(["a:b"], id="c")
        self.assertEqual(self.server.connections, 2)

    def test_an_id_is_one_part_of_a_path(self) -> None:
        self.server.script = [reply(200, READ)]
        with self.server.client() as client:
            client.entity("card", "a/b %?#ä")
        self.assertEqual(self.server.seen[0][0], "/v1/features/card/a%2Fb%20%25%3F%23%C3%A4")

    def test_nan_is_refused_before_it_is_sent(self) -> None:
        self.server.script = [reply(200, READ)]
        with self.server.client() as client, self.assertRaises(ValueError):
            client.score("fraud", {"amount": float("nan")})
        self.assertEqual(self.server.seen, [])

    def test_an_address_that_is_none(self) -> None:
        with self.assertRaisesRegex(ValueError, "url is https://host or http://host, given 'api.example.com'"):
            Client("api.example.com", "k")

    def test_no_key_in_errors(self) -> None:
        self.server.script = [busy()]
        error = self.refusal(attempts=1)
        self.assertNotIn("fk_a_b", repr(error) + str(error) + repr(error.problem))
