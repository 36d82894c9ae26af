"""Tokens become text as they come: no half characters, nothing that a stop word may still take back."""

from dataclasses import dataclass, field

from transformers import PreTrainedTokenizerBase

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"


@dataclass(slots=True)
class Speech:
    """The text of one answer: its pieces together are what decoding all tokens gives, without white space around it."""

    tokenizer: PreTrainedTokenizerBase

    stops: tuple[str, ...] = ()
    """Texts that end the answer, the one that is whole first; they are no part of it."""

    is_stopped: bool = False
    """Whether one of them has appeared."""

    _tokens: list[int] = field(default_factory=list)
    """Those that are needed to decode the next one, with some before: how a token reads depends on its neighbour."""

    _read: int = 0
    """How many of them stand in the text already."""

    _held: str = ""
    """Text that was not given out yet."""

    _begun: bool = False

    def add(self, token: int) -> str:
        """Take in a token and return the text that is certain now, often none."""
        if token in self.tokenizer.all_special_ids:
            return ""
        self._tokens.append(token)
        before, now = self._decoded(self._tokens[: self._read]), self._decoded(self._tokens)
        if now == before or now.endswith(_UNFINISHED):  # nothing to see, or the first bytes of a character
            return ""
        self._held += now[len(before) :]
        self._tokens, self._read = self._tokens[self._read :], len(self._tokens) - self._read
        return self._certain()

    def end(self) -> str:
        """Return what was held back, once no token follows."""
        if self.is_stopped:
            return ""
        before, now = self._decoded(self._tokens[: self._read]), self._decoded(self._tokens)
        self._held += now[len(before) :]
        self._tokens, self._read = [], 0
        certain = self._certain()
        rest, self._held = "" if self.is_stopped else self._held, ""
        return certain + rest.rstrip() if certain or self._begun else rest.strip()

    def _certain(self) -> str:
        """Return the held text without its end, which may be white space at the end or the beginning of a stop word."""
        if not self._begun:
            self._held = self._held.lstrip()
        found = [(place + len(stop), place) for stop in self.stops if (place := self._held.find(stop)) >= 0]
        if found:
            _, begin = min(found)  # the one that was whole first
            self.is_stopped = True
            given, self._held = self._held[:begin].rstrip(), ""
        else:
            kept = len(self._held[: self._open_stop()].rstrip())
            given, self._held = self._held[:kept], self._held[kept:]
        self._begun = self._begun or bool(given)
        return given

    def _open_stop(self) -> int:
        """Return where the earliest beginning of a stop word stands at the end of the held text, or its length."""
        longest = max((len(stop) for stop in self.stops), default=1) - 1
        for place in range(max(0, len(self._held) - longest), len(self._held)):
            if any(stop.startswith(self._held[place:]) for stop in self.stops):
                return place
        return len(self._held)

    def _decoded(self, tokens: list[int]) -> str:
        text: str = self.tokenizer.decode(tokens, skip_special_tokens=True)
        return text
