//! Who is asked: a command, and a live subscriber that answers at once.

use std::{path::PathBuf, process::Command, sync::mpsc, thread, time::Instant};

use heddle_agent::grpc_local_impl::proto::v1::{
    RegisterHookRequest, RespondToHookRequest, SubscribeHookEventsRequest,
    hook_service_client::HookServiceClient,
};

use crate::{
    Result,
    shared::{connect::connect, ours::Caller, samples::micros},
};

/// Registers a command for these events.
pub fn command(caller: &Caller, name: &str, command: &str, events: &[&str]) -> Result {
    let request = RegisterHookRequest {
        name: name.into(),
        command: command.into(),
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        ..Default::default()
    };
    caller.runtime.block_on(async {
        let mut client = HookServiceClient::new(caller.channel.clone());
        client.register_hook(request).await
    })?;
    Ok(())
}

/// Has a client of its own listen to these events, and let pass what it is asked about, for as long as
/// the daemon lives.
pub fn subscriber(socket: PathBuf, events: &[&str]) -> Result {
    let request = SubscribeHookEventsRequest {
        events: events.iter().map(|event| (*event).to_owned()).collect(),
        ..Default::default()
    };
    let (listening, heard) = mpsc::channel();
    thread::spawn(move || {
        let answered = answer(socket, request, &listening);
        // It ends with the daemon.
        drop(answered.map_err(|failed| listening.send(Err(failed.to_string()))));
    });
    Ok(heard.recv()??)
}

fn answer(
    socket: PathBuf,
    request: SubscribeHookEventsRequest,
    listening: &mpsc::Sender<std::result::Result<(), String>>,
) -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut client = HookServiceClient::new(connect(socket).await?);
        let mut events = client.subscribe_hook_events(request).await?.into_inner();
        listening.send(Ok(()))?;
        while let Some(event) = events.message().await? {
            let passes = RespondToHookRequest {
                hook_event_id: event.hook_event_id,
                ..Default::default()
            };
            client.respond_to_hook(passes).await?;
        }
        Ok(())
    })
}

/// Microseconds for a shell that does nothing: what a command costs anybody.
pub fn shell() -> Result<f64> {
    let began = Instant::now();
    Command::new("/bin/sh").args(["-c", "true"]).status()?;
    Ok(micros(began.elapsed()))
}
