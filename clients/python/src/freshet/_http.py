"""HTTP with connections that are kept, and retries that spread out."""

from __future__ import annotations

import http.client
import json
import random
import socket
import ssl
import threading
import time
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

from ._errors import FreshetError

RETRIED = frozenset((429, 502, 503, 504))
#: Comes back at midnight, or never for a call that costs more than a day has.
QUOTA = "quota_exceeded"
#: Of these a gateway tells when it has no answer: what was asked may have been done.
UNKNOWN = frozenset((502, 504))
#: A server closes a connection that rests for 65 s; one that rested longer than this is not used again.
REST_SECONDS = 50.0


@dataclass(frozen=True)
class RetryPolicy:
    """Of one call: 429, 502, 503, 504, lost connections and silence are tried again, after a random pause below a bound that
    doubles, and no earlier than `Retry-After`. A `Retry-After` beyond the deadline ends the call at once."""

    attempts: int = 4
    #: Seconds for one attempt.
    timeout: float = 5.0
    #: Seconds for all of them together.
    deadline: float = 15.0
    first_pause: float = 0.1
    longest_pause: float = 5.0

    def pause(self, attempt: int) -> float:
        return random.random() * min(self.longest_pause, self.first_pause * 2.0 ** (attempt - 1))


class Transport:
    """Thread-safe: each call borrows a connection, and puts it back when its answer has been read."""

    def __init__(self, url: str, api_key: str, retry: RetryPolicy, context: ssl.SSLContext | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(f"url is https://host or http://host, given {url!r}")
        self._host, self._port = parts.hostname, parts.port
        self._context = (context or ssl.create_default_context()) if parts.scheme == "https" else None
        self._base = parts.path.rstrip("/")
        self._api_key = api_key
        self.retry = retry
        self._idle: list[tuple[http.client.HTTPConnection, float]] = []
        self._lock = threading.Lock()

    def call(self, method: str, path: str, body: Any = None, *, repeatable: bool = True) -> Any:
        """
        :param repeatable: False where doing it twice is not doing it once: then a lost answer is an error
        :raises FreshetError:
        """
        data = None if body is None else json.dumps(body, allow_nan=False, separators=(",", ":")).encode()
        end = time.monotonic() + self.retry.deadline
        attempt = 0
        while True:
            attempt += 1
            pause = self.retry.pause(attempt)
            cause: Exception | None = None
            try:
                status, retry_after, text = self._once(method, path, data, end, repeatable)
            except (OSError, http.client.HTTPException) as error:
                late = isinstance(error, (socket.timeout, TimeoutError))
                detail = "the API did not answer in time" if late else "the API could not be reached"
                failure = FreshetError(0, {"code": "timeout" if late else "network", "detail": detail})
                cause = error
                if not repeatable:
                    raise failure from cause
            else:
                if status < 300:
                    return _parsed(status, text)
                failure = FreshetError(status, _problem(status, text))
                if failure.code == QUOTA or status not in RETRIED or (status in UNKNOWN and not repeatable):
                    raise failure
                pause += retry_after
            if attempt >= self.retry.attempts or time.monotonic() + pause >= end:
                raise failure from cause
            time.sleep(pause)

    def close(self) -> None:
        with self._lock:
            idle, self._idle = self._idle, []
        for connection, _ in idle:
            connection.close()

    def _once(
        self, method: str, path: str, data: bytes | None, end: float, repeatable: bool
    ) -> tuple[int, float, bytes]:
        timeout = max(0.001, min(self.retry.timeout, end - time.monotonic()))
        # One that rests may have been closed by the other side meanwhile, and then it is not known what was done.
        connection, kept = self._borrow(timeout) if repeatable else (self._connect(timeout), False)
        try:
            try:
                response = self._send(connection, method, path, data)
            except (ConnectionError, http.client.BadStatusLine):
                # A kept connection may have been closed by the other side: that says nothing of the API.
                connection.close()
                if not kept:
                    raise
                connection = self._connect(timeout)
                response = self._send(connection, method, path, data)
            text = response.read()
        except BaseException:
            connection.close()
            raise
        if response.will_close:
            connection.close()
        else:
            with self._lock:
                self._idle.append((connection, time.monotonic()))
        return response.status, _retry_after(response.getheader("retry-after")), text

    def _send(
        self, connection: http.client.HTTPConnection, method: str, path: str, data: bytes | None
    ) -> http.client.HTTPResponse:
        headers = {"x-api-key": self._api_key, "accept": "application/json"}
        if data is not None:
            headers["content-type"] = "application/json"
        connection.request(method, self._base + path, body=data, headers=headers)
        return connection.getresponse()

    def _borrow(self, timeout: float) -> tuple[http.client.HTTPConnection, bool]:
        with self._lock:
            while self._idle:
                connection, since = self._idle.pop()
                if time.monotonic() - since < REST_SECONDS and connection.sock is not None:
                    connection.sock.settimeout(timeout)
                    return connection, True
                connection.close()
        return self._connect(timeout), False

    def _connect(self, timeout: float) -> http.client.HTTPConnection:
        if self._context is None:
            return http.client.HTTPConnection(self._host, self._port, timeout=timeout)
        return http.client.HTTPSConnection(self._host, self._port, timeout=timeout, context=self._context)


def _parsed(status: int, text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError as error:
        raise FreshetError(status, {"code": "answer_unreadable", "detail": "the answer is not JSON"}) from error


def _problem(status: int, text: bytes) -> dict[str, Any]:
    try:
        document = json.loads(text)
    except ValueError:
        document = None
    # Something between the API and here: its page says nothing that a program can use.
    return document if isinstance(document, dict) else {"detail": f"the API answered {status}"}


def _retry_after(header: str | None) -> float:
    """Seconds, or an HTTP date."""
    if not header:
        return 0.0
    try:
        return max(0.0, float(header))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    except (TypeError, ValueError):
        return 0.0
