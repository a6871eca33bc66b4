"""Calls with many rows: parts, what is too large for one request, and refusals with the places of the whole call."""

from __future__ import annotations

import unittest
from typing import Any

from freshet import FreshetError

from .scripted import ScriptedServer, reply


def pushed(body: Any) -> Any:
    """As the API answers: rows whose value is no number are refused; all of them is a problem document."""
    refused = [
        {"index": i, "id": row["id"], "code": "wrong_type", "field": "values[0]", "detail": "no number"}
        for i, row in enumerate(body["rows"])
        if not isinstance(row["values"][0], int)
    ]
    answer = {"accepted": len(body["rows"]) - len(refused), "refused": len(refused), "results": refused}
    if answer["accepted"] > 0:
        return 207 if refused else 200, answer, {}
    return 400, {**answer, "code": "wrong_type", "detail": "no number", "field": "values[0]"}, {}


def rows(count: int, *bad: int) -> list[dict[str, Any]]:
    return [{"id": f"r{i}", "event_time_ms": 1, "values": ["x" if i in bad else i]} for i in range(count)]


class Rows(unittest.TestCase):
    def setUp(self) -> None:
        self.server = ScriptedServer()
        self.addCleanup(self.server.close)
        self.client = self.server.client()
        self.addCleanup(self.client.close)

    def refused(self, given: list[dict[str, Any]]) -> list[tuple[int, str]]:
        return [(one["index"], one["id"]) for one in self.client.push(["profile:age"], given)]

    def sizes(self, rows: str = "rows") -> list[int]:
        return [len(body[rows]) for _, body, _ in self.server.seen]

    def limited(self, most: int, answer: Any) -> Any:
        def small_only(body: Any) -> Any:
            given = body.get("rows") or body.get("entities")
            return (413, {"code": "body_too_large", "detail": "too large"}, {}) if len(given) > most else answer(body)

        return small_only

    def test_refused_rows_are_told_by_their_place_in_the_call_also_where_a_request_holds_no_other(self) -> None:
        self.server.script = [pushed]
        self.assertEqual(self.refused(rows(501, 0, 500)), [(0, "r0"), (500, "r500")])
        self.assertEqual(self.sizes(), [500, 1])
        self.assertEqual(self.refused(rows(1, 0)), [(0, "r0")])
        self.assertEqual(self.refused(rows(2)), [])
        self.assertEqual(self.refused([]), [])

    def test_a_push_that_is_refused_as_a_whole_raises_with_the_row_s_place_in_the_call(self) -> None:
        problem = {"code": "row_shape", "detail": "rows[0] is an object, given a number", "field": "rows[0]"}
        self.server.script = [pushed, reply(400, problem)]
        with self.assertRaises(FreshetError) as caught:
            self.client.push(["profile:age"], rows(501))
        self.assertEqual(str(caught.exception), "rows[500] is an object, given a number (row_shape, rows[500])")

    def test_what_is_too_large_for_one_request_goes_in_several(self) -> None:
        self.server.script = [self.limited(3, pushed)]
        self.assertEqual(self.refused(rows(10, 0, 9)), [(0, "r0"), (9, "r9")])
        self.assertEqual(self.sizes(), [10, 5, 2, 3, 5, 2, 3])
        self.server.script = [self.limited(0, pushed)]
        self.assertEqual([one["code"] for one in self.client.push(["profile:age"], rows(2))], ["body_too_large"] * 2)

    def test_scores_and_reads_too(self) -> None:
        def scored(body: Any) -> Any:
            return 200, {"rows": [{"score": row["amount"]} for row in body["rows"]]}, {}

        def read(body: Any) -> Any:
            cells = [{"values": [e["id"]], "statuses": ["PRESENT"], "event_times_ms": [1]} for e in body["entities"]]
            return 200, {"features": ["a:b"], "rows": cells, "as_of_ms": 1, "degraded_reason": None}, {}

        self.server.script = [self.limited(60, scored)]
        given = [{"amount": i} for i in range(150)]
        self.assertEqual([one["score"] for one in self.client.score_batch("fraud", given)], list(range(150)))
        self.server.seen = []
        self.server.script = [self.limited(60, read)]
        found = self.client.batch([{"id": str(i)} for i in range(150)], ["a:b"])
        self.assertEqual([row.value("a:b") for row in found], [str(i) for i in range(150)])
        self.assertEqual(self.sizes("entities"), [100, 50, 50, 50])
        self.server.script = [self.limited(0, scored)]
        with self.assertRaises(FreshetError) as caught:
            self.client.score_batch("fraud", [{"amount": 1}])
        self.assertEqual((caught.exception.status, caught.exception.code), (413, "body_too_large"))

    def test_names_or_a_service_and_not_both(self) -> None:
        for selection in ({}, {"features": ["a:b"], "service": "fraud"}):
            with self.assertRaisesRegex(ValueError, "give features or a service, one of the two"):
                self.client.online(id="c", **selection)
            with self.assertRaisesRegex(ValueError, "give features or a service, one of the two"):
                self.client.batch([{"id": "c"}], **selection)
        self.assertEqual(self.server.seen, [])
