//! How a node starts, with what its disk holds.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use clock::{ClusterSecret, RingId};
use replication::{
    Barrier, BarrierHand, BarrierStart, BarrierTable, BarrierTask, BarrierTimes, Buckets, Core,
    CoreConfig, KeptStart, PolicyTable, provisional_ownership,
};
use ring::Ownership;
use storage::{
    Command, Engine, EngineBounds, EngineConfig, Log, Logged, Replay, SeamError, ShardSet, Shards,
    SimFiles, SimIndexReader, Ticket, shard_positions,
};
use values::Limits;

use super::events::RESTART_MS;
use super::rings::Way;
use super::{Happening, Process, SECRET, SHARDS, Sim, barrier};
use crate::random::mix;

/// Bytes of a log's segments where bounds are small: some tens of records.
const SMALL_SEGMENT_BYTES: u64 = 4 << 10;

impl Sim {
    pub(super) fn start(&mut self, node: usize) {
        let life = self.nodes[node].life;
        if self.options.gossip && !self.remembers_a_ring(node) {
            // All others of its ring may have left that since its disk was lost.
            self.lose_ring(node);
        }
        let ring = self.nodes[node].ring;
        let is_merging = self.nodes[node].crossing.is_merging;
        if is_merging {
            // What others know of it in the ring that it left, is gone.
            self.nodes[node].membership = None;
            self.nodes[node].heard = BarrierTable::default();
        }
        let seed = self.any_ownership_in(ring).cloned();
        let heard = self.any_barrier(ring);
        let process = mix(mix(node as u64 + 1).wrapping_add(life)).wrapping_add(self.random.next());
        let is_small = self.options.small_bounds;
        let state = &mut self.nodes[node];
        let config = EngineConfig {
            node: state.id,
            process,
            shards: ShardSet::all(Shards::new(self.rings[0].partition_count(), SHARDS)),
            pending_bytes_max: self.options.pending_bytes_max,
            hint_bytes_max: self.options.hint_bytes_max,
            bounds: if is_small { EngineBounds::SMALL } else { EngineBounds::default() },
        };
        let (reader, files) = (state.disk.index.reader(), state.disk.files.clone());
        let indexed = shard_positions(&reader, config.shards.shards()).expect("it can be read");
        let mut replay = Replay::begin(reader, config).expect("it can be read");
        let visit = &mut |position, logged: Logged<'_>| replay.replay(position, logged);
        let (mut log, found) = match Log::open(files, node as u64, &indexed, visit) {
            // A damaged place is not put aside where there is no room: whoever runs the node starts it again later.
            Err(SeamError::Full) => {
                return self.enqueue(self.now_ms + RESTART_MS, Happening::Restarted { node, life });
            }
            opened => opened.expect("simulated disks open"),
        };
        if is_small {
            log = log.with_segments_of(SMALL_SEGMENT_BYTES);
        }
        assert!(found.damage.is_empty() || state.ills.is_rotten, "a crash is no damage: {found:?}");
        let mut engine = replay.finish(log.end(), log.is_synced());
        let notes = engine.notes().expect("simulated disks are read");
        let policies = PolicyTable::of_notes(&notes);
        let noted = Barrier::of_notes(&notes).expect("simulated disks keep notes whole");
        let before_loss = engine.notes_before_loss();
        let has_doubts = before_loss.is_some_and(|before| Barrier::doubts(before, noted.as_ref()));
        // What it says of a ring that it has left says nothing in another.
        let mut barrier = Barrier::new(state.id, noted.clone().filter(|_| !is_merging));
        if self.options.folds && !is_merging {
            let founded = (!state.joins).then_some(RingId(ring as u64 + 1));
            if let Some(round) = Barrier::begins_in(noted.as_ref(), founded) {
                engine.begin_in(round, noted.is_some());
            }
            barrier = barrier.founding(founded.unwrap_or_default());
        }
        barrier.heard(&state.heard);
        let mut start = match state.reborn.take() {
            Some(table) => BarrierStart::As(Barrier::reborn(state.id, &table)),
            None if is_merging => BarrierStart::ComingOver,
            None if has_doubts => BarrierStart::Doubting,
            None => BarrierStart::AsNoted,
        };
        // Nothing is in it, whatever befell it: it holds nothing that is older. A node serves only once it
        // has heard of its cluster.
        let is_blank = noted.is_none() && engine.is_blank().expect("it can be read");
        if is_blank && start == BarrierStart::AsNoted {
            barrier.heard(&heard);
            if state.joins {
                start = BarrierStart::As(Barrier::reborn(state.id, &heard));
            } else if barrier.task() == BarrierTask::BeginAnew {
                start = BarrierStart::As(Barrier::reborn(state.id, &heard));
                self.begun_anew += 1;
            }
        }
        let interval_ms = self.options.barrier_ms;
        // Nodes give names to what they pass on as well, and wait for it themselves.
        let times = BarrierTimes { interval_ms, retries_ms: self.options.retries_ms };
        let hand = BarrierHand::new(barrier, start, times, self.now_ms);
        let hand = barrier::Hand::new(hand);
        let provisional = provisional_ownership(state.id.into(), self.rings[0].partition_count());
        let kept = KeptStart::of_notes(&notes, &provisional, is_merging);
        let kept = kept.expect("simulated disks keep notes whole");
        if !kept.forgets.is_empty() && !note(&mut engine, &mut log, kept.forgets) {
            // The disk does not take it: whoever runs the node starts it again later.
            return self.enqueue(self.now_ms + RESTART_MS, Happening::Restarted { node, life });
        }
        // Without a record of its own a node has what another tells it, as one that joins.
        let ownership = match (kept.ownership, is_merging) {
            (Some(kept), _) => Arc::new(kept),
            (None, true) => Arc::new(provisional),
            (None, false) => {
                seed.unwrap_or_else(|| Arc::new(Ownership::new(self.rings[ring].clone())))
            }
        };
        let buckets = Buckets::new(&policies, self.options.policy, &Limits::default());
        engine.set_tree_classes(buckets.tree_classes());
        let core = CoreConfig {
            node: state.id,
            core: 0,
            shards: ShardSet::all(Shards::new(self.rings[0].partition_count(), SHARDS)),
            anti_entropy: self.options.anti_entropy,
            incarnation: self.random.next(),
            names: ownership.members().iter().map(|&id| (id, format!("node{}", id.0))).collect(),
            secret: ClusterSecret::new(SECRET),
            default_policy: self.options.policy,
            policies,
            commits: kept.commits,
            limits: Limits {
                names: self.options.names_max,
                actors_resting: self.options.actors_resting,
                ..Limits::default()
            },
            timeout_ms: self.options.timeout_ms,
            cover_ms: self.options.cover_ms,
            requests_max: self.options.requests_max,
            deliveries_max: 16,
        };
        state.process = Some(Process {
            core: Core::new(core, ownership),
            engine,
            log,
            committing: false,
            calls: Vec::new(),
            hand: self.options.barrier_ms.is_some().then_some(hand),
            met: BTreeMap::new(),
            talker: None,
            ring,
            way: if is_merging { Way::Searching } else { Way::Member },
        });
        self.enqueue_barrier(node);
        self.begin_gossip(node);
    }
}

/// Has an engine keep notes, durably, before anything else happens. Returns whether the disk took them.
fn note(
    engine: &mut Engine<SimIndexReader>,
    log: &mut Log<SimFiles>,
    notes: Vec<(Bytes, Bytes)>,
) -> bool {
    let mut answers = Vec::new();
    engine.execute(Ticket(u64::MAX), Command::Note { notes }, &mut answers);
    let Some(mut batch) = engine.take_batch() else { return false };
    let result = log.commit(&mut batch.records, true);
    let is_durable = result.is_ok();
    engine.committed(batch.id, result, &mut answers);
    is_durable
}
