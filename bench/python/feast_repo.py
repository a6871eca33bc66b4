"""Declares and fills in Feast what bench/feast-data.ts describes: python feast_repo.py <folder> <port of the store> <spec.json>."""

import json
import sys
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource, ValueType
from feast.types import Float64, String


def value_of(n, feature):
    return ((n * 7919 + feature * 104_729) % 100_003) / 7


def main(folder, store_port, spec_file):
    spec = json.loads(Path(spec_file).read_text())
    (Path(folder) / "feature_store.yaml").write_text(
        "project: bench\nprovider: local\nregistry: registry.db\nentity_key_serialization_version: 3\n"
        f"offline_store:\n  type: file\nonline_store:\n  type: redis\n  connection_string: 127.0.0.1:{store_port}\n"
    )
    entities, views = [], {}
    for view in spec["views"]:
        key = f"{view['entity']}_id"
        entity = Entity(name=view["entity"], join_keys=[key], value_type=ValueType.STRING)
        history = FileSource(name=f"{view['name']}_history", path="none.parquet", timestamp_field="event_timestamp")
        entities.append(entity)
        views[view["name"]] = FeatureView(
            name=view["name"],
            entities=[entity],
            ttl=timedelta(days=30),
            schema=[Field(name=key, dtype=String)] + [Field(name=name, dtype=Float64) for name in view["features"]],
            source=PushSource(name=f"{view['name']}_push", batch_source=history),
        )
    services = []
    for service in spec["services"]:
        wanted = {}
        for name in service["features"]:
            view, feature = name.split(":")
            wanted.setdefault(view, []).append(feature)
        services.append(FeatureService(name=service["name"], features=[views[v][f] for v, f in wanted.items()]))
    store = FeatureStore(repo_path=folder)
    store.apply([*entities, *views.values(), *services])
    now = datetime.now(timezone.utc).replace(microsecond=0)
    for view in spec["views"]:
        columns = {f"{view['entity']}_id": [f"{view['entity']}_{n}" for n in range(spec["entities"])]}
        for f, name in enumerate(view["features"]):
            columns[name] = [value_of(n, f) for n in range(spec["entities"])]
        columns["event_timestamp"] = [now] * spec["entities"]
        before = store_memory(store_port)
        store.write_to_online_store(view["name"], pandas.DataFrame(columns))
        print(json.dumps({"view": view["name"], "bytes": store_memory(store_port) - before}), flush=True)


def store_memory(port):
    """Bytes, without what connections hold: as Freshet's are counted."""
    import time

    import redis

    time.sleep(1.5)
    info = redis.Redis(port=int(port)).info("memory")
    return info["used_memory"] - info["mem_clients_normal"]


if __name__ == "__main__":
    main(*sys.argv[1:])
