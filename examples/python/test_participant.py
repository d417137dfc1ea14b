"""The participant over gRPC, without a coordinator: `python -m unittest test_participant`."""

import json
import sqlite3
import tempfile
import time
import unittest
from pathlib import Path

import grpc
from tercet.participant.v1 import participant_pb2 as pb
from tercet.participant.v1 import participant_pb2_grpc as pb_grpc

from processes import start_participant

CALL_S = 5


class ParticipantTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.database = Path(folder.name) / "participant.db"
        channel = grpc.insecure_channel(start_participant(cls, cls.database))
        cls.addClassCleanup(channel.close)
        cls.participant = pb_grpc.ParticipantServiceStub(channel)

    def context(self, resource: str = "charge") -> pb.BranchContext:
        context = pb.BranchContext(
            realm="test", transaction_id=self.id(), branch_id="b1", resource=resource, epoch=1
        )
        context.expire_time.FromSeconds(int(time.time()) + 30)
        return context

    def attempt(self, context: pb.BranchContext, request: object) -> pb.TryResponse:
        payload = pb.Payload(type_url="json", value=json.dumps(request).encode())
        return self.participant.Try(pb.TryRequest(context=context, payload=payload), timeout=CALL_S)

    def holding(self) -> tuple[int, int, int]:
        with sqlite3.connect(self.database) as db:
            query = "SELECT available, held, used FROM holdings WHERE item = 'alice'"
            found = db.execute(query).fetchone()
        db.close()
        return found

    def test_a_charge_is_held_then_used(self) -> None:
        available, held, used = self.holding()
        context = self.context()
        reply = self.attempt(context, {"item": "alice", "count": 10})
        self.assertEqual(reply.outcome, pb.OUTCOME_SUCCESS)
        self.assertEqual(self.holding(), (available - 10, held + 10, used))

        query = self.participant.Query(pb.QueryRequest(context=context), timeout=CALL_S)
        self.assertEqual(query.state, pb.RECORD_STATE_TRIED)
        self.assertEqual(query.try_result, reply.result)

        done = self.participant.Confirm(pb.ConfirmRequest(context=context), timeout=CALL_S)
        self.assertEqual(done.outcome, pb.OUTCOME_SUCCESS)
        self.assertEqual(self.holding(), (available - 10, held, used + 10))

    def test_a_canceled_charge_is_given_back(self) -> None:
        before = self.holding()
        context = self.context()
        self.attempt(context, {"item": "alice", "count": 10})
        done = self.participant.Cancel(pb.CancelRequest(context=context), timeout=CALL_S)
        self.assertEqual(done.outcome, pb.OUTCOME_SUCCESS)
        self.assertEqual(self.holding(), before)

    def test_what_the_business_refuses_is_an_outcome_and_not_an_error(self) -> None:
        for resource, request, reason in [
            ("charge", {"item": "alice", "count": 1_000_000}, "NOT_ENOUGH"),
            ("charge", {"item": "nobody", "count": 1}, "NOT_ENOUGH"),
            ("charge", {"item": "alice", "count": -1}, "REQUEST_INVALID"),
            ("charge", {"item": "alice", "count": True}, "REQUEST_INVALID"),
            ("charge", ["alice"], "REQUEST_INVALID"),
            ("steal", {"item": "alice", "count": 1}, "RESOURCE_UNKNOWN"),
        ]:
            with self.subTest(resource=resource, request=request):
                reply = self.attempt(self.context(resource), request)
                self.assertEqual(reply.outcome, pb.OUTCOME_FAILED)
                self.assertEqual(reply.failure.reason, reason)

    def test_a_confirm_without_a_try_is_an_error_and_not_an_outcome(self) -> None:
        with self.assertRaises(grpc.RpcError) as caught:
            self.participant.Confirm(pb.ConfirmRequest(context=self.context()), timeout=CALL_S)
        self.assertEqual(caught.exception.code(), grpc.StatusCode.FAILED_PRECONDITION)

    def test_a_branch_that_was_never_seen_is_unknown(self) -> None:
        reply = self.participant.Query(pb.QueryRequest(context=self.context()), timeout=CALL_S)
        self.assertEqual(reply.state, pb.RECORD_STATE_UNKNOWN)

    def test_a_call_that_does_not_say_whose_it_is_changes_nothing(self) -> None:
        for field in ("realm", "transaction_id", "branch_id", "expire_time"):
            context = self.context()
            context.ClearField(field)
            with self.subTest(field=field), self.assertRaises(grpc.RpcError) as caught:
                self.attempt(context, {"item": "alice", "count": 1})
            self.assertEqual(caught.exception.code(), grpc.StatusCode.INVALID_ARGUMENT)
            self.assertIn(field, caught.exception.details())


if __name__ == "__main__":
    unittest.main()
