//! A transaction that a scene has open, with every sort of call in it that can be buffered.

use std::{collections::BTreeSet, fs, path::Path};

use heddle_agent::grpc_local_impl::proto::v1::{
    AppendTurnRequest, BeginTransactionRequest, CaptureThreadRequest, CompleteThreadRequest,
    DeregisterHookRequest, OpenDiscussionRequest, PathSymbolRef, RegisterHookRequest,
    ResolveDiscussionRequest, SignStateRequest, StartThreadRequest,
    discussion_service_client::DiscussionServiceClient,
    resolve_discussion_request::{Resolution, ResolveDismissed},
    transaction_service_client::TransactionServiceClient,
};
use tonic::{Request, transport::Channel};
use uuid::Uuid;

use super::{asked::marked, traces::query};
use crate::{
    fault::database,
    harness::TestRepo,
    rpc::{hook, hooks},
    signing::{Draft, Key, reviews},
    states::{hex, threads},
};

/// The transaction.
pub struct Open {
    pub id: String,
    /// Those of its calls, in their order.
    keys: Vec<Uuid>,
    /// What the last capture led to.
    last: String,
}

/// The commands that can be buffered, without their versions.
fn bufferable() -> BTreeSet<String> {
    let source = include_str!("../../../src/command.rs");
    let named = source.split("rename = \"").skip(1);
    named
        .map(|rest| kind(rest.split('"').next().unwrap()))
        .collect()
}

fn kind(versioned: &str) -> String {
    versioned.split('.').next().unwrap().to_owned()
}

impl Open {
    /// Begins it.
    pub async fn begin(channel: &Channel) -> Self {
        let mut client = TransactionServiceClient::new(channel.clone());
        let begun = client.begin_transaction(BeginTransactionRequest::default());
        Self {
            id: begun.await.unwrap().into_inner().transaction_id,
            keys: Vec::new(),
            last: String::new(),
        }
    }

    /// Makes the calls that are buffered.
    pub async fn fill(&mut self, repo: &TestRepo, channel: &Channel) {
        self.register(channel, "first").await;
        self.capture(channel).await;
        let (start, key) = self.call(|client_operation_id| StartThreadRequest {
            name: "fix".into(),
            client_operation_id,
            ..Default::default()
        });
        threads(channel).start_thread(start).await.unwrap();
        self.register(channel, "second").await;
        fs::write(repo.path("extra"), key.to_string()).unwrap();
        let state = self.capture(channel).await;
        let (complete, _) = self.call(|client_operation_id| CompleteThreadRequest {
            name: "fix".into(),
            client_operation_id,
            ..Default::default()
        });
        threads(channel).complete_thread(complete).await.unwrap();
        let (deregister, _) = self.call(|client_operation_id| DeregisterHookRequest {
            name: "first".into(),
            client_operation_id,
            ..Default::default()
        });
        hooks(channel).deregister_hook(deregister).await.unwrap();
        self.discuss(channel).await;
        // It is an agent that calls.
        let preview = Draft {
            word: "agent_preview",
            ..Draft::read(&state)
        };
        let (sign, _) = self.call(|client_operation_id| SignStateRequest {
            client_operation_id,
            ..preview.signed(&Key::ed25519())
        });
        reviews(channel).sign_state(sign).await.unwrap();

        let (_copy, database) = database(&repo.store_dir()).unwrap();
        let kinds = query(
            &database,
            "SELECT command ->> '$.kind' FROM txn_call",
            |row| Ok(kind(&row.get::<_, String>(0)?)),
        );
        let kinds: BTreeSet<_> = kinds.into_iter().collect();
        assert_eq!(kinds, bufferable(), "a command that no walk buffers");
    }

    /// A call within it.
    fn call<T>(&mut self, message: impl FnOnce(String) -> T) -> (Request<T>, Uuid) {
        let key = Uuid::new_v4();
        self.keys.push(key);
        let mut request = marked(message(key.to_string()), key);
        let id = self.id.parse().unwrap();
        request.metadata_mut().insert("heddle-transaction-id", id);
        (request, key)
    }

    async fn register(&mut self, channel: &Channel, name: &str) {
        let (request, _) = self.call(|client_operation_id| RegisterHookRequest {
            // One that no call waits for.
            events: vec!["post_merge".into()],
            client_operation_id,
            ..hook(name)
        });
        hooks(channel).register_hook(request).await.unwrap();
    }

    async fn capture(&mut self, channel: &Channel) -> Vec<u8> {
        let (request, _) = self.call(|client_operation_id| CaptureThreadRequest {
            client_operation_id,
            ..Default::default()
        });
        let captured = threads(channel).capture_thread(request).await;
        let state = captured.unwrap().into_inner().state_id;
        self.last = hex(&state);
        state
    }

    /// Opens a discussion, replies to it and settles it.
    async fn discuss(&mut self, channel: &Channel) {
        let mut client = DiscussionServiceClient::new(channel.clone());
        let (open, _) = self.call(|client_operation_id| OpenDiscussionRequest {
            anchor: Some(PathSymbolRef {
                file: "base".into(),
                ..Default::default()
            }),
            body: "why?".into(),
            client_operation_id,
            ..Default::default()
        });
        let discussion_id = client.open_discussion(open).await.unwrap().into_inner().id;
        let (append, _) = self.call(|client_operation_id| AppendTurnRequest {
            discussion_id: discussion_id.clone(),
            body: "because".into(),
            client_operation_id,
            ..Default::default()
        });
        client.append_turn(append).await.unwrap();
        let dismissed = ResolveDismissed {
            reason: "as it is".into(),
        };
        let (resolve, _) = self.call(|client_operation_id| ResolveDiscussionRequest {
            discussion_id,
            resolution: Some(Resolution::Dismissed(dismissed)),
            client_operation_id,
            ..Default::default()
        });
        client.resolve_discussion(resolve).await.unwrap();
    }

    /// Checks that it stands so, with all of its calls or none: still kept, applied, or dropped.
    #[track_caller]
    pub fn check(&self, root: &Path, state: &str, when: &str) {
        let (_copy, database) = database(&root.join(".git/heddle")).unwrap();
        let text = |row: &rusqlite::Row<'_>| row.get::<_, String>(0);
        let found = query(&database, "SELECT state, calls FROM txn", |row| {
            Ok((row.get::<_, String>(0)?, row.get::<_, usize>(1)?))
        });
        assert_eq!(found, [(state.to_owned(), self.keys.len())], "{when}");
        let kept = query(&database, "SELECT 1 FROM txn_call", |_| Ok(())).len();
        let active = state == "active";
        assert_eq!(kept, if active { self.keys.len() } else { 0 }, "{when}");

        let applied = state == "committed";
        let expected = |all: &[&str]| -> Vec<String> {
            let all = all.iter().map(|&name| name.to_owned());
            all.filter(|_| applied).collect()
        };
        let found = query(&database, "SELECT name FROM hook", text);
        assert_eq!(found, expected(&["second"]), "{when}");
        let said = "SELECT body FROM discussion_turn JOIN discussion ON discussion = id
                    WHERE resolution IS NOT NULL ORDER BY number";
        let found = query(&database, said, text);
        assert_eq!(found, expected(&["why?", "because"]), "{when}");
        let found = query(&database, "SELECT kind FROM review_signature", text);
        assert_eq!(found, expected(&["agent_preview"]), "{when}");
        let found = query(&database, "SELECT name FROM thread WHERE complete", text);
        assert_eq!(found, expected(&["fix"]), "{when}");
        let mut logged = query(
            &database,
            "SELECT agent FROM operation WHERE agent IS NOT NULL ORDER BY seq",
            text,
        );
        let keys: Vec<_> = self.keys.iter().map(Uuid::to_string).collect();
        logged.retain(|agent| keys.contains(agent));
        assert_eq!(logged, if applied { keys } else { Vec::new() }, "{when}");
        let main = "SELECT lower(hex(current_state)) FROM thread WHERE name = 'main'";
        let at = query(&database, main, text).remove(0);
        assert!(at == self.last || !applied, "{when}");
        // The answers of its calls are final: they stay recorded.
        let answers = "SELECT client_operation_id FROM operation_dedup";
        let answers = query(&database, answers, |row| Ok(Uuid::from_bytes(row.get(0)?)));
        assert!(self.keys.iter().all(|key| answers.contains(key)), "{when}");
    }
}
