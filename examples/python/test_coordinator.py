"""Client, coordinator and participants together: `TERCET=path/to/tercet python -m unittest ...`."""

import os
import sqlite3
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path

import grpc
from grpc_reflection.v1alpha import reflection_pb2
from tercet.v1 import coordinator_pb2 as pb
from tercet.v1 import coordinator_pb2_grpc as pb_grpc

from processes import (
    HERE,
    connect_participant,
    free_port,
    start_coordinator,
    start_participant,
)

TERCET = os.environ["TERCET"]
RUN_S = 60


class CoordinatorTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls) -> None:
        folder = tempfile.TemporaryDirectory()
        cls.addClassCleanup(folder.cleanup)
        cls.folder = Path(folder.name)
        # One is called at its address, the other connects by itself.
        cls.payment = start_participant(cls, cls.folder / "payment.db")
        cls.address = f"127.0.0.1:{free_port()}"
        connect_participant(cls, cls.folder / "inventory.db", cls.address, "inventory")
        participants = {"payment": cls.payment, "inventory": "sessions"}
        start_coordinator(cls, TERCET, cls.folder / "store", participants, cls.address)

    def order(self, amount: int, count: int, *more: str) -> subprocess.CompletedProcess[str]:
        """Places an order whose id is the test's name."""
        order = ["--id", self.id(), "--account", "alice", "--amount", str(amount)]
        order += ["--sku", "book", "--count", str(count)]
        client = [sys.executable, str(HERE / "client.py"), "--coordinator", self.address]
        return run([*client, *order, *more])

    def holdings(self) -> dict[str, tuple[int, int, int]]:
        """What is available, held and used of the account and of the books."""
        return {
            name: read_holding(self.folder / f"{name}.db", resource)
            for name, resource in (("payment", "charge"), ("inventory", "reserve"))
        }

    def wait_for_the_end(self) -> None:
        """A watch ends after the terminal state."""
        with grpc.insecure_channel(self.address) as channel:
            coordinator = pb_grpc.CoordinatorServiceStub(channel)
            request = pb.WatchTransactionRequest(transaction_id=self.id())
            for _ in coordinator.WatchTransaction(request, timeout=RUN_S):
                pass

    def test_an_order_succeeds_once_however_often_it_is_sent(self) -> None:
        before = self.holdings()
        for _ in range(2):
            done = self.order(1200, 1)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(done.stdout.split(), [self.id(), "SUCCESS"])
        moved = {
            name: tuple(now - was for now, was in zip(after, before[name], strict=True))
            for name, after in self.holdings().items()
        }
        self.assertEqual(moved, {"payment": (-1200, 0, 1200), "inventory": (-1, 0, 1)})

    def test_an_order_that_one_side_refuses_leaves_both_as_they_were(self) -> None:
        before = self.holdings()
        done = self.order(100, 99)
        self.assertEqual(done.returncode, 2, done.stderr)
        self.assertEqual(done.stdout.split(), [self.id(), "FAILED", "NOT_ENOUGH"])
        # FAILED is said once the cancel is decided; the tombstones follow.
        self.wait_for_the_end()
        self.assertEqual(self.holdings(), before)

    def test_a_coordinator_out_of_reach_leaves_the_order_processing(self) -> None:
        nobody = f"127.0.0.1:{free_port()}"
        done = self.order(1, 1, "--coordinator", nobody, "--timeout", "1")
        self.assertEqual(done.returncode, 3, done.stderr)

    def test_an_order_that_is_no_order_is_refused(self) -> None:
        done = self.order(1, 1, "--id", "not an id")
        self.assertEqual(done.returncode, 1)
        self.assertIn("INVALID_ARGUMENT", done.stderr)

    def test_reflection_lists_the_services(self) -> None:
        with grpc.insecure_channel(self.address) as channel:
            services = list_services(channel)
        for service in ("tercet.v1.CoordinatorService", "grpc.health.v1.Health"):
            self.assertIn(service, services)

    def test_the_participant_keeps_the_contract(self) -> None:
        address = f"http://{self.payment}"
        payload = '{"item": "alice", "count": 1}'
        check = [TERCET, "participant", "check", address]
        checked = run([*check, "--resource", "charge", "--payload", payload])
        self.assertEqual(checked.returncode, 0, checked.stdout + checked.stderr)


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=RUN_S, check=False)


def list_services(channel: grpc.Channel) -> list[str]:
    """Asks version 1 of the reflection service; Python's package knows its messages as v1alpha."""
    ask = channel.stream_stream(
        "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    request = reflection_pb2.ServerReflectionRequest(list_services="")
    (reply,) = ask(iter([request]), timeout=RUN_S)
    return [service.name for service in reply.list_services_response.service]


def read_holding(database: Path, resource: str) -> tuple[int, int, int]:
    db = sqlite3.connect(database)
    try:
        query = "SELECT available, held, used FROM holdings WHERE resource = ?"
        return db.execute(query, (resource,)).fetchone()
    finally:
        db.close()


if __name__ == "__main__":
    unittest.main()
