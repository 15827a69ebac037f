//! The events that hooks are told of: the closed list of WIRE.md.

use crate::failure::{Failure, Reason};

macro_rules! events {
    ($($variant:ident = $name:literal: $doc:literal,)*) => {
        /// Something that a hook is told of, or asked about.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum HookEvent { $(#[doc = $doc] $variant,)* }

        impl HookEvent {
            /// Every event, gates first.
            pub const ALL: &[HookEvent] = &[$(HookEvent::$variant,)*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(HookEvent::$variant => $name,)* }
            }

            /// When it happens, for people.
            pub const fn meaning(self) -> &'static str {
                match self { $(HookEvent::$variant => $doc,)* }
            }
        }
    };
}

events! {
    PreCapture = "pre_capture": "A capture is about to be made.",
    PreThreadCreate = "pre_thread_create": "A thread is about to be started.",
    PreMerge = "pre_merge": "Git is about to merge.",
    PrePush = "pre_push": "Git is about to push.",
    OnConflict = "on_conflict": "A merge ran into conflicts.",
    PostCapture = "post_capture": "A capture was made.",
    PostThreadCreate = "post_thread_create": "A thread was started.",
    PostMerge = "post_merge": "Git has merged.",
    PostPush = "post_push": "Git has pushed.",
    OnSignal = "on_signal": "A risk signal was raised.",
}

impl HookEvent {
    /// Whether it is a gate, which a hook can veto, and not a notice.
    pub const fn is_gate(self) -> bool {
        matches!(
            self,
            Self::PreCapture
                | Self::PreThreadCreate
                | Self::PreMerge
                | Self::PrePush
                | Self::OnConflict
        )
    }

    /// Whether it comes from Git's own hooks, and not from the daemon.
    pub const fn is_gits(self) -> bool {
        matches!(
            self,
            Self::PreMerge | Self::PrePush | Self::OnConflict | Self::PostMerge | Self::PostPush
        )
    }

    /// The events among a set of them.
    pub(crate) const fn bit(self) -> u32 {
        1 << self as u32
    }

    /// The event of this name, asked for in the request's `field`.
    ///
    /// # Errors
    /// `HOOK_EVENT_UNKNOWN`, with the names that there are.
    pub fn named(name: &str, field: &'static str) -> Result<Self, Failure> {
        let known = Self::ALL.iter().copied().find(|event| event.name() == name);
        known.ok_or_else(|| {
            let names: Vec<&str> = Self::ALL.iter().map(|event| event.name()).collect();
            let asked: String = name.chars().take(64).collect();
            Failure::field(
                Reason::HookEventUnknown,
                field,
                format!(
                    "there is no hook event {asked:?}; the events are {}",
                    names.join(", ")
                ),
            )
        })
    }
}
