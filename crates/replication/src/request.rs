//! What clients ask and what they are answered: the types of the `Datastore` facade, of forwarding
//! between nodes and of the native protocol alike.

use std::collections::BTreeMap;

use bytes::Bytes;
use clock::{
    CausalContext, ClusterSecret, ContextToken, Dot, NodeId, Stamp, TokenClaims, TokenScope,
};
use serde::{Deserialize, Serialize};
use storage::{ConflictPosition, Conflicted, ListPosition, StorageError};
use values::{
    BytesOp, InvalidKey, Key, Lifetime, ManySiblings, Operation, RegisterOp, Scope, Sibling, State,
    Tag, UpdateError, View, WrongType,
};

use crate::{BucketError, Coordinated, REQUEST_NAME_BYTES_MAX, RawValues, RequestName};

/// How many replicas a request involves. `None` takes the bucket's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Level {
    /// Replicas that must answer a read.
    pub r: Option<u8>,
    /// Owners on which a write must be durable.
    pub w: Option<u8>,
    /// Must equal the bucket's n where given: n is not a request's to choose.
    pub n: Option<u8>,
}

/// What a request does.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Action {
    /// Reads.
    Get(Scope),
    /// Writes.
    Update(Operation),
}

impl Action {
    /// The action with a raw write as what it makes in a bucket with `raw`.
    #[must_use]
    pub fn with_raw(self, raw: RawValues) -> Self {
        let operation = match (raw, self) {
            (RawValues::Lww, Self::Update(Operation::Bytes(BytesOp::Put(value)))) => {
                Operation::Register(RegisterOp::PutRaw(value))
            }
            (RawValues::Lww, Self::Update(Operation::Bytes(BytesOp::Delete))) => {
                Operation::Register(RegisterOp::DeleteRaw)
            }
            (_, other) => return other,
        };
        Self::Update(operation)
    }
}

/// One request on one key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Which key.
    pub key: Key,
    /// What to do.
    pub action: Action,
    /// The context token of an earlier answer, if the client has one.
    pub context: Option<ContextToken>,
    /// The request's name (idempotency key), if it has one: it is done once, however often it is
    /// sent and through whichever nodes.
    pub name: Option<RequestName>,
    /// What a write does to the key's time to live.
    pub lifetime: Lifetime,
    /// Replicas involved.
    pub level: Level,
    /// Time limit in milliseconds, at least 1; `None` for the node's default. At most one minute
    /// counts.
    pub timeout_ms: Option<u32>,
    /// Whether the answer is to carry context tokens (they cost a MAC each).
    pub want_context: bool,
}

impl Request {
    /// A read of `scope` with the bucket's defaults.
    pub fn get(key: Key, scope: Scope) -> Self {
        Self::new(key, Action::Get(scope))
    }

    /// A write with the bucket's defaults.
    pub fn update(key: Key, operation: Operation) -> Self {
        Self::new(key, Action::Update(operation))
    }

    /// What the client has seen by its context token, if it sent one, of the type operated on.
    ///
    /// A raw write that makes a register takes a token of `bytes` as well: a raw read answers with
    /// one where the key has values from before the policy changed. What it has seen names no
    /// register, so of such a token only the time counts.
    pub fn claims(&self, secret: &ClusterSecret) -> Result<Option<TokenClaims>, RequestError> {
        let Some(token) = &self.context else { return Ok(None) };
        let open = |tag| token.open(secret, token_scope(&self.key, tag));
        let claims = match &self.action {
            Action::Get(_) => open(Tag::BYTES),
            Action::Update(operation) => {
                let is_raw = matches!(
                    operation,
                    Operation::Register(RegisterOp::PutRaw(_) | RegisterOp::DeleteRaw)
                );
                open(operation.tag().unwrap_or(Tag::BYTES)).or_else(|refused| {
                    let claims = if is_raw { open(Tag::BYTES) } else { Err(refused) };
                    claims.map(|claims| TokenClaims { context: CausalContext::default(), ..claims })
                })
            }
        };
        claims.map(Some).map_err(|error| RequestError::Context(error.to_string()))
    }

    fn new(key: Key, action: Action) -> Self {
        Self {
            key,
            action,
            context: None,
            name: None,
            lifetime: Lifetime::Usual,
            level: Level::default(),
            timeout_ms: None,
            want_context: false,
        }
    }
}

/// What a context token of `key` is good for.
pub fn token_scope(key: &Key, tag: Tag) -> TokenScope<'_> {
    TokenScope { bucket: key.bucket(), generation: key.generation(), key: key.key(), tag: tag.0 }
}

/// How many copies an answer rests on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acks {
    /// The bucket's n, or the number of members where there are fewer.
    pub owners: u8,
    /// r of a read, w of a write, never more than `owners`.
    pub needed: u8,
    /// Owners that answered a read; owners on which a write is durable.
    pub answered: u8,
    /// Owners for which the write waits, durable, in an outbox.
    pub hinted: u8,
}

impl Acks {
    /// Whether the promised number of owners answered. If so and r + w > n, a read after a write
    /// sees it.
    pub const fn is_met(&self) -> bool {
        self.answered >= self.needed
    }
}

/// A request done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The key within the request's scope; of a write, after it. Of a raw write it is left empty
    /// where the answers to a call would be too many bytes together.
    pub view: View,
    /// Of a write: how many things changed, as Redis counts.
    pub changed: u64,
    /// The type that raw writes make in the key's bucket: `bytes`, or `lww` where its policy says
    /// so.
    pub raw: Tag,
    /// Copies involved.
    pub acks: Acks,
    /// Of a write with a name: whether it had been done before, so that nothing was done now.
    pub repeated: bool,
    /// Of a put: what is to be said of the siblings that it left, if they are many.
    pub many_siblings: Option<ManySiblings>,
    /// Of a removal: whether fewer than r replicas showed what they hold of the thing removed.
    pub partly_observed: bool,
    /// Context tokens by type, where the request wanted them (`bytes` always among them).
    pub contexts: BTreeMap<Tag, ContextToken>,
    /// Hybrid time of the coordinator after the request.
    pub time: Stamp,
}

impl Answer {
    /// The type that a raw read shows: what raw writes make in the bucket, and `bytes` also where
    /// the key has them from before the policy changed.
    pub fn raw_tag(&self) -> Tag {
        if self.raw == Tag::LWW && !self.view.live_tags().contains(&Tag::BYTES) {
            Tag::LWW
        } else {
            Tag::BYTES
        }
    }

    /// What a raw read shows: the siblings, equal ones once, in order of dot; of a register its
    /// value as the only one. An error if the key holds other types only.
    pub fn raw_values(&self) -> Result<Vec<(Dot, Sibling)>, WrongType> {
        let tag = self.raw_tag();
        self.view.check_type(tag)?;
        if tag == Tag::BYTES {
            let siblings = self.view.siblings().into_iter();
            return Ok(siblings.map(|(dot, sibling)| (dot, sibling.clone())).collect());
        }
        let Some(State::Register(register)) = self.view.value.state(tag) else {
            return Ok(Vec::new());
        };
        let Some(value) = register.read() else { return Ok(Vec::new()) };
        let last = register.context.ranges().last();
        let found = match &register.base {
            Some(base) => Some((base.dot, base.stamp)),
            // Nothing was ever set: only increments are there.
            None => last.map(|(actor, _, last)| (Dot::new(actor, last), self.time)),
        };
        Ok(found.map(|(dot, stamp)| (dot, Sibling { value, stamp })).into_iter().collect())
    }
}

/// Why a request was not done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The operation was refused. Nothing was written.
    #[error(transparent)]
    Update(#[from] UpdateError),
    /// r, w or n make no sense for the bucket. Nothing was done.
    #[error("{what}={asked} is not possible in this bucket: n={n}; use 1 to {n}, and no other n")]
    Level {
        /// Which of r, w and n.
        what: char,
        /// What was asked.
        asked: u8,
        /// The bucket's n.
        n: u8,
    },
    /// A time limit of 0. Nothing was done.
    #[error("a time limit of 0 ms leaves no time: give 1 to 60000 ms, or none for the node's own")]
    TimeLimit,
    /// The request's name is empty or too long. Nothing was done.
    #[error(
        "an idempotency key of {bytes} bytes: it has 1 to {REQUEST_NAME_BYTES_MAX}, and so its client"
    )]
    Name {
        /// Its length.
        bytes: usize,
    },
    /// The bucket was dropped, or cannot be changed so. Nothing was done.
    #[error(transparent)]
    Bucket(#[from] BucketError),
    /// No plan can be made of the change. Nothing was done.
    #[error("{0}")]
    Plan(String),
    /// The key is out of bounds. Nothing was done.
    #[error("{0}")]
    Key(String),
    /// A listing cannot go on where it was asked to. Nothing was done.
    #[error("{0}")]
    Cursor(String),
    /// The context token was refused. Nothing was done.
    #[error("{0}")]
    Context(String),
    /// Too few owners can be reached for a bucket with `availability = quorum`. Nothing was
    /// written.
    #[error("{reachable} of {needed} needed replicas can be reached; nothing was written")]
    Unavailable {
        /// Owners in reach.
        reachable: u8,
        /// Owners needed.
        needed: u8,
    },
    /// Too few replicas acknowledged in time. The write may still become visible.
    #[error(
        "outcome unknown: {acked} of {needed} replicas acknowledged in time{}; the write may still become \
         visible", also(.disk)
    )]
    Unknown {
        /// Owners on which it is durable for certain.
        acked: u8,
        /// Owners needed.
        needed: u8,
        /// Why the disk of the coordinating node is not one of them, if it refused the write.
        disk: Option<StorageError>,
    },
    /// No replica answered a read in time.
    #[error("no replica answered in time")]
    Timeout,
    /// The node, or the replica it forwarded to, has too much to do. Nothing was done.
    #[error("overloaded: try again later")]
    Overloaded,
    /// The disk failed on the only replica that could be asked. Nothing was written.
    #[error(transparent)]
    Storage(#[from] StorageError),
    /// The node is stopping, or not connected to anything that could serve.
    #[error("node is stopping: use another one")]
    Stopping,
    /// The cluster's membership does not allow it. Nothing was changed.
    #[error("{0}")]
    Membership(String),
    /// No connection to a node could be opened. Nothing was done.
    #[error("{0}")]
    Unreachable(String),
    /// The connection to the node failed; whether the request was done is unknown.
    #[error("connection lost: {0}; the outcome is unknown")]
    Disconnected(String),
    /// Not possible on this kind of datastore.
    #[error("not supported here: {0}")]
    Unsupported(String),
}

/// What the coordinating node's disk said, in parentheses.
fn also(disk: &Option<StorageError>) -> String {
    disk.as_ref().map_or_else(String::new, |error| format!(" ({error})"))
}

impl From<InvalidKey> for RequestError {
    fn from(error: InvalidKey) -> Self {
        Self::Key(error.to_string())
    }
}

/// Where a listing of all keys of a bucket goes on.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ScanCursor {
    /// The partition to go on in.
    pub partition: u32,
    /// The place within it; `None` at its start.
    pub after: Option<ListPosition>,
}

/// Asks for a page of the keys of a bucket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanRequest {
    /// Which bucket.
    pub bucket: Bytes,
    /// Where to go on; `None` from the start.
    pub cursor: Option<ScanCursor>,
    /// About how many keys to return; at least 1, at most 10,000.
    pub limit: u32,
}

/// A page of keys. A key that exists during the whole scan is returned at least once.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScanPage {
    /// Keys with their live types.
    pub keys: Vec<(Key, Vec<Tag>)>,
    /// Where to go on, or `None` at the end.
    pub next: Option<ScanCursor>,
    /// Whether some partition could not be asked, so that keys may be missing.
    pub incomplete: bool,
}

/// Where the list of keys in conflict goes on that one node's replica shows. In another's the place
/// would stand between other keys.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ConflictCursor {
    /// Whose list it is.
    pub node: NodeId,
    /// The place within it.
    pub after: ConflictPosition,
}

/// Asks for a page of the keys in conflict, as one node's own replica shows them: those with most
/// siblings first. A key whose siblings change meanwhile can be missed, or come twice.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictsRequest {
    /// Where to go on, at the node whose list it is; `None` from the start of that of the node asked.
    pub cursor: Option<ConflictCursor>,
    /// At most so many; at least 1, at most 1,000.
    pub limit: u32,
}

/// A page of the keys in conflict that one node's replica shows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConflictList {
    /// The name of the node whose list it is.
    pub node: String,
    /// Keys in conflict, those with most siblings first.
    pub keys: Vec<Conflicted>,
    /// Where to go on; `None` at the end.
    pub next: Option<ConflictCursor>,
}

/// What one replica holds of a key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaView {
    /// Which node.
    pub node: NodeId,
    /// What it shows, or why it shows nothing.
    pub view: Result<View, String>,
    /// Owners for which this replica holds a pending delta of the key.
    pub pending_for: Vec<NodeId>,
}

/// How a key stands: who owns it, what each replica holds, and what their merge shows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explanation {
    /// Which key.
    pub key: Key,
    /// Its partition.
    pub partition: u32,
    /// Names of all members.
    pub names: BTreeMap<NodeId, String>,
    /// The preference list: the first `n` are the owners.
    pub preference_list: Vec<NodeId>,
    /// The bucket's n.
    pub n: u8,
    /// What each owner holds, and each fallback asked that holds something.
    pub replicas: Vec<ReplicaView>,
    /// What a merge of them shows.
    pub merged: View,
    /// Writes of the key, as far as the nodes that were asked remember coordinating them; in the
    /// order of their time.
    pub writes: Vec<Coordinated>,
}

impl Explanation {
    /// The owners, and the fallbacks after them.
    pub fn owners_and_fallbacks(&self) -> (&[NodeId], &[NodeId]) {
        self.preference_list.split_at(usize::from(self.n).min(self.preference_list.len()))
    }

    /// The name of a node, or its id; of [`NodeId::NAMED`], that a request with a name wrote.
    pub fn name_of(&self, node: NodeId) -> String {
        self.names.get(&node).cloned().unwrap_or_else(|| format!("{node:?}"))
    }
}

/// Sums a context up for people, as the Dynamo paper writes it: per node the number of its writes
/// seen, `{A:2, B:1}`, under the names of `names` where they are known. Never parsed back.
pub fn summarize(context: &CausalContext, names: &BTreeMap<NodeId, String>) -> String {
    let mut writes = BTreeMap::<NodeId, u64>::new();
    for (actor, first, last) in context.ranges() {
        let seen = writes.entry(actor.replica).or_default();
        *seen = seen.saturating_add(last.saturating_sub(first).saturating_add(1));
    }
    let mut entries: Vec<String> = writes
        .into_iter()
        .map(|(node, count)| match names.get(&node) {
            Some(name) => format!("{name}:{count}"),
            None => format!("{node:?}:{count}"),
        })
        .collect();
    entries.sort();
    format!("{{{}}}", entries.join(", "))
}
