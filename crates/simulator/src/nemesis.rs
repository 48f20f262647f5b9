//! What begins faults while clients are at work, and ends those that last.

mod merge;

use std::collections::BTreeMap;

use membership::Versions;
use replication::{Call, OwnershipCall, PlanChange, Request};
use ring::Weight;
use values::{Key, Scope};

use self::merge::{Going, Merge, merge_the_rest};
use crate::{DiskFaults, Fault, NetworkFaults, Random, Sim, Workload};

/// Nodes that a workload brings a small cluster to at most, and fewest members.
const NODES_MAX: usize = 7;
const MEMBERS_MIN: usize = 2;

/// Whether a workload adds further nodes: to a large cluster a sixth of it.
fn has_room(sim: &Sim) -> bool {
    sim.nodes() < NODES_MAX.max(sim.nodes_at_start() + sim.nodes_at_start() / 6)
}

/// A member that is dead is suspected within so many seconds.
const SUSPECTED_WITHIN_S: u32 = 120;

/// A node that is killed on its way to another ring is down for so long, in milliseconds.
const DOWN_MS: u64 = 300;

/// A fault that ends.
#[derive(Debug)]
enum End {
    Ways(Vec<(usize, usize)>),
    Down(usize),
    Pause(usize),
    Slowness(usize),
    Disk(usize),
    /// The next node is upgraded.
    Upgrade,
    /// A merge of two rings goes on.
    Going(Going),
    /// A node is killed, for a while.
    Crash(usize),
    /// A node goes back to a build that speaks these messages.
    Back(usize, Versions),
}

/// Begins and ends faults.
#[derive(Debug, Default)]
pub(crate) struct Nemesis {
    ends: BTreeMap<(u64, u64), End>,
    begun: u64,
    /// The node that last said that an update was done: crashed at once, it must not have said so
    /// too early.
    pub(crate) last_done: Option<usize>,
    /// Between two nodes that are upgraded, in milliseconds.
    upgrade_ms: u64,
    /// The merge of two rings, once it has begun.
    merge: Option<Merge>,
}

impl Nemesis {
    /// Ends what is to end by now.
    pub(crate) fn end_due(&mut self, sim: &mut Sim) {
        while let Some(due) = self.ends.first_entry()
            && due.key().0 <= sim.now_ms()
        {
            match due.remove() {
                End::Ways(ways) => {
                    ways.into_iter().for_each(|(from, to)| sim.mend_way(from, to));
                }
                End::Down(node) => sim.restart(node),
                End::Pause(node) => sim.resume(node),
                End::Slowness(node) => sim.slow(node, 0),
                End::Disk(node) => {
                    sim.mend_disk(node);
                    sim.restart(node);
                }
                End::Upgrade => self.upgrade(sim),
                End::Going(going) => self.go_on(sim, going),
                End::Crash(node) => {
                    sim.crash(node);
                    self.ends(sim.now_ms() + DOWN_MS, End::Down(node));
                }
                End::Back(node, before) => drop(sim.upgrade(node, before)),
            }
        }
    }

    fn ends(&mut self, at_ms: u64, end: End) {
        self.begun += 1;
        self.ends.insert((at_ms, self.begun), end);
    }

    /// Lets a fault begin, now and then.
    pub(crate) fn disturb(
        &mut self,
        sim: &mut Sim,
        random: &mut Random,
        workload: &Workload,
        keys: &[Key],
    ) {
        let Some(fault) = workload.rates.pick(random.below(1000)) else { return };
        let nodes = sim.nodes() as u64;
        let a = random.below(nodes) as usize;
        let b = random.below(nodes) as usize;
        let ends_ms = sim.now_ms() + random.between(1, workload.lasts_ms);
        match fault {
            Fault::Cut if a != b => self.cut(sim, fault, ends_ms, vec![(a, b), (b, a)]),
            Fault::CutTwo => {
                // Neighbours on the ring, or any.
                let (b, c) = match random.chance(500) {
                    true => ((a + 1) % sim.nodes(), (a + 2) % sim.nodes()),
                    false => (b, random.below(nodes) as usize),
                };
                let later_ms = sim.now_ms() + random.between(1, workload.lasts_ms);
                if a != b && b != c && a != c {
                    self.cut(sim, fault, ends_ms, vec![(a, b), (b, a)]);
                    self.cut(sim, fault, later_ms, vec![(a, c), (c, a)]);
                }
            }
            Fault::CutWay if a != b => self.cut(sim, fault, ends_ms, vec![(a, b)]),
            Fault::Split => {
                let side: Vec<bool> = (0..nodes).map(|_| random.chance(500)).collect();
                self.cut(sim, fault, ends_ms, ways(side.len(), |a, b| side[a] != side[b]));
            }
            Fault::Isolation => {
                let all = ways(sim.nodes(), |x, y| x == a || y == a);
                self.cut(sim, fault, ends_ms, all);
            }
            Fault::Clog if a != b => sim.clog(a, b, ends_ms - sim.now_ms()),
            Fault::Slowness => {
                sim.slow(a, random.between(10, 500));
                self.ends(ends_ms, End::Slowness(a));
            }
            Fault::Pause if sim.is_up(a) => {
                sim.strike(fault, &[a]);
                sim.pause(a);
                self.ends(ends_ms, End::Pause(a));
            }
            Fault::ClockJump => {
                let most = workload.jump_ms;
                sim.jump_clock(a, random.below(2 * most + 1) as i64 - most as i64);
                sim.strike(fault, &[a]);
            }
            Fault::ProcessCrash | Fault::MachineCrash => {
                let last = self.last_done.filter(|_| random.chance(500));
                let node = last.unwrap_or(a);
                if sim.is_up(node) {
                    self.last_done = None;
                    self.stop(sim, fault, node, ends_ms);
                }
            }
            Fault::FullDisk | Fault::ReadOnlyDisk | Fault::SlowSync => {
                match fault {
                    Fault::FullDisk => sim.fill_disk(a, true),
                    Fault::ReadOnlyDisk => sim.lock_disk(a, true),
                    _ => sim.slow_disk(a, random.between(100, 5_000)),
                }
                self.ends(ends_ms, End::Disk(a));
            }
            Fault::Upgrade | Fault::NextVersion if !sim.is_gone(a) => {
                sim.strike(fault, &[a]);
                let newest = sim.newest().max;
                let speaks_both = fault == Fault::NextVersion;
                let min = if speaks_both { newest } else { newest + 1 };
                let before = sim.upgrade(a, Versions { min, max: newest + 1 });
                self.upgrade_ms = random.between(1, workload.lasts_ms);
                if speaks_both && random.chance(300) {
                    self.ends(sim.now_ms() + self.upgrade_ms / 2, End::Back(a, before));
                }
                self.ends(sim.now_ms() + self.upgrade_ms, End::Upgrade);
            }
            Fault::Merge => self.merge(sim, random),
            Fault::Flood if sim.is_up(a) => flood(sim, random, a, keys),
            Fault::Join | Fault::Leave | Fault::Weight => change(sim, random, fault),
            Fault::Removal | Fault::Replacement => remove(sim, random, fault),
            fault => self.harm_disk(sim, random, fault, a, ends_ms),
        }
    }

    /// Upgrades the next node, a while later the one after it, until all are.
    fn upgrade(&mut self, sim: &mut Sim) {
        let newest = sim.newest();
        if let Some(node) = (0..sim.nodes()).find(|&node| sim.is_older(node)) {
            sim.upgrade(node, newest);
            self.ends(sim.now_ms() + self.upgrade_ms, End::Upgrade);
        }
    }

    fn cut(&mut self, sim: &mut Sim, fault: Fault, ends_ms: u64, cut: Vec<(usize, usize)>) {
        if cut.is_empty() {
            return;
        }
        let mut nodes: Vec<usize> = cut.iter().map(|&(from, _)| from).collect();
        nodes.dedup();
        sim.strike(fault, &nodes);
        cut.iter().for_each(|&(from, to)| sim.cut_way(from, to));
        self.ends(ends_ms, End::Ways(cut));
    }

    fn stop(&mut self, sim: &mut Sim, fault: Fault, node: usize, ends_ms: u64) {
        sim.strike(fault, &[node]);
        if fault == Fault::ProcessCrash {
            sim.kill(node)
        } else {
            sim.stop_machine(node)
        }
        self.ends(ends_ms, End::Down(node));
    }

    /// Faults that take something from a node's disk.
    fn harm_disk(
        &mut self,
        sim: &mut Sim,
        random: &mut Random,
        fault: Fault,
        node: usize,
        ends_ms: u64,
    ) {
        let Some(node) = victim(sim, random, node) else { return };
        let strikes = match fault {
            Fault::RowRot => sim.rot_row(node),
            Fault::MisdirectedWrite => sim.misdirect_row(node),
            // The first time, there is nothing yet to go back to.
            Fault::OldDisk if !sim.has_backup(node) => {
                return sim.keep_backup(node);
            }
            Fault::LogRot | Fault::WipedDisk | Fault::OldDisk | Fault::ClonedDisk => {
                sim.stop_machine(node);
                self.ends(ends_ms, End::Down(node));
                match fault {
                    Fault::LogRot if sim.has_long_logs() && random.chance(800) => {
                        sim.rot_some_last_record(node)
                    }
                    Fault::LogRot => sim.rot_log(node),
                    Fault::OldDisk => sim.restore_backup(node),
                    Fault::ClonedDisk => sim.exchange_twin(node),
                    _ => {
                        sim.wipe(node);
                        true
                    }
                }
            }
            _ => false,
        };
        if strikes {
            sim.strike(fault, &[node]);
            // Of a row it is known of which key it is.
            if !matches!(fault, Fault::RowRot | Fault::MisdirectedWrite) {
                sim.note_lost(node);
            }
        }
    }
}

/// The node whose disk is harmed: most often the one that was harmed before, so that what two
/// owners hold is not lost at both.
fn victim(sim: &Sim, random: &mut Random, node: usize) -> Option<usize> {
    let node = if random.chance(800) { sim.nodes() - 1 } else { node };
    (!sim.is_gone(node)).then_some(node)
}

fn ways(nodes: usize, is_cut: impl Fn(usize, usize) -> bool) -> Vec<(usize, usize)> {
    let all = (0..nodes).flat_map(|a| (0..nodes).map(move |b| (a, b)));
    all.filter(|&(a, b)| a != b && is_cut(a, b)).collect()
}

/// Has many clients read at one node at once.
fn flood(sim: &mut Sim, random: &mut Random, node: usize, keys: &[Key]) {
    for _ in 0..sim.requests_max() + 20 {
        let key = random.pick(keys).clone();
        sim.call(node, Call::Request(Request::get(key, Scope::Whole)));
    }
}

/// Has a node join, leave or get another weight, as one that runs commits it.
fn change(sim: &mut Sim, random: &mut Random, fault: Fault) {
    let running: Vec<usize> = (0..sim.nodes()).filter(|&node| sim.is_settled(node)).collect();
    let Some(&at) = running.get(random.below(running.len().max(1) as u64) as usize) else { return };
    let Some(ownership) = sim.ownership(at).cloned() else { return };
    // Nobody changes a ring that is being left.
    if sim.left_ring() == Some(sim.ring_of(at)) {
        return;
    }
    let members = ownership.target().ring().members().to_vec();
    let mut plan = PlanChange::default();
    let changed = match fault {
        Fault::Join if has_room(sim) => {
            let node = sim.add_node_to(sim.ring_of(at));
            plan.put.push(sim.member(node));
            node
        }
        Fault::Leave if members.len() > MEMBERS_MIN => {
            let member = *random.pick(&members);
            plan.leave.push(member);
            member.0 as usize - 1
        }
        _ => {
            // A member's weight, or a node that left comes back.
            let node = random.below(sim.nodes() as u64) as usize;
            if sim.is_gone(node) || sim.ring_of(node) != sim.ring_of(at) {
                return;
            }
            let mut member = sim.member(node);
            member.weight = Weight::new(random.between(1, 3) as u16).expect("within bounds");
            plan.put.push(member);
            node
        }
    };
    let fault = if plan.put.is_empty() || fault == Fault::Join { fault } else { Fault::Weight };
    sim.strike(fault, &[changed]);
    sim.call(at, Call::Ownership(OwnershipCall::Commit(plan)));
}

/// Kills a member for good and removes it, if enough are left, or has a new one take its places.
fn remove(sim: &mut Sim, random: &mut Random, fault: Fault) {
    let node = random.below(sim.nodes() as u64) as usize;
    let ring = sim.ring_of(node);
    let others = || (0..sim.nodes()).filter(|&other| other != node && sim.ring_of(other) == ring);
    let left = others().filter(|&other| !sim.is_gone(other)).count();
    let Some(at) = others().find(|&other| sim.is_settled(other)) else { return };
    if sim.left_ring() == Some(ring) {
        return;
    }
    let is_replaced = fault == Fault::Replacement;
    let Some(ownership) = sim.ownership(at) else { return };
    let member = sim.member(node).node;
    let members = ownership.target().ring().members();
    let is_enough =
        if is_replaced { has_room(sim) } else { left >= 3 && members.len() > MEMBERS_MIN };
    if !is_enough || !members.contains(&member) {
        return;
    }
    sim.strike(fault, &[node]);
    sim.destroy(node);
    sim.remove_member(at, node);
    let mut plan = PlanChange { remove: vec![member], ..PlanChange::default() };
    if is_replaced {
        let new = sim.add_node_to(ring);
        let new = sim.member(new);
        plan.replace.push((member, new.node));
        plan.put.push(new);
    }
    sim.call(at, Call::Ownership(OwnershipCall::Commit(plan)));
    sim.note_lost(node);
}

/// Removes nodes that are gone for good on their way to the other ring, where that still expects them.
fn remove_the_expected(sim: &mut Sim) {
    for node in 0..sim.nodes() {
        // Who came last may have told nobody yet.
        let at = (0..sim.nodes()).find(|&at| sim.is_settled(at) && sim.expects(at, node));
        if let Some(at) = at.filter(|_| sim.is_gone(node)) {
            remove_all(sim, at, &[node]);
        }
    }
}

/// Has a node remove others, once what is known anywhere is known there and nobody takes them for alive any more.
fn remove_all(sim: &mut Sim, at: usize, gone: &[usize]) {
    sim.advance(5_000);
    for &node in gone {
        if !sim.has_heard_of(at, node) {
            continue;
        }
        let mut seconds = 0..SUSPECTED_WITHIN_S;
        while !sim.remove_member(at, node) && seconds.next().is_some() {
            sim.advance(1_000);
        }
    }
}

/// Removes nodes of a ring that are gone for good and whose removal went with the node that was to commit it.
fn remove_the_gone(sim: &mut Sim, ring: usize) {
    let nodes = || (0..sim.nodes()).filter(|&node| sim.ring_of(node) == ring);
    let gone: Vec<usize> = nodes().filter(|&node| sim.is_gone(node)).collect();
    let Some(at) = nodes().find(|&node| sim.is_settled(node)) else { return };
    if gone.is_empty() {
        return;
    }
    remove_all(sim, at, &gone);
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
    end_faults(sim);
    sim.run_until_quiet();
}

/// Ends all faults, and does what administrators do after them.
pub(crate) fn end_faults(sim: &mut Sim) {
    sim.set_network(NetworkFaults::default());
    for node in 0..sim.nodes() {
        sim.mend_disk(node);
        sim.slow(node, 0);
    }
    sim.set_disk(DiskFaults::default());
    sim.heal();
    for node in 0..sim.nodes() {
        sim.resume(node);
        if sim.is_older(node) {
            sim.upgrade(node, sim.newest());
        }
        sim.restart(node);
    }
    sim.ask_disks();
    if sim.are_founded_apart() {
        remove_the_gone(sim, 0);
        remove_the_gone(sim, 1);
        merge_the_rest(sim);
        remove_the_expected(sim);
    } else {
        remove_the_gone(sim, 0);
    }
    sim.scrub();
}
