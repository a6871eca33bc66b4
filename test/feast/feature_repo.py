"""Feast's own words for what `test/support/feast-plan.ts` declares: the registry behind the recorded answers."""

from datetime import timedelta

from feast import Entity, FeatureService, FeatureView, Field, FileSource, PushSource, RequestSource, ValueType
from feast.on_demand_feature_view import on_demand_feature_view
from feast.types import Bool, Float64, Int64, String

driver = Entity(name="driver", join_keys=["driver_id"], value_type=ValueType.STRING)
rider = Entity(name="rider", join_keys=["rider_id"], value_type=ValueType.INT64)


def pushed(name):
    history = FileSource(name=f"{name}_history", path=f"{name}.parquet", timestamp_field="event_timestamp")
    return PushSource(name=f"{name}_push", batch_source=history)


driver_stats = FeatureView(
    name="driver_stats",
    entities=[driver],
    ttl=timedelta(hours=1),
    schema=[
        Field(name="driver_id", dtype=String),
        Field(name="conv_rate", dtype=Float64),
        Field(name="trips", dtype=Int64),
        Field(name="city", dtype=String),
        Field(name="active", dtype=Bool),
    ],
    source=pushed("driver_stats"),
)
rider_stats = FeatureView(
    name="rider_stats",
    entities=[rider],
    ttl=timedelta(hours=1),
    schema=[
        Field(name="rider_id", dtype=Int64),
        Field(name="spend", dtype=Float64),
        Field(name="trips", dtype=Int64),
    ],
    source=pushed("rider_stats"),
)


@on_demand_feature_view(
    sources=[driver_stats, RequestSource(name="ride_request", schema=[Field(name="surge", dtype=Float64)])],
    schema=[Field(name="price", dtype=Float64)],
    mode="python",
    singleton=True,
)
def ride(inputs):
    rate, surge = inputs["conv_rate"], inputs["surge"]
    return {"price": None if rate is None or surge is None else rate * surge}


# One with the on-demand view, which bears the service's name as Freshet's does, and one without.
ride_service = FeatureService(
    name="ride", features=[driver_stats[["conv_rate", "city"]], rider_stats[["spend"]], ride]
)
plain_service = FeatureService(name="plain", features=[driver_stats, rider_stats[["spend"]]])
