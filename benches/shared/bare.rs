//! The bare server: tonic over a Unix socket, one empty unary call and one with 50 entries out of
//! nowhere, in a process of its own and with the daemon's runtime settings. What a call costs here
//! is no daemon's to save.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use heddle_agent::grpc_local_impl::proto::{
    local::{
        GetStatusRequest, GetStatusResponse, ShutdownRequest, ShutdownResponse,
        daemon_service_server::{DaemonService, DaemonServiceServer},
    },
    v1::{
        OperationHit, QueryOperationsRequest, QueryOperationsResponse, StreamOperationsRequest,
        operation_log_query_service_server::{
            OperationLogQueryService, OperationLogQueryServiceServer,
        },
    },
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

use crate::Result;

/// Makes this very program the server, at the path that follows.
pub const ARGUMENT: &str = "bare-server";

struct Empty;

#[tonic::async_trait]
impl DaemonService for Empty {
    async fn get_status(
        &self,
        _: Request<GetStatusRequest>,
    ) -> std::result::Result<Response<GetStatusResponse>, Status> {
        Ok(Response::new(GetStatusResponse::default()))
    }

    async fn shutdown(
        &self,
        _: Request<ShutdownRequest>,
    ) -> std::result::Result<Response<ShutdownResponse>, Status> {
        Err(Status::unimplemented("a bare server is killed"))
    }
}

#[tonic::async_trait]
impl OperationLogQueryService for Empty {
    async fn query_operations(
        &self,
        request: Request<QueryOperationsRequest>,
    ) -> std::result::Result<Response<QueryOperationsResponse>, Status> {
        let hits = (1..=u64::from(request.get_ref().limit)).map(|seq| OperationHit {
            seq,
            timestamp_secs: 1_700_000_000,
            verb: "hook_register".into(),
            actor_email: "ada0@example.com".into(),
            operation_id: "0199c1c3-9f4e-7c52-a1a5-4f5b3a3c2b1d".into(),
            thread: "agent/7".into(),
            state_id: vec![7; 20],
            summary: "captured the change number 950 of an agent's work".into(),
            actor_name: "Ada".into(),
            agent: "provider/model".into(),
            ..Default::default()
        });
        Ok(Response::new(QueryOperationsResponse {
            hits: hits.collect(),
            truncated: false,
        }))
    }

    type StreamOperationsStream = tokio_stream::Empty<std::result::Result<OperationHit, Status>>;

    async fn stream_operations(
        &self,
        _: Request<StreamOperationsRequest>,
    ) -> std::result::Result<Response<Self::StreamOperationsStream>, Status> {
        Err(Status::unimplemented("a bare server has no streams"))
    }
}

/// Serves until killed.
pub fn serve(socket: &str) -> Result {
    let workers = std::thread::available_parallelism().map_or(2, |cores| cores.get().clamp(2, 4));
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let listener = UnixListenerStream::new(UnixListener::bind(socket)?);
        Server::builder()
            .add_service(DaemonServiceServer::new(Empty))
            .add_service(OperationLogQueryServiceServer::new(Empty))
            .serve_with_incoming(listener)
            .await?;
        Ok(())
    })
}

/// A running bare server.
pub struct Bare {
    process: Child,
    pub socket: PathBuf,
}

impl Bare {
    /// Starts one; it is not ready yet.
    pub fn spawn(folder: &Path) -> Result<Self> {
        let socket = folder.join("bare.sock");
        // The one before was killed, and could not tidy up.
        let _ = std::fs::remove_file(&socket);
        let process = Command::new(std::env::current_exe()?)
            .arg(ARGUMENT)
            .arg(&socket)
            .stdin(Stdio::null())
            .spawn()?;
        Ok(Self { process, socket })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
