"""Runs the Python tests beside it; one JSON line a test on stdout, for test/training/python.test.ts to count."""
from __future__ import annotations

import json
import sys
import time
import unittest
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "training")]


class Lines(unittest.TestResult):
    def startTest(self, test):
        self._began = time.monotonic()
        super().startTest(test)

    def _say(self, test, ok: bool, trace: str = ""):
        ms = round((time.monotonic() - getattr(self, "_began", time.monotonic())) * 1000)
        print(json.dumps({"name": test.id(), "ok": ok, "ms": ms, "trace": trace}), flush=True)

    def addSuccess(self, test):
        self._say(test, True)

    def addFailure(self, test, err):
        self._say(test, False, self._exc_info_to_string(err, test))

    def addError(self, test, err):
        self._say(test, False, self._exc_info_to_string(err, test))

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self._say(subtest, False, self._exc_info_to_string(err, test))

    def addSkip(self, test, reason):
        self._say(test, False, f"skipped: {reason}")


if __name__ == "__main__":
    pattern = sys.argv[1] if len(sys.argv) > 1 else "test_*.py"
    unittest.defaultTestLoader.discover(str(HERE), pattern).run(Lines())
