"""Starts servers for the tests and waits until they say that they are healthy."""

import socket
import subprocess
import sys
import time
import unittest
from pathlib import Path

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

HERE = Path(__file__).parent
START_S = 30
STOP_S = 10


def start_participant(test: unittest.TestCase | type[unittest.TestCase], database: Path) -> str:
    """A participant with 5000 in alice's account and 3 books; returns its address."""
    program = [sys.executable, str(HERE / "participant.py"), "--database", str(database)]
    opening = ["--open", "charge/alice=5000", "--open", "reserve/book=3"]
    process = subprocess.Popen([*program, *opening], stdout=subprocess.PIPE, text=True)
    _stop_afterwards(test, process)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    wait_until_healthy(address, process)
    return address


def connect_participant(
    test: unittest.TestCase | type[unittest.TestCase], database: Path, coordinator: str, name: str
) -> subprocess.Popen[str]:
    """The same without an address: it connects to the coordinator, as soon as there is one."""
    program = [sys.executable, str(HERE / "participant.py"), "--database", str(database)]
    opening = ["--open", "charge/alice=5000", "--open", "reserve/book=3"]
    process = subprocess.Popen(
        [*program, *opening, "--connect", coordinator, "--name", name], text=True
    )
    _stop_afterwards(test, process)
    return process


def start_coordinator(
    test: unittest.TestCase | type[unittest.TestCase],
    binary: str,
    store: Path,
    participants: dict[str, str],
    address: str | None = None,
) -> str:
    """`tercet serve` with its store in a folder; returns its address.

    A participant is at an address, or `sessions` when it connects by itself.
    """
    address = address or f"127.0.0.1:{free_port()}"
    command = [binary, "serve", "--listen", address, "--store", f"sled:{store}"]
    for name, participant in participants.items():
        place = participant if participant == "sessions" else f"http://{participant}"
        command += ["--participant", f"{name}={place}"]
    process = subprocess.Popen(command)
    _stop_afterwards(test, process)
    wait_until_healthy(address, process)
    return address


def wait_until_healthy(address: str, process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + START_S
    with grpc.insecure_channel(address) as channel:
        health = health_pb2_grpc.HealthStub(channel)
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(f"{process.args} ended with {process.returncode}")
            try:
                reply = health.Check(
                    health_pb2.HealthCheckRequest(), timeout=1, wait_for_ready=True
                )
            except grpc.RpcError:
                continue
            if reply.status == health_pb2.HealthCheckResponse.SERVING:
                return
    raise TimeoutError(f"{address} was not healthy within {START_S} s")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def _stop_afterwards(
    test: unittest.TestCase | type[unittest.TestCase], process: subprocess.Popen[str]
) -> None:
    def stop() -> None:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    by_class = isinstance(test, type)
    (test.addClassCleanup if by_class else test.addCleanup)(stop)
