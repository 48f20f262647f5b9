//! Random clients under random faults.

mod operations;

use std::collections::BTreeMap;

use bytes::Bytes;
use clock::ContextToken;
use replication::{
    Action, Call, NamedBy, OwnershipCall, PlanChange, Reply, Request, RequestError, RequestName,
};
use ring::Weight;
use values::{Key, Scope, Tag};

use self::operations::Kind;
pub(crate) use self::operations::LIFE_MAX_MS;
use crate::sim::events::WALL_START_MS;
use crate::{DiskFaults, History, NetworkFaults, Random, Record, Sim, SimOptions, Told};

/// What clients do, and which faults befall the cluster meanwhile.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Requests, all clients together.
    pub requests: usize,
    /// Keys, of kinds that the seed draws.
    pub keys: usize,
    /// Clients, each with one request under way at most.
    pub clients: usize,
    /// Longest pause between two requests, in milliseconds.
    pub pause_ms: u64,
    /// Whether links are cut and mended.
    pub cuts: bool,
    /// Whether nodes crash and start again.
    pub crashes: bool,
    /// Whether nodes that crashed sometimes start again with an empty disk.
    pub wipes: bool,
    /// Whether wall clocks jump.
    pub jumps: bool,
    /// Whether nodes are paused and resumed.
    pub pauses: bool,
    /// Whether nodes join and leave, and get other weights.
    pub changes: bool,
    /// Whether nodes are killed for good and removed: what only they held is lost.
    pub removals: bool,
    /// How long values and names of elements are at least, in bytes: what is long is compared by
    /// digests.
    pub name_bytes: usize,
    /// How many writes, in a thousand, set or take away a deadline, or keep one.
    pub deadlines: u32,
}

/// What a client keeps between its requests.
#[derive(Debug, Default)]
struct Client {
    under_way: Option<Record>,
    /// The contexts of its last read of a key.
    contexts: BTreeMap<(Key, Tag), ContextToken>,
}

/// Runs a workload under the faults of `options`, and mends everything. Returns the cluster and what
/// clients did, not judged.
pub(crate) fn run(seed: u64, options: SimOptions, workload: &Workload) -> (Sim, History) {
    let has_disk_faults = options.disk.refused > 0 || options.disk.misreported > 0;
    // A jump is of two minutes at most, and there can be one after each request.
    let jumped_ms = if workload.jumps { 120_000 * workload.requests as u64 } else { 0 };
    let slack_ms = options.skew_ms + jumped_ms;
    // What only an outbox held is lost with it, as with a disk.
    let lost_disk = options.hints_lost > 0;
    let sim = Sim::new(seed, options);
    let mut random = Random::new(seed ^ 0x5eed);
    let keys = (0..workload.keys).map(|number| {
        let kind = Kind::some(&mut random);
        (kind, kind.key(number))
    });
    let mut run = Run {
        keys: keys.collect(),
        random,
        clients: (0..workload.clients).map(|_| Client::default()).collect(),
        history: History {
            lost_state: has_disk_faults,
            lost_disk,
            has_deadlines: workload.deadlines > 0,
            slack_ms,
            ..History::default()
        },
        asked: 0,
        name_bytes: workload.name_bytes,
        last_done: None,
        sim,
    };
    for _ in 0..workload.requests {
        let pause_ms = run.random.below(workload.pause_ms + 1);
        run.sim.advance(pause_ms);
        run.collect();
        run.disturb(workload);
        run.ask(workload);
    }
    mend(&mut run.sim);
    if workload.deadlines > 0 {
        run.sim.advance(run.random.below(2 * LIFE_MAX_MS));
    }
    run.history.ended_ms = WALL_START_MS + run.sim.now_ms();
    run.collect();
    (run.sim, run.history)
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
        27..=29 if workload.changes => change(sim, random),
        30 if workload.removals => remove(sim, random),
        _ => {}
    }
    false
}

/// Most nodes that a workload brings a cluster to, and fewest members.
const NODES_MAX: usize = 7;
const MEMBERS_MIN: usize = 2;

/// Has a node join, leave or get another weight, as one that runs commits it.
fn change(sim: &mut Sim, random: &mut Random) {
    let running: Vec<usize> = (0..sim.nodes()).filter(|&node| sim.is_up(node)).collect();
    let Some(&at) = running.get(random.below(running.len().max(1) as u64) as usize) else { return };
    let Some(ownership) = sim.ownership(at).cloned() else { return };
    let members = ownership.target().ring().members().to_vec();
    let mut plan = PlanChange::default();
    match random.below(3) {
        0 if sim.nodes() < NODES_MAX => {
            let node = sim.add_node();
            plan.put.push(sim.member(node));
        }
        1 if members.len() > MEMBERS_MIN => plan.leave.push(*random.pick(&members)),
        _ => {
            // A member's weight, or a node that left comes back.
            let mut member = sim.member(random.below(sim.nodes() as u64) as usize);
            if sim.is_gone(member.node.0 as usize - 1) {
                return;
            }
            member.weight = Weight::new(random.between(1, 3) as u16).expect("within bounds");
            plan.put.push(member);
        }
    }
    sim.call(at, Call::Ownership(OwnershipCall::Commit(plan)));
}

/// Kills a member for good and removes it, if enough are left.
fn remove(sim: &mut Sim, random: &mut Random) {
    let node = random.below(sim.nodes() as u64) as usize;
    let left = (0..sim.nodes()).filter(|&other| other != node && !sim.is_gone(other)).count();
    let Some(at) = (0..sim.nodes()).find(|&other| other != node && sim.is_up(other)) else {
        return;
    };
    let Some(ownership) = sim.ownership(at).cloned() else { return };
    let member = sim.member(node).node;
    let members = ownership.target().ring().members();
    if left < 3 || members.len() <= MEMBERS_MIN || !members.contains(&member) {
        return;
    }
    sim.destroy(node);
    let plan = PlanChange { remove: vec![member], ..PlanChange::default() };
    sim.call(at, Call::Ownership(OwnershipCall::Commit(plan)));
}

/// Removes nodes that are gone for good and whose removal went with the node that was to commit it.
fn remove_the_gone(sim: &mut Sim) {
    let gone: Vec<usize> = (0..sim.nodes()).filter(|&node| sim.is_gone(node)).collect();
    let Some(at) = (0..sim.nodes()).find(|&node| sim.is_up(node)) else { return };
    if gone.is_empty() {
        return;
    }
    // Until what is known anywhere is known there.
    sim.advance(5_000);
    let Some(ownership) = sim.ownership(at).cloned() else { return };
    let gone = gone.into_iter().map(|node| sim.member(node).node);
    let remove: Vec<_> = gone
        .filter(|node| ownership.members().contains(node) && !ownership.is_removed(*node))
        .collect();
    if !remove.is_empty() {
        // Somebody must be left.
        let put = vec![sim.member(at)];
        let plan = PlanChange { put, remove, ..PlanChange::default() };
        sim.call(at, Call::Ownership(OwnershipCall::Commit(plan)));
    }
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
    remove_the_gone(sim);
    sim.run_until_quiet();
}

#[derive(Debug)]
struct Run {
    sim: Sim,
    random: Random,
    keys: Vec<(Kind, Key)>,
    clients: Vec<Client>,
    history: History,
    /// Numbers requests, so that each can have a name and a value of its own.
    asked: u64,
    name_bytes: usize,
    /// The node that last said that an update was done: crashed at once, it must not have said so
    /// too early.
    last_done: Option<usize>,
}

impl Run {
    fn disturb(&mut self, workload: &Workload) {
        let crashed = disturb(&mut self.sim, &mut self.random, workload, &mut self.last_done);
        self.history.lost_state |= crashed;
        self.history.lost_disk |= (0..self.sim.nodes()).any(|node| self.sim.is_gone(node));
        let node = self.random.below(self.sim.nodes() as u64) as usize;
        if workload.wipes && !self.sim.is_up(node) && self.random.chance(100) {
            self.sim.wipe(node);
            self.sim.restart(node);
            self.history.lost_disk = true;
        }
    }

    /// Takes note of what clients were told.
    fn collect(&mut self) {
        let now_ms = self.sim.now_ms();
        for client in &mut self.clients {
            let Some(mut record) = client.under_way.take() else { continue };
            let Some(outcome) = self.sim.take_outcome(record.call) else {
                client.under_way = Some(record);
                continue;
            };
            let outcome = outcome.map(|reply| match reply {
                Reply::Answer(answer) => answer,
                other => unreachable!("a request is answered by an answer, not {other:?}"),
            });
            record.to_ms = now_ms;
            record.told = Told::of(outcome);
            if let Some(answer) = record.answer()
                && record.operation.is_none()
            {
                let tokens = answer.contexts.iter();
                let of_key = |(&tag, token): (&Tag, &ContextToken)| {
                    ((record.key.clone(), tag), token.clone())
                };
                client.contexts.extend(tokens.map(of_key));
            }
            if record.is_done() && record.operation.is_some() {
                self.last_done = Some(record.node);
            }
            self.history.records.push(record);
        }
    }

    /// Lets an idle client make a request.
    fn ask(&mut self, workload: &Workload) {
        let idle: Vec<usize> =
            (0..self.clients.len()).filter(|&at| self.clients[at].under_way.is_none()).collect();
        if idle.is_empty() {
            return;
        }
        let client = *self.random.pick(&idle);
        let (kind, key) = self.random.pick(&self.keys).clone();
        let node = self.random.below(self.sim.nodes() as u64) as usize;
        let request = self.request(workload, client, kind, key.clone());
        let operation = match &request.action {
            Action::Get(_) => None,
            Action::Update(operation) => Some(operation.clone()),
        };
        let from_ms = self.sim.now_ms();
        let told = Told::Unknown(RequestError::Timeout);
        let call = self.sim.call_traced(node, request);
        let record = Record { from_ms, to_ms: u64::MAX, call, node, key, operation, told };
        self.clients[client].under_way = Some(record);
    }

    /// What a client does to a key of a kind: reads it, or changes it with the context of its last
    /// read, however old, or without.
    fn request(&mut self, workload: &Workload, client: usize, kind: Kind, key: Key) -> Request {
        self.asked += 1;
        if self.random.chance(250) {
            let mut request = Request::get(key, Scope::Whole);
            request.want_context = true;
            return request;
        }
        let now_ms = WALL_START_MS + self.sim.now_ms();
        let operation = kind.operation(&mut self.random, self.asked, now_ms, self.name_bytes);
        let mut request = Request::update(key, operation);
        if workload.deadlines > 0 && self.random.chance(workload.deadlines) {
            operations::living(&mut self.random, now_ms, &mut request);
        }
        let Action::Update(operation) = &request.action else { return request };
        let tag = operation.tag().unwrap_or(Tag::BYTES);
        if self.random.chance(800) {
            let place = (request.key.clone(), tag);
            request.context = self.clients[client].contexts.get(&place).cloned();
        }
        if self.random.chance(100) {
            let client = Bytes::from(format!("client{client}"));
            let id = Bytes::from(self.asked.to_string());
            request.name = Some(RequestName { by: NamedBy::Application, client, id });
        }
        request
    }
}
