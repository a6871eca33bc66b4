"""Events in batches, by size and by time."""

from __future__ import annotations

import threading
import time
from types import TracebackType
from typing import Any, Callable, Mapping, Sequence

from ._errors import EventsRefused, FreshetError
from ._http import Transport

Event = Mapping[str, Any]
Result = Mapping[str, Any]
MAX_EVENTS = 500
#: Failures that are kept for `EventsRefused`.
MAX_KEPT = 1_000


def send_all(transport: Transport, stream: str, events: Sequence[Event]) -> list[dict[str, Any]]:
    """One result for each event. What is throttled is sent again until the policy's deadline: an event's id keeps it from
    counting twice.

    :raises FreshetError: when a request failed as a whole
    """
    results: list[dict[str, Any]] = []
    for start in range(0, len(events), MAX_EVENTS):
        results.extend(_send_chunk(transport, stream, events[start : start + MAX_EVENTS], start))
    return results


def _send_chunk(transport: Transport, stream: str, events: Sequence[Event], offset: int) -> list[dict[str, Any]]:
    results: list[dict[str, Any]] = [{} for _ in events]
    waiting = list(range(len(events)))
    end = time.monotonic() + transport.retry.deadline
    attempt = 0
    while True:
        attempt += 1
        try:
            answer = transport.call("POST", f"/v1/events/{stream}", {"events": [events[i] for i in waiting]})
        except FreshetError as error:
            # A refused request of events tells the fate of each: that is an answer.
            if isinstance(error.problem.get("results"), list):
                answer = error.problem
            elif error.status != 413:
                raise
            elif len(events) > 1:
                # Events of any size: what is too much for one request goes in two.
                half = len(events) // 2
                first = _send_chunk(transport, stream, events[:half], offset)
                return first + _send_chunk(transport, stream, events[half:], offset + half)
            else:
                # The fault of this one, which keeps no other from being sent.
                told = {"event_id": None, "status": "invalid", "code": error.code, "detail": error.detail}
                answer = {"results": [told]}
        for place, result in zip(waiting, answer["results"]):
            results[place] = {**result, "index": offset + place}
        waiting = [place for place in waiting if results[place]["status"] == "throttled"]
        pause = transport.retry.pause(attempt)
        if not waiting or time.monotonic() + pause >= end:
            return results
        time.sleep(pause)


class EventSender:
    """Gathers events and sends them from a thread of its own when there are `max_batch` of them, or the oldest has waited for
    `max_delay` seconds. `send` blocks while `max_pending` events wait: memory is bounded, and a slow API slows its producer.

    `on_error` is called from that thread, and may `send` again what it thinks worth it, beyond `max_pending` by a batch at most, until
    the sender is closed; it can neither flush nor close. Without it, failures are kept, and `flush` and `close` raise `EventsRefused`.
    """

    def __init__(
        self,
        transport: Transport,
        stream: str,
        *,
        max_batch: int = MAX_EVENTS,
        max_delay: float = 0.2,
        max_pending: int = 10_000,
        on_error: Callable[[Event, Result], None] | None = None,
    ) -> None:
        if not 1 <= max_batch <= MAX_EVENTS:
            raise ValueError(f"max_batch is 1 to {MAX_EVENTS}, given {max_batch}")
        self._transport, self._stream = transport, stream
        self._max_batch, self._max_delay, self._max_pending = max_batch, max_delay, max(max_pending, max_batch)
        self._on_error = on_error
        self._pending: list[Event] = []
        self._oldest = 0.0
        self._sending = 0
        self._flushing = False
        self._closed = False
        self._failures: list[tuple[Event, Result]] = []
        self._failed = 0
        #: Events that the API has queued.
        self.queued = 0
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name=f"freshet-{stream}", daemon=True)
        self._thread.start()

    def send(self, event: Event) -> None:
        # From `on_error` it does not wait: the thread that it runs on is the one that makes room.
        waits = threading.current_thread() is not self._thread
        with self._changed:
            while waits and not self._closed and len(self._pending) + self._sending >= self._max_pending:
                self._changed.wait()
            # It may have been closed meanwhile: nobody would send the event.
            if self._closed:
                raise RuntimeError("the sender is closed")
            if not self._pending:
                self._oldest = time.monotonic()
            self._pending.append(event)
            # The thread sleeps until the first event, or until there are enough.
            if len(self._pending) == 1 or len(self._pending) >= self._max_batch:
                self._changed.notify_all()

    def flush(self) -> None:
        """Returns when all that was given has an answer.

        :raises EventsRefused:
        """
        if threading.current_thread() is self._thread:
            raise RuntimeError("on_error runs where events are sent from: what it waited for would never come")
        with self._changed:
            self._flushing = True
            self._changed.notify_all()
            while self._pending or self._sending:
                self._changed.wait()
            self._flushing = False
            failures, total = self._failures, self._failed
            self._failures, self._failed = [], 0
        if total > 0:
            raise EventsRefused(failures, total)

    def close(self) -> None:
        """Flushes, and ends the thread. :raises EventsRefused:"""
        if threading.current_thread() is self._thread:
            raise RuntimeError("on_error runs where events are sent from: close the sender elsewhere")
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        try:
            self.flush()
        finally:
            self._thread.join()

    def __enter__(self) -> EventSender:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._due():
                    if self._closed and not self._pending:
                        return
                    left = self._oldest + self._max_delay - time.monotonic() if self._pending else None
                    self._changed.wait(left)
                batch = self._pending[: self._max_batch]
                del self._pending[: len(batch)]
                self._oldest = time.monotonic()
                self._sending = len(batch)
            results = self._answers(batch)
            refused = [(event, result) for event, result in zip(batch, results) if result["status"] != "queued"]
            if self._on_error is not None:
                for event, result in refused:
                    try:
                        self._on_error(event, result)
                    except Exception:  # noqa: BLE001 - a caller's mistake must not stop the events behind it
                        pass
            with self._changed:
                self.queued += len(batch) - len(refused)
                if self._on_error is None:
                    self._failed += len(refused)
                    self._failures.extend(refused[: MAX_KEPT - len(self._failures)])
                self._sending = 0
                self._changed.notify_all()

    def _due(self) -> bool:
        if not self._pending:
            return False
        old = time.monotonic() - self._oldest >= self._max_delay
        return old or self._flushing or self._closed or len(self._pending) >= self._max_batch

    def _answers(self, batch: Sequence[Event]) -> Sequence[Result]:
        try:
            return send_all(self._transport, self._stream, batch)
        except Exception as error:  # noqa: BLE001 - whatever it is, it is told of these events, and the next are sent
            told = {"status": "failed", "code": getattr(error, "code", "unsendable"), "detail": str(error)}
            return [told] * len(batch)
