"""Errors, in the words of the API's problem documents."""

from __future__ import annotations

from typing import Any, Mapping, Sequence


class FreshetError(Exception):
    """What the API refused. `code` is stable. Below HTTP, `status` is 0 and `code` is `network` or `timeout`."""

    def __init__(self, status: int, problem: Mapping[str, Any]) -> None:
        self.status = status
        self.problem = problem
        self.code: str = str(problem.get("code") or f"http_{status}")
        self.detail: str = str(problem.get("detail") or f"the API answered {status}")
        self.field: str | None = problem.get("field")
        self.repair: str | None = problem.get("repair")
        self.request_id: str | None = problem.get("request_id")
        super().__init__(self.code, self.detail)

    def __str__(self) -> str:
        told = f"{self.detail} ({self.code}" + (f", {self.field})" if self.field else ")")
        return told + (f"; {self.repair}" if self.repair else "")


class EventsRefused(Exception):
    """Events that were not queued, with what the API said of each. Those that it does not list were."""

    def __init__(self, failures: Sequence[tuple[Mapping[str, Any], Mapping[str, Any]]], total: int) -> None:
        #: Pairs of (event, result), at most 1,000 of them.
        self.failures = failures
        self.total = total
        first = failures[0][1] if failures else {}
        said = first.get("detail") or first.get("status") or "no answer"
        super().__init__(f"{total} events were not queued; the first: {said}")


class JobFailed(FreshetError):
    """A historical job that ended without files."""
