//! What is not a proper call: a clear status, no growth, no crash, and the next client is served as
//! before.

use std::{
    io::Write,
    net::Shutdown,
    os::unix::{fs::symlink, net::UnixStream},
};

use bytes::Bytes;
use heddle_agent::{
    failure::Reason,
    grpc_local_impl::{
        REQUEST_LIMIT,
        proto::{
            local::{
                GetStatusRequest, ShutdownRequest, daemon_service_client::DaemonServiceClient,
            },
            v1::{
                DeregisterHookRequest, GetHookEventSchemaRequest, ListHooksRequest,
                QueryOperationsRequest, RegisterHookRequest, StreamOperationsRequest,
            },
        },
    },
};
use tonic::{Code, metadata::MetadataValue, transport::Channel};

use crate::{
    harness::TestRepo,
    rpc::{
        GREETING, assert_blames, assert_ours, assert_refused, call, framed, greeted, grpc_request,
        hook, hook_names, hooks, keyed, length_delimited, log, memory_kib, send, wait_until_closed,
    },
};

const LIST: &str = "/heddle.v1.HookService/ListHooks";
const REGISTER: &str = "/heddle.v1.HookService/RegisterHook";

/// A new connection reads and writes, and everything that was kept is still there.
async fn assert_serves(repo: &TestRepo) {
    let channel = repo.channel().await;
    hooks(&channel).register_hook(hook("kept")).await.unwrap();
    assert_eq!(hook_names(&channel).await, ["kept"]);
}

#[tokio::test]
async fn bytes_that_are_not_http2_end_their_connection_and_nothing_else() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let frame = |header: &[u8], payload: &[u8]| [GREETING, header, payload].concat();
    let garbage: [(&str, Vec<u8>); 8] = [
        (
            "noise",
            (0..4096_u32).map(|n| (n * 37 % 251) as u8).collect(),
        ),
        (
            "HTTP/1.1",
            b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".to_vec(),
        ),
        (
            "TLS",
            b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03 and so on and on".to_vec(),
        ),
        ("a preface and noise", frame(b"", &[0xff; 4096])),
        (
            "a frame over the limit",
            frame(b"\xff\xff\xff\0\0\0\0\0\x01", &[0; 4096]),
        ),
        (
            "DATA before HEADERS",
            frame(b"\0\0\x04\0\0\0\0\0\x01", b"data"),
        ),
        (
            "HEADERS that are no HPACK",
            frame(b"\0\0\x04\x01\x05\0\0\0\x01", &[0xff; 4]),
        ),
        (
            "a frame on an even stream",
            frame(b"\0\0\x01\x01\x05\0\0\0\x02", &[0x82]),
        ),
    ];
    for (_, bytes) in garbage {
        let mut stream = UnixStream::connect(repo.socket()).unwrap();
        // The daemon may have closed it before all is sent.
        let _ = stream.write_all(&bytes);
        wait_until_closed(&mut stream);
        assert_serves(&repo).await;
    }
}

#[tokio::test]
async fn a_connection_that_ends_inside_a_frame_is_let_go_of() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    for bytes in [
        &b""[..],
        b"PRI * HT",
        b"\0\0\x64\0\0\0\0\0\x01 ten of it",
        b"\0\0",
    ] {
        let mut stream = match bytes.first() {
            Some(0) => greeted(&repo.socket()),
            _ => UnixStream::connect(repo.socket()).unwrap(),
        };
        stream.write_all(bytes).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        wait_until_closed(&mut stream);
        assert_serves(&repo).await;
    }
}

#[tokio::test]
async fn a_body_that_is_not_one_whole_message_is_malformed() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let bodies: [&[u8]; 4] = [b"", b"\0\0", b"\0\0\0\0\x64 ten of it", b"\x07\0\0\0\0"];
    for body in bodies {
        let request = grpc_request(LIST, Bytes::copy_from_slice(body));
        let status = send(&channel, request).await.unwrap_err();
        assert_refused(&status, Code::InvalidArgument, Reason::MalformedMessage);
        assert!(status.message().contains(LIST), "{status:?}");
    }
    assert_serves(&repo).await;
}

#[tokio::test]
async fn undecodable_bytes_and_invalid_utf8_are_malformed() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let messages = [
        ("no UTF-8 in repo_path", length_delimited(1, b"\xff\xfe")),
        ("a cut-off code point", length_delimited(2, b"abc\xe2\x82")),
        ("noise", vec![0xff; 64]),
        ("a field shorter than its length", vec![0x0a, 0x7f, b'x']),
        ("a number where a string is due", vec![0x08, 0x01]),
        ("field number 0", vec![0x02, 0x00]),
        ("a group without an end", vec![0x4b; 200]),
        (
            "a varint without an end",
            vec![
                0x28, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff,
            ],
        ),
    ];
    for (what, message) in messages {
        let answer = call(&channel, REGISTER, &message).await;
        let status = answer.err().unwrap_or_else(|| panic!("accepted {what}"));
        assert_refused(&status, Code::InvalidArgument, Reason::MalformedMessage);
    }
    assert_serves(&repo).await;
}

#[tokio::test]
async fn g8_an_over_long_message_is_refused_without_growth() {
    let repo = TestRepo::new();
    let daemon = repo.serve();
    let channel = repo.channel().await;
    hooks(&channel).register_hook(hook("kept")).await.unwrap();
    let before = memory_kib(daemon.pid());

    let over_by_one = length_delimited(3, &vec![b'x'; REQUEST_LIMIT - 4]);
    assert_eq!(over_by_one.len(), REQUEST_LIMIT + 1);
    let large = length_delimited(3, &vec![b'x'; 64 << 20]);
    let claims = Bytes::from_static(b"\0\xff\xff\xff\xff and nothing of it");
    for body in [framed(&over_by_one), framed(&large), claims] {
        let status = send(&channel, grpc_request(REGISTER, body))
            .await
            .unwrap_err();
        assert_refused(&status, Code::ResourceExhausted, Reason::MessageTooLarge);
        assert_serves(&repo).await;
    }
    // As large as allowed is read, and refused for what is wrong with it.
    let status = call(&channel, REGISTER, &over_by_one[..over_by_one.len() - 1]).await;
    assert_refused(
        &status.unwrap_err(),
        Code::InvalidArgument,
        Reason::MalformedMessage,
    );

    let grown = memory_kib(daemon.pid()).saturating_sub(before);
    assert!(grown < 24 * 1024, "{grown} KiB more than before");
    assert_serves(&repo).await;
}

#[tokio::test]
async fn an_unknown_method_or_service_says_so() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    for path in [
        "/heddle.v1.HookService/Nope",
        "/heddle.v1.Nope/ListHooks",
        "/heddle.v1.HookService/listHooks",
        "/heddle.v1.HookService/",
        "/heddle.v1.HookService",
        "/nope",
        "/",
    ] {
        let status = call(&channel, path, b"").await.unwrap_err();
        assert_refused(&status, Code::Unimplemented, Reason::MethodUnknown);
        assert!(status.message().contains(path), "{status:?}");
    }
    assert_serves(&repo).await;
}

#[tokio::test]
async fn an_encoding_that_is_not_offered_is_a_protocol_violation() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut request = grpc_request(LIST, framed(b""));
    let headers = request.headers_mut();
    headers.insert("grpc-encoding", "zstd".parse().unwrap());
    let status = send(&channel, request).await.unwrap_err();
    assert_refused(&status, Code::Unimplemented, Reason::ProtocolViolation);

    // Flagged as compressed, without an encoding named.
    let request = grpc_request(LIST, Bytes::from_static(b"\x01\0\0\0\0"));
    assert_ours(&send(&channel, request).await.unwrap_err());
    assert_serves(&repo).await;
}

#[tokio::test]
async fn an_operation_id_that_is_no_uuid_is_refused() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut client = hooks(&channel);
    for id in [
        "1",
        "not-a-uuid",
        "00000000-0000-0000-0000-00000000000",
        &"a".repeat(10_000),
    ] {
        let status = client.register_hook(keyed("x", id)).await.unwrap_err();
        assert_blames(&status, Reason::OperationIdInvalid, "client_operation_id");
        assert!(status.message().len() < 1_000, "{status:?}");
        let request = DeregisterHookRequest {
            name: "x".into(),
            client_operation_id: id.into(),
            ..Default::default()
        };
        let status = client.deregister_hook(request).await.unwrap_err();
        assert_blames(&status, Reason::OperationIdInvalid, "client_operation_id");
    }
    assert_serves(&repo).await;
}

/// Calls every method that takes a `repo_path` with this one, and answers how each ended.
async fn with_repo_path(
    channel: &Channel,
    path: &str,
) -> Vec<(&'static str, Result<(), tonic::Status>)> {
    let repo_path = || path.to_owned();
    let (mut hooks, mut log) = (hooks(channel), log(channel));
    let mut daemon = DaemonServiceClient::new(channel.clone());
    let register = RegisterHookRequest {
        repo_path: repo_path(),
        ..hook("kept")
    };
    let deregister = DeregisterHookRequest {
        repo_path: repo_path(),
        name: "none".into(),
        ..Default::default()
    };
    let query = QueryOperationsRequest {
        repo_path: repo_path(),
        limit: 1,
        ..Default::default()
    };
    let stream = StreamOperationsRequest {
        repo_path: repo_path(),
        ..Default::default()
    };
    let nested = StreamOperationsRequest {
        query: Some(query.clone()),
        ..Default::default()
    };
    vec![
        ("repo_path", hooks.register_hook(register).await.map(drop)),
        (
            "repo_path",
            hooks.deregister_hook(deregister).await.map(drop),
        ),
        (
            "repo_path",
            hooks
                .list_hooks(ListHooksRequest {
                    repo_path: repo_path(),
                })
                .await
                .map(drop),
        ),
        ("repo_path", log.query_operations(query).await.map(drop)),
        ("repo_path", log.stream_operations(stream).await.map(drop)),
        (
            "query.repo_path",
            log.stream_operations(nested).await.map(drop),
        ),
        (
            "repo_path",
            daemon
                .get_status(GetStatusRequest {
                    repo_path: repo_path(),
                })
                .await
                .map(drop),
        ),
        // Asked only if idle, and the channel's open streams keep it busy.
        (
            "repo_path",
            daemon
                .shutdown(ShutdownRequest {
                    repo_path: repo_path(),
                    if_idle: true,
                })
                .await
                .map(drop),
        ),
    ]
}

#[tokio::test]
async fn a_repo_path_of_another_repository_is_refused_and_names_the_served_one() {
    let repo = TestRepo::new();
    let other = TestRepo::new();
    let nested = repo.path("vendored");
    std::fs::create_dir(&nested).unwrap();
    repo.git(&["init", "-q", "vendored"]);
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let root = repo.root().to_str().unwrap();
    for path in [
        other.root().to_str().unwrap(),
        nested.to_str().unwrap(),
        "vendored",
        "/",
        "/nowhere",
        "a\0b",
        "..",
        &"x".repeat(100_000),
    ] {
        for (field, answer) in with_repo_path(&channel, path).await {
            let status = answer.expect_err(path);
            assert_blames(&status, Reason::RepositoryMismatch, field);
            assert!(status.message().contains(root), "{status:?}");
            assert!(status.message().len() < 2_000, "{status:?}");
        }
    }
    assert_serves(&repo).await;
}

#[tokio::test]
async fn a_repo_path_that_resolves_to_the_served_repository_is_accepted_however_spelled() {
    let repo = TestRepo::new();
    std::fs::create_dir_all(repo.path("src/deep")).unwrap();
    repo.git(&["worktree", "add", "-q", "../linked"]);
    let link = repo.around().join("link");
    symlink(repo.root(), &link).unwrap();
    // Relative paths are about the repository, and not about where the daemon was started.
    let mut command = repo.command(crate::harness::HEDDLE);
    command
        .args(["agent", "serve", "--repo"])
        .arg(repo.root())
        .current_dir("/");
    let daemon = crate::harness::Daemon::spawn(command);
    daemon.wait_for_line("serving");
    let channel = repo.channel().await;

    let root = repo.root().to_str().unwrap();
    for path in [
        "",
        root,
        &format!("{root}/"),
        &format!("{root}/src/deep"),
        &format!("{root}/src/../.git"),
        link.to_str().unwrap(),
        link.join("src").to_str().unwrap(),
        repo.around().join("linked").to_str().unwrap(),
        ".",
        "src/deep",
        "../link",
    ] {
        // A stream kept open, so that no Shutdown finds the daemon idle.
        let open = log(&channel)
            .stream_operations(StreamOperationsRequest::default())
            .await
            .unwrap();
        for (_, answer) in with_repo_path(&channel, path).await {
            answer.unwrap_or_else(|status| panic!("{path:?}: {status:?}"));
        }
        drop(open);
    }
    assert_serves(&repo).await;
}

#[tokio::test]
async fn names_events_and_limits_of_a_hook_are_checked() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let mut client = hooks(&channel);

    let long = "n".repeat(10_000);
    for name in [
        "",
        &long,
        "two\nlines",
        "\u{1b}[31m",
        "a\0b",
        &"é".repeat(128),
    ] {
        let status = client.register_hook(hook(name)).await.unwrap_err();
        assert_blames(&status, Reason::InvalidField, "name");
        assert!(status.message().len() < 1_000, "{status:?}");
        let request = DeregisterHookRequest {
            name: name.into(),
            ..Default::default()
        };
        let status = client.deregister_hook(request).await.unwrap_err();
        assert_blames(&status, Reason::InvalidField, "name");
    }
    for command in ["", " \t\n", "echo a\0b", &"c".repeat(8 * 1024 + 1)] {
        let request = RegisterHookRequest {
            command: command.into(),
            ..hook("x")
        };
        let status = client.register_hook(request).await.unwrap_err();
        assert_blames(&status, Reason::InvalidField, "command");
    }
    for event in [
        "",
        "nope",
        "PRE_CAPTURE",
        "pre_capture ",
        &"e".repeat(10_000),
    ] {
        let request = RegisterHookRequest {
            events: vec!["pre_capture".into(), event.into()],
            ..hook("x")
        };
        let status = client.register_hook(request).await.unwrap_err();
        assert_blames(&status, Reason::HookEventUnknown, "events");
        assert!(status.message().contains("pre_thread_create"), "{status:?}");
        assert!(status.message().len() < 1_000, "{status:?}");
    }
    let request = RegisterHookRequest {
        timeout_ms: 600_001,
        ..hook("x")
    };
    let status = client.register_hook(request).await.unwrap_err();
    assert_blames(&status, Reason::InvalidField, "timeout_ms");
    let request = GetHookEventSchemaRequest {
        event_name: "nope".into(),
    };
    let status = client.get_hook_event_schema(request).await.unwrap_err();
    assert_blames(&status, Reason::HookEventUnknown, "event_name");

    // The largest that is allowed.
    let request = RegisterHookRequest {
        command: "c".repeat(8 * 1024),
        timeout_ms: 600_000,
        ..hook(&"n".repeat(255))
    };
    client.register_hook(request).await.unwrap();
    let request = DeregisterHookRequest {
        name: "n".repeat(255),
        ..Default::default()
    };
    assert!(
        client
            .deregister_hook(request)
            .await
            .unwrap()
            .into_inner()
            .deleted
    );
    assert_serves(&repo).await;
}

#[tokio::test]
async fn metadata_that_is_no_text_is_refused() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let channel = repo.channel().await;
    let keys = [
        "heddle-actor-name",
        "heddle-actor-email",
        "heddle-agent",
        "heddle-transaction-id",
    ];
    for key in keys {
        for value in [&b"\xff\xfe"[..], b"with a\ttab", &[b'x'; 256]] {
            let mut request = tonic::Request::new(hook("x"));
            let value = MetadataValue::try_from(value).unwrap();
            request.metadata_mut().insert(key, value);
            let status = hooks(&channel).register_hook(request).await.unwrap_err();
            assert_blames(&status, Reason::InvalidField, key);
        }
    }
    assert_serves(&repo).await;
}
