"""What a user writes down about an endpoint: where it is, how fast it may be asked, what it may cost."""

import os
from typing import Annotated, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, model_validator

from gmai_vl.foundation import Settings, UserError


def _base_url(url: str) -> str:
    try:
        parts = urlsplit(url)
        _ = parts.port, httpx.URL(url)  # raise for a port that is none, and for a name that httpx cannot look up
    except httpx.InvalidURL as error:
        raise ValueError(f"no address: {error}") from None
    if parts.scheme not in ("http", "https") or not parts.hostname or " " in parts.netloc:
        raise ValueError("an address begins with http:// or https:// and names a server; http://127.0.0.1:8000/v1")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("an address holds no key, query or fragment; put the key into the variable of `key_env`")
    return url.rstrip("/").removesuffix("/chat/completions")


class Budget(Settings):
    """The most that all runs of one recipe may spend together; None is no limit."""

    requests: PositiveInt | None = None
    tokens: PositiveInt | None = None
    """Of prompts and answers."""

    usd: PositiveFloat | None = None
    """Needs `prices`."""


class Prices(Settings):
    """US dollars for a million tokens."""

    prompt: Annotated[float, Field(ge=0)]
    answer: Annotated[float, Field(ge=0)]


class EndpointSettings(Settings):
    """An OpenAI-compatible server and how it is to be used."""

    url: Annotated[str, AfterValidator(_base_url)]
    """Base address, as `http://127.0.0.1:8000/v1`."""

    model: Annotated[str, Field(min_length=1, max_length=300)]
    """Name of the model, as the server knows it."""

    key_env: Annotated[str, Field(pattern=r"^\w+$")] | None = None
    """Environment variable that holds the key; keys stand nowhere else."""

    concurrency: Annotated[int, Field(ge=1, le=1024)] = 8
    """Requests under way at a time."""

    requests_per_minute: PositiveInt | None = None
    timeout_s: PositiveFloat = 120.0
    """Seconds from sending a request until the last byte of its answer."""

    retries: Annotated[int, Field(ge=0, le=100)] = 6
    """Times that a request is sent again after a fault that may pass."""

    retry_wait_s: PositiveFloat = 1.0
    """Seconds before the first of them; each further wait is twice as long, up to a minute."""

    structured: Literal["schema", "object", "none"] = "schema"
    """How JSON is asked for: by schema, as any object, or by the words of the prompt alone."""

    image_tokens: PositiveInt = 3000
    """Upper bound of the tokens that one image is counted as, for the budget."""

    budget: Budget = Budget()
    prices: Prices | None = None

    @model_validator(mode="after")
    def _money_needs_prices(self) -> "EndpointSettings":
        if self.budget.usd is not None and self.prices is None:
            raise ValueError("`budget.usd` needs `prices`, in US dollars for a million tokens; add them")
        return self

    def key(self) -> str | None:
        """Return the key. Raises UserError if the variable that should hold it is not set, or holds no key."""
        if self.key_env is None:
            return None
        key = os.environ.get(self.key_env, "").strip()
        if not key:
            raise UserError(f"key_env: the environment variable {self.key_env} is not set; export it with the key")
        if not (key.isascii() and key.isprintable()):
            raise UserError(
                f"key_env: the environment variable {self.key_env} holds no key but other signs; export it anew"
            )
        return key

    def cost(self, prompt_tokens: int, answer_tokens: int) -> float:
        """Return what tokens cost in US dollars; 0 without prices."""
        if self.prices is None:
            return 0.0
        return (prompt_tokens * self.prices.prompt + answer_tokens * self.prices.answer) / 1e6
