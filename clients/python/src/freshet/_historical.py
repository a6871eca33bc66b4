"""Features as they were: jobs, and their Parquet files."""

from __future__ import annotations

import shutil
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping

from ._errors import FreshetError, JobFailed
from ._frames import need_pandas
from ._http import Transport

if TYPE_CHECKING:
    import pandas as pd


class HistoricalJob:
    """A point-in-time join that runs on the API's side. Jobs and files are kept there for a week."""

    def __init__(self, transport: Transport, state: Mapping[str, Any]) -> None:
        self._transport = transport
        self._state = state

    @property
    def id(self) -> str:
        return str(self._state["job_id"])

    @property
    def state(self) -> str:
        """queued, running, done, failed or cancelled; as of the last look."""
        return str(self._state["state"])

    @property
    def progress(self) -> float:
        return float(self._state["progress"])

    @property
    def manifest(self) -> Mapping[str, Any] | None:
        """Features with types, counts and the plan's hash, once it is done."""
        return self._state["manifest"]  # type: ignore[no-any-return]

    def refresh(self) -> HistoricalJob:
        self._state = self._transport.call("GET", f"/v1/features/historical/{self.id}")
        return self

    def cancel(self) -> HistoricalJob:
        """Ends it, unless it has ended; nothing of it is kept. May be called again. :raises FreshetError: ``job_ended``"""
        self._state = self._transport.call("DELETE", f"/v1/features/historical/{self.id}")
        return self

    def wait(self, timeout: float = 900.0, every: float = 1.0) -> HistoricalJob:
        """:raises JobFailed: also when it was cancelled :raises TimeoutError: the job goes on; `wait` may be called again. So it does after
        Ctrl-C; `cancel` ends it"""
        end = time.monotonic() + timeout
        while self.refresh().state in ("queued", "running"):
            if time.monotonic() + every > end:
                raise TimeoutError(f"job {self.id} is {self.state} after {timeout:.0f} s, at {self.progress:.0%}")
            time.sleep(every)
        if self.state != "done":
            raise JobFailed(0, self._state["error"] or {"code": "job_failed", "detail": "the job failed"})
        return self

    def download(self, folder: str | Path) -> list[Path]:
        """Waits, then puts the Parquet parts and manifest.json into `folder`, which is made. :raises JobFailed:"""
        self.wait()
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        paths = []
        for file in self._state["files"]:
            # The name is the API's; it must not lead elsewhere.
            path = target / Path(file["name"]).name
            try:
                # The address needs no key, and gets none.
                with urllib.request.urlopen(file["url"], timeout=60) as response, open(path, "wb") as out:  # noqa: S310
                    shutil.copyfileobj(response, out)
            except OSError as error:
                raise FreshetError(0, {"code": "network", "detail": f"{path.name} could not be fetched"}) from error
            paths.append(path)
        return paths

    def to_pandas(self) -> pd.DataFrame:
        """Waits, and gives all rows as one frame. Needs pandas with pyarrow. :raises JobFailed:"""
        pandas = need_pandas()
        with tempfile.TemporaryDirectory(prefix="freshet-") as folder:
            parts = [path for path in self.download(folder) if path.suffix == ".parquet"]
            frames = [pandas.read_parquet(path) for path in sorted(parts)]
        return pandas.concat(frames, ignore_index=True) if frames else pandas.DataFrame()
