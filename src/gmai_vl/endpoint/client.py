"""Ask a server from many threads: each question is paid for once, within the budget, as fast as is allowed."""

import math
import random
import threading
import time
from pathlib import Path
from types import TracebackType

from gmai_vl.endpoint.request import Refusal, Reply, Request
from gmai_vl.endpoint.settings import EndpointSettings
from gmai_vl.endpoint.store import Spent, Store
from gmai_vl.endpoint.transport import EndpointError, Failed, Wire

MOST_WAIT_S = 60.0
"""Longest wait between two tries where the server does not ask for another."""

MOST_WAIT_ASKED_S = 600.0
"""A server that asks to wait longer than this is not waited for."""


class Client:
    """A server, the cache of its replies and the purse that pays. Use as a context; `ask` from any thread."""

    def __init__(self, settings: EndpointSettings, store: Path, purse: str) -> None:
        """Open the cache in the file `store`; `purse` names who pays, over all runs.

        Raises UserError if the key is not set, the cache cannot be used, or a budget in money has no prices.
        """
        self.settings = settings
        self.purse = purse
        key = settings.key()
        self._store = Store(store)
        self._wire = Wire(settings, key)
        self._slots = threading.Semaphore(settings.concurrency)
        self._changed = threading.Condition()
        """Guards all below; notified when a request ends."""
        self._asking: set[str] = set()
        self._booked = 0
        self._not_before = 0.0
        self._next_turn = 0.0
        self._stopped: str | None = None
        self._patience = random.Random()

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._stop(f"{self.settings.url}: the client was closed")
        try:
            if not isinstance(error, KeyboardInterrupt):
                self._wait_for_askers()  # their answers are paid for
        finally:
            self._wire.close()
            self._wait_for_askers()
            self._store.close()

    def _wait_for_askers(self) -> None:
        with self._changed:
            while self._asking:
                self._changed.wait()

    @property
    def spent(self) -> Spent:
        """What the purse has spent in all runs."""
        return self._store.spent(self.purse)

    def ask(self, request: Request) -> Reply | Refusal:
        """Return the model's reply, from the cache where it was asked before.

        Waits for a free place, for the rate, and after faults that may pass. Raises EndpointError if the server cannot
        be reached, does not answer, or the budget is spent: no further `ask` of this client sends anything then.
        """
        key = request.key(self.settings)
        with self._changed:
            while key in self._asking:
                self._changed.wait()
            self._asking.add(key)
        try:
            return self._store.reply(key) or self._ask(request, key)
        finally:
            with self._changed:
                self._asking.discard(key)
                self._changed.notify_all()

    def _ask(self, request: Request, key: str) -> Reply | Refusal:
        body = request.body(self.settings)
        bounds = request.most_tokens(self.settings)
        most = Spent(1, sum(bounds), self.settings.cost(*bounds))
        failed = Failed(reason="not sent")
        for attempt in range(self.settings.retries + 1):
            with self._slots:
                self._wait_for_turn()
                self._book(most)
                outcome: Reply | Refusal | Failed | None = None
                try:
                    outcome = self._wire.send(body, bounds)
                except EndpointError as error:
                    outcome = Refusal(str(error))  # not billed
                    raise self._stop(str(error)) from None
                finally:
                    self._settle(most, key, outcome)
            if not isinstance(outcome, Failed):
                return outcome
            failed = outcome
            if attempt < self.settings.retries:
                self._wait_after(failed, attempt)
        raise self._stop(
            f"{self.settings.url}: no answer after {self.settings.retries + 1} tries, the last: {failed.reason}; "
            "see to the server and run the same command again, what was answered is kept"
        )

    def _book(self, most: Spent) -> None:
        """Book what a request may cost at most, waiting for others under way whose real cost may leave room for it."""
        budget = self.settings.budget
        limit = Spent(budget.requests or 2**62, budget.tokens or 2**62, budget.usd or math.inf)
        with self._changed:
            while not self._store.book(self.purse, most, limit):
                if self._booked == 0:
                    raise self._stop(self._why_spent(most))
                self._changed.wait()
                self._check()
            self._booked += 1

    def _settle(self, most: Spent, key: str, outcome: Reply | Refusal | Failed | None) -> None:
        """Correct what was booked to what is known of its cost; a request of unknown fate may have cost it all."""
        correction, stored = Spent(), None
        if isinstance(outcome, Reply):
            tokens = outcome.prompt_tokens + outcome.answer_tokens
            usd = self.settings.cost(outcome.prompt_tokens, outcome.answer_tokens)
            correction, stored = Spent(0, tokens - most.tokens, usd - most.usd), (key, outcome)
        elif isinstance(outcome, Refusal):
            correction = Spent(0, -most.tokens, -most.usd)
        elif isinstance(outcome, Failed) and outcome.free:
            correction = Spent(-1, -most.tokens, -most.usd)
        try:
            self._store.settle(self.purse, correction, stored)
        except EndpointError as error:
            raise self._stop(str(error)) from None  # further answers would be lost too
        finally:
            with self._changed:
                self._booked -= 1
                self._changed.notify_all()

    def _wait_for_turn(self) -> None:
        """Wait until the server may be asked again and the rate allows it. Raises what stopped the client."""
        with self._changed:
            self._check()
            while (wait := max(self._next_turn, self._not_before) - time.monotonic()) > 0:
                self._changed.wait(wait)
                self._check()
            if self.settings.requests_per_minute is not None:
                self._next_turn = time.monotonic() + 60.0 / self.settings.requests_per_minute

    def _wait_after(self, failed: Failed, attempt: int) -> None:
        """Wait a while that grows with every attempt, and all threads as long as the server asks."""
        wait = failed.wait_s
        if wait is not None and wait > MOST_WAIT_ASKED_S:
            raise self._stop(f"{self.settings.url}: asks to wait {wait:.0f} s; run the same command again then")
        with self._changed:
            if wait is not None:
                self._not_before = max(self._not_before, time.monotonic() + wait)
            # Half of it by chance: those who failed together do not come again together.
            longest = min(MOST_WAIT_S, self.settings.retry_wait_s * 2**attempt)
            ends = time.monotonic() + longest * (0.5 + 0.5 * self._patience.random())
            while (left := ends - time.monotonic()) > 0:
                self._check()
                self._changed.wait(left)

    def _check(self) -> None:
        if self._stopped is not None:
            raise EndpointError(self._stopped)

    def _stop(self, reason: str) -> EndpointError:
        """Let no thread send anything more; return an error with the first reason to stop."""
        with self._changed:
            self._stopped = self._stopped or reason
            self._changed.notify_all()
            return EndpointError(self._stopped)

    def _why_spent(self, most: Spent) -> str:
        spent, budget = self.spent, self.settings.budget
        return (
            f"{self.settings.url}: the budget does not allow another request: spent {spent.requests} requests, "
            f"{spent.tokens} tokens, {spent.usd:.4f} USD; this one may cost {most.tokens} tokens, {most.usd:.4f} USD; "
            f"allowed {_or_any(budget.requests)} requests, {_or_any(budget.tokens)} tokens, {_or_any(budget.usd)} USD; "
            "raise `budget` and run the same command again, what was answered is kept"
        )


def _or_any(limit: float | None) -> str:
    return "any" if limit is None else f"{limit:g}"
