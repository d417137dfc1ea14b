"""The client against a coordinator that answers as told: `python -m unittest test_client`."""

import unittest
from concurrent.futures import ThreadPoolExecutor

import grpc
from tercet.participant.v1 import participant_pb2 as participant_pb
from tercet.v1 import coordinator_pb2 as pb
from tercet.v1 import coordinator_pb2_grpc as pb_grpc
from tercet.v1 import transaction_pb2

from client import order, submit

SUCCESS = participant_pb.OUTCOME_SUCCESS
FAILED = participant_pb.OUTCOME_FAILED
PROCESSING = participant_pb.OUTCOME_PROCESSING
LOST = grpc.StatusCode.DEADLINE_EXCEEDED
AWAY = grpc.StatusCode.UNAVAILABLE
REFUSED = grpc.StatusCode.INVALID_ARGUMENT


class ScriptedCoordinator(pb_grpc.CoordinatorServiceServicer):
    """Gives its answers in order, the last one for ever."""

    def __init__(self, answers: list[object]) -> None:
        self.answers = answers
        self.requests: list[bytes] = []

    def SubmitTransaction(
        self, request: pb.SubmitTransactionRequest, context: grpc.ServicerContext
    ) -> pb.SubmitTransactionResponse:
        self.requests.append(request.SerializeToString(deterministic=True))
        answer = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if isinstance(answer, grpc.StatusCode):
            context.abort(answer, "as told")
        return pb.SubmitTransactionResponse(
            transaction=transaction_pb2.Transaction(
                transaction_id=request.transaction_id, outcome=answer
            )
        )


class ClientTest(unittest.TestCase):
    def submit(self, *answers: object, timeout_s: float = 10) -> int:
        """The outcome that the client reports when it is answered so."""
        self.coordinator = ScriptedCoordinator(list(answers))
        server = grpc.server(ThreadPoolExecutor(2))
        pb_grpc.add_CoordinatorServiceServicer_to_server(self.coordinator, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        try:
            with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
                stub = pb_grpc.CoordinatorServiceStub(channel)
                return submit(stub, order("order-1", "alice", 1, "book", 1), timeout_s).outcome
        finally:
            server.stop(None).wait()

    def test_success_and_failure_are_told_as_they_are(self) -> None:
        self.assertEqual(self.submit(SUCCESS), SUCCESS)
        self.assertEqual(self.submit(FAILED), FAILED)

    def test_what_has_no_answer_is_sent_again_just_as_it_was(self) -> None:
        self.assertEqual(self.submit(LOST, AWAY, PROCESSING, SUCCESS), SUCCESS)
        self.assertEqual(len(self.coordinator.requests), 4)
        self.assertEqual(len(set(self.coordinator.requests)), 1)

    def test_a_time_that_runs_out_is_processing_and_never_failed(self) -> None:
        for answer in (LOST, AWAY, PROCESSING):
            self.assertEqual(self.submit(answer, timeout_s=0.5), PROCESSING)

    def test_a_refusal_says_that_nothing_is_running(self) -> None:
        with self.assertRaises(grpc.RpcError) as caught:
            self.submit(REFUSED)
        self.assertEqual(caught.exception.code(), REFUSED)

    def test_a_refusal_after_a_lost_answer_says_nothing(self) -> None:
        self.assertEqual(self.submit(LOST, REFUSED, timeout_s=0.5), PROCESSING)
        self.assertEqual(self.submit(LOST, REFUSED, SUCCESS), SUCCESS)


if __name__ == "__main__":
    unittest.main()
