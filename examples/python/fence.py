"""The participant's fence: what makes Try, Confirm and Cancel safe to lose, repeat and reorder.

One row for each branch, written in the same SQLite transaction as the business change. Work that
lives outside the database needs more states than the three here; this fence is for work inside it.
"""

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum

SKEW_US = 5 * 60 * 1_000_000
"""How far the clocks of coordinator and participant may be apart."""

RETENTION_S = 30 * 24 * 3600
"""How long a finished row is kept past its transaction's expire_time."""

RETENTION_S_MIN = 24 * 3600


class Operation(Enum):
    TRY = "TRY"
    CONFIRM = "CONFIRM"
    CANCEL = "CANCEL"


class State(Enum):
    TRIED = "TRIED"
    CONFIRMED = "CONFIRMED"
    CANCELED = "CANCELED"  # also the tombstone of a branch that was cancelled before its Try came


class Action(Enum):
    RUN = "run the business change and record the new state"
    RECORD = "record the new state; there is nothing to change"
    REPEAT = "give the stored answer again"
    FENCED = "refuse: the branch was cancelled"
    ALARM = "answer with an error: the coordinator and this participant disagree"


RULE: dict[tuple[State | None, Operation], Action] = {
    (None, Operation.TRY): Action.RUN,
    (None, Operation.CONFIRM): Action.ALARM,
    (None, Operation.CANCEL): Action.RECORD,
    (State.TRIED, Operation.TRY): Action.REPEAT,
    (State.TRIED, Operation.CONFIRM): Action.RUN,
    (State.TRIED, Operation.CANCEL): Action.RUN,
    (State.CONFIRMED, Operation.TRY): Action.REPEAT,
    (State.CONFIRMED, Operation.CONFIRM): Action.REPEAT,
    (State.CONFIRMED, Operation.CANCEL): Action.ALARM,
    (State.CANCELED, Operation.TRY): Action.FENCED,
    (State.CANCELED, Operation.CONFIRM): Action.ALARM,
    (State.CANCELED, Operation.CANCEL): Action.REPEAT,
}

REACHED = {
    Operation.TRY: State.TRIED,
    Operation.CONFIRM: State.CONFIRMED,
    Operation.CANCEL: State.CANCELED,
}


@dataclass(frozen=True)
class Branch:
    """Who is calling: what every call of one branch repeats."""

    realm: str
    transaction_id: str
    branch_id: str
    expire_us: int  # microseconds since 1970, of the transaction
    epoch: int

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.realm, self.transaction_id, self.branch_id)


@dataclass(frozen=True)
class Row:
    state: State
    held: bytes  # what Try returned; empty for a tombstone
    epoch: int


class Refused(Exception):
    """The business says no. Definitive: nothing was changed, and the branch FAILED."""

    def __init__(self, reason: str, message: str, **metadata: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.metadata = metadata


class Contradiction(Exception):
    """Never a refusal: the caller learns nothing definitive and a person should look."""


Business = Callable[[sqlite3.Connection, bytes], bytes]
"""The change itself: given what Try held (empty in Try), it returns what Try holds."""


class Fence:
    def __init__(self, path: str) -> None:
        self._path = path
        with self.transaction() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS fence ("
                " realm TEXT NOT NULL, transaction_id TEXT NOT NULL, branch_id TEXT NOT NULL,"
                " state TEXT NOT NULL, held BLOB NOT NULL,"
                " expire_us INTEGER NOT NULL, epoch INTEGER NOT NULL,"
                " PRIMARY KEY (realm, transaction_id, branch_id)) WITHOUT ROWID"
            )
            db.execute("CREATE TABLE IF NOT EXISTS fence_horizon (expire_us INTEGER NOT NULL)")

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """One local transaction: committed and synced at its end, rolled back on any exception."""
        db = sqlite3.connect(self._path, timeout=5, isolation_level=None)
        try:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")  # a second copy of this call waits here
            yield db
            db.execute("COMMIT")
        finally:
            db.close()  # rolls back what was not committed

    def run(self, operation: Operation, branch: Branch, now_us: int, business: Business) -> bytes:
        """Runs the business change at most once, and returns what Try held.

        Raises Refused when the answer is FAILED, and Contradiction when it must be an error.
        """
        with self.transaction() as db:
            row = _read(db, branch)
            _raise_epoch(db, branch, row)
            action = RULE[row.state if row else None, operation]
            held = row.held if row else b""
            if operation is Operation.TRY and row is None:
                _refuse_expired(db, branch, now_us)
            if action is Action.RUN:
                returned = business(db, held)
                held = returned if operation is Operation.TRY else held
            if action in (Action.RUN, Action.RECORD):
                _write(db, branch, REACHED[operation], held)
        if action is Action.FENCED:
            raise Refused("BRANCH_FENCED", "the branch was cancelled before this Try")
        if action is Action.ALARM:
            recorded = row.state.value if row else "nothing"
            raise Contradiction(f"{operation.value} of {branch.key}, but {recorded} is recorded")
        return held

    def query(self, branch: Branch) -> Row | None:
        """What is recorded. Changes nothing, not even the epoch."""
        with self.transaction() as db:
            return _read(db, branch)

    def purge(self, now_us: int, retention_s: int = RETENTION_S) -> int:
        """Forgets finished branches whose time is long past; returns how many.

        The newest expire_time forgotten stays as the horizon: a Try that expires at or before it
        is refused, so that a clock set back can't run a forgotten branch again.
        """
        if retention_s < RETENTION_S_MIN:
            raise ValueError(f"retention_s is {retention_s}; at least {RETENTION_S_MIN} is needed")
        limit = now_us - retention_s * 1_000_000
        old = "FROM fence WHERE state IN ('CONFIRMED', 'CANCELED') AND expire_us < ?"
        with self.transaction() as db:
            (newest,) = db.execute(f"SELECT max(expire_us) {old}", (limit,)).fetchone()
            if newest is None:
                return 0
            newest = max(newest, _horizon(db))
            db.execute("DELETE FROM fence_horizon")
            db.execute("INSERT INTO fence_horizon VALUES (?)", (newest,))
            return db.execute(f"DELETE {old}", (limit,)).rowcount


def _read(db: sqlite3.Connection, branch: Branch) -> Row | None:
    found = db.execute(
        "SELECT state, held, epoch FROM fence"
        " WHERE realm = ? AND transaction_id = ? AND branch_id = ?",
        branch.key,
    ).fetchone()
    return Row(State(found[0]), found[1], found[2]) if found else None


def _raise_epoch(db: sqlite3.Connection, branch: Branch, row: Row | None) -> None:
    """A coordinator that was replaced must not act any more."""
    if row is None:
        return
    if branch.epoch < row.epoch:
        raise Contradiction(f"epoch {branch.epoch} of {branch.key} is older than {row.epoch}")
    db.execute(
        "UPDATE fence SET epoch = ? WHERE realm = ? AND transaction_id = ? AND branch_id = ?",
        (branch.epoch, *branch.key),
    )


def _refuse_expired(db: sqlite3.Connection, branch: Branch, now_us: int) -> None:
    if branch.expire_us <= _horizon(db) or now_us > branch.expire_us + SKEW_US:
        raise Refused("EXPIRED", "the transaction expired before this Try came")


def _horizon(db: sqlite3.Connection) -> int:
    (newest,) = db.execute("SELECT max(expire_us) FROM fence_horizon").fetchone()
    return newest or 0


def _write(db: sqlite3.Connection, branch: Branch, state: State, held: bytes) -> None:
    db.execute(
        "INSERT INTO fence VALUES (?, ?, ?, ?, ?, ?, ?)"
        " ON CONFLICT (realm, transaction_id, branch_id)"
        " DO UPDATE SET state = excluded.state, held = excluded.held",
        (*branch.key, state.value, held, branch.expire_us, branch.epoch),
    )
