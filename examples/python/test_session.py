"""The session against a scripted coordinator: `python -m unittest test_session`."""

import queue
import tempfile
import threading
import time
import unittest
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import grpc
from tercet.participant.v1 import participant_pb2 as pb
from tercet.participant.v1 import session_pb2 as session_pb
from tercet.participant.v1 import session_pb2_grpc as session_grpc

from fence import Fence
from participant import RESOURCES, Holdings, Participant
from session import Connector

WAIT_S = 20
HEARTBEAT_S = 0.5


class Opened:
    """One session, as the coordinator has it."""

    def __init__(self, hello: session_pb.SessionHello) -> None:
        self.hello = hello
        self.says: queue.SimpleQueue[session_pb.OpenSessionResponse | None] = queue.SimpleQueue()
        self.hears: queue.SimpleQueue[session_pb.OpenSessionRequest | None] = queue.SimpleQueue()

    def hear(self) -> session_pb.OpenSessionRequest | None:
        """The next frame that is no heartbeat; none at the end."""
        while (frame := self.hears.get(timeout=WAIT_S)) is not None:
            if frame.WhichOneof("frame") != "heartbeat":
                return frame
        return None

    def replies(self, *calls: session_pb.SessionCall) -> dict[int, session_pb.SessionReply]:
        """What comes of these calls, sent in one frame."""
        frame = session_pb.SessionCalls(calls=calls)
        self.says.put(session_pb.OpenSessionResponse(calls=frame))
        replies: dict[int, session_pb.SessionReply] = {}
        while len(replies) < len(calls):
            frame = self.hear()
            assert frame is not None
            replies |= {reply.call_id: reply for reply in frame.replies.replies}
        return replies


class Coordinator(session_grpc.SessionServiceServicer):
    def __init__(self) -> None:
        self.opened: queue.SimpleQueue[Opened] = queue.SimpleQueue()

    def OpenSession(
        self, requests: Iterator[session_pb.OpenSessionRequest], context: grpc.ServicerContext
    ) -> Iterator[session_pb.OpenSessionResponse]:
        opened = Opened(next(requests).hello)
        threading.Thread(target=self._listen, args=(requests, opened), daemon=True).start()
        welcome = session_pb.SessionWelcome(session_id="session-1")
        welcome.heartbeat_interval.FromMicroseconds(int(HEARTBEAT_S * 1e6))
        yield session_pb.OpenSessionResponse(welcome=welcome)
        self.opened.put(opened)
        while (frame := opened.says.get()) is not None:
            yield frame

    @staticmethod
    def _listen(requests: Iterator[session_pb.OpenSessionRequest], opened: Opened) -> None:
        try:
            for frame in requests:
                opened.hears.put(frame)
        except grpc.RpcError:
            pass  # it was cut
        opened.hears.put(None)
        opened.says.put(None)


class SessionTest(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        fence = Fence(str(Path(folder.name) / "participant.db"))
        Holdings(fence).open(fence, "charge", "alice", 100)
        self.coordinator = Coordinator()
        server = grpc.server(ThreadPoolExecutor(max_workers=8))
        session_grpc.add_SessionServiceServicer_to_server(self.coordinator, server)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        self.addCleanup(lambda: server.stop(0).wait())
        self.connector = Connector("payment", RESOURCES, Participant(fence))
        self.running = threading.Thread(
            target=self.connector.run, args=(f"127.0.0.1:{port}",), daemon=True
        )
        self.running.start()
        self.addCleanup(self.stop)

    def stop(self) -> None:
        self.connector.stop()
        self.running.join(WAIT_S)
        self.assertFalse(self.running.is_alive())

    def context(self, name: str) -> pb.BranchContext:
        context = pb.BranchContext(
            realm="test", transaction_id=name, branch_id="b1", resource="charge", epoch=1
        )
        context.expire_time.FromSeconds(int(time.time()) + 30)
        return context

    def a_try(self, call_id: int, count: int) -> session_pb.SessionCall:
        payload = pb.Payload(type_url="json", value=b'{"item": "alice", "count": %d}' % count)
        request = pb.TryRequest(context=self.context(f"t{call_id}"), payload=payload)
        return session_pb.SessionCall(call_id=call_id, try_call=request)

    def test_it_says_who_it_is_and_answers_calls_of_one_frame(self) -> None:
        session = self.coordinator.opened.get(timeout=WAIT_S)
        self.assertEqual(session.hello.participant, "payment")
        self.assertEqual(list(session.hello.resources), ["charge", "reserve"])
        replies = session.replies(*(self.a_try(number, 1) for number in range(1, 31)))
        outcomes = {reply.try_reply.outcome for reply in replies.values()}
        self.assertEqual(outcomes, {pb.OUTCOME_SUCCESS})

    def test_refused_is_failed_and_everything_else_is_indeterminate(self) -> None:
        session = self.coordinator.opened.get(timeout=WAIT_S)
        confirm = pb.ConfirmRequest(context=self.context("nobody"))
        replies = session.replies(
            self.a_try(1, 1000),
            session_pb.SessionCall(call_id=2, confirm_call=confirm),
            session_pb.SessionCall(call_id=3, query_call=pb.QueryRequest()),
            session_pb.SessionCall(call_id=4),
        )
        self.assertEqual(replies[1].try_reply.outcome, pb.OUTCOME_FAILED)
        codes = [replies[number].indeterminate.code for number in (2, 3, 4)]
        expected = [
            grpc.StatusCode.FAILED_PRECONDITION,
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.UNIMPLEMENTED,
        ]
        self.assertEqual(codes, [code.value[0] for code in expected])

    def test_a_broken_session_is_followed_by_another_of_the_same_instance(self) -> None:
        first = self.coordinator.opened.get(timeout=WAIT_S)
        first.says.put(None)
        second = self.coordinator.opened.get(timeout=WAIT_S)
        self.assertEqual(first.hello.instance_id, second.hello.instance_id)
        self.assertIn(1, second.replies(self.a_try(1, 1)))

    def test_a_coordinator_that_says_nothing_is_left(self) -> None:
        session = self.coordinator.opened.get(timeout=WAIT_S)
        heard = 0
        while session.hears.get(timeout=WAIT_S) is not None:
            heard += 1
        self.assertGreaterEqual(heard, 1)
        self.coordinator.opened.get(timeout=WAIT_S)

    def test_it_leaves_after_its_last_reply(self) -> None:
        session = self.coordinator.opened.get(timeout=WAIT_S)
        self.connector.stop()
        frame = session.hear()
        assert frame is not None
        self.assertEqual(frame.WhichOneof("frame"), "drain")
        self.assertIsNone(session.hear())


if __name__ == "__main__":
    unittest.main()
