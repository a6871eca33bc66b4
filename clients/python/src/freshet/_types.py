"""What answers hold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Iterator, Mapping, NamedTuple, Union

Scalar = Union[float, int, str, bool, None]
Value = Union[Scalar, "list[Scalar]"]
#: A JSON document as the API sent it; docs/api.md says what is in it.
Answer = Mapping[str, Any]


class FeatureValue(NamedTuple):
    value: Value
    #: PRESENT, NULL_VALUE, NOT_FOUND, OUTSIDE_MAX_AGE or NOT_READY.
    status: str
    #: Newest event time behind the value, epoch milliseconds.
    event_time_ms: int | None


@dataclass(frozen=True)
class FeatureRow(Mapping[str, FeatureValue]):
    """Features of one set of entities, by name; `row.value("view:feature")` is the bare value."""

    features: Mapping[str, FeatureValue]
    #: The clock of the read: windows end here.
    as_of_ms: int
    #: Why the store may lag behind what was acknowledged; None when it is whole.
    degraded_reason: str | None
    #: Of the oldest snapshot that stood in for the store; None when the store answered.
    snapshot_age_ms: int | None = None

    def __getitem__(self, name: str) -> FeatureValue:
        return self.features[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    def value(self, name: str) -> Value:
        return self.features[name].value

    def values_by_name(self) -> dict[str, Value]:
        return {name: feature.value for name, feature in self.features.items()}
