"""A complete participant: money to `charge`, stock to `reserve`, each in one SQLite file.

    PYTHONPATH=generated python participant.py --database bank.db --open charge/alice=5000

It serves, or with `--connect COORDINATOR --name NAME` connects out and has no address at all.

Both resources hold a number of something: Try moves it from available to held, Confirm from held
to used, Cancel back to available. A request is JSON: {"item": "alice", "count": 1200}.
"""

import argparse
import json
import logging
import signal
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from tercet.participant.v1 import participant_pb2 as pb
from tercet.participant.v1 import participant_pb2_grpc as pb_grpc

from fence import Branch, Contradiction, Fence, Operation, Refused, State
from session import Connector, Context

CallContext = grpc.ServicerContext | Context
"""Of a call to the server, or of one over a session."""

RESOURCES = ("charge", "reserve")
PURGE_INTERVAL_S = 3600
DRAIN_S = 5

RECORD_STATES = {
    State.TRIED: pb.RECORD_STATE_TRIED,
    State.CONFIRMED: pb.RECORD_STATE_CONFIRMED,
    State.CANCELED: pb.RECORD_STATE_CANCELED,
}


class Holdings:
    """The business: knows nothing of transactions, only how to hold, use and release."""

    def __init__(self, fence: Fence) -> None:
        with fence.transaction() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS holdings ("
                " resource TEXT NOT NULL, item TEXT NOT NULL,"
                " available INTEGER NOT NULL CHECK (available >= 0),"
                " held INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),"
                " used INTEGER NOT NULL DEFAULT 0 CHECK (used >= 0),"
                " PRIMARY KEY (resource, item)) WITHOUT ROWID"
            )

    @staticmethod
    def open(fence: Fence, resource: str, item: str, available: int) -> None:
        """Puts in the first stock of an item; an item that is there is left as it is."""
        with fence.transaction() as db:
            db.execute(
                "INSERT INTO holdings (resource, item, available) VALUES (?, ?, ?)"
                " ON CONFLICT DO NOTHING",
                (resource, item, available),
            )

    @staticmethod
    def hold(db: sqlite3.Connection, resource: str, request: bytes) -> bytes:
        item, count = parse(request)
        changed = db.execute(
            "UPDATE holdings SET available = available - ?1, held = held + ?1"
            " WHERE resource = ?2 AND item = ?3 AND available >= ?1",
            (count, resource, item),
        ).rowcount
        if changed == 0:
            raise Refused("NOT_ENOUGH", f"not {count} of {item}", item=item, count=str(count))
        return json.dumps({"resource": resource, "item": item, "count": count}).encode()

    @staticmethod
    def use(db: sqlite3.Connection, held: bytes) -> bytes:
        move(db, held, "used")
        return b""

    @staticmethod
    def release(db: sqlite3.Connection, held: bytes) -> bytes:
        move(db, held, "available")
        return b""


def move(db: sqlite3.Connection, held: bytes, to: str) -> None:
    holding = json.loads(held)
    db.execute(
        f"UPDATE holdings SET held = held - ?1, {to} = {to} + ?1 WHERE resource = ?2 AND item = ?3",
        (holding["count"], holding["resource"], holding["item"]),
    )


def parse(request: bytes) -> tuple[str, int]:
    """What can't be read is refused: sending it again would not mend it."""
    try:
        order = json.loads(request)
        item, count = order["item"], order["count"]
    except (ValueError, KeyError, TypeError) as error:
        raise Refused("REQUEST_INVALID", f"want item and count in JSON: {error!r}") from error
    if not isinstance(item, str) or type(count) is not int or not 0 < count < 2**53:
        raise Refused("REQUEST_INVALID", "want a text item and a positive whole count")
    return item, count


class Participant(pb_grpc.ParticipantServiceServicer):
    """The door: messages in, fence and business, messages out.

    An exception that is not caught here becomes a gRPC error, which the coordinator reads as
    "indeterminate" and asks again: a broken disk never looks like a refusal.
    """

    def __init__(self, fence: Fence) -> None:
        self._fence = fence

    def Try(self, request: pb.TryRequest, context: CallContext) -> pb.TryResponse:
        resource = request.context.resource

        def business(db: sqlite3.Connection, _: bytes) -> bytes:
            if resource not in RESOURCES:
                raise Refused("RESOURCE_UNKNOWN", f"no resource {resource!r}", resource=resource)
            return Holdings.hold(db, resource, request.payload.value)

        branch = branch_of(request.context, context)
        try:
            held = self._fence.run(Operation.TRY, branch, now_us(), business)
        except Refused as refused:
            return pb.TryResponse(outcome=pb.OUTCOME_FAILED, failure=failure_of(refused))
        except Contradiction as contradiction:
            abort(context, contradiction)
        return pb.TryResponse(outcome=pb.OUTCOME_SUCCESS, result=json_payload(held))

    def Confirm(self, request: pb.ConfirmRequest, context: CallContext) -> pb.ConfirmResponse:
        branch = branch_of(request.context, context)
        try:
            self._fence.run(Operation.CONFIRM, branch, now_us(), Holdings.use)
        except Contradiction as contradiction:
            abort(context, contradiction)
        return pb.ConfirmResponse(outcome=pb.OUTCOME_SUCCESS)

    def Cancel(self, request: pb.CancelRequest, context: CallContext) -> pb.CancelResponse:
        branch = branch_of(request.context, context)
        try:
            self._fence.run(Operation.CANCEL, branch, now_us(), Holdings.release)
        except Contradiction as contradiction:
            abort(context, contradiction)
        return pb.CancelResponse(outcome=pb.OUTCOME_SUCCESS)

    def Query(self, request: pb.QueryRequest, context: CallContext) -> pb.QueryResponse:
        row = self._fence.query(branch_of(request.context, context))
        if row is None:
            return pb.QueryResponse(state=pb.RECORD_STATE_UNKNOWN)
        result = json_payload(row.held) if row.held else None
        return pb.QueryResponse(state=RECORD_STATES[row.state], try_result=result)


def branch_of(message: pb.BranchContext, context: CallContext) -> Branch:
    """Ids that are missing would make different branches look like one."""
    wanted = ("realm", "transaction_id", "branch_id")
    missing = [field for field in wanted if not getattr(message, field)]
    if not message.HasField("expire_time"):
        missing.append("expire_time")
    if missing:
        context.abort(grpc.StatusCode.INVALID_ARGUMENT, f"context lacks {', '.join(missing)}")
    return Branch(
        realm=message.realm,
        transaction_id=message.transaction_id,
        branch_id=message.branch_id,
        expire_us=message.expire_time.ToMicroseconds(),
        epoch=message.epoch,
    )


def abort(context: CallContext, contradiction: Contradiction) -> NoReturn:
    context.abort(grpc.StatusCode.FAILED_PRECONDITION, str(contradiction))
    raise AssertionError("abort raises")


def failure_of(refused: Refused) -> pb.Failure:
    return pb.Failure(reason=refused.reason, message=str(refused), metadata=refused.metadata)


def json_payload(value: bytes) -> pb.Payload:
    return pb.Payload(type_url="json", value=value)


def now_us() -> int:
    return time.time_ns() // 1000


def main() -> None:
    arguments = argparse.ArgumentParser(description="A Tercet participant on SQLite.")
    arguments.add_argument("--listen", default="127.0.0.1:0", metavar="ADDR")
    arguments.add_argument(
        "--connect", metavar="ADDR", help="of the coordinator; then none listens"
    )
    arguments.add_argument("--name", default="payment", help="as configured, to connect with")
    arguments.add_argument("--database", required=True, metavar="FILE")
    arguments.add_argument("--open", action="append", default=[], metavar="RESOURCE/ITEM=COUNT")
    options = arguments.parse_args()
    logging.basicConfig(level=logging.INFO)

    fence = Fence(options.database)
    holdings = Holdings(fence)
    for opening in options.open:
        name, count = opening.split("=")
        resource, item = name.split("/")
        holdings.open(fence, resource, item, int(count))

    stopped = threading.Event()
    threading.Thread(target=keep_purging, args=(fence, stopped), daemon=True).start()
    if options.connect:
        connect(fence, options.connect, options.name)
    else:
        serve(fence, options.listen)
    stopped.set()


def connect(fence: Fence, coordinator: str, name: str) -> None:
    connector = Connector(name, RESOURCES, Participant(fence), drain_s=DRAIN_S)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: connector.stop())
    connector.run(coordinator)


def serve(fence: Fence, listen: str) -> None:
    # The coordinator pings its connections every 20 s, also when they are idle.
    pings = [
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
    ]
    server = grpc.server(ThreadPoolExecutor(max_workers=8), options=pings)
    pb_grpc.add_ParticipantServiceServicer_to_server(Participant(fence), server)
    healthy = health.HealthServicer()
    healthy.set("", health_pb2.HealthCheckResponse.SERVING)
    health_pb2_grpc.add_HealthServicer_to_server(healthy, server)
    host = listen.rpartition(":")[0]
    port = server.add_insecure_port(listen)
    server.start()
    print(f"{host}:{port}", flush=True)

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    stop.wait()
    healthy.enter_graceful_shutdown()
    server.stop(DRAIN_S).wait()


def keep_purging(fence: Fence, stopped: threading.Event) -> None:
    while True:
        fence.purge(now_us())
        if stopped.wait(PURGE_INTERVAL_S):
            return


if __name__ == "__main__":
    main()
