//! What can go wrong, as one value: a stable reason, and a message that names what was asked, why
//! not and what to do next (G10). This table is the only list of reasons; `grpc_local_impl::status`
//! gives each its gRPC code, and `proto/REASONS.md` is written from it.

use std::{borrow::Cow, fmt};

/// Declares the closed list of reasons: variant, wire name, and what it means for a caller.
macro_rules! reasons {
    ($($(#[$doc:meta])* $variant:ident = $name:literal: $meaning:literal,)*) => {
        /// Why a call failed: stable names that clients may match on (`google.rpc.ErrorInfo`).
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Reason { $(#[doc = $meaning] $variant,)* }

        impl Reason {
            /// Every reason, in the order of the table.
            pub const ALL: &[Reason] = &[$(Reason::$variant,)*];

            /// The name on the wire.
            pub const fn name(self) -> &'static str {
                match self { $(Reason::$variant => $name,)* }
            }

            /// What it means, for the documentation.
            pub const fn meaning(self) -> &'static str {
                match self { $(Reason::$variant => $meaning,)* }
            }
        }
    };
}

reasons! {
    InvalidField = "INVALID_FIELD": "A field of the request is empty, too long or malformed; the field violations name it.",
    MalformedMessage = "MALFORMED_MESSAGE": "The bytes of the request are not the message that the method takes.",
    MessageTooLarge = "MESSAGE_TOO_LARGE": "The request is larger than 4 MiB, the limit of one message.",
    OperationIdInvalid = "OPERATION_ID_INVALID": "`client_operation_id` is neither empty nor a UUID.",
    OperationIdReused = "OPERATION_ID_REUSED": "The `client_operation_id` was used before for a different request.",
    RepositoryMismatch = "REPOSITORY_MISMATCH": "`repo_path` names another repository than the one that this daemon serves.",
    HookEventUnknown = "HOOK_EVENT_UNKNOWN": "No hook event has this name.",
    HookVetoed = "HOOK_VETOED": "A hook does not let it pass; `hook`, `event` and `hook_reason` in the metadata say which and why. Nothing was changed.",
    HookFromSandbox = "HOOK_FROM_SANDBOX": "The caller is more confined than the daemon that would run its command; the message says how.",
    HookReentrant = "HOOK_REENTRANT": "A hook wrote to the thread that waits for it.",
    HookTooDeep = "HOOK_TOO_DEEP": "Hooks would run more than four deep inside one another. Nothing was changed.",
    HookUnknown = "HOOK_UNKNOWN": "No hook has this name.",
    HookEventsMissed = "HOOK_EVENTS_MISSED": "The subscriber read too slowly: 5,000 notices wait for it, and the stream ends. Subscribe again.",
    TooManyHooks = "TOO_MANY_HOOKS": "The limit of 256 registered hooks is reached.",
    ThreadNameInvalid = "THREAD_NAME_INVALID": "The name breaks one of Git's rules for names; the message says which.",
    ThreadExists = "THREAD_EXISTS": "There is a thread or branch of this name, or one that Git could not have beside it.",
    ThreadUnknown = "THREAD_UNKNOWN": "There is no such thread.",
    ThreadMoved = "THREAD_MOVED": "The thread was moved meanwhile by another call. Nothing was changed. Try again.",
    StateUnknown = "STATE_UNKNOWN": "There is no such state or revision.",
    StateAmbiguous = "STATE_AMBIGUOUS": "The id is short for more than one object.",
    NotAState = "NOT_A_STATE": "What the id names is not a commit, or the id has the wrong length.",
    NothingToUndo = "NOTHING_TO_UNDO": "The worktree's history has no such step.",
    NoWorktree = "NO_WORKTREE": "The repository is bare; name one of its linked worktrees.",
    WorktreeGone = "WORKTREE_GONE": "The worktree is not there any more.",
    WorktreeUnreadable = "WORKTREE_UNREADABLE": "Something in the worktree cannot be read; the message names it. Nothing was changed.",
    WorktreeChanged = "WORKTREE_CHANGED": "A file was changed while the restore was under way. Nothing was changed by it. Try again.",
    PathInTheWay = "PATH_IN_THE_WAY": "Something that no capture holds is where a file is to be, or a path must not be written. Nothing was changed.",
    PathUnknown = "PATH_UNKNOWN": "Neither the worktree nor the state has the path.",
    IndexLocked = "INDEX_LOCKED": "Another Git process has the index locked. Nothing was changed. Try again when it has ended.",
    TreeTooDeep = "TREE_TOO_DEEP": "Folders of a state lie more than 2,048 deep in each other, which is what Git reads (`core.maxTreeDepth`). Nothing was changed.",
    AnswerTooLarge = "ANSWER_TOO_LARGE": "One entry of the answer alone is larger than 3 MiB, such as a path of millions of bytes.",
    PathInvalid = "PATH_INVALID": "A path leads out of the worktree, or into Git's own folder.",
    AlgorithmUnknown = "ALGORITHM_UNKNOWN": "Nothing is signed with an algorithm of this name.",
    KeyInvalid = "KEY_INVALID": "The public key is none of its algorithm; the message says what one is.",
    SignatureInvalid = "SIGNATURE_INVALID": "The signature is not one of the key over what was sent; `payload_sha256` in the metadata is the SHA-256 of what must be signed. Nothing was recorded.",
    SignedAtOutOfRange = "SIGNED_AT_OUT_OF_RANGE": "The time of signing is more than 300 s from the daemon's clock.",
    SignerNotAllowed = "SIGNER_NOT_ALLOWED": "Git's `gpg.ssh.allowedSignersFile` does not have the key as one of who acts.",
    SignersUnreadable = "SIGNERS_UNREADABLE": "A file that says whose SSH signatures are accepted cannot be read.",
    VerifierUnavailable = "VERIFIER_UNAVAILABLE": "`ssh-keygen` cannot be run by the daemon, or failed.",
    AnchorUnknown = "ANCHOR_UNKNOWN": "The state has no such file, or the file no such symbol; the message says what it has.",
    DiscussionUnknown = "DISCUSSION_UNKNOWN": "There is no discussion of this id.",
    DiscussionResolved = "DISCUSSION_RESOLVED": "The discussion was resolved, which is final. Nothing was changed.",
    DiscussionFull = "DISCUSSION_FULL": "The turns of a discussion have 1 MiB, the limit; open another one.",
    TransactionUnknown = "TRANSACTION_UNKNOWN": "There is no transaction of this id, or it ended more than 7 days ago.",
    TransactionActive = "TRANSACTION_ACTIVE": "A transaction is active on this thread already.",
    TransactionNotActive = "TRANSACTION_NOT_ACTIVE": "The transaction has ended.",
    TransactionAborted = "TRANSACTION_ABORTED": "The transaction was aborted, by a call or because it was left alone. Nothing of it was applied.",
    TransactionConflict = "TRANSACTION_CONFLICT": "A call of the transaction no longer applies; the message names it. Nothing was applied, and the transaction stays active.",
    TransactionFull = "TRANSACTION_FULL": "The limit of 256 calls in a transaction is reached.",
    TransactionThread = "TRANSACTION_THREAD": "The call is about another thread than its transaction.",
    NotBufferable = "NOT_BUFFERABLE": "The call cannot be part of a transaction. Nothing was changed.",
    TooManyTransactions = "TOO_MANY_TRANSACTIONS": "The limit of 256 active transactions is reached.",
    TooManyStreams = "TOO_MANY_STREAMS": "The limit of 256 open event streams is reached.",
    TooManyPages = "TOO_MANY_PAGES": "4 pages of reviews, or sets of signals, were being made until the caller's deadline. Nothing was looked at. Try again, or with a longer deadline.",
    WriteQueueFull = "WRITE_QUEUE_FULL": "1,024 writes are waiting already; try again.",
    MethodUnknown = "METHOD_UNKNOWN": "The daemon has no such service or method.",
    NotImplemented = "NOT_IMPLEMENTED": "The method is in the contract, but not in this version of the daemon.",
    ProtocolViolation = "PROTOCOL_VIOLATION": "The call breaks the gRPC protocol, or asks for an encoding that is not offered.",
    Draining = "DRAINING": "The daemon is stopping; the call was not carried out, or the stream ends here. Try again.",
    ServedElsewhere = "SERVED_ELSEWHERE": "This daemon was started although another one serves the repository; it says so and goes. Try again.",
    StoreLost = "STORE_LOST": "The heddle folder was removed or replaced under the daemon, which is leaving. Try again.",
    StoreStopped = "STORE_STOPPED": "The daemon writes no more, after a failure, and is leaving. Try again.",
    StoreBusy = "STORE_BUSY": "Another program keeps the database locked. Nothing was changed. Try again.",
    StoreFull = "STORE_FULL": "The disk is full, or a quota is reached. Nothing was changed.",
    StoreReadOnly = "STORE_READ_ONLY": "The disk or the database cannot be written. Nothing was changed.",
    StoreCorrupt = "STORE_CORRUPT": "The database is damaged.",
    StoreIo = "STORE_IO": "Reading or writing the database failed.",
    StoreNewer = "STORE_NEWER": "The database was made by a newer version of heddle.",
    RepositoryRefused = "REPOSITORY_REFUSED": "The folder is not a Git repository, or one that heddle must not serve.",
    Internal = "INTERNAL": "A fault of the daemon itself; its log says more.",
}

impl Reason {
    /// Whether the store failed, and not the call.
    pub const fn is_of_store(self) -> bool {
        matches!(
            self,
            Self::StoreFull
                | Self::StoreReadOnly
                | Self::StoreIo
                | Self::StoreBusy
                | Self::StoreLost
                | Self::StoreStopped
                | Self::StoreCorrupt
                | Self::StoreNewer
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A failed call: what every layer below the wire answers in place of a result.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// The stable reason.
    pub reason: Reason,
    /// What was asked, why not, and what to do next.
    pub message: String,
    /// Which fields of the request are to blame, and why.
    pub fields: Vec<FieldViolation>,
    /// What programs may want to know besides, by name.
    pub metadata: Vec<(&'static str, String)>,
}

/// One field of a request that cannot be accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldViolation {
    /// The field's name in the request, dotted where it is nested.
    pub field: Cow<'static, str>,
    /// What is wrong with it.
    pub description: String,
}

impl Failure {
    /// A failure with this reason and message.
    pub fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            reason,
            message: message.into(),
            fields: Vec::new(),
            metadata: Vec::new(),
        }
    }

    /// A failure that one field of the request is to blame for.
    pub fn field(reason: Reason, field: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self {
            reason,
            fields: vec![FieldViolation {
                field: field.into(),
                description: message.clone(),
            }],
            message,
            metadata: Vec::new(),
        }
    }

    /// The same failure, with something more that programs may want to know.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.metadata.push((name, value.into()));
        self
    }

    /// The same failure of a message that is the request's field `outer`.
    pub fn within(mut self, outer: &str) -> Self {
        for violation in &mut self.fields {
            violation.field = format!("{outer}.{}", violation.field).into();
        }
        self
    }
}
