//! What operations are called: the closed list of WIRE.md.

macro_rules! verbs {
    ($($variant:ident = $name:literal: $doc:literal,)*) => {
        /// What an operation did.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Verb { $(#[doc = $doc] $variant,)* }

        impl Verb {
            /// Every verb.
            pub const ALL: &[Verb] = &[$(Verb::$variant,)*];

            /// The name on the wire and in the store.
            pub const fn name(self) -> &'static str {
                match self { $(Verb::$variant => $name,)* }
            }
        }
    };
}

verbs! {
    Snapshot = "snapshot": "A capture.",
    Goto = "goto": "A restore.",
    ThreadCreate = "thread_create": "A thread was started.",
    ThreadUpdate = "thread_update": "A thread changed.",
    ThreadComplete = "thread_complete": "A thread was completed.",
    TransactionBegin = "transaction_begin": "A transaction began.",
    TransactionCommit = "transaction_commit": "A transaction was committed.",
    TransactionAbort = "transaction_abort": "A transaction was aborted.",
    DiscussionOpen = "discussion_open": "A discussion was opened.",
    DiscussionAppend = "discussion_append": "A discussion got another turn.",
    DiscussionResolve = "discussion_resolve": "A discussion was resolved.",
    ReviewSign = "review_sign": "A reviewer signed a state.",
    ReviewVerdict = "review_verdict": "A reviewer gave a verdict.",
    ReviewCheck = "review_check": "A reviewer ticked a check.",
    HookRegister = "hook_register": "A hook was registered or replaced.",
    HookDeregister = "hook_deregister": "A hook was removed.",
    Checkpoint = "checkpoint": "A commit or branch move was made outside the daemon.",
}

impl Verb {
    /// The verb of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|verb| verb.name() == name)
    }
}
