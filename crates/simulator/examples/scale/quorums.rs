//! How often requests find fewer owners than asked for, and reads show less than was acknowledged, by r
//! and w and by the part of the time for which each node is away.

use std::collections::BTreeMap;

use plotters::coord::Shift;
use plotters::prelude::*;
use replication::{Action, Level, Request};
use simulator::{NetworkFaults, Random, Sim, SimOptions};
use values::{Blob, Key, Operation, RegisterOp, Scope, State, Tag, View};

use crate::Failure;
use crate::charts::{BLUE, Chart, GREEN, Line, RED, YELLOW, draw as draw_chart};

const NODES: usize = 9;
const KEYS: u64 = 100;
/// (r, w) of n = 3.
const LEVELS: [(u8, u8); 5] = [(1, 1), (2, 1), (2, 2), (1, 3), (3, 1)];
/// Part of the time for which each node is away.
const AWAY: [f64; 4] = [0.001, 0.01, 0.03, 0.1];
/// Mean length of an outage. A guess: between a restart and somebody who looks after it.
const OUTAGE_MS: f64 = 30_000.0;
/// From one request to the next.
const PAUSE_MS: u64 = 50;
const REQUESTS: u64 = 20_000;

#[derive(Default)]
pub(crate) struct Figures {
    reads: u64,
    writes: u64,
    failed: u64,
    unmet_reads: u64,
    unmet_writes: u64,
    stale: u64,
    stale_met: u64,
}

pub(crate) struct Measured {
    level: (u8, u8),
    /// By [`AWAY`].
    figures: Vec<Figures>,
}

/// When each node goes away, or comes back.
struct Outages {
    random: Random,
    away: f64,
    /// By node: whether it is away, until when it stays as it is.
    nodes: Vec<(bool, u64)>,
}

impl Outages {
    fn new(seed: u64, away: f64) -> Self {
        let mut outages = Self { random: Random::new(seed), away, nodes: Vec::new() };
        for _ in 0..NODES {
            let until = outages.length(false);
            outages.nodes.push((false, until));
        }
        outages
    }

    /// Drawn from an exponential distribution.
    fn length(&mut self, is_away: bool) -> u64 {
        let mean = if is_away { OUTAGE_MS } else { OUTAGE_MS * (1.0 - self.away) / self.away };
        let part = (self.random.below(1 << 53) + 1) as f64 / (1_u64 << 53) as f64;
        (-part.ln() * mean) as u64 + 1
    }

    fn pass(&mut self, sim: &mut Sim) {
        for node in 0..NODES {
            let (is_away, until_ms) = self.nodes[node];
            if sim.now_ms() < until_ms {
                continue;
            }
            // One kind of outage in two: the process stands still, or is gone and starts again.
            let pauses = node % 2 == 0;
            match (is_away, pauses) {
                (false, true) => sim.pause(node),
                (false, false) => sim.crash(node),
                (true, true) => sim.resume(node),
                (true, false) => sim.restart(node),
            }
            let length = self.length(!is_away);
            self.nodes[node] = (!is_away, sim.now_ms() + length);
        }
    }

    fn some_node_that_is_there(&mut self) -> Option<usize> {
        let there: Vec<usize> = (0..NODES).filter(|&node| !self.nodes[node].0).collect();
        (!there.is_empty()).then(|| *self.random.pick(&there))
    }
}

fn number(view: &View) -> u64 {
    let Some(State::Register(register)) = view.value.state(Tag::LWW) else { return 0 };
    let text = register.read().unwrap_or_default();
    str::from_utf8(&text).ok().and_then(|text| text.parse().ok()).unwrap_or(0)
}

fn run((r, w): (u8, u8), away: f64) -> Figures {
    let network = NetworkFaults { delay_min_ms: 1, delay_max_ms: 3, ..NetworkFaults::default() };
    let mut sim = Sim::new(1, SimOptions { nodes: NODES, network, ..SimOptions::default() });
    let (mut outages, mut random) = (Outages::new(7, away), Random::new(1));
    let mut acknowledged = BTreeMap::<u64, u64>::new();
    let mut figures = Figures::default();
    for step in 1..=REQUESTS {
        sim.advance(random.below(2 * PAUSE_MS));
        outages.pass(&mut sim);
        let Some(node) = outages.some_node_that_is_there() else { continue };
        let name = random.below(KEYS);
        let key = Key::new("default", format!("key{name}")).expect("it is short");
        let is_read = step % 2 == 0;
        let mut request = if is_read {
            Request::get(key, Scope::Whole)
        } else {
            let value = Blob::from(step.to_string());
            Request::update(
                key,
                Operation::Register(RegisterOp::Set { value, at: None, replace: true }),
            )
        };
        request.level = Level { r: Some(r), w: Some(w), n: None };
        debug_assert_eq!(matches!(request.action, Action::Get(_)), is_read);
        let answer = sim.request(node, request);
        match (&answer, is_read) {
            (Ok(answer), true) => {
                figures.reads += 1;
                let is_stale = number(&answer.view) < acknowledged.get(&name).copied().unwrap_or(0);
                figures.unmet_reads += u64::from(!answer.acks.is_met());
                figures.stale += u64::from(is_stale);
                figures.stale_met += u64::from(is_stale && answer.acks.is_met());
            }
            (Ok(answer), false) => {
                figures.writes += 1;
                figures.unmet_writes += u64::from(!answer.acks.is_met());
                acknowledged.insert(name, step);
            }
            (Err(_), true) => {
                (figures.reads, figures.failed) = (figures.reads + 1, figures.failed + 1)
            }
            (Err(_), false) => {
                (figures.writes, figures.failed) = (figures.writes + 1, figures.failed + 1);
            }
        }
    }
    figures
}

pub(crate) fn measure() -> Vec<Measured> {
    let of = |level| {
        let figures = AWAY.into_iter().map(|away| run(level, away)).collect();
        Measured { level, figures }
    };
    LEVELS.into_iter().map(of).collect()
}

fn part(some: u64, all: u64) -> f64 {
    some as f64 / all.max(1) as f64
}

pub(crate) fn print(measured: &[Measured]) {
    eprintln!(
        "r w | away | reads, writes, failed | in 100,000: reads unmet, writes unmet, stale, stale though met"
    );
    for it in measured {
        let (r, w) = it.level;
        for (away, of) in AWAY.iter().zip(&it.figures) {
            let figure = |some, all| format!("{:.0}", part(some, all) * 1e5);
            eprintln!(
                "{r} {w} | {away} | {} {} {} | {} {} {} {}",
                of.reads,
                of.writes,
                of.failed,
                figure(of.unmet_reads, of.reads),
                figure(of.unmet_writes, of.writes),
                figure(of.stale, of.reads),
                figure(of.stale_met, of.reads),
            );
        }
    }
}

pub(crate) fn draw(
    left: &DrawingArea<SVGBackend<'_>, Shift>,
    right: &DrawingArea<SVGBackend<'_>, Shift>,
    measured: &[Measured],
) -> Result<(), Failure> {
    let colors = [RED, YELLOW, BLUE, GREEN, RGBColor(0x80, 0x50, 0xa0)];
    let lines = |value: fn(&Figures) -> f64| -> Vec<Line> {
        let line = |(it, color): (&Measured, RGBColor)| Line {
            name: format!("r = {}, w = {}", it.level.0, it.level.1),
            color,
            points: AWAY.iter().zip(&it.figures).map(|(&x, of)| (x * 100.0, value(of))).collect(),
        };
        measured.iter().zip(colors).map(line).collect()
    };
    let xs = AWAY.map(|away| away * 100.0);
    let chart = |about, most| Chart {
        about,
        x: "% of the time that each node is away",
        y: "% of requests",
        xs: &xs,
        range: 0.0..most,
        is_log: false,
    };
    // A little above the highest point.
    let above = |lines: &[Line]| {
        let highest = lines.iter().flat_map(|line| &line.points).map(|&(_, y)| y);
        1.1 * highest.fold(0.01, f64::max)
    };
    let unmet = lines(|of| {
        100.0 * part(of.unmet_reads + of.unmet_writes + of.failed, of.reads + of.writes)
    });
    draw_chart(left, &chart("fewer owners than asked for", above(&unmet)), &unmet)?;
    let stale = lines(|of| 100.0 * part(of.stale, of.reads));
    draw_chart(right, &chart("reads that show less than acknowledged", above(&stale)), &stale)
}
