"""The cache of replies and the account of what was spent, in one SQLite file that survives a kill at any moment."""

import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from gmai_vl.endpoint.request import Reply
from gmai_vl.endpoint.transport import EndpointError
from gmai_vl.foundation import UserError, cache_home

_SECONDS_FOR_OTHERS = 60.0
"""How long to wait for another process that writes to the same file."""

_TABLES = """
CREATE TABLE IF NOT EXISTS replies (key TEXT PRIMARY KEY, reply TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spent (
    purse TEXT PRIMARY KEY, requests INTEGER NOT NULL, tokens INTEGER NOT NULL, usd REAL NOT NULL
) WITHOUT ROWID;
"""


@dataclass(frozen=True, slots=True)
class Spent:
    """Requests, tokens and money."""

    requests: int = 0
    tokens: int = 0
    usd: float = 0.0


def store_path() -> Path:
    """Return the file that replies are kept in."""
    return cache_home() / "replies.sqlite"


class Store:
    """Replies by key, and what each purse has spent. Threads and processes may share the file.

    What a request may cost at most is booked before it is sent, and corrected together with the storing of its reply:
    after a kill the account holds at least what was spent. All methods raise EndpointError where the file fails them.
    """

    def __init__(self, path: Path) -> None:
        """Open or make the file. Raises UserError if it is no such file or cannot be written."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._db = sqlite3.connect(path, timeout=_SECONDS_FOR_OTHERS, isolation_level=None, check_same_thread=False)
            _write_ahead(self._db)
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_TABLES)
            self._db.execute("SELECT key, reply FROM replies LIMIT 1")  # fails where it is another's file
            self._path = path
        except (OSError, sqlite3.Error) as error:
            raise UserError(
                f"{path}: cannot be used as the cache of replies ({error}); remove it or set GMAI_CACHE"
            ) from None
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close the file."""
        with self._lock:
            self._db.close()

    def reply(self, key: str) -> Reply | None:
        """Return the reply that was stored under `key`."""
        with self._used():
            row = self._db.execute("SELECT reply FROM replies WHERE key = ?", (key,)).fetchone()
        return None if row is None else Reply.from_json(row[0])

    def spent(self, purse: str) -> Spent:
        """Return what `purse` has spent, and may have spent on requests whose end is not known."""
        with self._used():
            return self._spent(purse)

    def book(self, purse: str, cost: Spent, limit: Spent) -> bool:
        """Add `cost` to what `purse` has spent, unless that comes to more than `limit`; say whether it was added."""
        with self._used(), self._transaction():
            total = _sum(self._spent(purse), cost)
            # Sums of money are a little off: a part in 10^9 is no overspending.
            if total.requests > limit.requests or total.tokens > limit.tokens or total.usd > limit.usd * (1 + 1e-9):
                return False
            self._add(purse, cost)
            return True

    def settle(self, purse: str, correction: Spent, stored: tuple[str, Reply] | None = None) -> None:
        """Correct what was booked, and store the reply that it was paid for, both or neither."""
        with self._used(), self._transaction():
            self._add(purse, correction)
            if stored is not None:
                key, reply = stored
                self._db.execute("INSERT OR IGNORE INTO replies VALUES (?, ?)", (key, reply.as_json()))

    @contextmanager
    def _used(self) -> Iterator[None]:
        """Let one thread at a time in; say what is wrong with the file if anything is: full, locked, closed."""
        try:
            with self._lock:
                yield
        except sqlite3.Error as error:
            raise EndpointError(
                f"{self._path}: the cache of replies cannot be used any more ({error}); see to the disk and run the "
                "same command again, what was stored is kept"
            ) from None

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        """Begin with the right to write, so that no other process comes between reading and writing."""
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _spent(self, purse: str) -> Spent:
        row = self._db.execute("SELECT requests, tokens, usd FROM spent WHERE purse = ?", (purse,)).fetchone()
        return Spent(*row) if row else Spent()

    def _add(self, purse: str, cost: Spent) -> None:
        self._db.execute(
            "INSERT INTO spent VALUES (?, ?, ?, ?) ON CONFLICT (purse) DO UPDATE SET "
            "requests = requests + excluded.requests, tokens = tokens + excluded.tokens, usd = usd + excluded.usd",
            (purse, cost.requests, cost.tokens, cost.usd),
        )


def _write_ahead(db: sqlite3.Connection) -> None:
    """Switch to write-ahead logging, also where others open the same new file: for that lock SQLite does not wait."""
    ends = time.monotonic() + _SECONDS_FOR_OTHERS
    while True:
        try:
            db.execute("PRAGMA journal_mode=WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > ends:
                raise
            time.sleep(0.01)


def _sum(one: Spent, other: Spent) -> Spent:
    return Spent(one.requests + other.requests, one.tokens + other.tokens, one.usd + other.usd)
