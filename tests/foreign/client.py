"""A client that shares no code with the daemon: grpcio, with stubs made from proto/.

    client.py open ADDRESS REPOSITORY    is this the daemon of that repository?
    client.py tour ADDRESS REPOSITORY    everything that the contract promises today

ADDRESS is what `heddle agent address` prints, unchanged. Any surprise is a traceback.
"""

import sys
import uuid

import grpc
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import (
    ProtoReflectionDescriptorDatabase,
)
from grpc_status import rpc_status

from heddle.local.v1 import daemon_pb2, daemon_pb2_grpc
from heddle.v1 import (
    hook_pb2,
    hook_pb2_grpc,
    operation_pb2,
    operation_pb2_grpc,
    thread_pb2,
    thread_pb2_grpc,
)

# Nothing here is slow: a call that takes this long hangs.
DEADLINE = 60


def refused(call, request, code, reason, field=None):
    """The call fails with this code, this reason and, where named, this field."""
    try:
        call(request, timeout=DEADLINE)
    except grpc.RpcError as error:
        assert error.code() is code, error
        status = rpc_status.from_call(error)
        assert status is not None, f"no details in the trailing metadata of {error}"
        info, fields = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        for detail in status.details:
            detail.Unpack(info) or detail.Unpack(fields)
        assert (info.domain, info.reason) == ("heddle", reason), (info, error.details())
        named = [violation.field for violation in fields.field_violations]
        assert named == ([field] if field else []), named
        assert status.message == error.details() != "", status
    else:
        raise AssertionError(f"{request!r} was not refused")


def open_it(channel, repository):
    status = daemon_pb2_grpc.DaemonServiceStub(channel).GetStatus(
        daemon_pb2.GetStatusRequest(repo_path=repository), timeout=DEADLINE
    )
    assert status.repository == repository, (status.repository, repository)


def hooks_are_registered_once_for_a_key(hooks):
    assert list(hooks.ListHooks(hook_pb2.ListHooksRequest(), timeout=DEADLINE).hooks) == []
    request = hook_pb2.RegisterHookRequest(
        name="grüße",
        command="cat > /dev/null",
        events=["pre_capture", "post_capture"],
        timeout_ms=1500,
        client_operation_id=str(uuid.uuid4()),
    )
    who = [("heddle-actor-email", "agent@example.com"), ("heddle-agent", "python/grpcio")]
    first = hooks.RegisterHook(request, timeout=DEADLINE, metadata=who)
    again = hooks.RegisterHook(request, timeout=DEADLINE, metadata=who)
    assert first == again and first.name == "grüße" and first.timeout_ms == 1500, (first, again)
    listed = list(hooks.ListHooks(hook_pb2.ListHooksRequest(), timeout=DEADLINE).hooks)
    assert listed == [first], listed

    request.command = "another"
    refused(
        hooks.RegisterHook,
        request,
        grpc.StatusCode.FAILED_PRECONDITION,
        "OPERATION_ID_REUSED",
        "client_operation_id",
    )


def refusals_carry_their_reason(channel, hooks):
    invalid = grpc.StatusCode.INVALID_ARGUMENT
    request = hook_pb2.RegisterHookRequest
    refused(hooks.RegisterHook, request(command="true"), invalid, "INVALID_FIELD", "name")
    refused(
        hooks.RegisterHook,
        request(name="a", command="true", events=["pre_lunch"]),
        invalid,
        "HOOK_EVENT_UNKNOWN",
        "events",
    )
    refused(
        hooks.ListHooks,
        hook_pb2.ListHooksRequest(repo_path="/"),
        invalid,
        "REPOSITORY_MISMATCH",
        "repo_path",
    )
    refused(
        thread_pb2_grpc.ThreadWorkflowServiceStub(channel).GetWorkspaceSummary,
        thread_pb2.GetWorkspaceSummaryRequest(),
        grpc.StatusCode.UNIMPLEMENTED,
        "NOT_IMPLEMENTED",
    )
    unknown = channel.unary_unary(
        "/heddle.v1.HookService/Lunch",
        request_serializer=hook_pb2.ListHooksRequest.SerializeToString,
        response_deserializer=hook_pb2.ListHooksResponse.FromString,
    )
    refused(
        unknown, hook_pb2.ListHooksRequest(), grpc.StatusCode.UNIMPLEMENTED, "METHOD_UNKNOWN"
    )


def the_log_is_queried_and_followed(channel, hooks):
    log = operation_pb2_grpc.OperationLogQueryServiceStub(channel)
    query = operation_pb2.QueryOperationsRequest(verbs=["hook_register"])
    answer = log.QueryOperations(query, timeout=DEADLINE)
    assert len(answer.hits) == 1 and not answer.truncated, answer
    (hit,) = answer.hits
    assert (hit.actor_email, hit.agent) == ("agent@example.com", "python/grpcio"), hit

    stream = log.StreamOperations(
        operation_pb2.StreamOperationsRequest(query=query), timeout=DEADLINE
    )
    assert next(stream) == hit
    request = hook_pb2.RegisterHookRequest(name="later", command="true")
    hooks.RegisterHook(request, timeout=DEADLINE)
    later = next(stream)
    assert later.seq > hit.seq and later.verb == "hook_register", later
    stream.cancel()

    resumed = log.StreamOperations(
        operation_pb2.StreamOperationsRequest(after_seq=hit.seq), timeout=DEADLINE
    )
    assert next(resumed) == later
    resumed.cancel()


def health_and_reflection_are_there(channel):
    health = health_pb2_grpc.HealthStub(channel)
    for service in ("", "heddle.v1.HookService"):
        answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=DEADLINE)
        assert answer.status == health_pb2.HealthCheckResponse.SERVING, answer

    reflected = ProtoReflectionDescriptorDatabase(channel)
    assert {"heddle.v1.HookService", "heddle.local.v1.DaemonService"} <= set(
        reflected.get_services()
    )
    found = reflected.FindFileContainingSymbol("heddle.v1.RegisterHookRequest")
    assert "RegisterHookRequest" in [message.name for message in found.message_type]


def tour(channel, repository):
    open_it(channel, repository)
    hooks = hook_pb2_grpc.HookServiceStub(channel)
    hooks_are_registered_once_for_a_key(hooks)
    refusals_carry_their_reason(channel, hooks)
    the_log_is_queried_and_followed(channel, hooks)
    health_and_reflection_are_there(channel)


if __name__ == "__main__":
    _, what, address, repository = sys.argv
    with grpc.insecure_channel(address) as channel:
        {"open": open_it, "tour": tour}[what](channel, repository)
