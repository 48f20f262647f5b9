//! Scenarios drawn from seeds. Everything about one follows from its family and its seed.

use replication::{AntiEntropyConfig, Availability, BucketPolicy, RawValues};

use super::{Family, Reduction, Scenario};
use crate::workload::{LIFE_MAX_MS, RETRIES_MS};
use crate::{DiskFaults, Fault, NetworkFaults, Random, Rates, SimOptions, Workload};

/// The scenario of a family that a seed stands for.
pub(super) fn draw(family: Family, seed: u64) -> Scenario {
    let (mut options, mut workload) = match family {
        Family::All | Family::Large => all(seed),
        Family::Sizes => sizes(seed),
        Family::Owners => owners(seed),
        Family::Fallbacks => fallbacks(seed),
        Family::Deadlines => deadlines(seed),
        Family::LostDisks => lost_disks(seed),
        Family::Compared => compared(seed),
        Family::Handover => handover(seed),
        Family::Removals => removals(seed),
        Family::Moving => moving(seed),
        Family::Forgetting => forgetting(seed),
        Family::Rings => rings(seed),
        Family::AllRings => all_rings(seed),
        Family::LastWords => last_words(seed),
        Family::Retries => retries(seed),
        Family::Names => names(seed),
        Family::Extremes => extremes(seed),
        Family::TakenBack => taken_back(seed),
    };
    if !matches!(family, Family::Retries | Family::Names) {
        vary(family, seed, &mut options, &mut workload);
    }
    Scenario { family, seed, options, workload, reduction: Reduction::default() }
}

/// What an engine that is to hold little may have in memory, in bytes: some segments of its log, when a checkpoint begins.
const MEMORY_SMALL: usize = 128 << 10;
/// And one that is to be full: less than sixty short names take there twice, before and while they go into the index.
const MEMORY_TIGHT: usize = 16 << 10;

/// What a scenario of any family may have beside what that is about: a second bucket, requests that say
/// their own levels, large collections, many keys, gossip; and one of all faults also the barrier,
/// outboxes that are soon full, members that are replaced, and nodes that are upgraded one by one.
fn vary(family: Family, seed: u64, options: &mut SimOptions, workload: &mut Workload) {
    let mut random = Random::new(seed ^ 0x0071_a7e5);
    let has_all = matches!(family, Family::All | Family::Large | Family::Sizes | Family::AllRings);
    if random.chance(400) {
        let n = *random.pick(&[1, 2, 2, 2]);
        let levels = if n == 1 { &[(1, 1)][..] } else { &[(2, 2), (2, 2), (1, 2), (2, 1), (1, 1)] };
        let raw = *random.pick(&[RawValues::Siblings, RawValues::Lww]);
        let ttl = if workload.deadlines > 0 { *random.pick(&[0, 0, 2]) } else { 0 };
        options.second = Some(BucketPolicy { n, raw, ttl, ..policy(&mut random, levels) });
    }
    if random.chance(300) {
        workload.levels = 200;
    }
    if random.chance(150) {
        workload.names = 60;
    }
    if random.chance(100) {
        workload.keys = 30;
    }
    options.gossip = options.anti_entropy.interval_ms.is_some() && random.chance(500);
    if has_all && random.chance(250) {
        options.barrier_ms = Some(*random.pick(&[1_000, 5_000]));
    }
    if has_all && random.chance(200) {
        workload.rates.set(Fault::Upgrade, 3);
    }
    if has_all && random.chance(100) {
        options.hint_bytes_max = *random.pick(&[300, 2_000]);
    }
    if workload.rates.of(Fault::Removal) > 0 && random.chance(500) {
        workload.rates.set(Fault::Replacement, 10);
    }
    if workload.rates.of(Fault::Upgrade) > 0 && random.chance(500) {
        workload.rates.set(Fault::Upgrade, 0);
        workload.rates.set(Fault::NextVersion, 3);
    }
    if has_all && random.chance(200) {
        workload.rates.set(Fault::CutTwo, 5);
    }
    if family == Family::Large {
        options.small_bounds = true;
        options.pending_bytes_max = MEMORY_SMALL;
        workload.names = 60;
        workload.keys = random.between(1, 3) as usize;
        if !seed.is_multiple_of(2) {
            // Checkpoints do not keep up with what is written meanwhile.
            options.pending_bytes_max = MEMORY_TIGHT;
            options.disk.commit_max_ms = 200;
        }
    }
    if has_all && random.chance(200) {
        workload.gives_up = *random.pick(&[30, 300]);
        options.retries_ms = RETRIES_MS;
    }
    if family == Family::Forgetting && random.chance(400) {
        // A log that goes over many rounds, as that of a node with little to do. It is damaged once or twice: what more
        // disks have lost than there are copies of need not be there.
        options.checkpoints = 0;
        options.barrier_ms = Some(100);
        options.anti_entropy.interval_ms = Some(1_000);
        workload.rates = Rates::default().with(Fault::LogRot, 4);
        (workload.pause_ms, workload.lasts_ms) = (4_000, 4_000);
        (workload.requests, workload.keys, workload.deletes) = (400, 20, 300);
    }
}

/// Has some nodes found a ring of their own, and the two become one.
fn part(random: &mut Random, options: &mut SimOptions, workload: &mut Workload) {
    options.apart = random.between(1, 3) as usize;
    options.nodes = options.apart + random.between(1, 3) as usize;
    workload.rates.set(Fault::Merge, *random.pick(&[10, 30, 100]));
}

/// Faults with their rates that come together.
type Kinds = &'static [(Fault, u32)];

/// Members cut from one another and from all, in all the ways that there are.
const CUTS: Kinds =
    &[(Fault::Cut, 10), (Fault::CutWay, 10), (Fault::Isolation, 10), (Fault::Split, 5)];
const CRASHES: Kinds = &[(Fault::ProcessCrash, 25), (Fault::MachineCrash, 25)];
const JUMPS: Kinds = &[(Fault::ClockJump, 10)];
const PAUSES: Kinds = &[(Fault::Pause, 20)];
const CHANGES: Kinds = &[(Fault::Join, 10), (Fault::Leave, 10), (Fault::Weight, 10)];

fn set(rates: &mut Rates, kind: Kinds) {
    kind.iter().for_each(|&(fault, rate)| rates.set(fault, rate));
}

/// Adds the faults of each kind with its chance, in a thousand.
fn add(rates: &mut Rates, random: &mut Random, kinds: &[(u32, Kinds)]) {
    for &(chance, kind) in kinds {
        if random.chance(chance) {
            set(rates, kind);
        }
    }
}

/// Adds each fault half the time, with a rate up to the one given.
fn add_some(rates: &mut Rates, random: &mut Random, faults: &[(Fault, u32)]) {
    for &(fault, most) in faults {
        if random.chance(500) {
            rates.set(fault, random.between(1, u64::from(most)) as u32);
        }
    }
}

fn network(random: &mut Random, has_faults: bool) -> NetworkFaults {
    let mut rate = |rates: &[u32]| if has_faults { *random.pick(rates) } else { 0 };
    let (loss, duplication, straggling) =
        (rate(&[0, 0, 20, 100, 300]), rate(&[0, 50, 300]), rate(&[0, 0, 50]));
    NetworkFaults {
        delay_min_ms: 1,
        delay_max_ms: random.between(1, 30),
        loss,
        duplication,
        garbling: 0,
        last_words: 0,
        straggling,
        straggle_ms: 3_000,
        notice_ms: random.between(1, 300),
    }
}

fn disk(random: &mut Random, has_faults: bool) -> DiskFaults {
    let fails = has_faults && random.chance(200);
    DiskFaults {
        commit_min_ms: 1,
        commit_max_ms: *random.pick(&[1, 10, 200]),
        refused: if fails { 30 } else { 0 },
        misreported: if fails { 10 } else { 0 },
    }
}

fn policy(random: &mut Random, levels: &[(u8, u8)]) -> BucketPolicy {
    let (r, w) = *random.pick(levels);
    let availability = if random.chance(250) { Availability::Quorum } else { Availability::Always };
    BucketPolicy { n: 3, r, w, availability, ..BucketPolicy::default() }
}

const LEVELS: [(u8, u8); 6] = [(2, 2), (2, 2), (2, 2), (1, 3), (3, 1), (1, 1)];

/// A cluster of so many nodes, whose network and disks may fail.
fn cluster(random: &mut Random, nodes: u64, has_faults: bool) -> SimOptions {
    SimOptions {
        nodes: nodes as usize,
        policy: policy(random, &LEVELS),
        network: network(random, has_faults),
        disk: disk(random, has_faults),
        skew_ms: *random.pick(&[0, 100, 10_000]),
        ..SimOptions::default()
    }
}

fn workload(random: &mut Random, rates: Rates) -> Workload {
    let pause_ms = *random.pick(&[5, 40, 200]);
    Workload {
        requests: 120,
        keys: random.between(1, 4) as usize,
        clients: random.between(1, 8) as usize,
        pause_ms,
        rates,
        lasts_ms: 30 * pause_ms,
        jump_ms: 120_000,
        name_bytes: 0,
        names: 3,
        deadlines: 0,
        life_ms: LIFE_MAX_MS,
        persists: 0,
        extremes: 0,
        levels: 0,
        deletes: 0,
        gives_up: 0,
    }
}

fn owners(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x0dd5_ca1e);
    let nodes = random.between(3, 5);
    let options = cluster(&mut random, nodes, true);
    let mut rates = Rates::default();
    add(&mut rates, &mut random, &[(700, CUTS), (500, CRASHES), (300, JUMPS)]);
    let workload = workload(&mut random, rates);
    (options, workload)
}

fn fallbacks(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x0fa1_1bac);
    let (options, mut workload) = owners(seed);
    let nodes = random.between(4, 5) as usize;
    let cover_ms = *random.pick(&[5, 20, 100]);
    set(&mut workload.rates, PAUSES);
    workload.name_bytes = *random.pick(&[0, 300]);
    (SimOptions { nodes, cover_ms, ..options }, workload)
}

fn deadlines(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x0dea_d11e);
    let (options, mut workload) = if random.chance(500) { owners(seed) } else { fallbacks(seed) };
    workload.deadlines = *random.pick(&[100, 400]);
    (options, workload)
}

fn lost_disks(seed: u64) -> (SimOptions, Workload) {
    let (options, mut workload) = owners(seed);
    set(&mut workload.rates, CRASHES);
    workload.rates.set(Fault::WipedDisk, 20);
    (options, workload)
}

/// Increments with names, under the same faults but for clocks: names are forgotten by time.
fn retries(seed: u64) -> (SimOptions, Workload) {
    let (options, mut workload) =
        if seed.is_multiple_of(3) { fallbacks(seed) } else { owners(seed) };
    workload.rates.set(Fault::ClockJump, 10);
    (SimOptions { skew_ms: 0, ..options }, workload)
}

/// Increments with names, and rounds of the barrier that are short beside the run. No disk is lost.
fn names(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x0f01_d000);
    let (options, mut workload) = match seed % 4 {
        0 | 1 => owners(seed),
        2 => fallbacks(seed),
        _ => handover(seed),
    };
    let anti_entropy = AntiEntropyConfig {
        interval_ms: Some(*random.pick(&[500, 2_000])),
        bytes_per_second: 1 << 20,
    };
    let options = SimOptions {
        anti_entropy,
        barrier_ms: Some(100),
        retries_ms: *random.pick(&[100, 500, 2_000]),
        folds: true,
        actors_resting: *random.pick(&[0, 0, 1, 8]),
        // Elements are looked at more often.
        small_bounds: true,
        pending_bytes_max: MEMORY_SMALL,
        gossip: random.chance(300),
        ..options
    };
    workload.pause_ms = *random.pick(&[40, 200, 400]);
    workload.lasts_ms = 20 * workload.pause_ms;
    workload.requests = 400;
    (options, workload)
}

/// Owners and fallbacks, with keys that remember few names, and clients that try again.
fn extremes(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x0e87_7e3e);
    let (mut options, mut workload) =
        if random.chance(500) { owners(seed) } else { fallbacks(seed) };
    options.names_max = *random.pick(&[4, 16, 1_024]);
    workload.gives_up = *random.pick(&[0, 30]);
    workload.extremes = 250;
    (options, workload)
}

fn taken_back(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x07a7_e4ba);
    let nodes = random.between(3, 4);
    let options = cluster(&mut random, nodes, false);
    let rates = Rates::default()
        .with(Fault::Isolation, *random.pick(&[10, 30]))
        .with(Fault::Cut, *random.pick(&[10, 30]))
        .with(Fault::CutWay, *random.pick(&[0, 30]));
    let mut workload = workload(&mut random, rates);
    workload.requests = 200;
    workload.keys = random.between(2, 8) as usize;
    (workload.pause_ms, workload.lasts_ms) = (500, 20_000);
    (workload.deadlines, workload.persists) = (150, 500);
    workload.life_ms = 15_000;
    (SimOptions { skew_ms: 0, ..options }, workload)
}

fn compared(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0xa27e_3909);
    let nodes = random.between(3, 5);
    let options = cluster(&mut random, nodes, true);
    let options = SimOptions {
        cover_ms: *random.pick(&[5, 100]),
        anti_entropy: AntiEntropyConfig {
            interval_ms: Some(*random.pick(&[1_000, 3_000, 30_000])),
            bytes_per_second: *random.pick(&[20_000, 1 << 20]),
        },
        hints_lost: *random.pick(&[0, 300, 1_000]),
        ..options
    };
    let mut rates = Rates::default();
    let wiped: Kinds = &[(Fault::WipedDisk, 15)];
    let kinds = [(700, CUTS), (600, CRASHES), (400, wiped), (300, JUMPS), (300, PAUSES)];
    add(&mut rates, &mut random, &kinds);
    let mut workload = workload(&mut random, rates);
    workload.keys = random.between(1, 6) as usize;
    workload.name_bytes = *random.pick(&[0, 300]);
    workload.deadlines = if seed.is_multiple_of(2) { 200 } else { 0 };
    (options, workload)
}

fn handover(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x4a4d_0be5);
    let has_faults = random.chance(600);
    let nodes = random.between(2, 5);
    let partitions = *random.pick(&[4, 16]);
    let options = cluster(&mut random, nodes, has_faults);
    let cover_ms = *random.pick(&[5, 100]);
    let mut rates = Rates::default();
    set(&mut rates, CHANGES);
    if has_faults {
        add(&mut rates, &mut random, &[(600, CUTS), (500, CRASHES), (300, PAUSES)]);
    }
    add(&mut rates, &mut random, &[(300, JUMPS)]);
    let mut workload = workload(&mut random, rates);
    workload.requests = *random.pick(&[120, 300]);
    workload.keys = random.between(1, 6) as usize;
    workload.name_bytes = *random.pick(&[0, 300]);
    (SimOptions { partitions, cover_ms, ..options }, workload)
}

fn removals(seed: u64) -> (SimOptions, Workload) {
    let (options, mut workload) = handover(seed);
    workload.rates.set(Fault::Removal, 10);
    (SimOptions { nodes: options.nodes.max(4), ..options }, workload)
}

fn moving(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x0030_b1e5);
    let nodes = random.between(4, 5);
    let options = cluster(&mut random, nodes, false);
    let network = NetworkFaults {
        delay_max_ms: *random.pick(&[30, 200]),
        straggling: *random.pick(&[0, 50]),
        ..options.network
    };
    let rates = Rates::default()
        .with(Fault::Weight, 30)
        .with(Fault::Leave, 10)
        .with(Fault::Join, 5)
        .with(Fault::Split, 30)
        .with(Fault::Cut, 15)
        .with(Fault::CutWay, 15)
        .with(Fault::Isolation, 10)
        .with(Fault::Pause, 10);
    let mut workload = workload(&mut random, rates);
    workload.requests = 400;
    workload.keys = random.between(1, 2) as usize;
    workload.clients = 8;
    (workload.pause_ms, workload.lasts_ms) = (40, 1_500);
    (SimOptions { partitions: 4, network, ..options }, workload)
}

fn forgetting(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0xba44_1e40);
    let nodes = random.between(3, 5);
    let options = cluster(&mut random, nodes, true);
    let mut options = SimOptions {
        cover_ms: *random.pick(&[5, 100]),
        anti_entropy: AntiEntropyConfig { interval_ms: Some(3_000), bytes_per_second: 1 << 20 },
        barrier_ms: Some(*random.pick(&[100, 1_000, 5_000])),
        ..options
    };
    options.network.straggle_ms = *random.pick(&[3_000, 20_000]);
    let mut rates = Rates::default();
    // Nodes that come back empty, or as they were some time ago, and are behind then.
    let behind: Kinds = &[(Fault::WipedDisk, 10), (Fault::OldDisk, 20)];
    let kinds =
        [(700, CUTS), (600, CRASHES), (300, JUMPS), (500, PAUSES), (400, CHANGES), (300, behind)];
    add(&mut rates, &mut random, &kinds);
    let mut workload = workload(&mut random, rates);
    workload.requests = 200;
    workload.keys = random.between(1, 6) as usize;
    workload.pause_ms = *random.pick(&[40, 200, 1_000]);
    workload.lasts_ms = 30 * workload.pause_ms;
    workload.name_bytes = *random.pick(&[0, 300]);
    options.anti_entropy.bytes_per_second = *random.pick(&[1 << 20, 20_000]);
    options.hints_lost = *random.pick(&[0, 0, 300, 1_000]);
    if random.chance(500) {
        // Two owners, or one and who holds a hint for it, do not meet for many rounds, of which they hear through
        // others all the while. With two owners of eight few have something to compare, for which a round waits.
        options.nodes = 8;
        options.partitions = 8;
        options.policy = BucketPolicy { n: 2, r: 1, w: 1, ..options.policy };
        options.barrier_ms = Some(100);
        workload.rates = Rates::default().with(Fault::Cut, 4).with(Fault::CutTwo, 8);
        (workload.pause_ms, workload.lasts_ms) = (1_000, 90_000);
        (workload.requests, workload.keys, workload.deletes) = (400, 20, 300);
    }
    (options, workload)
}

fn rings(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x0002_2146);
    let (mut options, mut workload) = forgetting(seed);
    if random.chance(500) {
        options.barrier_ms = None;
    }
    set(&mut workload.rates, CRASHES);
    part(&mut random, &mut options, &mut workload);
    (options, workload)
}

fn last_words(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x01a5_7e0d);
    let drawn = [compared, removals, forgetting];
    let (mut options, mut workload) = random.pick(&drawn)(seed);
    set(&mut workload.rates, CRASHES);
    options.network.last_words = 1_000;
    options.network.straggling = 50;
    (options, workload)
}

/// How long a year is, in milliseconds.
const YEAR_MS: u64 = 365 * 24 * 3_600_000;

/// All faults, each in some seeds and not in others, so that none hides another for ever.
fn all(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0xa11_fa17);
    let mut rates = Rates::default();
    add_some(
        &mut rates,
        &mut random,
        &[
            (Fault::Cut, 10),
            (Fault::CutWay, 10),
            (Fault::Split, 10),
            (Fault::Isolation, 10),
            (Fault::Clog, 10),
            (Fault::Slowness, 10),
            (Fault::Pause, 10),
            (Fault::ProcessCrash, 15),
            (Fault::MachineCrash, 15),
            (Fault::FullDisk, 5),
            (Fault::ReadOnlyDisk, 5),
            (Fault::SlowSync, 10),
            (Fault::ClockJump, 10),
            (Fault::Flood, 5),
            (Fault::ForgedContext, 20),
        ],
    );
    // What takes something from a disk, and what moves it elsewhere: one or the other, most often.
    let (loses, changes) =
        *random.pick(&[(false, false), (true, false), (false, true), (true, true)]);
    if loses {
        let faults = [
            (Fault::MisdirectedWrite, 10),
            (Fault::RowRot, 10),
            (Fault::LogRot, 5),
            (Fault::WipedDisk, 10),
            (Fault::OldDisk, 10),
            (Fault::ClonedDisk, 10),
        ];
        add_some(&mut rates, &mut random, &faults);
    }
    if changes {
        let faults =
            [(Fault::Join, 10), (Fault::Leave, 10), (Fault::Weight, 10), (Fault::Removal, 5)];
        add_some(&mut rates, &mut random, &faults);
    }
    let network =
        NetworkFaults { garbling: *random.pick(&[0, 2, 10]), ..network(&mut random, true) };
    let options = SimOptions {
        nodes: 5,
        partitions: *random.pick(&[8, 16]),
        policy: policy(&mut random, &LEVELS),
        network,
        disk: disk(&mut random, true),
        skew_ms: *random.pick(&[0, 100, 10_000]),
        drift_ppm: *random.pick(&[0, 200, 50_000]),
        cover_ms: *random.pick(&[5, 20, 100]),
        requests_max: *random.pick(&[20, 1_000]),
        anti_entropy: AntiEntropyConfig {
            interval_ms: Some(*random.pick(&[1_000, 3_000, 30_000])),
            bytes_per_second: *random.pick(&[20_000, 1 << 20]),
        },
        hints_lost: if loses { *random.pick(&[0, 300]) } else { 0 },
        ..SimOptions::default()
    };
    let has_years = random.chance(100);
    let workload = Workload {
        requests: 600,
        keys: random.between(1, 6) as usize,
        clients: random.between(1, 8) as usize,
        // 600 pauses of 100 ms on the average.
        pause_ms: 200,
        rates,
        lasts_ms: *random.pick(&[500, 3_000, 10_000]),
        jump_ms: if has_years { YEAR_MS } else { 120_000 },
        name_bytes: *random.pick(&[0, 0, 300]),
        names: 3,
        deadlines: if has_years { 0 } else { *random.pick(&[0, 100]) },
        life_ms: LIFE_MAX_MS,
        persists: 0,
        extremes: 0,
        levels: 0,
        deletes: 0,
        gives_up: 0,
    };
    (options, workload)
}

/// All faults in clusters of other sizes. Partitions as a small cluster has them: a few for each node.
fn sizes(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x0051_2e50);
    let (mut options, workload) = all(seed);
    // A run takes as long as a hundred others where each of a hundred nodes compares and gossips.
    let is_large = random.chance(20);
    options.nodes = if is_large { 100 } else { *random.pick(&[1, 1, 1, 2, 2, 2, 3, 12, 12, 30]) };
    options.network.last_words = *random.pick(&[0, 500, 1_000]);
    options.partitions = options.partitions.max(4 * options.nodes as u32).next_power_of_two();
    (options, workload)
}

fn all_rings(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x0a11_2146);
    let (mut options, mut workload) = all(seed);
    part(&mut random, &mut options, &mut workload);
    (options, workload)
}
