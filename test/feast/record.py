"""Records what Feast's own server answers: python record.py <port of a Valkey or Redis> <file to write>.

Run once for each version of Feast, in the environment that `make test-feast` makes, with
test/fixtures/feast/<version>.json as the file: test/functions/api/feast/ holds Freshet to it.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import feast
import requests

HERE = Path(__file__).parent
PINNED = "2026-01-31T10:00:00.123"
WHOLE = "2026-01-31T10:00:00.000"
DRIVERS = ["driver_stats:conv_rate", "driver_stats:trips", "driver_stats:city", "driver_stats:active"]


def read(name, body, **more):
    return {"name": name, "path": "/get-online-features", "body": body, **more}


SETUP = [
    {
        "path": "/push",
        "body": {
            "push_source_name": "driver_stats_push",
            "df": {
                "driver_id": ["d1", "d2"],
                "conv_rate": [0.7, 3.0],
                "trips": [12, 9007199254740991],
                "city": ["Malmö", None],
                "active": [True, False],
                "event_timestamp": [PINNED, WHOLE],
            },
        },
    },
    {
        "path": "/write-to-online-store",
        "body": {
            "feature_view_name": "rider_stats",
            "df": {
                "rider_id": [1, 2],
                "spend": [9.5, 1e21],
                "trips": [3, 4],
                "event_timestamp": [PINNED, WHOLE],
                "created": [PINNED, PINNED],
            },
        },
    },
]
CASES = [
    read("one row, four types", {"entities": {"driver_id": ["d1"]}, "features": DRIVERS}),
    read("rows that are known, null in part, and missing", {"entities": {"driver_id": ["d1", "d2", "d9"]}, "features": DRIVERS}),
    read("the same row twice", {"entities": {"driver_id": ["d1", "d1"]}, "features": DRIVERS[:1]}),
    read("integer keys", {"entities": {"rider_id": [1, 2, 3]}, "features": ["rider_stats:spend"]}),
    read("integer keys as text", {"entities": {"rider_id": ["1"]}, "features": ["rider_stats:spend"]}),
    read("full names", {"entities": {"driver_id": ["d1"]}, "features": DRIVERS[:2], "full_feature_names": True}),
    read(
        "two views, interleaved",
        {
            "entities": {"rider_id": [1], "driver_id": ["d1"]},
            "features": ["driver_stats:city", "rider_stats:spend", "driver_stats:conv_rate"],
        },
    ),
    read("a feature that is named twice", {"entities": {"driver_id": ["d1"]}, "features": DRIVERS[:1] * 2}),
    read(
        "a name that two views have",
        {"entities": {"rider_id": [1], "driver_id": ["d1"]}, "features": ["driver_stats:trips", "rider_stats:trips"]},
    ),
    read(
        "a name that two views have, in full",
        {
            "entities": {"rider_id": [1], "driver_id": ["d1"]},
            "features": ["driver_stats:trips", "rider_stats:trips"],
            "full_feature_names": True,
        },
    ),
    read("a service", {"entities": {"driver_id": ["d1"], "rider_id": [1]}, "feature_service": "plain"}),
    read(
        "a service with an on-demand view",
        {"entities": {"driver_id": ["d1", "d9"], "rider_id": [1, 2], "surge": [2.0, 1.5]}, "feature_service": "ride"},
    ),
    read(
        "a service with an on-demand view, full names",
        {
            "entities": {"driver_id": ["d1"], "rider_id": [1], "surge": [2.0]},
            "feature_service": "ride",
            "full_feature_names": True,
        },
    ),
    read(
        "an on-demand feature by its name",
        {"entities": {"driver_id": ["d1"], "surge": [2.0]}, "features": ["ride:price", "driver_stats:city"]},
    ),
    read("request data that is not there", {"entities": {"driver_id": ["d1"], "rider_id": [1]}, "feature_service": "ride"}),
    read("service and features", {"entities": {"driver_id": ["d1"], "rider_id": [1]}, "feature_service": "plain", "features": DRIVERS[:1]}),
    read("an entity that nothing asks for", {"entities": {"driver_id": ["d1"], "rider_id": [1], "who": ["x"]}, "features": DRIVERS[:1]}),
    read("no row", {"entities": {"driver_id": []}, "features": DRIVERS[:1]}),
    read("no entity", {"entities": {}, "features": DRIVERS[:1]}),
    read("lists of different lengths", {"entities": {"driver_id": ["d1"], "rider_id": [1, 2]}, "features": DRIVERS[:1]}),
    read("a join key that is not there", {"entities": {"rider_id": [1]}, "features": DRIVERS[:1]}),
    read("a null key", {"entities": {"driver_id": [None]}, "features": DRIVERS[:1]}),
    read("a null key beside a whole one", {"entities": {"driver_id": ["d1", None]}, "features": DRIVERS[:1]}),
    read("a key of another type", {"entities": {"rider_id": [1.5]}, "features": ["rider_stats:spend"]}),
    read("neither features nor service", {"entities": {"driver_id": ["d1"]}}),
    read("a view that is not there", {"entities": {"driver_id": ["d1"]}, "features": ["nobody:conv_rate"]}),
    read("a feature that its view lacks", {"entities": {"driver_id": ["d1"]}, "features": ["driver_stats:nothing"]}),
    read("a name without a view", {"entities": {"driver_id": ["d1"]}, "features": ["conv_rate"]}),
    read("a service that is not there", {"entities": {"driver_id": ["d1"]}, "feature_service": "nobody"}),
    read("entities as rows", {"entities": [{"driver_id": "d1"}], "features": DRIVERS[:1]}),
    read("a key that is not in a list", {"entities": {"driver_id": "d1"}, "features": DRIVERS[:1]}),
    read("features as text", {"entities": {"driver_id": ["d1"]}, "features": "driver_stats:city"}),
    read("no entities", {"features": DRIVERS[:1]}),
    read("no JSON", None, text="{"),
    read("a body without a type", {"entities": {"driver_id": ["d1"]}, "features": DRIVERS[:1]}, type=None),
    {"name": "push", "path": "/push", "body": SETUP[0]["body"]},
    {"name": "push: an unknown source", "path": "/push", "body": {"push_source_name": "nobody", "df": {"driver_id": ["d1"]}}},
    {"name": "push: an unknown target", "path": "/push", "body": {**SETUP[0]["body"], "to": "nowhere"}},
    {"name": "push: no source", "path": "/push", "body": {"df": {}}},
    {
        "name": "push: columns of different lengths",
        "path": "/push",
        "body": {"push_source_name": "driver_stats_push", "df": {"driver_id": ["d1"], "conv_rate": [1.0, 2.0]}},
    },
    {
        "name": "push: a feature less",
        "path": "/push",
        "body": {
            "push_source_name": "driver_stats_push",
            "df": {"driver_id": ["d3"], "conv_rate": [0.5], "event_timestamp": [WHOLE]},
        },
    },
    {
        "name": "push: no key",
        "path": "/push",
        "body": {"push_source_name": "driver_stats_push", "df": {"conv_rate": [0.5], "event_timestamp": [WHOLE]}},
    },
    {
        "name": "push: no time",
        "path": "/push",
        "body": {"push_source_name": "driver_stats_push", "df": {"driver_id": ["d4"], "conv_rate": [0.5], "trips": [1], "city": ["x"], "active": [True]}},
    },
    {"name": "write", "path": "/write-to-online-store", "body": SETUP[1]["body"]},
    {
        "name": "write: an unknown view",
        "path": "/write-to-online-store",
        "body": {"feature_view_name": "nobody", "df": {"rider_id": [1]}},
    },
    {"name": "write: no view", "path": "/write-to-online-store", "body": {"df": {}}},
    {
        "name": "materialize: an unknown view",
        "path": "/materialize",
        "body": {"start_ts": WHOLE, "end_ts": "2026-01-31T11:00:00", "feature_views": ["nobody"]},
    },
    {"name": "materialize: no range", "path": "/materialize", "body": {"feature_views": ["driver_stats"]}},
    {
        "name": "materialize: an empty range",
        "path": "/materialize",
        "body": {"start_ts": WHOLE, "end_ts": WHOLE, "feature_views": ["driver_stats"]},
    },
    {"name": "materialize: no time", "path": "/materialize", "body": {"start_ts": "yesterday", "end_ts": WHOLE}},
    {
        "name": "materialize",
        "path": "/materialize",
        "body": {"start_ts": WHOLE, "end_ts": "2026-01-31T11:00:00", "feature_views": ["driver_stats"]},
    },
    {
        "name": "materialize, later",
        "path": "/materialize?async=true",
        "body": {"start_ts": WHOLE, "end_ts": "2026-01-31T11:00:00", "feature_views": ["driver_stats"]},
    },
    {"name": "materialize-incremental", "path": "/materialize-incremental", "body": {"end_ts": "2026-01-31T11:00:00", "feature_views": ["driver_stats"]}},
    {"name": "materialize-incremental: no end", "path": "/materialize-incremental", "body": {}},
    {"name": "health", "path": "/health", "method": "GET"},
]


def send(base, case):
    method = case.get("method", "POST")
    text = case.get("text", json.dumps(case["body"]) if "body" in case else None)
    headers = {} if case.get("type", "json") is None or text is None else {"content-type": "application/json"}
    answer = requests.request(method, base + case["path"], data=text and text.encode(), headers=headers, timeout=60)
    return {"status": answer.status_code, "type": answer.headers.get("content-type"), "body": answer.text}


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def main(store_port, target):
    with tempfile.TemporaryDirectory() as folder:
        repo = Path(folder)
        (repo / "feature_store.yaml").write_text(
            "project: rides\nprovider: local\nregistry: registry.db\nentity_key_serialization_version: 3\n"
            f"offline_store:\n  type: file\nonline_store:\n  type: redis\n  connection_string: 127.0.0.1:{store_port}\n"
        )
        (repo / "feature_repo.py").write_text((HERE / "feature_repo.py").read_text())
        import pandas

        for name, key, columns in [
            ("driver_stats", "d1", {"conv_rate": 0.7, "trips": 12, "city": "Malmö", "active": True}),
            ("rider_stats", 1, {"spend": 9.5, "trips": 3}),
        ]:
            row = {name.split("_")[0] + "_id": [key], **{k: [v] for k, v in columns.items()}}
            row["event_timestamp"] = [pandas.Timestamp(WHOLE, tz="UTC")]
            pandas.DataFrame(row).to_parquet(repo / f"{name}.parquet")
        command = [str(Path(sys.executable).parent / "feast")]
        environment = {**os.environ, "FEAST_USAGE": "False"}
        subprocess.run([*command, "apply"], cwd=repo, env=environment, check=True)
        port = free_port()
        server = subprocess.Popen([*command, "serve", "-p", str(port), "--no-access-log"], cwd=repo, env=environment)
        try:
            base = f"http://127.0.0.1:{port}"
            for _ in range(240):
                try:
                    if requests.get(f"{base}/health", timeout=5).status_code == 200:
                        break
                except requests.ConnectionError:
                    time.sleep(0.25)
            for case in SETUP:
                answer = send(base, case)
                assert answer["status"] == 200, answer
            recorded = [{**case, "answer": send(base, case)} for case in CASES]
        finally:
            server.terminate()
            server.wait()
    document = {"source": f"feast serve {feast.__version__}, online store redis; made by test/feast/record.py", "cases": recorded}
    Path(target).write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
