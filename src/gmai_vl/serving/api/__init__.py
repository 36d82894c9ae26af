"""OpenAI's chat completions over engines: requests, what they become, replies, routes."""

from gmai_vl.serving.api.routes import Fetch, api_routes

__all__ = ["Fetch", "api_routes"]
