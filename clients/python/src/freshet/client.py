"""The calls of the API."""

from __future__ import annotations

import ssl
from types import TracebackType
from typing import TYPE_CHECKING, Any, Callable, Iterable, Mapping, Sequence
from urllib.parse import quote

from ._errors import FreshetError
from ._events import Event, EventSender, Result, send_all
from ._frames import need_pandas, records
from ._historical import HistoricalJob
from ._http import RetryPolicy, Transport
from ._parts import in_parts
from ._types import Answer, FeatureRow, FeatureValue, Scalar

if TYPE_CHECKING:
    import pandas as pd

#: Rows of one request, as docs/api.md has them.
MAX_ROWS = 100
MAX_PUSH_ROWS = 500


class Client:
    """Thread-safe. Close it, or use it in a `with` statement, to give its connections back.

    :param url: as ``https://api.example.com``
    :param context: for TLS with an authority of your own
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        retry: RetryPolicy = RetryPolicy(),
        context: ssl.SSLContext | None = None,
    ) -> None:
        self._transport = Transport(url, api_key, retry, context)

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        self._transport.close()

    # Events

    def send(self, stream: str, events: Iterable[Event] | pd.DataFrame) -> list[dict[str, Any]]:
        """Sends events now, 500 in a request, and gives one result for each: ``queued``, ``invalid`` with ``code`` and
        ``detail``, or ``throttled`` when the stream stayed busy until the deadline. Send an event that you are not sure of again: its
        id keeps it from counting twice."""
        return send_all(self._transport, stream, _rows(events))

    def events(
        self,
        stream: str,
        *,
        max_batch: int = 500,
        max_delay: float = 0.2,
        max_pending: int = 10_000,
        on_error: Callable[[Event, Result], None] | None = None,
    ) -> EventSender:
        """Sends in the background, in batches by size and time::

            with client.events("transactions") as sender:
                sender.send({...})
        """
        options = {"max_batch": max_batch, "max_delay": max_delay, "max_pending": max_pending}
        return EventSender(self._transport, stream, on_error=on_error, **options)  # type: ignore[arg-type]

    # Features

    def online(
        self,
        features: Sequence[str] | None = None,
        entities: Mapping[str, str | None] | None = None,
        *,
        service: str | None = None,
        request: Mapping[str, Scalar] | None = None,
        **keys: str | None,
    ) -> FeatureRow:
        """Either `features` by name, or all of a `service`; join keys as `entities` or by name: ``card_id="c1"``."""
        body: dict[str, Any] = {"entities": {**(entities or {}), **keys}, **_selection(features, service)}
        if request is not None:
            body["request"] = dict(request)
        return _feature_row(self._transport.call("POST", "/v1/features/online", body))

    def entity(self, entity: str, id: str) -> FeatureRow:
        """Everything known of one entity."""
        path = f"/v1/features/{quote(entity, safe='')}/{quote(id, safe='')}"
        return _feature_row(self._transport.call("GET", path))

    def batch(
        self,
        rows: Sequence[Mapping[str, str | None]],
        features: Sequence[str] | None = None,
        *,
        service: str | None = None,
    ) -> list[FeatureRow]:
        """The same features for any number of rows of join keys, 100 in a request."""
        found: list[FeatureRow] = []
        selection = _selection(features, service)

        def read(part: list[Any]) -> Any:
            return self._transport.call("POST", "/v1/features/batch", {"entities": part, **selection})

        for _, answer in in_parts(rows, MAX_ROWS, read):
            names = answer["features"]
            for row in answer["rows"]:
                cells = zip(row["values"], row["statuses"], row["event_times_ms"])
                values = {name: FeatureValue(*cell) for name, cell in zip(names, cells)}
                found.append(_row(values, answer))
        return found

    def features_frame(
        self,
        frame: pd.DataFrame,
        features: Sequence[str] | None = None,
        *,
        service: str | None = None,
        keys: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """`frame` with a column for each feature. Join keys are the columns in `keys`; all columns when left out."""
        pandas = need_pandas()
        found = self.batch(records(frame, keys), features, service=service)
        names = list(found[0]) if found else list(features or [])
        columns = {name: [row.value(name) for row in found] for name in names}
        return pandas.concat([frame, pandas.DataFrame(columns, index=frame.index)], axis=1)

    # Scores

    def score(self, service: str, row: Mapping[str, Any], *, explain: bool | str = False) -> Answer:
        """:param row: join keys and request fields, flat; a whole event can be given"""
        body = {**row, "explain": explain} if explain else dict(row)
        return self._transport.call("POST", f"/v1/score/{quote(service, safe='')}", body)  # type: ignore[no-any-return]

    def score_batch(self, service: str, rows: Sequence[Mapping[str, Any]] | pd.DataFrame) -> list[Answer]:
        """Any number of rows, 100 in a request; fewer where they are large."""
        path = f"/v1/score/{quote(service, safe='')}/batch"

        def score(part: list[Any]) -> Any:
            return self._transport.call("POST", path, {"rows": part})

        return [row for _, answer in in_parts(_rows(rows), MAX_ROWS, score) for row in answer["rows"]]

    def score_frame(self, service: str, frame: pd.DataFrame) -> pd.DataFrame:
        """`frame` with `score`, `decision`, `model_version` and `variant` of each row."""
        pandas = need_pandas()
        scored = self.score_batch(service, frame)
        columns = {name: [row[name] for row in scored] for name in ("score", "decision", "model_version", "variant")}
        return pandas.concat([frame, pandas.DataFrame(columns, index=frame.index)], axis=1)

    def rank(self, service: str, body: Mapping[str, Any]) -> Answer:
        """:param body: the other join keys, request fields, and `candidates`; `k` of the best are answered"""
        return self._transport.call("POST", f"/v1/rank/{quote(service, safe='')}", dict(body))  # type: ignore[no-any-return]

    # Pushed features

    def register(self, name: str, *, dtype: str, entity: str, **more: Any) -> Answer:
        """Registers a feature whose values you push; doing it again with the same changes nothing. Needs the scope admin."""
        body = {"name": name, "dtype": dtype, "entity": entity, **more}
        return self._transport.call("POST", "/v1/features/register", body)  # type: ignore[no-any-return]

    def push(self, features: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Rows are ``{"id": …, "event_time_ms": …, "values": [… in the order of features]}``, 500 in a request; fewer
        where they are large. The newest value wins, so that pushing again changes nothing.

        :return: one result for each row that was refused, with its `index` in `rows`
        :raises FreshetError: when a request failed as a whole; the rows before it are pushed
        """

        def push(part: list[Any]) -> Any:
            try:
                return self._transport.call("POST", "/v1/features/push", {"features": list(features), "rows": part})
            except FreshetError as error:
                # A request of which every row is refused tells the fate of each: that is an answer.
                if error.status == 400 and isinstance(error.problem.get("results"), list):
                    return error.problem
                if error.status == 413 and len(part) == 1:
                    return {"results": [{"index": 0, "id": None, "code": error.code, "detail": error.detail}]}
                raise

        answers = in_parts(rows, MAX_PUSH_ROWS, push)
        return [{**one, "index": start + one["index"]} for start, answer in answers for one in answer["results"]]

    def push_frame(
        self, frame: pd.DataFrame, features: Mapping[str, str], *, id: str, event_time: str
    ) -> list[dict[str, Any]]:
        """
        :param features: column by feature, as ``{"profile:age": "age"}``
        :param id: column with the entity's ids
        :param event_time: column with times: with a zone, or epoch milliseconds
        """
        rows = [
            {"id": row[id], "event_time_ms": row[event_time], "values": [row[column] for column in features.values()]}
            for row in records(frame, [id, event_time, *features.values()])
        ]
        return self.push(list(features), rows)

    # Features as they were

    def historical(
        self,
        service: str,
        rows: Sequence[Mapping[str, Any]] | pd.DataFrame | None = None,
        *,
        start: int | str | None = None,
        end: int | str | None = None,
        **more: Any,
    ) -> HistoricalJob:
        """Starts a point-in-time join: of the service's labelled events from `start` to `end`, or of `rows` of your own with
        ``as_of_ms``. Not started again when its answer is lost."""
        body: dict[str, Any] = {"service": service, **more}
        if rows is not None:
            body["rows"] = _rows(rows)
        body.update({name: at for name, at in (("from", start), ("to", end)) if at is not None})
        return HistoricalJob(
            self._transport, self._transport.call("POST", "/v1/features/historical", body, repeatable=False)
        )

    def historical_job(self, id: str) -> HistoricalJob:
        return HistoricalJob(self._transport, {"job_id": id}).refresh()


def _selection(features: Sequence[str] | None, service: str | None) -> dict[str, Any]:
    if (features is None) == (service is None):
        raise ValueError("give features or a service, one of the two")
    return {"service": service} if features is None else {"features": list(features)}


def _feature_row(answer: Answer) -> FeatureRow:
    features = {name: FeatureValue(**value) for name, value in answer["features"].items()}
    return _row(features, answer)


def _row(features: Mapping[str, FeatureValue], answer: Answer) -> FeatureRow:
    return FeatureRow(features, answer["as_of_ms"], answer["degraded_reason"], answer.get("snapshot_age_ms"))


def _rows(given: Any) -> list[Any]:
    return records(given) if hasattr(given, "iloc") else list(given)
