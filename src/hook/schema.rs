//! JSON Schemas (draft 2020-12) of what a hook is given for each event and of what it may answer.

use serde_json::{Map, Value, json};

use super::HookEvent;

/// Rises whenever a schema changes in a way that a hook could notice.
const SCHEMA_VERSION: u32 = 1;

/// The schemas of one event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSchema {
    /// The event.
    pub event: HookEvent,
    /// The version of both schemas.
    pub version: u32,
    /// JSON Schema of the payload.
    pub payload: String,
    /// JSON Schema of the response.
    pub response: String,
}

/// The schemas of one event, or of all.
pub fn schemas(event: Option<HookEvent>) -> Vec<EventSchema> {
    let all = HookEvent::ALL.iter().copied();
    all.filter(|known| event.is_none_or(|asked| asked == *known))
        .map(|event| EventSchema {
            event,
            version: SCHEMA_VERSION,
            payload: payload_schema(event).to_string(),
            response: response(event).to_string(),
        })
        .collect()
}

pub(super) fn payload_schema(event: HookEvent) -> Value {
    let text = || json!({ "type": "string" });
    let texts = || json!({ "type": "array", "items": { "type": "string" } });
    let fields: Vec<(&str, Value)> = match event {
        HookEvent::PreCapture => vec![
            ("thread", text()),
            ("intent", text()),
            ("base_state", state_id()),
            ("changed_paths", texts()),
        ],
        HookEvent::PreThreadCreate => vec![("name", text()), ("from_state", state_id())],
        HookEvent::PreMerge => vec![("source", text()), ("target", text())],
        HookEvent::PrePush | HookEvent::PostPush => vec![("remote", text())],
        HookEvent::OnConflict => vec![("conflicts", texts())],
        HookEvent::PostCapture => vec![
            ("thread", text()),
            ("state_id", state_id()),
            ("parent_state", state_id()),
        ],
        HookEvent::PostThreadCreate => vec![("name", text()), ("state_id", state_id())],
        HookEvent::PostMerge => vec![("state_id", state_id())],
        HookEvent::OnSignal => vec![
            ("state_id", state_id()),
            ("signal_kind", text()),
            ("anchor", anchor()),
            ("reason", text()),
        ],
    };
    let required = fields.iter().map(|(name, _)| *name).collect::<Vec<_>>();
    let mut schema = object(event.name(), event.meaning(), fields.clone());
    schema["required"] = json!(required);
    if event == HookEvent::PreCapture {
        let properties = &mut schema["properties"];
        let described = |kind, why| json!({ "type": kind, "description": why });
        properties["tree"] = described(
            "string",
            "Git's tree of what is about to be captured, in lower-case hex.",
        );
        properties["worktree"] = described("string", "The worktree that it was taken from.");
        properties["truncated"] = described(
            "boolean",
            "Whether `changed_paths` is not all, because a message has no room for it; only live subscribers see this.",
        );
    }
    schema
}

fn response(event: HookEvent) -> Value {
    let mut fields = Vec::new();
    if event.is_gate() {
        let why = "Why the operation must not go on; a text that is not empty vetoes it.";
        fields.push(("abort", json!({ "type": "string", "description": why })));
    }
    if event == HookEvent::PreCapture {
        fields.push((
            "extra_signals",
            json!({ "type": "array", "items": extra_signal() }),
        ));
    }
    object(
        &format!("{} response", event.name()),
        "Empty output answers the same as an empty object.",
        fields,
    )
}

fn extra_signal() -> Value {
    let text = || json!({ "type": "string" });
    let mut signal = object(
        "extra signal",
        "A risk that the hook saw; kept with the state.",
        vec![("kind", text()), ("anchor", anchor()), ("reason", text())],
    );
    signal["required"] = json!(["kind", "reason"]);
    signal
}

fn anchor() -> Value {
    let line = || json!({ "type": "integer", "minimum": 1 });
    object(
        "anchor",
        "Where in the state; lines count from 1.",
        vec![
            ("file", json!({ "type": "string" })),
            ("symbol", json!({ "type": "string" })),
            ("start_line", line()),
            ("end_line", line()),
        ],
    )
}

fn state_id() -> Value {
    // Empty where there is none: the first capture of an empty repository has no base.
    json!({ "type": "string", "pattern": "^([0-9a-f]{40}|[0-9a-f]{64})?$" })
}

fn object(title: &str, description: &str, fields: Vec<(&str, Value)>) -> Value {
    let properties: Map<String, Value> = fields
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        "description": description,
        "type": "object",
        "properties": properties,
    })
}
