"""Events: chunks, throttled ones, and batches by size and time."""

from __future__ import annotations

import threading
import time
import unittest
from typing import Any

from freshet import EventsRefused, FreshetError

from .scripted import ScriptedServer, busy, events_answer, reply

ALL = events_answer(lambda _: "queued")


class Events(unittest.TestCase):
    def setUp(self) -> None:
        self.server = ScriptedServer()
        self.addCleanup(self.server.close)
        self.client = self.server.client()
        self.addCleanup(self.client.close)

    def ids(self) -> list[list[str]]:
        return [[event["id"] for event in body["events"]] for _, body, _ in self.server.seen]

    def test_1001_events_go_in_three_requests(self) -> None:
        self.server.script = [ALL]
        results = self.client.send("s", [{"id": f"e{i}"} for i in range(1_001)])
        self.assertEqual([len(ids) for ids in self.ids()], [500, 500, 1])
        self.assertEqual([result["index"] for result in results], list(range(1_001)))

    def test_throttled_events_alone_are_sent_again(self) -> None:
        states = {"a": "queued", "b": "throttled", "c": "invalid"}
        self.server.script = [events_answer(lambda id: states[id], 207), events_answer(lambda _: "throttled", 207), ALL]
        results = self.client.send("s", [{"id": id} for id in "abc"])
        self.assertEqual(self.ids(), [["a", "b", "c"], ["b"], ["b"]])
        self.assertEqual([result["status"] for result in results], ["queued", "queued", "invalid"])

    def test_a_request_that_is_refused_whole_is_an_answer_when_it_tells_each(self) -> None:
        results = [{"index": 0, "event_id": "a", "status": "invalid", "code": "field_missing", "detail": "no amount"}]
        self.server.script = [reply(400, {"code": "field_missing", "results": results})]
        self.assertEqual(self.client.send("s", [{"id": "a"}])[0]["code"], "field_missing")
        self.server.script = [reply(403, {"code": "scope_missing", "detail": "no"})]
        with self.assertRaises(FreshetError):
            self.client.send("s", [{"id": "a"}])

    def test_what_is_too_large_for_one_request_goes_in_several(self) -> None:
        def small_only(body: Any) -> Any:
            large = len(body["events"]) > 3
            return (413, {"code": "body_too_large", "detail": "too large"}, {}) if large else ALL(body)

        self.server.script = [small_only]
        results = self.client.send("s", [{"id": f"e{i}"} for i in range(10)])
        self.assertEqual([len(ids) for ids in self.ids()], [10, 5, 2, 3, 5, 2, 3])
        self.assertEqual([(r["index"], r["event_id"]) for r in results], [(i, f"e{i}") for i in range(10)])

    def test_an_event_that_no_request_holds_is_told_of_alone(self) -> None:
        def without_c(body: Any) -> Any:
            large = any(event["id"] == "c" for event in body["events"])
            return (413, {"code": "body_too_large", "detail": "too large"}, {}) if large else ALL(body)

        self.server.script = [without_c]
        results = self.client.send("s", [{"id": id} for id in "abcde"])
        self.assertEqual([r["status"] for r in results], ["queued", "queued", "invalid", "queued", "queued"])
        self.assertEqual((results[2]["index"], results[2]["code"]), (2, "body_too_large"))

    def test_a_batch_goes_when_it_is_full(self) -> None:
        self.server.script = [ALL]
        with self.client.events("s", max_batch=10, max_delay=60) as sender:
            for i in range(25):
                sender.send({"id": str(i)})
            deadline = time.monotonic() + 5
            while sender.queued < 20 and time.monotonic() < deadline:
                time.sleep(0.01)
            self.assertEqual(sender.queued, 20)
        self.assertEqual(sender.queued, 25)
        self.assertEqual([id for ids in self.ids() for id in ids], [str(i) for i in range(25)])

    def test_an_event_goes_when_it_has_waited(self) -> None:
        self.server.script = [ALL]
        sender = self.client.events("s", max_delay=0.05)
        sender.send({"id": "a"})
        deadline = time.monotonic() + 5
        while sender.queued < 1 and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual(sender.queued, 1)
        sender.close()

    def test_failures_are_raised_at_the_end_with_their_events(self) -> None:
        self.server.script = [events_answer(lambda id: "invalid" if id == "b" else "queued", 207)]
        sender = self.client.events("s")
        for id in "abc":
            sender.send({"id": id})
        with self.assertRaises(EventsRefused) as caught:
            sender.close()
        self.assertEqual([event["id"] for event, _ in caught.exception.failures], ["b"])
        self.assertEqual((caught.exception.total, sender.queued), (1, 2))
        with self.assertRaises(RuntimeError):
            sender.send({"id": "d"})

    def test_a_batch_that_fails_is_told_and_the_next_is_sent(self) -> None:
        told: list[tuple[Any, Any]] = []
        self.server.script = [reply(403, {"code": "scope_missing", "detail": "no"}), ALL]
        with self.client.events("s", max_batch=1, max_delay=60, on_error=lambda *pair: told.append(pair)) as sender:
            sender.send({"id": "a"})
            sender.send({"id": "b"})
        self.assertEqual([(event["id"], result["code"]) for event, result in told], [("a", "scope_missing")])
        self.assertEqual(sender.queued, 1)

    def test_what_no_json_holds_is_told_of_its_batch(self) -> None:
        self.server.script = [ALL]
        told: list[Any] = []
        with self.client.events("s", max_batch=1, on_error=lambda _, result: told.append(result["code"])) as sender:
            sender.send({"id": object()})
            sender.send({"id": "b"})
        self.assertEqual((told, sender.queued), (["unsendable"], 1))

    def test_a_slow_api_slows_its_producer_and_loses_nothing(self) -> None:
        def slow(body: Any) -> Any:
            time.sleep(0.02)
            return ALL(body)

        self.server.script = [slow]
        with self.client.events("s", max_batch=5, max_pending=10, max_delay=0.01) as sender:
            threads = [
                threading.Thread(target=lambda n=n: [sender.send({"id": f"{n}-{i}"}) for i in range(25)]) for n in range(4)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        self.assertEqual(sender.queued, 100)
        self.assertEqual(len({id for ids in self.ids() for id in ids}), 100)

    def test_a_send_that_waits_while_the_sender_is_closed_is_told_so(self) -> None:
        asked, go = threading.Event(), threading.Event()

        def held(body: Any) -> Any:
            asked.set()
            go.wait(10)
            return ALL(body)

        self.server.script = [held]
        sender = self.client.events("s", max_batch=1, max_pending=1)
        sender.send({"id": "a"})
        self.assertTrue(asked.wait(10))
        told: list[str] = []

        def late() -> None:
            try:
                sender.send({"id": "b"})
            except RuntimeError as error:
                told.append(str(error))

        threads = [threading.Thread(target=late)]
        threads[0].start()
        time.sleep(0.2)
        threads.append(threading.Thread(target=sender.close))
        threads[1].start()
        time.sleep(0.2)
        go.set()
        for thread in threads:
            thread.join(10)
        self.assertEqual((told, self.ids(), sender.queued), (["the sender is closed"], [["a"]], 1))

    def test_on_error_may_send_again_though_there_is_no_room(self) -> None:
        seen: list[str] = []

        def first_time_refused(id: str) -> str:
            seen.append(id)
            return "queued" if seen.count(id) > 1 else "throttled"

        self.server.script = [events_answer(first_time_refused, 207)]
        client = self.server.client(deadline=0.0)
        self.addCleanup(client.close)
        sender: Any = None
        with client.events("s", max_batch=2, max_pending=2, on_error=lambda event, _: sender.send(event)) as sender:
            for i in range(20):
                sender.send({"id": f"e{i}"})
            # Returns when what was sent again has its answer too.
            sender.flush()
            self.assertEqual(sender.queued, 20)

    def test_on_error_can_neither_flush_nor_close(self) -> None:
        self.server.script = [events_answer(lambda _: "invalid", 207)]
        told: list[str] = []
        sender: Any = None

        def mistaken(*_: Any) -> None:
            for wait in (sender.flush, sender.close):
                try:
                    wait()
                except RuntimeError as error:
                    told.append(str(error))

        sender = self.client.events("s", max_batch=1, on_error=mistaken)
        sender.send({"id": "a"})
        sender.close()
        self.assertEqual([text.split(":")[0] for text in told], ["on_error runs where events are sent from"] * 2)

    def test_a_busy_stream_is_waited_for(self) -> None:
        self.server.script = [busy(), busy(503), ALL]
        with self.client.events("s") as sender:
            sender.send({"id": "a"})
        self.assertEqual((sender.queued, len(self.server.seen)), (1, 3))
