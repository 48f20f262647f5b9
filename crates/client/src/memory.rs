//! A datastore of one replica in memory: for tests of gateways and of applications.
//!
//! The values, merges, type checks, contexts and tokens are the real ones; there is no cluster, no
//! disk and nothing to wait for.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use clock::{Actor, CausalContext, ClusterSecret, ContextToken, HybridClock, NodeId, TokenClaims};
use membership::{Liveness, Load, MemberState};
use replication::{
    Acks, Action, Answer, BucketCall, BucketError, BucketPolicy, BucketReply, Buckets,
    ConflictCursor, ConflictList, ConflictsRequest, Explanation, PolicyTable, ReplicaView, Request,
    RequestError, ScanCursor, ScanPage, ScanRequest, token_scope,
};
use storage::{ConflictPosition, Conflicted, ListPosition};
use values::{
    Blob, BucketId, BytesOp, Causal, DotMap, Key, Limits, ManySiblings, Mint, Operation, Scope,
    State, Tag, Value, View,
};
use wire::{ClusterStatus, MemberStatus, PlanCall, PlanReport, PlannedMember, TransferReport};

use crate::Datastore;

const NODE: NodeId = NodeId(1);

/// One replica in memory.
#[derive(Debug)]
pub struct MemoryDatastore {
    replica: Mutex<Replica>,
    secret: ClusterSecret,
}

#[derive(Debug, Default)]
struct Replica {
    values: BTreeMap<Key, Value>,
    clock: HybridClock,
    policies: PolicyTable,
}

impl Replica {
    /// The bucket `name`, unless it was dropped.
    fn bucket(&self, name: &[u8]) -> Result<replication::Bucket, BucketError> {
        self.buckets().live(name).cloned()
    }

    fn buckets(&self) -> Buckets {
        Buckets::new(&self.policies, BucketPolicy::default(), &Limits::default())
    }

    fn change(&mut self, call: &BucketCall) -> Result<BucketReply, RequestError> {
        let name = match call {
            BucketCall::List => return Ok(BucketReply::Listed(self.buckets().list())),
            BucketCall::Show { name } => {
                return Ok(BucketReply::Shown(self.bucket(name)?.info(name)));
            }
            BucketCall::Create { name, .. }
            | BucketCall::Set { name, .. }
            | BucketCall::Drop { name } => name,
        };
        Key::new(name.clone(), Bytes::new())?;
        let at = (self.clock.tick(wall_ms()), NODE);
        let change = self.policies.change(call, BucketPolicy::default(), at)?;
        self.policies.join(&change);
        let bucket = self.buckets().of(name).info(name);
        Ok(BucketReply::Changed { bucket, known: 1, members: 1 })
    }
}

impl Default for MemoryDatastore {
    fn default() -> Self {
        Self::new()
    }
}

impl MemoryDatastore {
    /// An empty datastore.
    pub fn new() -> Self {
        Self { replica: Mutex::default(), secret: ClusterSecret::new(*b"in memory") }
    }

    fn with<T>(&self, work: impl FnOnce(&mut Replica) -> T) -> T {
        // A test that panicked while it held the lock must not hide the next one's failure.
        work(&mut self.replica.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn do_request(&self, replica: &mut Replica, request: &Request) -> Result<Answer, RequestError> {
        if request.timeout_ms == Some(0) {
            return Err(RequestError::TimeLimit);
        }
        let bucket = replica.bucket(request.key.bucket())?;
        let key = request.key.clone().in_generation(bucket.generation);
        let action = request.action.clone().with_raw(bucket.policy.raw);
        let request = &Request { key, action, ..request.clone() };
        let level = request.level;
        for (what, asked) in [('r', level.r), ('w', level.w), ('n', level.n)] {
            if let Some(asked) = asked
                && asked != 1
            {
                return Err(RequestError::Level { what, asked, n: 1 });
            }
        }
        let observed = self.observed(replica, request)?;
        let stamp = replica.clock.tick(wall_ms());
        let (mut changed, mut repeated, mut many_siblings) = (0, false, None);
        let scope = match &request.action {
            Action::Get(scope) => scope.clone(),
            Action::Update(operation) => {
                let value = replica.values.entry(request.key.clone()).or_default();
                let actor = match &request.name {
                    Some(name) => {
                        name.check()?;
                        name.actor(&self.secret, &request.key, operation)
                    }
                    None => Actor::new(NODE, 1, 1),
                };
                let mint = Mint { actor, stamp, round: None };
                let view = View::of(value.clone());
                let lifetime = bucket.policy.lifetime(request.lifetime);
                let living = (lifetime, actor);
                let prepared = operation.prepare_living(
                    living,
                    (&view, &[]),
                    &observed,
                    mint,
                    &bucket.limits,
                )?;
                value.apply(&prepared.delta);
                (changed, repeated) = (prepared.changed, prepared.repeated);
                if let Operation::Bytes(BytesOp::Put(_)) = operation {
                    many_siblings = ManySiblings::of(&View::of(value.clone()), &bucket.limits);
                }
                operation.scope()
            }
        };
        let mut value = replica.values.get(&request.key).cloned().unwrap_or_default();
        value.expire(stamp.millis());
        let contexts = if request.want_context {
            let put = match &request.action {
                Action::Update(Operation::Bytes(BytesOp::Put(put))) => Some((&observed, put)),
                _ => None,
            };
            self.contexts(&request.key, &value, put, replica)
        } else {
            BTreeMap::new()
        };
        Ok(Answer {
            view: within(View::of(value), &scope),
            changed,
            raw: bucket.policy.raw.tag(),
            repeated,
            many_siblings,
            acks: Acks { owners: 1, needed: 1, answered: 1, hinted: 0 },
            partly_observed: false,
            contexts,
            time: replica.clock.latest(),
        })
    }

    fn observed(
        &self,
        replica: &mut Replica,
        request: &Request,
    ) -> Result<CausalContext, RequestError> {
        let Some(claims) = request.claims(&self.secret)? else {
            return Ok(CausalContext::default());
        };
        replica.clock.observe(claims.time);
        Ok(claims.context)
    }

    /// Tokens of every type; after a put, of what its writer has seen.
    fn contexts(
        &self,
        key: &Key,
        value: &Value,
        put: Option<(&CausalContext, &Blob)>,
        replica: &Replica,
    ) -> BTreeMap<Tag, ContextToken> {
        let view = View::of(value.clone());
        view.context_tags()
            .into_iter()
            .map(|tag| {
                let context = match put {
                    Some((observed, put)) if tag == Tag::BYTES => {
                        view.context_of_put(observed, put)
                    }
                    _ => value.context(tag).clone(),
                };
                let claims = TokenClaims { context, time: replica.clock.latest() };
                (tag, ContextToken::seal(&self.secret, token_scope(key, tag), &claims))
            })
            .collect()
    }
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Cuts a whole view down to `scope`.
fn within(mut view: View, scope: &Scope) -> View {
    for (&tag, state) in &mut view.value.0 {
        let next = match state {
            State::Gset(state) | State::Orset(state) => cut(tag, state, scope),
            State::Cart(state) => cut(tag, state, scope),
            State::Map(state) => cut(tag, state, scope),
            _ => None,
        };
        view.next = view.next.take().or(next);
    }
    view
}

fn cut<E>(tag: Tag, state: &mut Causal<DotMap<E>>, scope: &Scope) -> Option<Blob> {
    let entries = &mut state.store.0;
    match scope {
        Scope::Whole | Scope::Removal => None,
        Scope::Elements { tag: wanted, elements } if *wanted == tag => {
            entries.retain(|element, _| elements.contains(element));
            None
        }
        Scope::Range { tag: wanted, after, limit } if *wanted == tag => {
            let from = after.clone().map_or(Bound::Unbounded, Bound::Excluded);
            let page: Vec<Blob> =
                entries.range((from, Bound::Unbounded)).map(|(e, _)| e.clone()).collect();
            let limit = (*limit).max(1) as usize;
            let last = page.get(limit - 1).cloned().filter(|_| page.len() > limit);
            entries.retain(|element, _| page.binary_search(element).is_ok_and(|at| at < limit));
            last
        }
        _ => {
            entries.clear();
            None
        }
    }
}

#[async_trait]
impl Datastore for MemoryDatastore {
    async fn execute(&self, requests: Vec<Request>) -> Vec<Result<Answer, RequestError>> {
        self.with(|replica| {
            requests.iter().map(|request| self.do_request(replica, request)).collect()
        })
    }

    async fn scan(&self, request: ScanRequest) -> Result<ScanPage, RequestError> {
        let after = request.cursor.and_then(|cursor| cursor.after).map(|position| position.0);
        let limit = request.limit.clamp(1, 10_000) as usize;
        self.with(|replica| {
            let mut page = ScanPage::default();
            let generation = replica.bucket(&request.bucket)?.generation;
            let bucket = BucketId { name: request.bucket, generation };
            for (key, value) in &replica.values {
                let past = after.as_ref().is_none_or(|after| key.key() > after);
                let tags = View::of(value.clone()).live_tags();
                if *key.bucket_id() != bucket || !past || tags.is_empty() {
                    continue;
                }
                if page.keys.len() == limit {
                    let last = page.keys.last().map(|(key, _)| ListPosition(key.key().clone()));
                    page.next = Some(ScanCursor { partition: 0, after: last });
                    break;
                }
                page.keys.push((key.clone().in_generation(0), tags));
            }
            Ok(page)
        })
    }

    async fn count(&self, bucket: Bytes) -> Result<u64, RequestError> {
        self.with(|replica| {
            let generation = replica.bucket(&bucket)?.generation;
            let bucket = BucketId { name: bucket, generation };
            let keys = replica.values.iter().filter(|(key, value)| {
                *key.bucket_id() == bucket && !View::of((*value).clone()).live_tags().is_empty()
            });
            Ok(keys.count() as u64)
        })
    }

    async fn conflicts(&self, request: ConflictsRequest) -> Result<ConflictList, RequestError> {
        let after = match request.cursor {
            Some(cursor) if cursor.node != NODE => {
                let error = format!("the cursor is of node {}, which is not this one", cursor.node);
                return Err(RequestError::Cursor(error));
            }
            cursor => cursor.map(|cursor| cursor.after),
        };
        let mut keys: Vec<Conflicted> = self.with(|replica| {
            let buckets = replica.buckets();
            let held = replica.values.iter().filter(|(key, _)| !buckets.is_gone(key));
            let listed = held.filter_map(|(key, value)| {
                let view = View::of(value.clone());
                let siblings = u32::try_from(view.siblings().len()).unwrap_or(u32::MAX);
                let order = (!siblings).to_be_bytes();
                let position = [&order[..], key.bucket(), &[0], key.key()].concat();
                let position = ConflictPosition(position.into());
                let tags = view.live_tags();
                let is_past = after.as_ref().is_none_or(|after| position > *after);
                (is_past && (siblings > 1 || tags.len() > 1)).then(|| Conflicted {
                    position,
                    key: key.clone().in_generation(0),
                    tags,
                    siblings,
                })
            });
            listed.collect()
        });
        keys.sort_by(|one, other| one.position.cmp(&other.position));
        let limit = request.limit.clamp(1, 1_000) as usize;
        let more = keys.len() > limit;
        keys.truncate(limit);
        let next = keys.last().map(|last| last.position.clone()).filter(|_| more);
        let next = next.map(|after| ConflictCursor { node: NODE, after });
        Ok(ConflictList { node: "memory".to_owned(), keys, next })
    }

    async fn explain(&self, key: Key) -> Result<Explanation, RequestError> {
        let (key, value) = self.with(|replica| {
            let generation = replica.bucket(key.bucket())?.generation;
            let key = key.in_generation(generation);
            let value = replica.values.get(&key).cloned().unwrap_or_default();
            Ok::<_, RequestError>((key, value))
        })?;
        let view = View::of(value);
        let replica = ReplicaView { node: NODE, view: Ok(view.clone()), pending_for: Vec::new() };
        Ok(Explanation {
            key: key.in_generation(0),
            partition: 0,
            names: BTreeMap::from([(NODE, "memory".to_owned())]),
            preference_list: vec![NODE],
            n: 1,
            replicas: vec![replica],
            merged: view,
            writes: Vec::new(),
        })
    }

    async fn buckets(&self, call: BucketCall) -> Result<BucketReply, RequestError> {
        self.with(|replica| replica.change(&call))
    }

    async fn status(&self) -> Result<ClusterStatus, RequestError> {
        Ok(ClusterStatus {
            cluster: "memory".into(),
            node: "memory".into(),
            version: env!("CARGO_PKG_VERSION").into(),
            waiting: None,
            ring_version: 1,
            handover: wire::HandoverStatus::default(),
            partitions: 1,
            owners: vec![0],
            uptime_ms: 0,
            keys: self.with(|replica| replica.values.len() as u64),
            type_conflicts: 0,
            sibling_keys: 0,
            most_siblings: 0,
            compared: replication::ComparisonSummary::default(),
            barrier: wire::BarrierStatus::default(),
            members: vec![MemberStatus {
                node: NODE,
                name: "memory".into(),
                peer_address: String::new(),
                zone: None,
                weight: 1,
                state: MemberState::Up,
                liveness: Liveness::Reachable,
                phi: 0.0,
                generation: 1,
                version: env!("CARGO_PKG_VERSION").into(),
                connected: true,
                messages: None,
                cut: false,
                partitions: 1,
                copies: 1,
                pending: 0,
                pending_bytes: 0,
                load: Load::default(),
            }],
            hint_bytes_max: 0,
            counters: Vec::new(),
        })
    }

    async fn plan(&self, _: PlanCall) -> Result<PlanReport, RequestError> {
        let member = PlannedMember {
            name: "memory".into(),
            zone: None,
            weight: Some(1),
            before: 1,
            after: 1,
            gets: 0,
            gives: 0,
            fair: 1.0,
        };
        Ok(PlanReport {
            version: 1,
            is_changed: false,
            partitions: 1,
            n: 1,
            staged: Vec::new(),
            members: vec![member],
            bytes: None,
            narrow: (0, 0),
            warnings: Vec::new(),
        })
    }

    async fn transfers(&self) -> Result<TransferReport, RequestError> {
        Ok(TransferReport {
            ring_version: 1,
            partitions: 1,
            partitions_moving: 0,
            transfers: Vec::new(),
            more: 0,
            silent: Vec::new(),
        })
    }

    async fn cut_links(&self, _member: &str, _cut: bool) -> Result<(), RequestError> {
        Err(RequestError::Unsupported("one replica in memory has no links".into()))
    }
}
