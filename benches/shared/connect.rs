//! tonic's channel over a Unix socket.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};

use crate::Result;

/// How long a server that was just started is waited for.
const READY: Duration = Duration::from_secs(30);

pub async fn connect(socket: PathBuf) -> Result<Channel> {
    let connector = tower::service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = Endpoint::from_static("http://localhost");
    Ok(endpoint.connect_with_connector(connector).await?)
}

/// Knocks until somebody listens.
pub fn wait_for(socket: &Path) -> Result {
    let end = Instant::now() + READY;
    while std::os::unix::net::UnixStream::connect(socket).is_err() {
        if Instant::now() > end {
            return Err(format!("nobody listens at {}", socket.display()).into());
        }
        std::thread::sleep(Duration::from_micros(20));
    }
    Ok(())
}
