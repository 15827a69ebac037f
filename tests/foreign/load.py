"""A steady load from a client that shares no code with the daemon, with gRPC's own retries.

    load.py ADDRESS UID GID    reads and keyed writes until standard input ends

It becomes the user of the daemon once everything is imported. It prints `ok NAME` for each write
that was answered, and `failed WHAT` for each call that was not.
"""

import ctypes
import json
import os
import sys
import threading
import time
import uuid

import grpc

from heddle.v1 import hook_pb2, hook_pb2_grpc, operation_pb2, operation_pb2_grpc

WORKERS = 2
POLICY = {
    "methodConfig": [
        {
            "name": [{}],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.01s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}


def work(channel, worker, over, said):
    hooks = hook_pb2_grpc.HookServiceStub(channel)
    log = operation_pb2_grpc.OperationLogQueryServiceStub(channel)
    count = 0
    while not over.is_set():
        # Few names, for a repository has room for 256 hooks; the key tells the writes apart.
        name = f"python-{worker}-{count % 32}"
        key = str(uuid.uuid4())
        request = hook_pb2.RegisterHookRequest(
            name=name, command="true", client_operation_id=key
        )
        try:
            assert hooks.RegisterHook(request, timeout=60).name == name
            said.append(f"ok {key}")
            log.QueryOperations(operation_pb2.QueryOperationsRequest(limit=50), timeout=60)
        except grpc.RpcError as error:
            what = f"{error.code()} {error.details()} {error.debug_error_string()}"
            said.append(f"failed {key} {what}".replace("\n", " "))
        count += 1
        time.sleep(0.002)


if __name__ == "__main__":
    _, address, uid, gid = sys.argv
    os.setgroups([])
    os.setgid(int(gid))
    os.setuid(int(uid))
    # As a process is that began as this user: others of it may look at it (prctl(2)).
    ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)
    options = [("grpc.service_config", json.dumps(POLICY)), ("grpc.enable_retries", 1)]
    over, said = threading.Event(), []
    with grpc.insecure_channel(address, options=options) as channel:
        grpc.channel_ready_future(channel).result(timeout=60)
        print("started", flush=True)
        workers = [
            threading.Thread(target=work, args=(channel, worker, over, said))
            for worker in range(WORKERS)
        ]
        for worker in workers:
            worker.start()
        sys.stdin.read()
        over.set()
        for worker in workers:
            worker.join()
    print("\n".join(said))
