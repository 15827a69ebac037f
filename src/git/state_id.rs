//! `StateId`: the name of a state, which is a Git commit.

use std::fmt;

use gix::ObjectId;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A commit's object id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StateId(ObjectId);

impl StateId {
    /// The state of this raw object id; `None` unless it has 20 or 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        ObjectId::try_from(bytes).ok().map(Self)
    }

    /// The state of this id in hex; `None` unless it is a whole one.
    pub fn from_hex(hex: &str) -> Option<Self> {
        ObjectId::from_hex(hex.as_bytes()).ok().map(Self)
    }

    /// The raw object id, 20 or 32 bytes.
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }

    /// The raw object id, 20 or 32 bytes.
    pub fn to_vec(self) -> Vec<u8> {
        self.0.as_bytes().to_vec()
    }

    /// The first digits, for people.
    pub fn short(&self) -> String {
        self.0.to_hex_with_len(10).to_string()
    }
}

impl From<ObjectId> for StateId {
    fn from(id: ObjectId) -> Self {
        Self(id)
    }
}

impl From<StateId> for ObjectId {
    fn from(id: StateId) -> Self {
        id.0
    }
}

impl Serialize for StateId {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for StateId {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let hex = String::deserialize(from)?;
        let id = ObjectId::from_hex(hex.as_bytes());
        id.map(Self).map_err(serde::de::Error::custom)
    }
}

impl fmt::Display for StateId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.to_hex().fmt(f)
    }
}
