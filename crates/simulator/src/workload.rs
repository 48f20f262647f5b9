//! Random clients under random faults.

mod operations;

use std::collections::BTreeMap;

use bytes::Bytes;
use clock::{CausalContext, ClusterSecret, ContextToken, Stamp, TokenClaims};
use replication::{
    Action, Call, CallId, Level, NamedBy, Request, RequestError, RequestName, token_scope,
};
use values::{ExpiryOp, Key, Operation, Scope, Tag};

pub(crate) use self::operations::LIFE_MAX_MS;
use self::operations::{Kind, Sizes};
use crate::invariants::healing::invariant_serves_again_after_healing;
use crate::nemesis::{Nemesis, end_faults};
use crate::random::mix;
use crate::sim::{SECRET, buckets::SECOND, events::WALL_START_MS};
use crate::{Fault, History, Quorum, Random, Rates, Record, Scenario, Sim, Told};

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
    /// Which faults begin at a request, and how often.
    pub rates: Rates,
    /// How long a fault lasts that ends, at most, in milliseconds.
    pub lasts_ms: u64,
    /// How far a clock jumps, at most, in milliseconds.
    pub jump_ms: u64,
    /// How long values and names of elements are at least, in bytes: what is long is compared by
    /// digests.
    pub name_bytes: usize,
    /// Names of elements that clients choose from, in each key.
    pub names: u64,
    /// How many writes, in a thousand, set or take away a deadline, or keep one.
    pub deadlines: u32,
    /// How long a key is given to live, at most, in milliseconds.
    pub life_ms: u64,
    /// How many of these writes, in a thousand, take a deadline away, beside those that do so anyway.
    pub persists: u32,
    /// How many updates, in a thousand, go to the ends of what they may say, or beyond.
    pub extremes: u32,
    /// How many requests, in a thousand, say by themselves how many owners are to answer.
    pub levels: u32,
    /// How often a client does not wait any longer for its request, in a thousand at each step: it goes on without
    /// an answer, or sends it again to another node if it has a name.
    pub gives_up: u32,
    /// How many updates delete their key whatever is in it, beside those that do so anyway, in a thousand.
    pub deletes: u32,
}

/// For how long clients try again that do not wait for an answer, in milliseconds.
pub(crate) const RETRIES_MS: u64 = 1_000;

/// What a client keeps between its requests.
#[derive(Debug, Default)]
struct Client {
    under_way: Option<UnderWay>,
    /// The contexts of its last read of a key.
    contexts: BTreeMap<(Key, Tag), ContextToken>,
}

/// A request that its client waits for.
#[derive(Debug)]
struct UnderWay {
    record: Record,
    /// The call that is waited for: the record's, or a later one for the same.
    call: CallId,
    /// What can be sent again, of a request that has a name.
    named: Option<Request>,
}

impl UnderWay {
    /// What was told about the last call says nothing of those before it, if it was not done.
    fn told(&self, told: Told) -> Told {
        match told {
            Told::Refused(error) if self.call != self.record.call => Told::Unknown(error),
            told => told,
        }
    }
}

/// Runs a workload under the faults of `options`, and mends everything. Returns what clients did, not
/// judged.
pub(crate) fn run(sim: &mut Sim, scenario: &Scenario) -> History {
    let Scenario { seed, workload, reduction, .. } = scenario;
    let mut random = Random::new(seed ^ 0x5eed);
    let keys = (0..workload.keys).map(|number| {
        let kind = Kind::some(&mut random);
        let is_second =
            scenario.options.second.is_some() && (number as u64 ^ seed).is_multiple_of(2);
        (kind, kind.key(if is_second { SECOND } else { "default" }, number))
    });
    let mut run = Run {
        keys: keys.collect(),
        clients: (0..workload.clients).map(|_| Client::default()).collect(),
        history: History {
            has_deadlines: workload.deadlines > 0,
            life_ms: workload.life_ms,
            ..History::default()
        },
        nemesis: Nemesis::default(),
        sim,
    };
    run.sim.begin();
    let names: Vec<Key> = run.keys.iter().map(|(_, key)| key.clone()).collect();
    for step in 0..workload.requests {
        // Each step has its own chances, so that leaving one out leaves the others as they are.
        let mut random = Random::new(mix(seed ^ mix(step as u64 + 1)));
        let (mut ill, mut asking, mut impatient) = (random.split(), random.split(), random.split());
        run.sim.advance(random.below(workload.pause_ms + 1));
        run.collect();
        if workload.gives_up > 0 {
            run.give_up(workload, &mut impatient);
        }
        run.nemesis.end_due(run.sim);
        if reduction.keeps_fault(step) {
            run.nemesis.disturb(run.sim, &mut ill, workload, &names);
        }
        if reduction.keeps_request(step) {
            run.ask(workload, &mut asking, step as u64 + 1);
        }
    }
    let strikes = run.sim.strikes();
    run.history.lost_state = LOSES_STATE.iter().any(|&fault| strikes.of(fault) > 0);
    end_faults(run.sim);
    match invariant_serves_again_after_healing(run.sim) {
        Ok(took_ms) => run.history.served_ms = took_ms,
        Err(wrong) => run.history.unserved = Some(wrong),
    }
    run.sim.run_until_quiet();
    // As in the background, by the classes of buckets that a node with an empty disk has heard of meanwhile.
    run.sim.scrub();
    run.sim.run_until_quiet();
    run.history.left_ring = run.sim.left_ring();
    run.history.suspicions = run.sim.suspicions();
    if workload.deadlines > 0 {
        run.sim.advance(random.below(2 * workload.life_ms));
        if run.sim.forgets() {
            // One may have forgotten what another has not yet.
            run.sim.run_until_quiet();
        }
    }
    run.history.ended_ms = WALL_START_MS + run.sim.now_ms();
    run.history.slack_ms = run.sim.clocks_off_ms() + 1_000;
    run.collect();
    run.history.losses =
        names.into_iter().map(|key| (key.clone(), run.sim.losses_of(&key))).collect();
    let waiting = run.clients.iter().find_map(|client| client.under_way.as_ref());
    run.history.unanswered = waiting.map(|waiting| waiting.call);
    run.history
}

/// Faults after which what was not durable may be at some replicas and not at others.
const LOSES_STATE: [Fault; 17] = [
    Fault::ProcessCrash,
    Fault::MachineCrash,
    Fault::RefusedWrite,
    Fault::FailedSync,
    Fault::FullDisk,
    Fault::ReadOnlyDisk,
    Fault::WipedDisk,
    Fault::OldDisk,
    Fault::ClonedDisk,
    Fault::LogRot,
    Fault::RowRot,
    Fault::MisdirectedWrite,
    Fault::Removal,
    Fault::Replacement,
    Fault::Upgrade,
    Fault::RingsApart,
    Fault::NextVersion,
];

#[derive(Debug)]
struct Run<'a> {
    sim: &'a mut Sim,
    keys: Vec<(Kind, Key)>,
    clients: Vec<Client>,
    history: History,
    nemesis: Nemesis,
}

impl Run<'_> {
    /// Takes note of what clients were told.
    fn collect(&mut self) {
        let now_ms = self.sim.now_ms();
        for client in &mut self.clients {
            let Some(waiting) = client.under_way.take() else { continue };
            let Some(outcome) = self.sim.take_answer(waiting.call) else {
                client.under_way = Some(waiting);
                continue;
            };
            let told = waiting.told(Told::of(outcome));
            let mut record = waiting.record;
            (record.to_ms, record.told) = (now_ms, told);
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
                self.nemesis.last_done = Some(record.node);
            }
            self.history.records.push(record);
        }
    }

    /// Lets some clients wait no longer.
    fn give_up(&mut self, workload: &Workload, random: &mut Random) {
        for client in &mut self.clients {
            let Some(mut waiting) = client.under_way.take() else { continue };
            let node = random.below(self.sim.nodes() as u64) as usize;
            // Its name may be forgotten later.
            let may_again =
                !self.sim.forgets() || self.sim.now_ms() <= waiting.record.from_ms + RETRIES_MS;
            let again = waiting.named.clone().filter(|_| may_again);
            if !random.chance(workload.gives_up) {
                client.under_way = Some(waiting);
            } else if let Some(request) = again.filter(|_| random.chance(700)) {
                (waiting.record.node, waiting.record.ring) = (node, self.sim.ring_of(node));
                waiting.call = self.sim.call_traced_as(waiting.record.call, node, request);
                client.under_way = Some(waiting);
            } else {
                self.history.records.push(waiting.record);
            }
        }
    }

    /// Lets an idle client make a request. `number` is one that no other request of the run has.
    fn ask(&mut self, workload: &Workload, random: &mut Random, number: u64) {
        let idle: Vec<usize> =
            (0..self.clients.len()).filter(|&at| self.clients[at].under_way.is_none()).collect();
        if idle.is_empty() {
            return;
        }
        let client = *random.pick(&idle);
        let (kind, key) = random.pick(&self.keys).clone();
        let node = random.below(self.sim.nodes() as u64) as usize;
        let mut request = self.request(workload, random, number, client, (kind, key.clone()));
        let operation = match &request.action {
            Action::Get(_) => None,
            Action::Update(operation) => Some(operation.clone()),
        };
        let policy = self.sim.policy_of(&key);
        let quorum = Quorum::of(policy, request.level);
        let forges = random.chance(workload.rates.of(Fault::ForgedContext));
        let (from_ms, ring) = (self.sim.now_ms(), self.sim.ring_of(node));
        let told = Told::Unknown(RequestError::Timeout);
        let mut named = None;
        let call = match &operation {
            Some(operation) if forges => {
                self.sim.strike(Fault::ForgedContext, &[node]);
                request.context = Some(self.forged(client, &request.key, operation));
                self.sim.call(node, Call::Request(request))
            }
            _ => {
                named = request.name.is_some().then(|| request.clone());
                self.sim.call_traced(node, request)
            }
        };
        let to_ms = u64::MAX;
        let record =
            Record { from_ms, to_ms, call, node, ring, client, key, operation, quorum, told };
        self.clients[client].under_way = Some(UnderWay { record, call, named });
    }

    /// What a client does to a key of a kind: reads it, or changes it with the context of its last
    /// read, however old, or without.
    fn request(
        &self,
        workload: &Workload,
        random: &mut Random,
        number: u64,
        client: usize,
        (kind, key): (Kind, Key),
    ) -> Request {
        let policy = self.sim.policy_of(&key);
        let mut level = Level::default();
        if workload.levels > 0 && random.chance(workload.levels) {
            level.r = Some(random.between(1, policy.n.into()) as u8);
            level.w = Some(random.between(1, policy.n.into()) as u8);
        }
        if random.chance(250) {
            let mut request = Request::get(key, Scope::Whole);
            (request.want_context, request.level) = (true, level);
            return request;
        }
        let now_ms = WALL_START_MS + self.sim.now_ms();
        let sizes = Sizes { names: workload.names, bytes: workload.name_bytes };
        let mut operation = if workload.deletes > 0 && random.chance(workload.deletes) {
            Operation::Delete(None)
        } else {
            kind.operation(random, number, now_ms, sizes)
        };
        if workload.extremes > 0 && random.chance(workload.extremes) {
            operations::to_extremes(random, now_ms, &mut operation);
        }
        let mut request = Request::update(key, operation);
        // As its node would make of it, so that its context is one of what it makes.
        request.action = request.action.with_raw(policy.raw);
        request.level = level;
        if workload.deadlines > 0 && random.chance(workload.deadlines) {
            if workload.persists > 0 && random.chance(workload.persists) {
                request.action = Action::Update(Operation::Expiry(ExpiryOp::Persist));
            } else {
                operations::living(random, now_ms, workload.life_ms, &mut request);
            }
        }
        let Action::Update(operation) = &request.action else { return request };
        let tag = operation.tag().unwrap_or(Tag::BYTES);
        if random.chance(800) {
            let place = (request.key.clone(), tag);
            request.context = self.clients[client].contexts.get(&place).cloned();
        }
        if random.chance(if workload.gives_up > 0 { 500 } else { 100 }) {
            let client = Bytes::from(format!("client{client}"));
            let id = Bytes::from(number.to_string());
            request.name = Some(RequestName { by: NamedBy::Application, client, id });
        }
        request
    }

    /// A context that no node made: it claims to have seen all that will ever be written by those who wrote what this
    /// client has read.
    fn forged(&self, client: usize, key: &Key, operation: &Operation) -> ContextToken {
        let tag = operation.tag().unwrap_or(Tag::BYTES);
        let scope = token_scope(key, tag);
        let read = self.clients[client].contexts.get(&(key.clone(), tag));
        let mut context = read.map_or_else(CausalContext::default, |token| {
            let claims = token.open(&ClusterSecret::new(SECRET), scope);
            claims.expect("a token of this cluster").context
        });
        for actor in context.actors().collect::<Vec<_>>() {
            context.insert_range(actor, 1, u64::MAX);
        }
        let claims = TokenClaims { context, time: Stamp(0) };
        ContextToken::seal(&ClusterSecret::new(b"guessed"), scope, &claims)
    }
}
