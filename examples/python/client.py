"""Places one order: charges an account at `payment`, reserves stock at `inventory`, or neither.

    PYTHONPATH=generated python client.py --id order-7 --account alice --amount 1200 --sku book

Prints the outcome. Exit codes: 0 SUCCESS, 2 FAILED, 3 PROCESSING (ask again with the same id),
1 the coordinator refused the request and nothing is running.
"""

import argparse
import json
import sys
import time

import grpc
from tercet.participant.v1 import participant_pb2 as participant_pb
from tercet.v1 import coordinator_pb2 as pb
from tercet.v1 import coordinator_pb2_grpc as pb_grpc
from tercet.v1 import transaction_pb2

ATTEMPT_S = 5.0
PAUSE_S = 0.2
SUBMIT_WITHIN_S = 3600
"""A copy of the request that is delivered later than this is refused, not run."""

EXIT_CODES = {
    participant_pb.OUTCOME_SUCCESS: 0,
    participant_pb.OUTCOME_FAILED: 2,
    participant_pb.OUTCOME_PROCESSING: 3,
}

INDETERMINATE = {
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.INTERNAL,
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DATA_LOSS,
}


def order(
    transaction_id: str, account: str, amount: int, sku: str, count: int
) -> pb.SubmitTransactionRequest:
    request = pb.SubmitTransactionRequest(
        transaction_id=transaction_id,
        options=pb.TransactionOptions(
            transaction_type="place-order",
            business_key=transaction_id,
            reply_mode=transaction_pb2.REPLY_MODE_THREE_STATE,
        ),
        branches=[
            branch("payment", "charge", account, amount),
            branch("inventory", "reserve", sku, count),
        ],
    )
    request.submit_expire_time.FromSeconds(int(time.time()) + SUBMIT_WITHIN_S)
    return request


def branch(participant: str, resource: str, item: str, count: int) -> pb.BranchSpec:
    value = json.dumps({"item": item, "count": count}).encode()
    return pb.BranchSpec(
        contract=pb.ContractTarget(participant=participant, resource=resource),
        payload=participant_pb.Payload(type_url="json", value=value),
    )


def submit(
    coordinator: pb_grpc.CoordinatorServiceStub,
    request: pb.SubmitTransactionRequest,
    timeout_s: float,
) -> transaction_pb2.Transaction:
    """Sends the order, and the same order again, until its outcome is known or the time is up.

    A timeout of our own says nothing about the order: it is PROCESSING, never failed. Raises
    grpc.RpcError only when the first answer was a refusal, so that nothing can be running.
    """
    deadline = time.monotonic() + timeout_s
    known = transaction_pb2.Transaction(
        transaction_id=request.transaction_id, outcome=participant_pb.OUTCOME_PROCESSING
    )
    may_be_running = False
    while (left_s := deadline - time.monotonic()) > 0:
        try:
            reply = coordinator.SubmitTransaction(request, timeout=min(left_s, ATTEMPT_S))
            known = reply.transaction
            if known.outcome in (participant_pb.OUTCOME_SUCCESS, participant_pb.OUTCOME_FAILED):
                return known
        except grpc.RpcError as error:
            if not may_be_running and error.code() not in INDETERMINATE:
                raise
        may_be_running = True
        time.sleep(min(PAUSE_S, max(0.0, deadline - time.monotonic())))
    return known


def main() -> int:
    arguments = argparse.ArgumentParser(description="Places one order through Tercet.")
    arguments.add_argument("--coordinator", default="127.0.0.1:7070", metavar="ADDR")
    arguments.add_argument("--id", required=True, help="the order's; a repetition uses the same")
    arguments.add_argument("--account", required=True)
    arguments.add_argument("--amount", required=True, type=int)
    arguments.add_argument("--sku", required=True)
    arguments.add_argument("--count", type=int, default=1)
    arguments.add_argument("--timeout", type=float, default=30.0, metavar="SECONDS")
    options = arguments.parse_args()

    request = order(options.id, options.account, options.amount, options.sku, options.count)
    with grpc.insecure_channel(options.coordinator) as channel:
        coordinator = pb_grpc.CoordinatorServiceStub(channel)
        try:
            transaction = submit(coordinator, request, options.timeout)
        except grpc.RpcError as error:
            print(f"refused: {error.code().name}: {error.details()}", file=sys.stderr)
            return 1
    outcome = participant_pb.Outcome.Name(transaction.outcome).removeprefix("OUTCOME_")
    print(transaction.transaction_id, outcome, transaction.failure.reason)
    return EXIT_CODES.get(transaction.outcome, 3)


if __name__ == "__main__":
    sys.exit(main())
