"""One Node.js process that serves one function, one invocation at a time.

Both sides write one JSON object a line to a socket pair. From the process: {"ready": true} once, then {"ok": bool,
"payload": str} for each invocation. To it: {"id": str, "arn": str, "deadlineMs": int, "event": str}. Its end of the socket
is its life line: when LocalStack is gone, however it went, the process sees the socket close and ends.
"""

import fcntl
import json
import os
import socket
import subprocess
import tempfile
import time
from pathlib import Path

HOST = Path(__file__).with_name("host.mjs")
CHANNEL = "FRESHET_EXECUTOR_CHANNEL"
START_SECONDS = 60
# Of the machine's environment a function sees nothing else.
INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


class Ended(Exception):
    """The process is gone; `status` as subprocess tells it."""

    def __init__(self, status: int):
        super().__init__(f"exit status {status}")
        self.status = status


class NodeProcess:
    def __init__(self, folder: str, variables: dict[str, str]):
        """Starts the process with its handler loaded. Raises Ended or TimeoutError when it does not get there."""
        inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
        ours, theirs = socket.socketpair()
        self._socket = ours
        self._lines = ours.makefile("rb")
        # A file, because Node writes to one synchronously: what was printed before an answer is in it before the answer is.
        # Both sides share its offset, which truncating leaves where it was: what is written next belongs at the file's end.
        # Asked of the descriptor, since a temporary file's mode does not reach the system.
        self._log = tempfile.TemporaryFile()
        fcntl.fcntl(self._log, fcntl.F_SETFL, fcntl.fcntl(self._log, fcntl.F_GETFL) | os.O_APPEND)
        with theirs:
            self._process = subprocess.Popen(
                ["node", str(HOST)],
                cwd=folder,
                env={**inherited, **variables, "LAMBDA_TASK_ROOT": folder, CHANNEL: str(theirs.fileno())},
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=subprocess.STDOUT,
                pass_fds=(theirs.fileno(),),
            )
        try:
            self._read(START_SECONDS)
        except (Ended, TimeoutError):
            self.kill()
            raise

    @property
    def is_running(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict, seconds: float) -> dict:
        """The answer to one invocation. Raises Ended, or TimeoutError, after which the process is to be killed."""
        try:
            self._socket.settimeout(seconds)
            self._socket.sendall(json.dumps(request).encode() + b"\n")
        except BrokenPipeError:
            raise Ended(self._process.wait()) from None
        return self._read(seconds)

    def take_log(self) -> str:
        """What was printed since the last call."""
        self._log.seek(0)
        text = self._log.read().decode(errors="replace")
        self._log.truncate(0)
        return text

    def stop(self) -> None:
        """Ends it as Lambda ends an idle environment: without a word to the handler."""
        self._close()
        try:
            self._process.wait(2)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        self._close()

    def _close(self) -> None:
        self._lines.close()
        self._socket.close()

    def _read(self, seconds: float) -> dict:
        deadline = time.monotonic() + seconds
        self._socket.settimeout(seconds)
        try:
            line = self._lines.readline()
        except ConnectionResetError:
            line = b""
        if line.endswith(b"\n"):
            return json.loads(line)
        # Closed, but perhaps not ended yet.
        try:
            raise Ended(self._process.wait(max(0.1, deadline - time.monotonic())))
        except subprocess.TimeoutExpired:
            raise TimeoutError from None
