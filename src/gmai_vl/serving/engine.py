"""The scheduler: one loaded checkpoint answers many requests together, each word by word, in a thread of its own.

Between two words of the answers under way (one step of `Decoding`) those that were cancelled leave, and those that wait
join in the order of their coming while there is room. What the model has seen of a picture is kept by the hash of its
pixels.
"""

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, field, replace
from typing import Literal

from torch import Tensor

from gmai_vl.foundation import visible
from gmai_vl.model import Sampling, Vlm
from gmai_vl.model.asked import Prompt, answering, features_of, opened
from gmai_vl.model.decoding import Decoding, Word
from gmai_vl.serving.refusals import Refusal
from gmai_vl.serving.speech import Speech

FEATURE_BYTES = 2**28
"""Of the pictures' features that are kept."""

Finish = Literal["stop", "length", "cancelled", "failed"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Asked:
    """One answer that is wanted, ready for the model."""

    prompt: Prompt
    """Its number and sampling are not used."""

    sampling: Sampling | None = None
    """None: the most likely words."""

    prepared: dict[str, Tensor]
    """sha256 -> [3, S, S] of the pictures that it shows."""

    max_tokens: int
    stops: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Piece:
    """What is new of an answer."""

    text: str = ""
    words: tuple[Word, ...] = ()
    """Tokens since the last piece, the end token not among them; their text may still be held back."""

    finish: Finish | None = None
    """Set in the last piece."""

    fault: str | None = None
    """With `failed`: what went wrong, in one line."""


Tell = Callable[[Piece], None]
"""Takes each piece in the engine's thread; it must return at once and raise nothing."""


@dataclass(eq=False, slots=True)
class Ticket:
    """An answer that waits or is under way."""

    asked: Asked
    tell: Tell
    speech: Speech
    tokens: int = 0
    is_cancelled: bool = False
    unsaid: list[Word] = field(default_factory=list)
    """Words whose text is not certain yet."""

    def cancel(self) -> None:
        """Give the answer up; its place is free before the next word of the others. From any thread."""
        self.is_cancelled = True


@dataclass(slots=True)
class Counts:
    """What the engine has done; read by the metrics."""

    running: int = 0
    waiting: int = 0
    steps: int = 0
    words: int = 0
    pictures_seen: int = 0
    pictures_known: int = 0
    failures: int = 0


class Engine:
    """A checkpoint at work. `close` it."""

    def __init__(self, vlm: Vlm, *, running: int = 8, waiting: int = 64) -> None:
        """Begin to wait for requests. `running` answers are written together, `waiting` wait, more are refused."""
        self.vlm = vlm
        self.counts = Counts()
        self._running, self._waiting = running, waiting
        self._queue: deque[Ticket] = deque()
        self._changed = threading.Condition()
        """Guards the queue and the end."""

        self._is_closed = False
        self._decoding = Decoding(vlm)
        self._under_way: dict[int, Ticket] = {}
        self._features: OrderedDict[str, Tensor] = OrderedDict()
        self._number = 0
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether requests are answered."""
        return self._thread.is_alive() and not self._is_closed

    def submit(self, asked: Sequence[Asked], tells: Sequence[Tell]) -> list[Ticket]:
        """Let answers wait for their turn, all of them or none.

        Raises Refusal: 429 where too many wait, 503 where the engine has ended.
        """
        tokenizer = self.vlm.processor.tokenizer
        tickets = [Ticket(one, tell, Speech(tokenizer, one.stops)) for one, tell in zip(asked, tells, strict=True)]
        with self._changed:
            if not self.is_alive:
                raise Refusal(503, "the server is shutting down", retry_after=5)
            free = max(0, self._running - self.counts.running)
            if len(self._queue) + len(tickets) > self._waiting + free:
                raise Refusal(429, f"{len(self._queue)} answers wait already; ask again later", retry_after=2)
            self._queue.extend(tickets)
            self.counts.waiting = len(self._queue)
            self._changed.notify()
        return tickets

    def close(self) -> None:
        """Cancel what waits and what is under way, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    def _work(self) -> None:
        ending = Piece(finish="failed", fault="the engine of the server broke down")
        try:
            with answering(self.vlm):
                while not self._is_closed:
                    self._try_round()
            ending = Piece(finish="cancelled")
        finally:
            self._is_closed = True
            self._give_up(ending)
            for ticket in self._taken(len(self._queue)):
                ticket.tell(ending)

    def _try_round(self) -> None:
        try:
            self._round()
        except (RuntimeError, ValueError, MemoryError) as error:  # out of memory, above all
            self.counts.failures += 1
            said = visible(str(error).splitlines()[0]) if str(error) else type(error).__name__
            self._give_up(Piece(finish="failed", fault=f"the model could not go on: {said}"[:300]))

    def _round(self) -> None:
        """Say the next word of every answer under way, or the first one of those whose turn it is."""
        self._leave({number for number, ticket in self._under_way.items() if ticket.is_cancelled}, "cancelled")
        newcomers = self._newcomers()
        for word in self._begun(newcomers) if newcomers else self._decoding.step() if self._under_way else ():
            self._say(word)

    def _newcomers(self) -> dict[int, Ticket]:
        """Return those whose turn it is, by number; wait for the first where nothing is under way."""
        with self._changed:
            while not (self._under_way or self._queue or self._is_closed):
                self._changed.wait()
        newcomers: dict[int, Ticket] = {}
        for ticket in self._taken(self._running - len(self._under_way)):
            if ticket.is_cancelled:
                ticket.tell(Piece(finish="cancelled"))
            else:
                newcomers[self._number] = ticket
                self._number += 1
        return newcomers

    def _taken(self, most: int) -> list[Ticket]:
        with self._changed:
            taken = [self._queue.popleft() for _ in range(min(most, len(self._queue)))]
            self.counts.waiting = len(self._queue)
        return taken

    def _begun(self, newcomers: dict[int, Ticket]) -> list[Word]:
        """Read what newcomers ask, what they begin with in common once, and return the first word of each."""
        self._under_way |= newcomers
        self.counts.running = len(self._under_way)
        features = self._seen([ticket.asked for ticket in newcomers.values()])
        prompts = [
            replace(ticket.asked.prompt, number=number, sampling=ticket.asked.sampling)
            for number, ticket in newcomers.items()
        ]
        return [
            word for batch in opened(self.vlm, prompts, features, len(prompts)) for word in self._decoding.join(batch)
        ]

    def _seen(self, asked: Sequence[Asked]) -> dict[str, Tensor]:
        """Return sha256 -> features of the pictures that are asked about, of those that are kept without a look."""
        wanted = {name: prepared for one in asked for name, prepared in one.prepared.items()}
        features = {name: self._features[name] for name in wanted if name in self._features}
        self.counts.pictures_known += len(features)
        if new := {name: prepared for name, prepared in wanted.items() if name not in features}:
            self.counts.pictures_seen += len(new)
            features |= features_of(self.vlm, new)
        for name, feature_PD in features.items():
            self._features[name] = feature_PD
            self._features.move_to_end(name)
        while sum(each.nbytes for each in self._features.values()) > FEATURE_BYTES:
            self._features.popitem(last=False)
        return features

    def _say(self, word: Word) -> None:
        """Tell the text that a word makes certain, and see whether its answer ends with it."""
        ticket = self._under_way[word.number]
        if word.token == self.vlm.processor.tokenizer.eos_token_id:
            self._end(word.number, "stop")
            return
        self.counts.words += 1
        ticket.tokens += 1
        ticket.unsaid.append(word)
        if text := ticket.speech.add(word.token):
            ticket.tell(Piece(text, tuple(ticket.unsaid)))
            ticket.unsaid = []
        if ticket.speech.is_stopped:
            self._end(word.number, "stop")
        elif ticket.tokens == ticket.asked.max_tokens:
            self._end(word.number, "length")

    def _end(self, number: int, finish: Finish) -> None:
        ticket = self._under_way[number]
        rest = ticket.speech.end()
        # A stop word that shows itself only now ends the answer as well.
        finish = "stop" if ticket.speech.is_stopped else finish
        ticket.tell(Piece(rest, tuple(ticket.unsaid)))
        ticket.unsaid = []
        self._leave({number}, finish)

    def _leave(self, numbers: Set[int], finish: Finish) -> None:
        """Take answers out, so that their places are free, and tell them so."""
        self._decoding.leave(numbers)
        for number in numbers:
            self._under_way.pop(number).tell(Piece(finish=finish))
        self.counts.running = len(self._under_way)

    def _give_up(self, piece: Piece) -> None:
        """End all answers under way with a piece, and begin anew."""
        self._decoding = Decoding(self.vlm)
        for ticket in self._under_way.values():
            ticket.tell(piece)
        self._under_way = {}
        self.counts.running = 0
