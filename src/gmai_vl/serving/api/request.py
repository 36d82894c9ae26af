"""A request for chat completions in OpenAI's form. What cannot be done is an error that names it, never ignored."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

DEFAULT_TOKENS = 512
"""Longest answer where a request does not say."""

MOST_STOPS = 4
"""As OpenAI's API has it."""

MOST_LIKELIEST = 20

Whole = Annotated[int, Field(strict=True)]
Share = Annotated[float, Field(allow_inf_nan=False)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TextPart(_Part):
    """A text within a message."""

    type: Literal["text"]
    text: str


class ImageUrl(_Part):
    """Where a picture is."""

    url: str
    """`data:image/png;base64,...`; https addresses where the server allows them."""

    detail: Literal["auto", "low", "high"] = "auto"
    """Makes no difference: the vision tower sees every picture in one size."""


class ImagePart(_Part):
    """A picture within a message."""

    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[TextPart | ImagePart, Field(discriminator="type")]


class Message(_Part):
    """One turn of the conversation."""

    role: Literal["system", "developer", "user", "assistant"]
    """`developer` is OpenAI's newer name of `system`."""

    content: str | list[Part]


class StreamOptions(_Part):
    """What a stream tells besides the answer."""

    include_usage: bool = False


class ResponseFormat(_Part):
    """What form the answer has."""

    type: Literal["text"]


class ChatRequest(BaseModel):
    """A conversation that the model is to go on with.

    Fields that OpenAI's API has and this server cannot fulfil are accepted with the value that asks for nothing.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    messages: list[Message] = Field(min_length=1)
    max_tokens: Annotated[Whole, Field(ge=1)] | None = None
    max_completion_tokens: Annotated[Whole, Field(ge=1)] | None = None
    """Newer name of `max_tokens`."""

    temperature: Annotated[Share, Field(ge=0, le=2)] | None = None
    """0, the default, says the most likely words."""

    top_p: Annotated[Share, Field(gt=0, le=1)] | None = None
    seed: Annotated[Whole, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[Whole, Field(ge=1)] | None = None
    stop: str | Annotated[list[str], Field(max_length=MOST_STOPS)] | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | None = None
    top_logprobs: Annotated[Whole, Field(ge=0, le=MOST_LIKELIEST)] | None = None

    user: str | None = None
    """Goes nowhere, not into the log either."""

    frequency_penalty: Literal[0] | None = None
    presence_penalty: Literal[0] | None = None
    response_format: ResponseFormat | None = None
    logit_bias: Annotated[dict[str, Any], Field(max_length=0)] | None = None
    tools: Annotated[list[Any], Field(max_length=0)] | None = None
    tool_choice: Literal["none", "auto"] | None = None
    store: Literal[False] | None = None
    service_tier: Literal["auto", "default"] | None = None

    @model_validator(mode="after")
    def _fits_together(self) -> "ChatRequest":
        if None not in (self.max_tokens, self.max_completion_tokens) and self.max_tokens != self.max_completion_tokens:
            raise ValueError("`max_tokens` and `max_completion_tokens` differ; give one of them")
        if self.stream_options is not None and not self.stream:
            raise ValueError("`stream_options` needs `stream: true`")
        if self.top_logprobs is not None and not self.logprobs:
            raise ValueError("`top_logprobs` needs `logprobs: true`")
        if any(not stop for stop in self.stops):
            raise ValueError("`stop` holds an empty text")
        if self.messages[-1].role != "user":
            raise ValueError("`messages` must end with a message of the user")
        return self

    @property
    def stops(self) -> tuple[str, ...]:
        """Texts at which the answer ends."""
        return (self.stop,) if isinstance(self.stop, str) else tuple(self.stop or ())

    @property
    def choices(self) -> int:
        """How many answers are wanted."""
        return self.n or 1

    @property
    def likeliest(self) -> int | None:
        """How many of the most likely tokens to tell at each place; None: no probabilities at all."""
        return (self.top_logprobs or 0) if self.logprobs else None

    @property
    def with_usage(self) -> bool:
        """Whether a stream tells the number of tokens at its end."""
        return bool(self.stream_options and self.stream_options.include_usage)
