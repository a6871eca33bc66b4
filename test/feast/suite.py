"""Feast's own client, its remote online store, against a running Freshet. Started by run.ts, which gives address and key.

What a test asks of Freshet over HTTP alone is what Feast's client has no word for: registering features and sending events.
"""

import contextlib
import logging
import os
import shutil
import sys
import tempfile
import time
import traceback
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pandas
import requests
from feast import Entity, FeatureService, FeatureStore, FeatureView, Field, FileSource, PushSource, ValueType
from feast.errors import FeastError, FeatureNameCollisionError, FeatureServiceNotFoundException, FeatureViewNotFoundException
from feast.infra.online_stores.remote import RemoteOnlineStore
from feast.permissions.client.http_auth_requests_wrapper import HttpSessionManager
from feast.types import Bool, Float64, Int64, String

URL = os.environ["FRESHET_URL"]
KEY = os.environ["FRESHET_KEY"]
HERE = Path(__file__).parent
RUN = uuid.uuid4().hex[:8]
CARD = f"c-{RUN}"
# What a Feast repository says of Freshet's views: names and types.
PROFILE = {"age": Int64, "income": Float64, "segment": String, "vip": Bool}


def call(path, body):
    return requests.post(URL + path, json=body, headers={"x-api-key": KEY}, timeout=60)


def view(name, entity, key_type, schema):
    history = FileSource(name=f"{name}_history", path="none.parquet", timestamp_field="event_timestamp")
    key = Field(name=entity.join_key, dtype=key_type)
    fields = [key] + [Field(name=feature, dtype=dtype) for feature, dtype in schema.items()]
    source = PushSource(name=name, batch_source=history)
    return FeatureView(name=name, entities=[entity], ttl=timedelta(hours=1), schema=fields, source=source)


def open_store(folder, token=KEY):
    """The configuration of docs/api.md, `Feast clients`."""
    os.environ["FRESHET_API_KEY"] = token
    text = (HERE / "feature_store.yaml").read_text().replace("http://127.0.0.1:8080", URL)
    (Path(folder) / "feature_store.yaml").write_text(text)
    HttpSessionManager.close_session()
    return FeatureStore(repo_path=str(folder))


def set_up(folder):
    card = Entity(name="card", join_keys=["card_id"], value_type=ValueType.STRING)
    merchant = Entity(name="merchant", join_keys=["merchant_id"], value_type=ValueType.STRING)
    user = Entity(name="user", join_keys=["user_id"], value_type=ValueType.INT64)
    windows = {"tx_count_1h": Int64, "amount_sum_1h": Float64, "amount_mean_24h": Float64, "last_country": String}
    activity = view("card_activity", card, String, windows)
    profile = view(f"profile_{RUN}", user, Int64, PROFILE)
    brief = view(f"brief_{RUN}", card, String, {"risk": Float64})
    store = open_store(folder)
    fraud = FeatureService(name="fraud", features=[activity])
    store.apply([card, merchant, user, activity, profile, brief, fraud])
    dtypes = {Int64: "int64", Float64: "double", String: "string", Bool: "boolean"}
    for feature, dtype in PROFILE.items():
        body = {"name": f"profile_{RUN}:{feature}", "entity": "user", "dtype": dtypes[dtype], "ttl": "1h"}
        answer = call("/v1/features/register", body)
        assert answer.status_code in (200, 201), answer.text
    answer = call("/v1/features/register", {"name": f"brief_{RUN}:risk", "entity": "card", "dtype": "double", "ttl": "10m"})
    assert answer.status_code in (200, 201), answer.text
    now = int(time.time() * 1000)
    events = [
        {
            "transaction_id": f"{RUN}-{n}", "event_time": now - 30_000 + n, "card_id": CARD, "user_id": None, "merchant_id": f"m-{RUN}",
            "device_id": None, "amount": amount, "currency": "EUR", "country": "SE", "merchant_category": "grocery",
            "channel": "online", "status": "approved",
        }
        for n, amount in enumerate([10.5, 20.0, 30.0])
    ]  # fmt: skip
    answer = call("/v1/events/transactions", {"events": events})
    assert answer.status_code == 202, answer.text
    for _ in range(240):
        body = {"entities": {"card_id": CARD}, "features": ["card_activity:tx_count_1h"]}
        if call("/v1/features/online", body).json()["features"]["card_activity:tx_count_1h"]["value"] == 3:
            return store
        time.sleep(0.5)
    raise AssertionError("the events never became features")


def now_utc(ago=timedelta()):
    return datetime.now(timezone.utc).replace(microsecond=0) - ago


def person(n, **more):
    row = {"user_id": [n], "age": [34], "income": [1234.5], "segment": ["Malmö"], "vip": [True], "event_timestamp": [now_utc()]}
    return pandas.DataFrame({**row, **{key: [value] for key, value in more.items()}})


def features(name, *keys):
    return [f"{name}:{key}" for key in keys]


def read(store, names, rows, **more):
    return store.get_online_features(features=names, entity_rows=rows, **more)


def statuses(response):
    names = response.proto.metadata.feature_names.val
    words = {0: "INVALID", 1: "PRESENT", 2: "NULL_VALUE", 3: "NOT_FOUND", 4: "OUTSIDE_MAX_AGE"}
    return {name: [words[s] for s in result.statuses] for name, result in zip(names, response.proto.results)}


@contextlib.contextmanager
def raises(kind, words=""):
    try:
        yield
    except kind as error:
        assert words in str(error), f"{words!r} is not in {error}"
        return
    raise AssertionError(f"no {kind.__name__} was raised")


def test_windowed_features_are_read(store):
    names = features("card_activity", "tx_count_1h", "amount_sum_1h", "last_country")
    answer = read(store, names, [{"card_id": CARD}]).to_dict()
    assert answer == {"card_id": [CARD], "tx_count_1h": [3], "amount_sum_1h": [60.5], "last_country": ["SE"]}, answer


def test_an_entity_that_is_missing_has_nulls_and_says_so(store):
    response = read(store, features("card_activity", "tx_count_1h"), [{"card_id": CARD}, {"card_id": f"nobody-{RUN}"}])
    assert response.to_dict()["tx_count_1h"] == [3, None]
    assert statuses(response)["tx_count_1h"] == ["PRESENT", "NOT_FOUND"], statuses(response)


def test_full_feature_names(store):
    names = features("card_activity", "tx_count_1h")
    answer = read(store, names, [{"card_id": CARD}], full_feature_names=True).to_dict()
    assert answer == {"card_id": [CARD], "card_activity__tx_count_1h": [3]}, answer


def test_a_service_with_on_demand_features(store):
    rows = [
        {"card_id": CARD, "merchant_id": f"m-{RUN}", "device_id": None, "user_id": None, "amount": 40.0, "country": "NO"},
        {"card_id": f"nobody-{RUN}", "merchant_id": f"m-{RUN}", "device_id": None, "user_id": None, "amount": 40.0, "country": "SE"},
    ]
    answer = read(store, store.get_feature_service("fraud"), rows, full_feature_names=True).to_dict()
    assert answer["card_activity__tx_count_1h"] == [3, None], answer
    assert answer["merchant_activity__tx_count_1h"] == [3, 3], answer
    assert answer["fraud__country_changed"] == [True, None], answer
    ratio = answer["fraud__amount_to_mean"]
    assert abs(ratio[0] - 40 / (60.5 / 3)) < 1e-9 and ratio[1] is None, ratio


def test_an_on_demand_feature_by_its_name(store):
    row = {"card_id": CARD, "amount": 40.0, "country": "SE"}
    answer = read(store, ["fraud:country_changed"], [row]).to_dict()
    assert answer == {"card_id": [CARD], "country_changed": [False]}, answer


def test_a_service_without_its_request_data_is_told(store):
    with raises(FeastError, "amount"):
        read(store, store.get_feature_service("fraud"), [{"card_id": CARD, "merchant_id": "m"}], full_feature_names=True)


def test_names_that_collide_raise_feasts_own_error(store):
    with raises(FeatureNameCollisionError, "full_feature_names"):
        rows = [{"card_id": CARD, "merchant_id": "m"}]
        read(store, ["card_activity:tx_count_1h", "merchant_activity:tx_count_1h"], rows)


def test_written_values_are_read_with_their_types(store):
    store.write_to_online_store(f"profile_{RUN}", person(1))
    response = read(store, features(f"profile_{RUN}", *PROFILE), [{"user_id": 1}])
    answer = response.to_dict()
    assert answer == {"user_id": [1], "age": [34], "income": [1234.5], "segment": ["Malmö"], "vip": [True]}, answer
    assert isinstance(answer["income"][0], float) and isinstance(answer["age"][0], int), answer


def test_whole_doubles_stay_doubles(store):
    store.write_to_online_store(f"profile_{RUN}", person(2, income=1000.0))
    income = read(store, features(f"profile_{RUN}", "income"), [{"user_id": 2}]).to_dict()["income"][0]
    assert income == 1000 and isinstance(income, float), income


def test_pushed_values_are_read(store):
    store.push(f"profile_{RUN}", person(3, segment="pushed"))
    assert read(store, features(f"profile_{RUN}", "segment"), [{"user_id": 3}]).to_dict()["segment"] == ["pushed"]


def test_push_over_http_as_feasts_documentation_has_it(store):
    df = {"user_id": [4, 5], "age": [50, 51], "event_timestamp": [str(now_utc()), now_utc().isoformat()]}
    answer = call("/push", {"push_source_name": f"profile_{RUN}", "df": df, "to": "online_and_offline"})
    assert (answer.status_code, answer.text) == (200, ""), answer.text
    rows = [{"user_id": 4}, {"user_id": 5}]
    assert read(store, features(f"profile_{RUN}", "age"), rows).to_dict()["age"] == [50, 51]


def test_an_older_value_does_not_replace_a_newer_one(store):
    store.write_to_online_store(f"profile_{RUN}", person(6, age=20))
    store.write_to_online_store(f"profile_{RUN}", person(6, age=10, event_timestamp=now_utc(timedelta(minutes=5))))
    assert read(store, features(f"profile_{RUN}", "age"), [{"user_id": 6}]).to_dict()["age"] == [20]


def test_a_null_is_a_value(store):
    df = person(7).astype({"segment": object})
    df["segment"] = [None]
    store.write_to_online_store(f"profile_{RUN}", df)
    response = read(store, features(f"profile_{RUN}", "segment", "age"), [{"user_id": 7}])
    assert (response.to_dict()["segment"], statuses(response)["segment"]) == ([None], ["NULL_VALUE"]), statuses(response)


def test_a_value_that_is_too_old_is_not_served(store):
    old = pandas.DataFrame({"card_id": [CARD], "risk": [0.5], "event_timestamp": [now_utc(timedelta(minutes=20))]})
    store.write_to_online_store(f"brief_{RUN}", old)
    response = read(store, features(f"brief_{RUN}", "risk"), [{"card_id": CARD}])
    assert (response.to_dict()["risk"], statuses(response)["risk"]) == ([None], ["OUTSIDE_MAX_AGE"]), statuses(response)
    fresh = old.assign(risk=0.75, event_timestamp=[now_utc()])
    store.write_to_online_store(f"brief_{RUN}", fresh)
    response = read(store, features(f"brief_{RUN}", "risk"), [{"card_id": CARD}])
    assert (response.to_dict()["risk"], statuses(response)["risk"]) == ([0.75], ["PRESENT"]), statuses(response)


def test_the_stores_own_read_as_other_parts_of_feast_use_it(store):
    store.write_to_online_store(f"profile_{RUN}", person(8))
    from feast.protos.feast.types.EntityKey_pb2 import EntityKey
    from feast.protos.feast.types.Value_pb2 import Value

    keys = [EntityKey(join_keys=["user_id"], entity_values=[Value(int64_val=n)]) for n in (8, 99)]
    table = store.get_feature_view(f"profile_{RUN}")
    rows = RemoteOnlineStore().online_read(store.config, table, keys, ["age", "income"])
    assert [values["age"].int64_val for _, values in rows] == [34, 0], rows
    assert rows[0][1]["income"].double_val == 1234.5 and rows[1][1]["age"].WhichOneof("val") is None, rows


def test_a_data_frame_and_a_hundred_rows(store):
    count = 100
    columns = {"user_id": range(1000, 1000 + count), "age": range(count), "event_timestamp": [now_utc()] * count}
    whole = {"income": [0.5] * count, "segment": ["s"] * count, "vip": [False] * count}
    store.write_to_online_store(f"profile_{RUN}", pandas.DataFrame({**columns, **whole}))
    rows = [{"user_id": n} for n in columns["user_id"]]
    frame = read(store, features(f"profile_{RUN}", "age", "vip"), rows).to_df()
    assert list(frame["age"]) == list(range(count)) and list(frame["user_id"]) == list(columns["user_id"])


def test_unknown_views_and_services_raise_feasts_own_errors(store):
    with raises(FeatureViewNotFoundException, "nobody"):
        read(store, ["nobody:age"], [{"user_id": 1}])
    with raises(FeatureServiceNotFoundException, "nobody"):
        read(store, FeatureService(name="nobody", features=[]), [{"user_id": 1}])


def test_a_write_of_another_type_is_refused_and_says_which_row(store):
    df = {"user_id": [9], "age": ["many"], "event_timestamp": [now_utc().isoformat()]}
    answer = call("/write-to-online-store", {"feature_view_name": f"profile_{RUN}", "df": df})
    assert answer.status_code == 422 and "row 0" in answer.json(), answer.text


def test_materialize_runs_a_batch_view(store):
    now = datetime.now(timezone.utc)
    body = {"start_ts": (now - timedelta(days=1)).isoformat(), "end_ts": now.isoformat(), "feature_views": ["merchant_risk"]}
    answer = call("/materialize", body)
    assert (answer.status_code, answer.text) == (200, "null"), (answer.status_code, answer.text)


def test_a_wrong_key_is_refused(store):
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(Path(store.repo_path) / "registry.db", folder)
        wrong = open_store(folder, "fk_000000000000_" + "0" * 43)
        try:
            with raises(Exception, "401"):
                read(wrong, features("card_activity", "tx_count_1h"), [{"card_id": CARD}])
        finally:
            open_store(store.repo_path)
            HttpSessionManager.close_session()


def main():
    logging.getLogger("feast").setLevel(logging.CRITICAL)
    tests = [(name, value) for name, value in globals().items() if name.startswith("test_")]
    passed = failed = 0
    with tempfile.TemporaryDirectory() as folder:
        store = set_up(folder)
        for name, test in tests:
            try:
                test(store)
                passed += 1
                print(f" ✓ {name[5:].replace('_', ' ')}", flush=True)
            except Exception:
                failed += 1
                print(f" ✗ {name[5:].replace('_', ' ')}\n{traceback.format_exc()}", flush=True)
    print(f"\n{passed} passed, {failed} failed")
    sys.exit(1 if failed > 0 else 0)


if __name__ == "__main__":
    main()
