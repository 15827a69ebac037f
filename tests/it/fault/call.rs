//! The calls that fault tests make, with a mark by which their rows are found again.

use heddle_agent::grpc_local_impl::proto::{
    local::{GetStatusRequest, GetStatusResponse, daemon_service_client::DaemonServiceClient},
    v1::{
        Hook, ListHooksRequest, OperationHit, QueryOperationsRequest, RegisterHookRequest,
        hook_service_client::HookServiceClient,
        operation_log_query_service_client::OperationLogQueryServiceClient,
    },
};
use tonic::{Request, Status, transport::Channel};
use tonic_types::StatusExt;
use uuid::Uuid;

/// A keyed `RegisterHook` that names its key as the acting agent, so that the log row tells it.
pub async fn register(channel: &Channel, key: Uuid, name: &str) -> Result<Hook, Status> {
    let mut request = Request::new(RegisterHookRequest {
        name: name.into(),
        command: format!("true {key}"),
        client_operation_id: key.to_string(),
        ..Default::default()
    });
    let agent = key.to_string().parse().unwrap();
    request.metadata_mut().insert("heddle-agent", agent);
    let mut client = HookServiceClient::new(channel.clone());
    Ok(client.register_hook(request).await?.into_inner())
}

/// The registered hooks.
pub async fn hooks(channel: &Channel) -> Result<Vec<Hook>, Status> {
    let mut client = HookServiceClient::new(channel.clone());
    let answer = client.list_hooks(ListHooksRequest::default()).await?;
    Ok(answer.into_inner().hooks)
}

/// The newest operations.
pub async fn operations(channel: &Channel) -> Result<Vec<OperationHit>, Status> {
    let mut client = OperationLogQueryServiceClient::new(channel.clone());
    let request = QueryOperationsRequest::default();
    Ok(client.query_operations(request).await?.into_inner().hits)
}

/// How the daemon is doing.
pub async fn status(channel: &Channel) -> GetStatusResponse {
    let mut client = DaemonServiceClient::new(channel.clone());
    let answer = client.get_status(GetStatusRequest::default()).await;
    answer.unwrap().into_inner()
}

/// The stable reason of a failed call; empty where the connection failed.
pub fn reason(status: &Status) -> String {
    let info = status.get_details_error_info();
    info.map_or_else(String::new, |info| info.reason)
}
