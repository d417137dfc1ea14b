"""Connecting out: a participant gets its calls over a stream that it opens to the coordinator.

It needs no address of its own. Takes the same servicer as a gRPC server would, so that the answers
are the same over both.
"""

import logging
import random
import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc
from tercet.participant.v1 import participant_pb2 as pb
from tercet.participant.v1 import participant_pb2_grpc as pb_grpc
from tercet.participant.v1 import session_pb2 as session_pb
from tercet.participant.v1 import session_pb2_grpc as session_grpc

FRAME_REPLIES_MAX = 256
"""With results of 4 KiB on average a frame has 1 MiB; the coordinator takes little more."""

HEARTBEATS_MISSED_MAX = 3
PAUSE_S = (0.1, 5.0)
"""Between two attempts to connect: doubled from the first to the last, then shortened by chance."""

REFUSED_PAUSE_S = 10.0
REFUSALS = {
    grpc.StatusCode.INVALID_ARGUMENT,
    grpc.StatusCode.NOT_FOUND,
    grpc.StatusCode.PERMISSION_DENIED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.FAILED_PRECONDITION,
    grpc.StatusCode.UNIMPLEMENTED,
    grpc.StatusCode.UNAUTHENTICATED,
}
"""What passes only when somebody changes a configuration."""

log = logging.getLogger(__name__)


class Connector:
    """Opens one session after the other, for ever, until it is stopped."""

    def __init__(
        self,
        name: str,
        resources: tuple[str, ...],
        servicer: pb_grpc.ParticipantServiceServicer,
        *,
        workers: int = 8,
        drain_s: float = 10.0,
    ) -> None:
        self._hello = session_pb.SessionHello(
            participant=name,
            instance_id=uuid.uuid4().hex,
            resources=resources,
            max_in_flight=4 * workers,
            sdk_version="tercet-example-python/0.1.0",
        )
        self._servicer = servicer
        self._workers = ThreadPoolExecutor(max_workers=workers)
        self._drain_s = drain_s
        self._stopped = threading.Event()
        self._session: Session | None = None

    def run(self, coordinator: str) -> None:
        """Returns after `stop`, once what was running is answered or `drain_s` has passed."""
        pause_s, longest_s = PAUSE_S
        while not self._stopped.is_set():
            began = time.monotonic()
            code = self._one(coordinator)
            if code in REFUSALS:
                wait_s = REFUSED_PAUSE_S
            else:
                if time.monotonic() - began > longest_s:
                    pause_s, _ = PAUSE_S
                wait_s = pause_s
                pause_s = min(2 * pause_s, longest_s)
            self._stopped.wait(wait_s * random.uniform(0.5, 1.0))
        self._workers.shutdown(wait=False, cancel_futures=True)

    def stop(self) -> None:
        """Asks for no new Try, and lets `run` end. May be called from a signal's handler."""
        self._stopped.set()
        session = self._session
        if session is not None:
            session.leave(self._drain_s)

    def _one(self, coordinator: str) -> grpc.StatusCode | None:
        """One session, from its hello to its end; says how it ended."""
        session = Session(self._hello, self._servicer, self._workers)
        self._session = session
        if self._stopped.is_set():
            return None
        try:
            with grpc.insecure_channel(coordinator) as channel:
                session.run(session_grpc.SessionServiceStub(channel))
        except grpc.RpcError as error:
            log.warning("no session: %s: %s", error.code().name, error.details())
            return error.code()
        finally:
            self._session = None
        return None


class Session:
    """One stream: calls run on the workers, replies go out in frames of all that wait."""

    def __init__(
        self,
        hello: session_pb.SessionHello,
        servicer: pb_grpc.ParticipantServiceServicer,
        workers: ThreadPoolExecutor,
    ) -> None:
        self._hello = hello
        self._servicer = servicer
        self._workers = workers
        self._changed = threading.Condition(threading.RLock())
        self._replies: list[session_pb.SessionReply] = []
        self._running = 0
        self._heartbeat_s = 0.0  # until the welcome
        self._heard = time.monotonic()
        self._leave_at: float | None = None
        self._drained = False
        self._ended = False
        self._frames: grpc.Call | None = None

    def run(self, stub: session_grpc.SessionServiceStub) -> None:
        """Returns when the coordinator has ended the stream; raises grpc.RpcError when it broke."""
        self._frames = stub.OpenSession(self._requests(), wait_for_ready=False)
        try:
            for frame in self._frames:
                self._heard = time.monotonic()
                kind = frame.WhichOneof("frame")
                if kind == "welcome":
                    self._begin_to_beat(frame.welcome.heartbeat_interval.ToMicroseconds() / 1e6)
                    log.info("session %s is open", frame.welcome.session_id)
                elif kind == "calls":
                    self._take(frame.calls.calls)
                # Heartbeats have been noted; other kinds are of a later version.
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify_all()
            self._frames.cancel()

    def leave(self, drain_s: float) -> None:
        """No new Try, please; ends the stream when nothing runs any more, or after `drain_s`."""
        with self._changed:
            self._leave_at = time.monotonic() + drain_s
            self._changed.notify_all()

    def _take(self, calls: list[session_pb.SessionCall]) -> None:
        with self._changed:
            self._running += len(calls)
        for call in calls:
            self._workers.submit(self._answer, call)

    def _answer(self, call: session_pb.SessionCall) -> None:
        reply = answer(self._servicer, call)
        with self._changed:
            self._running -= 1
            self._replies.append(reply)
            self._changed.notify_all()

    def _begin_to_beat(self, heartbeat_s: float) -> None:
        with self._changed:
            self._heartbeat_s = heartbeat_s
            self._changed.notify_all()

    def _requests(self) -> Iterator[session_pb.OpenSessionRequest]:
        """What is sent; grpcio asks for the next frame on a thread of its own."""
        yield session_pb.OpenSessionRequest(hello=self._hello)
        with self._changed:
            self._changed.wait_for(lambda: self._heartbeat_s > 0 or self._ended)
        while (frame := self._next()) is not None:
            yield frame

    def _next(self) -> session_pb.OpenSessionRequest | None:
        """The frame whose turn it is, within a heartbeat; none at the end."""
        with self._changed:
            self._changed.wait_for(self._has_news, self._heartbeat_s)
            if self._ended:
                return None
            if self._leave_at is not None and not self._drained:
                self._drained = True
                return session_pb.OpenSessionRequest(drain=session_pb.SessionDrain())
            replies = self._replies[:FRAME_REPLIES_MAX]
            del self._replies[:FRAME_REPLIES_MAX]
            if replies:
                frame = session_pb.SessionReplies(replies=replies)
                return session_pb.OpenSessionRequest(replies=frame)
            if self._may_go():
                return None
        if time.monotonic() - self._heard > HEARTBEATS_MISSED_MAX * self._heartbeat_s:
            log.warning("the coordinator was not heard for %d heartbeats", HEARTBEATS_MISSED_MAX)
            self._frames.cancel()
            return None
        return session_pb.OpenSessionRequest(heartbeat=session_pb.SessionHeartbeat())

    def _has_news(self) -> bool:
        leaves = self._leave_at is not None and not self._drained
        return bool(self._replies) or self._ended or leaves or self._may_go()

    def _may_go(self) -> bool:
        if self._leave_at is None or not self._drained:
            return False
        return self._running == 0 or time.monotonic() > self._leave_at


def answer(
    servicer: pb_grpc.ParticipantServiceServicer, call: session_pb.SessionCall
) -> session_pb.SessionReply:
    """What the servicer says. An exception or an abort is no outcome: the call comes again."""
    context = Context()
    reply = session_pb.SessionReply(call_id=call.call_id)
    try:
        match call.WhichOneof("request"):
            case "try_call":
                reply.try_reply.CopyFrom(servicer.Try(call.try_call, context))
            case "confirm_call":
                reply.confirm_reply.CopyFrom(servicer.Confirm(call.confirm_call, context))
            case "cancel_call":
                reply.cancel_reply.CopyFrom(servicer.Cancel(call.cancel_call, context))
            case "query_call":
                reply.query_reply.CopyFrom(servicer.Query(call.query_call, context))
            case _:
                context.abort(grpc.StatusCode.UNIMPLEMENTED, "a kind of call of a later version")
    except Aborted as aborted:
        reply.indeterminate.CopyFrom(failure(aborted.code, str(aborted)))
    except Exception as error:  # whatever it was, it is no refusal
        log.exception("a call broke")
        reply.indeterminate.CopyFrom(failure(grpc.StatusCode.UNKNOWN, repr(error)))
    return reply


def failure(code: grpc.StatusCode, message: str) -> pb.Failure:
    return pb.Failure(message=message[:1000], code=code.value[0])


class Aborted(Exception):
    def __init__(self, code: grpc.StatusCode, message: str) -> None:
        super().__init__(message)
        self.code = code


class Context:
    """What a servicer needs of `grpc.ServicerContext`."""

    def abort(self, code: grpc.StatusCode, details: str) -> NoReturn:
        raise Aborted(code, details)
