//! Scenarios drawn from seeds. Everything about one follows from its family and its seed.

use std::fmt;
use std::str::FromStr;

use replication::{AntiEntropyConfig, Availability, BucketPolicy};

use super::{Reduction, Scenario};
use crate::{DiskFaults, Fault, NetworkFaults, Random, Rates, SimOptions, Workload};

/// A kind of scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    /// All faults together, for 60 simulated seconds on five nodes, replicas compared in the
    /// background: what `run` runs.
    All,
    /// Owners only, and no disk lost: a bad network, failing disks, crashes and wrong clocks.
    Owners,
    /// The same with more nodes than owners, of which some pause: what owners miss is kept by
    /// fallbacks.
    Fallbacks,
    /// Either of them, with keys that have deadlines.
    Deadlines,
    /// As `Owners`, with disks that are lost.
    LostDisks,
    /// Replicas are compared in the background; outboxes and disks lose what they hold.
    Compared,
    /// Nodes join and leave and get other weights.
    Handover,
    /// The same, with members that are killed for good and removed.
    Removals,
    /// What is left of deleted keys is forgotten meanwhile, behind the barrier.
    Forgetting,
    /// Increments with names, sent again and again: what each counts, whatever its faults.
    Retries,
}

impl Family {
    /// Every family.
    pub const ALL: [Self; 10] = [
        Self::All,
        Self::Owners,
        Self::Fallbacks,
        Self::Deadlines,
        Self::LostDisks,
        Self::Compared,
        Self::Handover,
        Self::Removals,
        Self::Forgetting,
        Self::Retries,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Owners => "owners",
            Self::Fallbacks => "fallbacks",
            Self::Deadlines => "deadlines",
            Self::LostDisks => "lost-disks",
            Self::Compared => "compared",
            Self::Handover => "handover",
            Self::Removals => "removals",
            Self::Forgetting => "forgetting",
            Self::Retries => "retries",
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Family {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let names = Self::ALL.map(Self::name).join(", ");
        let known = Self::ALL.into_iter().find(|family| family.name() == text);
        known.ok_or_else(|| format!("no family {text:?}; one of {names}"))
    }
}

/// The scenario of a family that a seed stands for.
pub(super) fn draw(family: Family, seed: u64) -> Scenario {
    let (options, workload) = match family {
        Family::All => all(seed),
        Family::Owners => owners(seed),
        Family::Fallbacks => fallbacks(seed),
        Family::Deadlines => deadlines(seed),
        Family::LostDisks => lost_disks(seed),
        Family::Compared => compared(seed),
        Family::Handover => handover(seed),
        Family::Removals => removals(seed),
        Family::Forgetting => forgetting(seed),
        Family::Retries => retries(seed),
    };
    Scenario { family, seed, options, workload, reduction: Reduction::default() }
}

/// Members cut from one another and from all, in all the ways that there are.
fn cuts(rates: Rates) -> Rates {
    rates
        .with(Fault::Cut, 10)
        .with(Fault::CutWay, 10)
        .with(Fault::Isolation, 10)
        .with(Fault::Split, 5)
}

fn crashes(rates: Rates) -> Rates {
    rates.with(Fault::ProcessCrash, 25).with(Fault::MachineCrash, 25)
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
        deadlines: 0,
    }
}

fn owners(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x0dd5_ca1e);
    let options = SimOptions {
        nodes: random.between(3, 5) as usize,
        policy: policy(&mut random, &LEVELS),
        network: network(&mut random, true),
        disk: disk(&mut random, true),
        skew_ms: *random.pick(&[0, 100, 10_000]),
        ..SimOptions::default()
    };
    let mut rates = Rates::default();
    if random.chance(700) {
        rates = cuts(rates);
    }
    if random.chance(500) {
        rates = crashes(rates);
    }
    if random.chance(300) {
        rates.set(Fault::ClockJump, 10);
    }
    let workload = workload(&mut random, rates);
    (options, workload)
}

fn fallbacks(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x0fa1_1bac);
    let (options, mut workload) = owners(seed);
    let nodes = random.between(4, 5) as usize;
    let cover_ms = *random.pick(&[5, 20, 100]);
    workload.rates.set(Fault::Pause, 20);
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
    workload.rates = crashes(workload.rates).with(Fault::WipedDisk, 20);
    (options, workload)
}

/// Increments with names, under the same faults but for clocks: names are forgotten by time.
fn retries(seed: u64) -> (SimOptions, Workload) {
    let (options, mut workload) =
        if seed.is_multiple_of(3) { fallbacks(seed) } else { owners(seed) };
    workload.rates.set(Fault::ClockJump, 10);
    (SimOptions { skew_ms: 0, ..options }, workload)
}

fn compared(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0xa27e_3909);
    let options = SimOptions {
        nodes: random.between(3, 5) as usize,
        policy: policy(&mut random, &LEVELS),
        network: network(&mut random, true),
        disk: disk(&mut random, true),
        skew_ms: *random.pick(&[0, 100, 10_000]),
        cover_ms: *random.pick(&[5, 100]),
        anti_entropy: AntiEntropyConfig {
            interval_ms: Some(*random.pick(&[1_000, 3_000, 30_000])),
            bytes_per_second: *random.pick(&[20_000, 1 << 20]),
        },
        hints_lost: *random.pick(&[0, 300, 1_000]),
        ..SimOptions::default()
    };
    let mut rates = Rates::default();
    if random.chance(700) {
        rates = cuts(rates);
    }
    if random.chance(600) {
        rates = crashes(rates);
    }
    if random.chance(400) {
        rates.set(Fault::WipedDisk, 15);
    }
    if random.chance(300) {
        rates.set(Fault::ClockJump, 10);
    }
    if random.chance(300) {
        rates.set(Fault::Pause, 20);
    }
    let mut workload = workload(&mut random, rates);
    workload.keys = random.between(1, 6) as usize;
    workload.name_bytes = *random.pick(&[0, 300]);
    workload.deadlines = if seed.is_multiple_of(2) { 200 } else { 0 };
    (options, workload)
}

fn handover(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0x4a4d_0be5);
    let has_faults = random.chance(600);
    let options = SimOptions {
        nodes: random.between(2, 5) as usize,
        partitions: *random.pick(&[4, 16]),
        policy: policy(&mut random, &LEVELS),
        network: network(&mut random, has_faults),
        disk: disk(&mut random, has_faults),
        skew_ms: *random.pick(&[0, 100, 10_000]),
        cover_ms: *random.pick(&[5, 100]),
        ..SimOptions::default()
    };
    let mut rates = changes(Rates::default());
    if has_faults && random.chance(600) {
        rates = cuts(rates);
    }
    if has_faults && random.chance(500) {
        rates = crashes(rates);
    }
    if has_faults && random.chance(300) {
        rates.set(Fault::Pause, 20);
    }
    if random.chance(300) {
        rates.set(Fault::ClockJump, 10);
    }
    let mut workload = workload(&mut random, rates);
    workload.requests = *random.pick(&[120, 300]);
    workload.keys = random.between(1, 6) as usize;
    workload.name_bytes = *random.pick(&[0, 300]);
    (options, workload)
}

fn changes(rates: Rates) -> Rates {
    rates.with(Fault::Join, 10).with(Fault::Leave, 10).with(Fault::Weight, 10)
}

fn removals(seed: u64) -> (SimOptions, Workload) {
    let (options, mut workload) = handover(seed);
    workload.rates.set(Fault::Removal, 10);
    (SimOptions { nodes: options.nodes.max(4), ..options }, workload)
}

fn forgetting(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0xba44_1e40);
    let options = SimOptions {
        nodes: random.between(3, 5) as usize,
        policy: policy(&mut random, &LEVELS),
        network: NetworkFaults {
            straggle_ms: *random.pick(&[3_000, 20_000]),
            ..network(&mut random, true)
        },
        disk: disk(&mut random, true),
        skew_ms: *random.pick(&[0, 100, 10_000]),
        cover_ms: *random.pick(&[5, 100]),
        anti_entropy: AntiEntropyConfig { interval_ms: Some(3_000), bytes_per_second: 1 << 20 },
        barrier_ms: Some(*random.pick(&[100, 1_000, 5_000])),
        ..SimOptions::default()
    };
    let mut rates = Rates::default();
    if random.chance(700) {
        rates = cuts(rates);
    }
    if random.chance(600) {
        rates = crashes(rates);
    }
    if random.chance(300) {
        rates.set(Fault::ClockJump, 10);
    }
    if random.chance(500) {
        rates.set(Fault::Pause, 20);
    }
    if random.chance(400) {
        rates = changes(rates);
    }
    // Nodes that come back empty, or as they were some time ago, and are behind then.
    if random.chance(300) {
        rates = rates.with(Fault::WipedDisk, 10).with(Fault::OldDisk, 20);
    }
    let mut workload = workload(&mut random, rates);
    workload.requests = 200;
    workload.keys = random.between(1, 6) as usize;
    workload.pause_ms = *random.pick(&[40, 200, 1_000]);
    workload.lasts_ms = 30 * workload.pause_ms;
    workload.name_bytes = *random.pick(&[0, 300]);
    (options, workload)
}

/// How long a year is, in milliseconds.
const YEAR_MS: u64 = 365 * 24 * 3_600_000;

/// All faults, each in some seeds and not in others, so that none hides another for ever.
fn all(seed: u64) -> (SimOptions, Workload) {
    let mut random = Random::new(seed ^ 0xa11_fa17);
    let mut rates = Rates::default();
    let some = |rates: &mut Rates, random: &mut Random, faults: &[(Fault, u32)]| {
        for &(fault, most) in faults {
            if random.chance(500) {
                rates.set(fault, random.between(1, u64::from(most)) as u32);
            }
        }
    };
    some(
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
        some(&mut rates, &mut random, &faults);
    }
    if changes {
        let faults =
            [(Fault::Join, 10), (Fault::Leave, 10), (Fault::Weight, 10), (Fault::Removal, 5)];
        some(&mut rates, &mut random, &faults);
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
        deadlines: if has_years { 0 } else { *random.pick(&[0, 100]) },
    };
    (options, workload)
}
