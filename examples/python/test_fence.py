"""The fence by itself: `python -m unittest test_fence`. Needs nothing but Python."""

import itertools
import sqlite3
import tempfile
import unittest
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

from fence import (
    RETENTION_S,
    RETENTION_S_MIN,
    RULE,
    SKEW_US,
    Branch,
    Contradiction,
    Fence,
    Operation,
    Refused,
    State,
)

NOW_US = 1_800_000_000_000_000
BRANCH = Branch("realm", "order-1", "b1", expire_us=NOW_US + 30_000_000, epoch=3)
TRY, CONFIRM, CANCEL = Operation.TRY, Operation.CONFIRM, Operation.CANCEL


class FenceTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.fence = Fence(str(Path(folder.name) / "fence.db"))
        with self.fence.transaction() as db:
            db.execute("CREATE TABLE effects (name TEXT NOT NULL)")

    def call(self, operation: Operation, branch: Branch = BRANCH, now_us: int = NOW_US) -> bytes:
        """Runs the operation with an effect that leaves its name behind."""

        def business(db: sqlite3.Connection, held: bytes) -> bytes:
            self.assertEqual(held, b"" if operation is TRY else b"seat 7")
            db.execute("INSERT INTO effects VALUES (?)", (operation.value,))
            return b"seat 7"

        return self.fence.run(operation, branch, now_us, business)

    def effects(self) -> list[str]:
        with self.fence.transaction() as db:
            return [name for (name,) in db.execute("SELECT name FROM effects ORDER BY rowid")]

    def state(self, branch: Branch = BRANCH) -> State | None:
        row = self.fence.query(branch)
        return row.state if row else None

    def refusal(self, operation: Operation, branch: Branch = BRANCH, now_us: int = NOW_US) -> str:
        with self.assertRaises(Refused) as caught:
            self.call(operation, branch, now_us)
        return caught.exception.reason

    def test_the_rule_answers_every_call_in_every_state(self) -> None:
        self.assertEqual(set(RULE), set(itertools.product([None, *State], Operation)))

    def test_try_and_confirm_take_effect_once_each_however_often_they_come(self) -> None:
        self.assertEqual([self.call(TRY), self.call(TRY)], [b"seat 7"] * 2)
        self.call(CONFIRM)
        self.call(CONFIRM)
        self.assertEqual(self.call(TRY), b"seat 7")
        self.assertEqual(self.effects(), ["TRY", "CONFIRM"])
        self.assertEqual(self.state(), State.CONFIRMED)

    def test_cancel_takes_back_once_and_fences(self) -> None:
        self.call(TRY)
        self.call(CANCEL)
        self.call(CANCEL)
        self.assertEqual(self.refusal(TRY), "BRANCH_FENCED")
        self.assertEqual(self.effects(), ["TRY", "CANCEL"])

    def test_a_cancel_that_comes_first_changes_nothing_and_fences_the_late_try(self) -> None:
        self.call(CANCEL)
        self.assertEqual(self.refusal(TRY), "BRANCH_FENCED")
        self.assertEqual(self.effects(), [])
        self.assertEqual(self.state(), State.CANCELED)

    def test_confirm_without_try_is_an_error_and_leaves_no_row(self) -> None:
        with self.assertRaises(Contradiction):
            self.call(CONFIRM)
        self.assertIsNone(self.state())

    def test_confirm_and_cancel_never_both_take_effect(self) -> None:
        for first, second in [(CONFIRM, CANCEL), (CANCEL, CONFIRM)]:
            branch = replace(BRANCH, branch_id=first.value)
            self.call(TRY, branch)
            self.call(first, branch)
            with self.assertRaises(Contradiction):
                self.call(second, branch)
        self.assertEqual(self.effects(), ["TRY", "CONFIRM", "TRY", "CANCEL"])

    def test_a_refused_try_leaves_nothing_so_that_it_may_succeed_later(self) -> None:
        def refuse(db: sqlite3.Connection, _: bytes) -> bytes:
            db.execute("INSERT INTO effects VALUES ('half')")
            raise Refused("SOLD_OUT", "no seat is free")

        with self.assertRaises(Refused):
            self.fence.run(TRY, BRANCH, NOW_US, refuse)
        self.assertEqual((self.effects(), self.state()), ([], None))
        self.assertEqual(self.call(TRY), b"seat 7")

    def test_an_older_coordinator_is_answered_with_an_error_by_every_operation(self) -> None:
        self.call(TRY, replace(BRANCH, epoch=4))
        for operation in Operation:
            with self.assertRaises(Contradiction):
                self.call(operation, replace(BRANCH, epoch=3))
        self.assertEqual(self.effects(), ["TRY"])

    def test_a_repeated_call_raises_the_epoch_and_a_query_does_not(self) -> None:
        self.call(TRY)
        self.fence.query(replace(BRANCH, epoch=9))
        self.call(TRY, replace(BRANCH, epoch=5))
        with self.assertRaises(Contradiction):
            self.call(CONFIRM, replace(BRANCH, epoch=4))
        self.call(CONFIRM, replace(BRANCH, epoch=5))

    def test_a_refused_late_try_raises_the_epoch_too(self) -> None:
        self.call(CANCEL)
        self.refusal(TRY, replace(BRANCH, epoch=5))
        with self.assertRaises(Contradiction):
            self.call(CANCEL, replace(BRANCH, epoch=4))

    def test_realms_with_the_same_ids_never_meet(self) -> None:
        self.call(CANCEL)
        self.call(TRY, replace(BRANCH, realm="another"))
        self.assertEqual(self.effects(), ["TRY"])

    def test_a_try_is_refused_from_five_minutes_after_its_time_unless_it_has_a_row(self) -> None:
        last_us = BRANCH.expire_us + SKEW_US
        self.assertEqual(self.refusal(TRY, now_us=last_us + 1), "EXPIRED")
        self.call(TRY, now_us=last_us)
        self.assertEqual(self.call(TRY, now_us=last_us + 1), b"seat 7")

    def test_purge_forgets_only_what_is_finished_and_old(self) -> None:
        after_us = BRANCH.expire_us + RETENTION_S * 1_000_000
        open_branch = replace(BRANCH, branch_id="open")
        self.call(TRY, open_branch)
        self.call(CANCEL)
        self.assertEqual(self.fence.purge(after_us), 0)
        self.assertEqual(self.fence.purge(after_us + 1), 1)
        self.assertEqual((self.state(), self.state(open_branch)), (None, State.TRIED))

    def test_what_was_purged_stays_refused_when_the_clock_is_set_back(self) -> None:
        self.call(CANCEL)
        self.fence.purge(BRANCH.expire_us + RETENTION_S * 1_000_000 + 1)
        self.assertEqual(self.refusal(TRY, now_us=NOW_US), "EXPIRED")
        self.call(TRY, replace(BRANCH, branch_id="later", expire_us=BRANCH.expire_us + 1))

    def test_the_horizon_never_goes_back(self) -> None:
        for expire_us in (BRANCH.expire_us, BRANCH.expire_us - 10):
            self.call(CANCEL, replace(BRANCH, branch_id=str(expire_us), expire_us=expire_us))
            self.fence.purge(BRANCH.expire_us + RETENTION_S * 1_000_000 + 1)
        self.assertEqual(self.refusal(TRY), "EXPIRED")

    def test_a_retention_under_a_day_is_refused(self) -> None:
        with self.assertRaises(ValueError):
            self.fence.purge(NOW_US, RETENTION_S_MIN - 1)

    def test_copies_that_arrive_together_take_effect_once(self) -> None:
        with ThreadPoolExecutor(8) as pool:
            answers = list(pool.map(lambda _: self.call(TRY), range(16)))
        self.assertEqual(answers, [b"seat 7"] * 16)
        self.assertEqual(self.effects(), ["TRY"])


if __name__ == "__main__":
    unittest.main()
