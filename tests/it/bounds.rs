//! G8: every resource has a limit, and who goes over it does not take it from others.

use std::{
    io::Write,
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use heddle_agent::{
    failure::Reason,
    grpc_local_impl::{
        STREAM_LIMIT,
        proto::v1::{OperationHit, QueryOperationsRequest, StreamOperationsRequest},
    },
    local_daemon::CONNECTION_LIMIT,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use prost::Message;
use tonic::{Code, Streaming, transport::Channel};

use crate::{
    harness::TestRepo,
    operations::{ROW, Row, serve_with_log},
    rpc::{
        GREETING, assert_refused, framed, greeted, hook, hook_names, hooks, log, memory_kib,
        operations, status, wait_until_closed,
    },
};

/// Lets this process have as many descriptors as the system allows it; answers how many.
fn raise_descriptor_limit() -> u64 {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    most
}

#[tokio::test]
async fn g8_three_thousand_silent_connections_leave_room_for_the_next_client() {
    const SILENT: usize = 3_000;
    // With fewer descriptors for ourselves, they come in batches.
    let batch = SILENT.min(raise_descriptor_limit() as usize / 2);
    let repo = TestRepo::new();
    let daemon = repo.serve();
    let old = repo.channel().await;
    hooks(&old).register_hook(hook("kept")).await.unwrap();
    let before = memory_kib(daemon.pid());

    let mut silent = Vec::new();
    for n in 0..SILENT {
        if n % batch == 0 {
            silent.clear();
        }
        let stream = UnixStream::connect(repo.socket()).unwrap();
        silent.push(stream);
    }
    let channel = repo.channel().await;
    assert_eq!(hook_names(&channel).await, ["kept"]);
    hooks(&channel).register_hook(hook("kept")).await.unwrap();
    assert!(status(&channel).await.connections <= CONNECTION_LIMIT as u32);
    let grown = memory_kib(daemon.pid()).saturating_sub(before);
    assert!(grown < 12 * 1024, "{grown} KiB more than before");
    // Who was there before was closed as the oldest without a call, and comes back unharmed.
    assert_eq!(hook_names(&old).await, ["kept"]);
}

#[tokio::test]
async fn g8_the_257th_connection_closes_the_oldest_without_a_call() {
    raise_descriptor_limit();
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    // The oldest of all has a call: it stays.
    let calling = repo.channel().await;
    let mut stream = follow(&calling, 0).await;
    let mut quiet: Vec<UnixStream> = Vec::new();
    for _ in 1..CONNECTION_LIMIT {
        quiet.push(greeted(&repo.socket()));
    }
    assert_eq!(status(&calling).await.connections, CONNECTION_LIMIT as u32);

    for closed in 0..3 {
        let socket = repo.socket();
        let newcomer = tokio::task::spawn_blocking(move || greeted(&socket));
        // One goes for one that comes, however many calls end meanwhile.
        while !newcomer.is_finished() {
            status(&calling).await;
        }
        quiet.push(newcomer.await.unwrap());
        wait_until_closed(&mut quiet[closed]);
    }
    assert_eq!(status(&calling).await.connections, CONNECTION_LIMIT as u32);
    let mut next = quiet.split_off(3);
    for stream in &mut next {
        assert!(is_open(stream), "a younger one was closed");
    }
    hooks(&calling).register_hook(hook("a")).await.unwrap();
    assert_eq!(stream.message().await.unwrap().unwrap().seq, 1);
}

#[tokio::test]
async fn g8_a_newcomer_has_time_to_call_before_it_makes_room_for_the_next() {
    raise_descriptor_limit();
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let mut calling = Vec::new();
    for _ in 1..CONNECTION_LIMIT {
        let channel = repo.channel().await;
        let stream = follow(&channel, 0).await;
        calling.push((channel, stream));
    }
    for _ in 0..50 {
        let began = Instant::now();
        let mut first = UnixStream::connect(repo.socket()).unwrap();
        let _second = UnixStream::connect(repo.socket()).unwrap();
        // That nothing happens has no event.
        tokio::time::sleep(Duration::from_millis(100)).await;
        let open = is_open(&mut first);
        // It has 250 ms. A machine that took longer has shown nothing, and tries again.
        let in_time = began.elapsed() < Duration::from_millis(200);
        assert!(open || !in_time, "pushed out by the next");
        first.set_nonblocking(false).unwrap();
        wait_until_closed(&mut first);
        if in_time {
            return;
        }
    }
    panic!("this machine is never quick enough");
}

/// Whether the other side has neither closed the connection nor told it to go.
fn is_open(stream: &mut UnixStream) -> bool {
    use std::io::Read;

    stream.set_nonblocking(true).unwrap();
    let mut frames = Vec::new();
    let read = stream.read_to_end(&mut frames);
    // What may have come are the rest of its SETTINGS and a WINDOW_UPDATE, but no GOAWAY.
    read.is_err_and(|e| e.kind() == std::io::ErrorKind::WouldBlock)
}

async fn follow(channel: &Channel, after_seq: u64) -> Streaming<OperationHit> {
    let request = StreamOperationsRequest {
        after_seq,
        ..Default::default()
    };
    let answer = log(channel).stream_operations(request).await;
    answer.unwrap().into_inner()
}

#[tokio::test]
async fn g8_where_all_are_calling_a_newcomer_queues_and_is_served_when_one_ends() {
    raise_descriptor_limit();
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let mut calling = Vec::new();
    for _ in 0..CONNECTION_LIMIT {
        let channel = repo.channel().await;
        let stream = follow(&channel, 0).await;
        calling.push((channel, stream));
    }
    let socket = repo.socket();
    let newcomer = tokio::task::spawn_blocking(move || greeted(&socket));
    // It waits while those that are there are served on.
    let (channel, _) = &calling[0];
    for _ in 0..50 {
        assert_eq!(status(channel).await.connections, CONNECTION_LIMIT as u32);
        hooks(channel).register_hook(hook("a")).await.unwrap();
    }
    assert!(!newcomer.is_finished());
    // A call that ends makes room, although its connection would have stayed.
    let (channel, stream) = calling.pop().unwrap();
    drop(stream);
    newcomer.await.unwrap();
    drop(channel);
    let (_, stream) = &mut calling[0];
    assert_eq!(stream.message().await.unwrap().unwrap().seq, 1);
}

#[tokio::test]
async fn g8_one_event_stream_too_many_is_refused_until_another_ends() {
    let repo = TestRepo::new();
    let _daemon = repo.serve();
    let mut open = Vec::new();
    let mut channel = repo.channel().await;
    for n in 0..STREAM_LIMIT {
        // A connection has 64 calls at once at most.
        if n % 60 == 0 {
            channel = repo.channel().await;
        }
        open.push(follow(&channel, 0).await);
    }
    let refused = log(&channel)
        .stream_operations(StreamOperationsRequest::default())
        .await;
    assert_refused(
        &refused.unwrap_err(),
        Code::ResourceExhausted,
        Reason::TooManyStreams,
    );
    assert_eq!(status(&channel).await.open_streams, STREAM_LIMIT as u32);
    hooks(&channel).register_hook(hook("a")).await.unwrap();

    open.truncate(STREAM_LIMIT - 1);
    while status(&channel).await.open_streams >= STREAM_LIMIT as u32 {}
    let mut another = follow(&channel, 0).await;
    for stream in open.iter_mut().chain([&mut another]) {
        assert_eq!(stream.message().await.unwrap().unwrap().seq, 1);
    }
}

/// A connection whose client lets everything come and reads none of it.
struct Mute {
    stream: UnixStream,
    next_id: u32,
}

impl Mute {
    fn new(repo: &TestRepo) -> Self {
        let mut stream = UnixStream::connect(repo.socket()).unwrap();
        // SETTINGS_INITIAL_WINDOW_SIZE and a WINDOW_UPDATE, both the largest (RFC 9113, 6.5, 6.9).
        let settings = b"\0\0\x06\x04\0\0\0\0\0\0\x04\x7f\xff\xff\xff";
        let update = b"\0\0\x04\x08\0\0\0\0\0\x7f\xff\0\0";
        let greeting = [&GREETING[..24], settings, update].concat();
        stream.write_all(&greeting).unwrap();
        Self { stream, next_id: 1 }
    }

    fn call(&mut self, path: &str, message: &impl Message) {
        // :method POST and :scheme http of the static table, the rest in literals (RFC 7541).
        let mut block = vec![0x83, 0x86, 0x04, path.len() as u8];
        block.extend(path.as_bytes());
        block.extend(b"\x01\x09localhost\x0f\x10\x10application/grpc\0\x02te\x08trailers");
        self.frame(1, 0x4, &block);
        self.frame(0, 0x1, &framed(&message.encode_to_vec()));
        self.next_id += 2;
    }

    fn frame(&mut self, kind: u8, flags: u8, payload: &[u8]) {
        let mut frame = (payload.len() as u32).to_be_bytes()[1..].to_vec();
        frame.extend([kind, flags]);
        frame.extend(self.next_id.to_be_bytes());
        frame.extend(payload);
        self.stream.write_all(&frame).unwrap();
    }
}

#[tokio::test]
async fn g8_clients_that_never_read_hold_little_memory_and_nobody_up() {
    const QUERY: &str = "/heddle.v1.OperationLogQueryService/QueryOperations";
    const STREAM: &str = "/heddle.v1.OperationLogQueryService/StreamOperations";
    // A page of the log is one chunk of the stream, so each stream comes to a halt with its next
    // page on the way.
    let summary = "s".repeat(130);
    let repo = TestRepo::new();
    let rows = std::iter::repeat_n(
        Row {
            summary: &summary,
            ..ROW
        },
        10_000,
    );
    let daemon = serve_with_log(&repo, rows);
    let channel = repo.channel().await;
    let large = QueryOperationsRequest {
        limit: 10_000,
        ..Default::default()
    };
    operations(&channel, large.clone()).await;
    let before = memory_kib(daemon.pid());

    let mut mute = Vec::new();
    for _ in 0..2 {
        let mut connection = Mute::new(&repo);
        for n in 0..64 {
            if n % 2 == 0 {
                connection.call(QUERY, &large);
            } else {
                connection.call(STREAM, &StreamOperationsRequest::default());
            }
        }
        mute.push(connection);
    }
    loop {
        let now = status(&channel).await;
        if (now.calls_in_flight, now.open_streams) == (64, 64) {
            break;
        }
    }
    // Others are served, also with what is large: it queues behind the reads for those.
    for _ in 0..4 {
        // Before those who do not read are cut off after 30 s: each has a few places of its own.
        let soon = Duration::from_secs(20);
        let hits = tokio::time::timeout(soon, operations(&channel, large.clone()));
        let hits = hits.await.expect("large reads are held up");
        assert_eq!(hits.len(), 10_000);
        hooks(&channel).register_hook(hook("a")).await.unwrap();
    }
    let grown = memory_kib(daemon.pid()).saturating_sub(before);
    assert!(grown < 96 * 1024, "{grown} KiB more than before");
    drop(mute);
    while status(&channel).await.calls_in_flight > 0 {}
}
