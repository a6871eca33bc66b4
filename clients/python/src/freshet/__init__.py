"""Client of Freshet's HTTP API. Standard library alone; pandas where it is installed."""

from ._errors import EventsRefused, FreshetError, JobFailed
from ._events import EventSender
from ._historical import HistoricalJob
from ._http import RetryPolicy
from ._types import Answer, FeatureRow, FeatureValue, Scalar
from .client import Client

__all__ = [
    "Answer",
    "Client",
    "EventSender",
    "EventsRefused",
    "FeatureRow",
    "FeatureValue",
    "FreshetError",
    "HistoricalJob",
    "JobFailed",
    "RetryPolicy",
    "Scalar",
]
