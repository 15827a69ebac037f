//! Payloads that come from outside: those of Git's events, checked and made whole, and samples.

use serde_json::{Map, Value, json};

use super::{HookEvent, schema::payload_schema};
use crate::failure::{Failure, Reason};

/// Bytes of a payload that a caller may give.
pub const PAYLOAD_LIMIT: usize = 1024 * 1024;

/// Checks the payload that a caller gives for an event: an object, whose known fields have the types
/// of the schema. Those that are missing are added, empty; others are passed on as they are.
///
/// # Errors
/// `INVALID_FIELD` with what is wrong.
pub fn checked(event: HookEvent, text: &str) -> Result<String, Failure> {
    let refuse = |why: String| {
        Failure::field(
            Reason::InvalidField,
            "payload_json",
            format!(
                "the payload of {} cannot be used: {why}; see `heddle hook schema {}`",
                event.name(),
                event.name()
            ),
        )
    };
    if text.len() > PAYLOAD_LIMIT {
        return Err(refuse(format!(
            "it has {} bytes, and {PAYLOAD_LIMIT} are the limit",
            text.len()
        )));
    }
    let text = if text.trim().is_empty() { "{}" } else { text };
    let given: Value = serde_json::from_str(text).map_err(|error| refuse(error.to_string()))?;
    let Value::Object(mut given) = given else {
        return Err(refuse("it is not a JSON object".to_owned()));
    };
    let mut payload = Map::new();
    for (name, schema, is_required) in fields(event) {
        let value = given.remove(&name);
        match value {
            None if !is_required => {}
            None => drop(payload.insert(name, empty(&schema))),
            Some(value) if fits(&schema, &value) => drop(payload.insert(name, value)),
            Some(_) => return Err(refuse(format!("`{name}` is not {}", called(&schema)))),
        }
    }
    payload.extend(given);
    Ok(Value::Object(payload).to_string())
}

/// A payload as it might come, with `state` where a state is named.
pub fn sample(event: HookEvent, state: &str) -> String {
    let payload: Map<String, Value> = fields(event)
        .into_iter()
        // A tree is where a hook reads what is captured; any name of one will do.
        .filter(|(name, _, is_required)| *is_required || name == "tree")
        .map(|(name, schema, _)| {
            let value = sample_of(&name, &schema, state);
            (name, value)
        })
        .collect();
    Value::Object(payload).to_string()
}

fn fields(event: HookEvent) -> Vec<(String, Value, bool)> {
    let schema = payload_schema(event);
    let required = schema["required"].as_array().cloned().unwrap_or_default();
    let properties = schema["properties"]
        .as_object()
        .cloned()
        .unwrap_or_default();
    let fields = properties.into_iter().map(|(name, schema)| {
        let is_required = required.iter().any(|known| *known == name.as_str());
        (name, schema, is_required)
    });
    fields.collect()
}

fn empty(schema: &Value) -> Value {
    match schema["type"].as_str() {
        Some("array") => json!([]),
        Some("object") => json!({}),
        Some("integer") => json!(0),
        Some("boolean") => json!(false),
        _ => json!(""),
    }
}

fn fits(schema: &Value, value: &Value) -> bool {
    match schema["type"].as_str() {
        Some("array") => value
            .as_array()
            .is_some_and(|items| items.iter().all(|item| fits(&schema["items"], item))),
        Some("object") => value.is_object(),
        Some("integer") => value.is_u64(),
        Some("boolean") => value.is_boolean(),
        _ => value.as_str().is_some_and(|text| {
            let is_state = schema.get("pattern").is_some();
            let hex = |text: &str| text.bytes().all(|c| matches!(c, b'0'..=b'9' | b'a'..=b'f'));
            !is_state || [0, 40, 64].contains(&text.len()) && hex(text)
        }),
    }
}

fn called(schema: &Value) -> &'static str {
    match schema["type"].as_str() {
        Some("array") => "a list of texts",
        Some("object") => "an object",
        Some("integer") => "a whole number",
        Some("boolean") => "true or false",
        _ if schema.get("pattern").is_some() => "an object id in lower-case hex",
        _ => "a text",
    }
}

fn sample_of(name: &str, schema: &Value, state: &str) -> Value {
    match (schema["type"].as_str(), name) {
        (Some("array"), _) => json!(["README.md", "src/main.rs"]),
        (Some("object"), _) => {
            let properties = schema["properties"]
                .as_object()
                .cloned()
                .unwrap_or_default();
            let inner = properties.into_iter().map(|(name, schema)| {
                let value = sample_of(&name, &schema, state);
                (name, value)
            });
            Value::Object(inner.collect())
        }
        (Some("integer"), _) => json!(1),
        (Some("boolean"), _) => json!(false),
        (_, "file") => json!("src/main.rs"),
        (_, "symbol" | "thread" | "target") => json!("main"),
        (_, "tree") => json!(state),
        (_, "remote") => json!("origin"),
        (_, "name" | "source") => json!("sample"),
        (_, "signal_kind") => json!("novelty"),
        _ if schema.get("pattern").is_some() => json!(state),
        _ => json!("a sample, made by `heddle hook test`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_a_payload() {
        for event in HookEvent::ALL {
            let sample = sample(*event, &"a".repeat(40));
            assert_eq!(checked(*event, &sample).unwrap(), sample);
        }
    }

    #[test]
    fn what_is_missing_is_empty_and_what_has_another_type_is_refused() {
        let payload = checked(HookEvent::PreMerge, r#"{"source": "x", "more": [1]}"#);
        assert_eq!(payload.unwrap(), r#"{"source":"x","target":"","more":[1]}"#);
        assert_eq!(checked(HookEvent::PrePush, "").unwrap(), r#"{"remote":""}"#);
        for text in ["[]", "{", r#"{"source": 1}"#] {
            assert!(checked(HookEvent::PreMerge, text).is_err(), "{text}");
        }
        assert!(checked(HookEvent::OnConflict, r#"{"conflicts": [1]}"#).is_err());
        assert!(checked(HookEvent::PostMerge, r#"{"state_id": "HEAD"}"#).is_err());
    }
}
