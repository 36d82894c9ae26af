"""A checkpoint answers over HTTP: scheduling, an OpenAI-compatible API, and a page to try it on."""

from gmai_vl.serving.app import LOOPBACK, Access, create_app
from gmai_vl.serving.engine import Engine
from gmai_vl.serving.limits import Limits
from gmai_vl.serving.server import Address, key_for, load, named_checkpoints, serve

__all__ = [
    "LOOPBACK",
    "Access",
    "Address",
    "Engine",
    "Limits",
    "create_app",
    "key_for",
    "load",
    "named_checkpoints",
    "serve",
]
