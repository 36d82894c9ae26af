"""Client for OpenAI-compatible servers: concurrent, patient, within a budget, and nothing is paid for twice."""

from gmai_vl.endpoint.client import Client
from gmai_vl.endpoint.order import in_order
from gmai_vl.endpoint.request import Refusal, Reply, Request, parsed
from gmai_vl.endpoint.settings import Budget, EndpointSettings, Prices
from gmai_vl.endpoint.store import Spent, store_path
from gmai_vl.endpoint.transport import EndpointError

__all__ = [
    "Budget",
    "Client",
    "EndpointError",
    "EndpointSettings",
    "Prices",
    "Refusal",
    "Reply",
    "Request",
    "Spent",
    "in_order",
    "parsed",
    "store_path",
]
