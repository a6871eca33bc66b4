"""A server that answers what a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Callable

from freshet import Client, RetryPolicy

Script = Callable[[Any], "tuple[int, Any, dict[str, str]] | None"]


class ScriptedServer:
    """Takes its answers from `script` in order, the last one for ever. An answer of None cuts the connection."""

    def __init__(self) -> None:
        self.script: list[Script] = []
        self.seen: list[tuple[str, Any, float]] = []
        self.connections = 0
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # Head and body go out as two writes, of which the second would wait for an acknowledgement.
            disable_nagle_algorithm = True

            def setup(self) -> None:
                outer.connections += 1
                super().setup()

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("content-length") or 0))
                given = json.loads(body) if body else None
                outer.seen.append((self.path, given, time.monotonic()))
                step = outer.script.pop(0) if len(outer.script) > 1 else outer.script[0]
                answer = step(given)
                if answer is None:
                    self.close_connection = True
                    self.connection.close()
                    return
                status, document, headers = answer
                text = document if isinstance(document, bytes) else json.dumps(document).encode()
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            do_GET = do_POST

            def log_message(self, *_: Any) -> None:
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: Any) -> None:
                pass

        self._server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=lambda: self._server.serve_forever(poll_interval=0.01), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()

    def client(self, **retry: Any) -> Client:
        policy = {"first_pause": 0.01, "deadline": 5.0, **retry}
        return Client(self.url + "/", "fk_a_b", retry=RetryPolicy(**policy))


def reply(status: int, document: Any, **headers: str) -> Script:
    return lambda _: (status, document, {name.replace("_", "-"): value for name, value in headers.items()})


def cut(_: Any) -> None:
    return None


def busy(status: int = 429, **headers: str) -> Script:
    return reply(status, {"code": "throttled", "detail": "too much", "repair": "wait", "request_id": "r1"}, **headers)


def events_answer(state: Callable[[str], str], status: int = 202) -> Script:
    def answer(body: Any) -> tuple[int, Any, dict[str, str]]:
        ids = [event["id"] for event in body["events"]]
        return status, {"results": [{"index": i, "event_id": id, "status": state(id)} for i, id in enumerate(ids)]}, {}

    return answer
