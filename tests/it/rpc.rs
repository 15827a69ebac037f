//! Speaking gRPC in tests: generated clients, bodies that no client would send, the parts of a
//! status, and what a daemon's process holds.

use std::{
    convert::Infallible,
    fs,
    future::poll_fn,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    pin::{Pin, pin},
    task::{Context, Poll},
};

use bytes::Bytes;
use heddle_agent::{
    failure::Reason,
    grpc_local_impl::proto::{
        local::{GetStatusRequest, GetStatusResponse, daemon_service_client::DaemonServiceClient},
        v1::{
            ListHooksRequest, OperationHit, QueryOperationsRequest, RegisterHookRequest,
            hook_service_client::HookServiceClient,
            operation_log_query_service_client::OperationLogQueryServiceClient,
        },
    },
};
use http_body::{Body as _, Frame};
use hyper::{body::Incoming, client::conn::http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tonic::{Code, Status, body::Body, transport::Channel};
use tonic_types::StatusExt;
use tower::Service;

use crate::harness::DEADLINE;

pub type Hooks = HookServiceClient<Channel>;
pub type Log = OperationLogQueryServiceClient<Channel>;

/// A client of the hooks.
pub fn hooks(channel: &Channel) -> Hooks {
    HookServiceClient::new(channel.clone()).max_encoding_message_size(usize::MAX)
}

/// A client of the operation log that takes no more than a foreign client does.
pub fn log(channel: &Channel) -> Log {
    OperationLogQueryServiceClient::new(channel.clone())
}

/// What the daemon says of itself.
pub async fn status(channel: &Channel) -> GetStatusResponse {
    let mut client = DaemonServiceClient::new(channel.clone());
    let answer = client.get_status(GetStatusRequest::default()).await;
    answer.unwrap().into_inner()
}

/// A request that registers a hook.
pub fn hook(name: &str) -> RegisterHookRequest {
    RegisterHookRequest {
        name: name.into(),
        command: "true".into(),
        events: vec!["pre_capture".into()],
        ..Default::default()
    }
}

/// The same, with a key.
pub fn keyed(name: &str, key: &str) -> RegisterHookRequest {
    RegisterHookRequest {
        client_operation_id: key.into(),
        ..hook(name)
    }
}

/// The names of the registered hooks.
pub async fn hook_names(channel: &Channel) -> Vec<String> {
    let answer = hooks(channel).list_hooks(ListHooksRequest::default()).await;
    let hooks = answer.unwrap().into_inner().hooks;
    hooks.into_iter().map(|hook| hook.name).collect()
}

/// The newest operations.
pub async fn operations(channel: &Channel, query: QueryOperationsRequest) -> Vec<OperationHit> {
    let answer = log(channel).query_operations(query).await.unwrap();
    answer.into_inner().hits
}

/// Checks that a status is one of ours, whole: code, domain, a reason of the table, a message.
#[track_caller]
pub fn assert_ours(status: &Status) -> String {
    let info = status
        .get_details_error_info()
        .unwrap_or_else(|| panic!("no ErrorInfo: {status:?}"));
    assert_eq!(info.domain, "heddle", "{status:?}");
    let reason = Reason::ALL.iter().find(|r| r.name() == info.reason);
    assert!(reason.is_some(), "not in the table: {status:?}");
    assert!(!status.message().is_empty(), "{status:?}");
    info.reason
}

/// Checks the code and the reason of a status.
#[track_caller]
pub fn assert_refused(status: &Status, code: Code, reason: Reason) {
    assert_eq!(assert_ours(status), reason.name(), "{status:?}");
    assert_eq!(status.code(), code, "{status:?}");
}

/// Checks that a status blames this field, and no other.
#[track_caller]
pub fn assert_blames(status: &Status, reason: Reason, field: &str) {
    assert_refused(status, heddle_agent::grpc_local_impl::code(reason), reason);
    let details = status.get_details_bad_request();
    let blamed: Vec<String> = details
        .unwrap_or_else(|| panic!("no field violations: {status:?}"))
        .field_violations
        .into_iter()
        .map(|violation| violation.field)
        .collect();
    assert_eq!(blamed, [field], "{status:?}");
}

/// A message as gRPC frames it: not compressed, its length, its bytes.
pub fn framed(message: &[u8]) -> Bytes {
    let mut frame = vec![0];
    frame.extend((message.len() as u32).to_be_bytes());
    frame.extend(message);
    frame.into()
}

/// A field of wire type 2: a string, bytes or a message.
pub fn length_delimited(field: u32, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    prost::encoding::encode_key(
        field,
        prost::encoding::WireType::LengthDelimited,
        &mut bytes,
    );
    prost::encoding::encode_varint(value.len() as u64, &mut bytes);
    bytes.extend(value);
    bytes
}

/// What a call was answered: the message's bytes, or the status.
pub type RawAnswer = Result<Bytes, Status>;

/// Calls `path` with a message of any bytes.
pub async fn call(channel: &Channel, path: &str, message: &[u8]) -> RawAnswer {
    send(channel, grpc_request(path, framed(message))).await
}

/// A gRPC request with a body of any bytes.
pub fn grpc_request(path: &str, body: Bytes) -> http::Request<Body> {
    http::Request::post(format!("http://localhost{path}"))
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .body(Body::new(InPieces(body)))
        .unwrap()
}

/// Sends a request as it is; answers the whole response.
pub async fn send(channel: &Channel, request: http::Request<Body>) -> RawAnswer {
    let answer = tokio::time::timeout(DEADLINE, receive(channel, request, false)).await;
    answer.expect("no answer")
}

/// Sends a request as it is; answers the first message, and leaves a stream there.
pub async fn send_for_first(channel: &Channel, request: http::Request<Body>) -> RawAnswer {
    let answer = tokio::time::timeout(DEADLINE, receive(channel, request, true)).await;
    answer.expect("no answer")
}

async fn receive(channel: &Channel, request: http::Request<Body>, only_first: bool) -> RawAnswer {
    let mut channel = channel.clone();
    poll_fn(|cx| Service::<http::Request<Body>>::poll_ready(&mut channel, cx))
        .await
        .unwrap();
    let response = channel.call(request).await.unwrap();
    assert_eq!(response.status(), http::StatusCode::OK);
    if let Some(status) = Status::from_header_map(response.headers()) {
        return Err(status);
    }
    let mut body = pin!(response.into_body());
    let mut bytes = Vec::new();
    while let Some(frame) = poll_fn(|cx| body.as_mut().poll_frame(cx)).await {
        match frame?.into_data() {
            Ok(data) => bytes.extend(&data),
            Err(frame) => match Status::from_header_map(frame.trailers_ref().unwrap()) {
                Some(status) if status.code() != Code::Ok => return Err(status),
                _ => break,
            },
        }
        if only_first && bytes.len() >= 5 {
            let size = u32::from_be_bytes(bytes[1..5].try_into().unwrap()) as usize;
            if bytes.len() >= 5 + size {
                bytes.truncate(5 + size);
                break;
            }
        }
    }
    Ok(Bytes::from(bytes).slice(5..))
}

/// A request body, in pieces that flow control can hold up.
struct InPieces(Bytes);

impl http_body::Body for InPieces {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let size = self.0.len().min(64 * 1024);
        let piece = (size > 0).then(|| Ok(Frame::data(self.0.split_to(size))));
        Poll::Ready(piece)
    }
}

/// A client that says a deadline and does not keep it itself, which a channel of tonic's does.
pub async fn patient(
    socket: &Path,
) -> impl Service<
    http::Request<Body>,
    Response = http::Response<Incoming>,
    Error = hyper::Error,
    Future: Send,
> + Clone
+ use<> {
    let stream = tokio::net::UnixStream::connect(socket).await.unwrap();
    let (requests, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .unwrap();
    tokio::spawn(connection);
    tower::service_fn(move |request| {
        let mut requests = requests.clone();
        async move { requests.send_request(request).await }
    })
}

/// The HTTP/2 preface and empty SETTINGS (RFC 9113, section 3.4).
pub const GREETING: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";

/// A connection that spoke the preface, was answered, and says nothing more.
pub fn greeted(socket: &Path) -> UnixStream {
    let mut stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    stream.write_all(GREETING).unwrap();
    let mut answer = [0; 9];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[3], 4, "the first frame is SETTINGS");
    stream
}

/// Waits until the other side has closed the connection.
#[track_caller]
pub fn wait_until_closed(stream: &mut UnixStream) {
    stream.set_read_timeout(Some(DEADLINE)).unwrap();
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(e) if e.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(e) => panic!("it is still open: {e}"),
    }
}

/// The memory of a process that no file is mapped into (proc_pid_smaps(5)), in KiB: how much of its
/// program counts would depend on who else runs it.
pub fn memory_kib(pid: i32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap();
    let line = text
        .lines()
        .find(|line| line.starts_with("Pss_Anon:"))
        .unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
