//! Random clients under random faults, and the judgement of what they were told.

use std::collections::{BTreeMap, BTreeSet};

use clock::ContextToken;
use replication::{Action, Call, CallId, Level, Reply, Request, RequestError};
use values::{
    Blob, BytesOp, CartOp, CounterOp, GsetOp, Key, MapOp, Operation, OrsetOp, RegisterOp, Scope,
    State, Tag, View,
};

use crate::{
    DiskFaults, History, NetworkFaults, Random, Record, Sim, SimOptions, Told,
    invariant_counters_exact, invariant_dots_issued_once, invariant_no_acknowledged_update_lost,
    invariant_no_removed_element_returns, invariant_reads_see_quorum_writes,
    invariant_replicas_equal_after_healing,
};

/// What clients do, and which faults befall the cluster meanwhile.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Requests, all clients together.
    pub requests: usize,
    /// Clients, each with one request under way at most.
    pub clients: usize,
    /// Longest pause between two requests, in milliseconds.
    pub pause_ms: u64,
    /// Whether links are cut and mended.
    pub cuts: bool,
    /// Whether nodes crash and start again.
    pub crashes: bool,
    /// Whether wall clocks jump.
    pub jumps: bool,
    /// Whether nodes are paused and resumed.
    pub pauses: bool,
    /// How long values and names of elements are at least, in bytes: what is long is compared by
    /// digests.
    pub name_bytes: usize,
}

/// One kind of key: how it is named, and written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Siblings,
    Register,
    Number,
    Gset,
    Counter,
    Orset,
    Cart,
    Map,
}

const KINDS: [Kind; 8] = [
    Kind::Siblings,
    Kind::Register,
    Kind::Number,
    Kind::Gset,
    Kind::Counter,
    Kind::Orset,
    Kind::Cart,
    Kind::Map,
];

/// What a client keeps between its requests.
#[derive(Debug, Default)]
struct Client {
    under_way: Option<(CallId, Record)>,
    /// Per key the context of its last read, and the siblings that the read showed.
    contexts: BTreeMap<Key, (ContextToken, Vec<Blob>)>,
}

/// Runs a workload under the faults of `options`, mends everything, and judges the run.
///
/// Returns what was wrong, if anything was; the error names the invariant.
pub fn run_history(
    seed: u64,
    options: SimOptions,
    workload: &Workload,
) -> Result<(Sim, History), String> {
    let policy = options.policy;
    let has_disk_faults = options.disk.refused > 0 || options.disk.misreported > 0;
    let sim = Sim::new(seed, options);
    let mut run = Run {
        random: Random::new(seed ^ 0x5eed),
        clients: (0..workload.clients).map(|_| Client::default()).collect(),
        history: History { records: Vec::new(), lost_state: has_disk_faults },
        named: 0,
        name_bytes: workload.name_bytes,
        put: BTreeMap::new(),
        last_done: None,
        sim,
    };
    for _ in 0..workload.requests {
        let pause_ms = run.random.below(workload.pause_ms + 1);
        run.sim.advance(pause_ms);
        run.collect();
        run.disturb(workload);
        run.ask();
    }
    run.mend();
    let Run { mut sim, history, .. } = run;
    let keys: BTreeSet<Key> = history.records.iter().map(|record| record.key.clone()).collect();
    let named = |name: &'static str| move |wrong: String| format!("{name}: {wrong}");
    if sim.pending() != 0 {
        return Err(format!("{} deltas are still in outboxes", sim.pending()));
    }
    if !history.lost_state {
        invariant_replicas_equal_after_healing(&mut sim, &keys, true)
            .map_err(named("replicas_equal_after_healing, before any read"))?;
    }
    let finals = read_all(&mut sim, &keys)?;
    invariant_replicas_equal_after_healing(&mut sim, &keys, false)
        .map_err(named("replicas_equal_after_healing"))?;
    invariant_dots_issued_once(&sim).map_err(named("dots_issued_once"))?;
    invariant_no_acknowledged_update_lost(&history, &finals)
        .map_err(named("no_acknowledged_update_lost"))?;
    invariant_counters_exact(&history, &finals).map_err(named("counters_exact"))?;
    let intersects = policy.r + policy.w > policy.n;
    if intersects {
        invariant_no_removed_element_returns(&history, &finals)
            .map_err(named("no_removed_element_returns"))?;
    }
    invariant_reads_see_quorum_writes(&history, intersects)
        .map_err(named("reads_see_quorum_writes"))?;
    delete_all(&mut sim, &keys)?;
    Ok((sim, history))
}

/// Reads every key from all its owners, so that what differs is repaired.
pub(crate) fn read_all(sim: &mut Sim, keys: &BTreeSet<Key>) -> Result<BTreeMap<Key, View>, String> {
    let mut finals = BTreeMap::new();
    for (turn, key) in keys.iter().enumerate() {
        let mut request = Request::get(key.clone(), Scope::Whole);
        request.level = Level { r: Some(sim.policy().n), ..Level::default() };
        let node = turn % sim.nodes();
        let answer = sim.request(node, request).map_err(|error| format!("{key:?}: {error}"))?;
        if !answer.acks.is_met() {
            return Err(format!("{key:?}: only {:?} after healing", answer.acks));
        }
        finals.insert(key.clone(), answer.view);
    }
    sim.run_until_quiet();
    Ok(finals)
}

/// Deletes every key, which must then be gone from every owner.
fn delete_all(sim: &mut Sim, keys: &BTreeSet<Key>) -> Result<(), String> {
    for (turn, key) in keys.iter().enumerate() {
        let node = turn % sim.nodes();
        let mut answer = sim
            .update(node, key, Operation::Delete(None))
            .map_err(|error| format!("deleting {key:?}: {error}"))?;
        if !answer.acks.is_met() {
            // An owner that was silent when its coordinator last asked is asked and not waited for;
            // once it has answered it is.
            sim.run_until_quiet();
            answer = sim
                .update(node, key, Operation::Delete(None))
                .map_err(|error| format!("deleting {key:?} again: {error}"))?;
        }
        if answer.partly_observed || !answer.acks.is_met() {
            return Err(format!("deleting {key:?} after healing: {answer:?}"));
        }
    }
    sim.run_until_quiet();
    for key in keys {
        for node in sim.owners(key) {
            let live = sim.view(node, key).map(|view| view.live_tags()).unwrap_or_default();
            if !live.is_empty() {
                return Err(format!("{key:?} was deleted, but node {node} shows {live:?}"));
            }
        }
    }
    Ok(())
}

/// Lets a fault begin or end, now and then. Returns whether a node crashed: any, or at once the
/// one that last said that an update was done.
pub(crate) fn disturb(
    sim: &mut Sim,
    random: &mut Random,
    workload: &Workload,
    last_done: &mut Option<usize>,
) -> bool {
    let nodes = sim.nodes() as u64;
    let a = random.below(nodes) as usize;
    let b = random.below(nodes) as usize;
    match random.below(100) {
        0 if workload.cuts && a != b => sim.cut(a, b),
        1 if workload.cuts && a != b => sim.cut_way(a, b),
        2 if workload.cuts => sim.isolate(a),
        3..=5 if workload.cuts => sim.heal(),
        6 | 7 if workload.crashes => {
            sim.crash(a);
            return true;
        }
        8..=13 if workload.crashes => sim.restart(a),
        15..=18 if workload.crashes && last_done.is_some() => {
            sim.crash(last_done.take().unwrap_or(a));
            return true;
        }
        14 if workload.jumps => {
            let by_ms = random.below(240_000) as i64 - 120_000;
            sim.jump_clock(a, by_ms);
        }
        19 | 20 if workload.pauses => sim.pause(a),
        21..=26 if workload.pauses => sim.resume(a),
        _ => {}
    }
    false
}

/// Ends all faults and waits until everything has come to rest.
pub(crate) fn mend(sim: &mut Sim) {
    sim.set_network(NetworkFaults::default());
    sim.set_disk(DiskFaults::default());
    sim.heal();
    for node in 0..sim.nodes() {
        sim.resume(node);
        sim.restart(node);
    }
    sim.run_until_quiet();
}

#[derive(Debug)]
struct Run {
    sim: Sim,
    random: Random,
    clients: Vec<Client>,
    history: History,
    /// Numbers names, so that each element, field and value is put once.
    named: u64,
    name_bytes: usize,
    /// What was put into which key, for removals to choose from.
    put: BTreeMap<Key, Vec<Blob>>,
    /// The node that last said that an update was done: crashed at once, it must not have said so
    /// too early.
    last_done: Option<usize>,
}

impl Run {
    fn disturb(&mut self, workload: &Workload) {
        let crashed = disturb(&mut self.sim, &mut self.random, workload, &mut self.last_done);
        self.history.lost_state |= crashed;
    }

    /// Takes note of what clients were told.
    fn collect(&mut self) {
        let now_ms = self.sim.now_ms();
        for client in &mut self.clients {
            let Some((id, mut record)) = client.under_way.take() else { continue };
            let Some(outcome) = self.sim.take_outcome(id) else {
                client.under_way = Some((id, record));
                continue;
            };
            let outcome = outcome.map(|reply| match reply {
                Reply::Answer(answer) => answer,
                other => unreachable!("a request is answered by an answer, not {other:?}"),
            });
            record.to_ms = now_ms;
            record.told = Told::of(outcome);
            if record.operation.is_none()
                && let Some(answer) = record.answer()
                && let Some(token) = answer.contexts.get(&Tag::BYTES)
            {
                let seen = siblings(&answer.view);
                client.contexts.insert(record.key.clone(), (token.clone(), seen));
            }
            if record.is_done() && record.operation.is_some() {
                self.last_done = Some(record.node);
            }
            self.history.records.push(record);
        }
    }

    /// Lets an idle client make a request.
    fn ask(&mut self) {
        let idle: Vec<usize> =
            (0..self.clients.len()).filter(|&at| self.clients[at].under_way.is_none()).collect();
        if idle.is_empty() {
            return;
        }
        let client = *self.random.pick(&idle);
        let kind = *self.random.pick(&KINDS);
        let number = self.random.below(2);
        let key = Key::new("default", format!("{kind:?}{number}")).expect("within the bounds");
        let node = self.random.below(self.sim.nodes() as u64) as usize;
        let (request, seen) = self.request(client, kind, &key);
        let operation = match &request.action {
            Action::Get(_) => None,
            Action::Update(operation) => Some(operation.clone()),
        };
        let from_ms = self.sim.now_ms();
        let told = Told::Unknown(RequestError::Timeout);
        let id = self.sim.call(node, Call::Request(request));
        let record = Record { from_ms, to_ms: u64::MAX, node, key, operation, seen, told };
        self.clients[client].under_way = Some((id, record));
    }

    /// What a client does to a key of a kind, and what it has seen of it.
    fn request(&mut self, client: usize, kind: Kind, key: &Key) -> (Request, Vec<Blob>) {
        if self.random.chance(250) {
            let mut request = Request::get(key.clone(), Scope::Whole);
            request.want_context = true;
            return (request, Vec::new());
        }
        let name =
            Blob::from(format!("{:-<width$}", format!("v{}", self.named), width = self.name_bytes));
        self.named += 1;
        let removes = self.random.chance(300);
        let known = self.put.entry(key.clone()).or_default();
        let old = if known.is_empty() { name.clone() } else { self.random.pick(known).clone() };
        let by = self.random.between(1, 5);
        let some = Blob::from(format!("i{}", self.random.below(2)));
        let operation = match kind {
            Kind::Siblings => Operation::Bytes(BytesOp::Put(name.clone())),
            Kind::Register => Operation::Register(RegisterOp::Set {
                value: name.clone(),
                at: None,
                replace: false,
            }),
            Kind::Number => {
                let by = if removes { -(by as i64) } else { by as i64 };
                Operation::Register(RegisterOp::Increment(by))
            }
            Kind::Gset => Operation::Gset(GsetOp::Add(vec![name.clone()])),
            Kind::Counter => Operation::Counter(CounterOp::Add(by as i64)),
            Kind::Orset if removes && by == 5 => Operation::Delete(Some(Tag::ORSET)),
            Kind::Orset if removes => Operation::Orset(OrsetOp::Remove(vec![old])),
            Kind::Orset => Operation::Orset(OrsetOp::Add(vec![name.clone()])),
            Kind::Cart => Operation::Cart(CartOp::Add { item: some, quantity: by }),
            Kind::Map if removes => Operation::Map(MapOp::Remove(vec![old])),
            Kind::Map if by > 2 => {
                let field = Blob::from_static(b"sum");
                Operation::Map(MapOp::Increment { field, by: by as i64 })
            }
            Kind::Map => Operation::Map(MapOp::Set(vec![(name.clone(), some)])),
        };
        known.push(name);
        let mut request = Request::update(key.clone(), operation);
        let mut seen = Vec::new();
        if kind == Kind::Siblings
            && let Some((token, shown)) = self.clients[client].contexts.get(key)
        {
            request.context = Some(token.clone());
            seen.clone_from(shown);
        }
        (request, seen)
    }

    /// Ends all faults and waits until everybody is answered.
    fn mend(&mut self) {
        mend(&mut self.sim);
        self.collect();
    }
}

fn siblings(view: &View) -> Vec<Blob> {
    match view.value.state(Tag::BYTES) {
        Some(State::Bytes(state)) => {
            state.store.0.values().map(|sibling| sibling.value.clone()).collect()
        }
        _ => Vec::new(),
    }
}
