"""A request that is not answered: a status, one line for people, and the form in which OpenAI's API tells it."""

from typing import Any

KINDS = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}
"""Status -> OpenAI's name of the kind of error; the others from 400 on are `invalid_request_error`."""


class Refusal(Exception):  # noqa: N818  it says what happens to the request, not that the server failed
    """A request is refused. The line names the place in the request, what is wrong, and what to do."""

    def __init__(
        self,
        status: int,
        line: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: int | None = None,
    ) -> None:
        """`param` is the place in the body, such as `messages[0].content[1]`; `retry_after` is in seconds."""
        super().__init__(line)
        self.status, self.line, self.param, self.code, self.retry_after = status, line, param, code, retry_after

    @property
    def headers(self) -> dict[str, str]:
        """HTTP headers that go with the status."""
        headers = {}
        if self.retry_after is not None:
            headers["retry-after"] = str(self.retry_after)
        if self.status == 401:
            headers["www-authenticate"] = "Bearer"
        return headers

    def body(self) -> dict[str, Any]:
        """Return OpenAI's form: `{"error": {"message", "type", "param", "code"}}`."""
        kind = "server_error" if self.status >= 500 else KINDS.get(self.status, "invalid_request_error")
        return {"error": {"message": self.line, "type": kind, "param": self.param, "code": self.code}}
