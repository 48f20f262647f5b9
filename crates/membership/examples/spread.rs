//! How gossip does at 10 to 1,000 nodes, on a network that delays each message by 1 to 100 ms and loses
//! one in a hundred, with timers up to a fifth of a round late: rounds until a change is known to all, seconds until
//! a dead node is suspected by all, bytes that a node sends and receives in a second.
//!
//! Prints an SVG, and the numbers to standard error; with `--day` simulates a day of 30 nodes of which
//! none fails, and counts suspicions; with `--ten-minutes` ten minutes of 1,000 nodes, and tells how long
//! that takes.

#[path = "../tests/scenarios/double.rs"]
mod double;

use std::collections::{BTreeMap, BTreeSet};

use clock::NodeId;
use double::{CLUSTER, Faults, Network, Outcome, Random, address};
use membership::{
    About, Command, Config, Gossip, Incarnation, Liveness, Load, Record, Snapshot, Table, Values,
};
use plotters::coord::Shift;
use plotters::prelude::*;

const SIZES: [u64; 5] = [10, 30, 100, 300, 1_000];
const ROUND_MS: u64 = 1_000;
/// Nodes in the simulated day.
const DAY_NODES: u64 = 30;
/// Changes whose spreading is measured, for each size.
const CHANGES: u64 = 200;
/// Time from one change to the next.
const CHANGE_MS: u64 = 50;
/// Nodes that die, one after the other, for each size.
const DEATHS: u64 = 3;
/// How often a node says how busy it is.
const LOAD_MS: u64 = 30_000;
const FAULTS: Faults = Faults {
    delay_min_ms: 1,
    delay_max_ms: 100,
    loss: 10,
    duplication: 0,
    lateness_ms: ROUND_MS / 5,
};

type Failure = Box<dyn std::error::Error>;

/// What was measured at one size.
struct Measured {
    nodes: u64,
    /// Rounds until each change was known to all, ascending.
    rounds: Vec<f64>,
    /// Seconds from each death until each observer suspected the dead, ascending.
    seconds: Vec<f64>,
    /// Suspicions of nodes that live, in all that time.
    false_suspicions: usize,
    /// KB that each node sent and received in a second: mean, most of any node's sendings. While nothing
    /// changes but how busy nodes are, and while something changes twenty times a second.
    quiet_kb: f64,
    busy_kb: f64,
    /// The longest message, in KB.
    longest_kb: f64,
}

fn main() -> Result<(), Failure> {
    let arguments: BTreeSet<String> = std::env::args().skip(1).collect();
    if arguments.contains("--day") {
        day();
        return Ok(());
    }
    if arguments.contains("--ten-minutes") {
        ten_minutes();
        return Ok(());
    }
    let measured: Vec<Measured> = SIZES.into_iter().map(measure).collect();
    print_table(&measured);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (1_140, 380)).into_drawing_area();
        area.fill(&WHITE)?;
        let panels = area.split_evenly((1, 3));
        draw_all(&panels, &measured)?;
        area.present()?;
    }
    println!("{}", svg.trim_end());
    Ok(())
}

/// Real ids are hashes: few are short.
const ID_BITS: u64 = 1 << 63;

fn id(host: u64) -> NodeId {
    NodeId(ID_BITS | host)
}

/// `nodes` nodes that have known each other for long.
fn settled(seed: u64, nodes: u64) -> Network {
    let mut random = Random(seed);
    let incarnation = Incarnation { generation: 1, nonce: 1 };
    let ids = BTreeSet::from([CLUSTER]);
    let configs: Vec<(Config, Record)> = (1..=nodes)
        .map(|host| {
            let (node, about) = (id(host), About::new(format!("node{host}"), address(host)));
            let mut config = Config::new(node, "ducks", about, random.next());
            config.seeds = (1..=3).map(address).collect();
            config.bootstrap = Some(CLUSTER);
            let alone = Gossip::new(config.clone(), None, 0).expect("valid");
            (config, alone.own().clone())
        })
        .collect();
    // Each starts with generation 2 and knows that the others do.
    let started: Table = configs
        .iter()
        .map(|(config, record)| {
            let mut record = record.clone();
            record.entry.incarnation.generation = 2;
            record.entry.over = Some(incarnation.nonce);
            (config.node, record)
        })
        .collect();
    let mut network = Network::new(seed);
    network.encoded = false;
    network.faults = FAULTS;
    for (config, record) in configs {
        let node = config.node;
        let others = started.iter().filter(|&(other, _)| other != node);
        let others = others.map(|(node, record)| (node, record.clone()));
        let table = others.chain([(node, record)]).collect();
        let values = Values::default();
        let snapshot = Snapshot { ids: ids.clone(), incarnation, table, values };
        network.start_from(node.0 ^ ID_BITS, config, Some(snapshot));
    }
    network.run(20 * ROUND_MS);
    network.forget_outcomes();
    network
}

fn measure(nodes: u64) -> Measured {
    eprintln!("{nodes} nodes");
    let mut network = settled(nodes, nodes);
    network.counted = true;

    network.bytes_sent.clear();
    let quiet_s = 20;
    // Nodes are busy, each at a time of its own.
    for step in 0..quiet_s * 10 {
        for host in (1..=nodes).filter(|host| host * LOAD_MS / nodes / 100 == step % 300) {
            let load = Load { stored_bytes: 1 << 40 | step, requests_per_second: 50_000 };
            network.command(host, Command::Busy(load)).expect("a member");
        }
        network.run(100);
    }
    let kilobytes = |network: &Network, seconds: u64| {
        // What is sent is received, but for what is lost.
        let sent = network.bytes_sent.values().sum::<u64>() as f64;
        2.0 * sent / 1_000.0 / nodes as f64 / seconds as f64
    };
    let quiet_kb = kilobytes(&network, quiet_s);

    network.bytes_sent.clear();
    let start_ms = network.now_ms;
    let rounds = spread(&mut network, nodes);
    let busy_kb = kilobytes(&network, (network.now_ms - start_ms) / 1_000);
    let longest_kb = network.bytes_longest as f64 / 1_000.0;
    network.counted = false;

    let false_suspicions = suspicions(&network, nodes);
    let seconds = deaths(&mut network, nodes);
    let false_suspicions = false_suspicions + seconds.1;
    let seconds = seconds.0;
    Measured { nodes, rounds, seconds, false_suspicions, quiet_kb, busy_kb, longest_kb }
}

/// Rounds until each of many changes was known to all.
fn spread(network: &mut Network, nodes: u64) -> Vec<f64> {
    let mut pending: Vec<(u64, u64, u64)> = Vec::new();
    let mut rounds = Vec::new();
    for step in 0.. {
        let at_ms = network.now_ms;
        if step * 50 % CHANGE_MS == 0 && step * 50 / CHANGE_MS < CHANGES {
            let host = 1 + network.random.below(nodes);
            let version = network.gossip(host).own().entry.version + 1;
            let load = Load { stored_bytes: at_ms, requests_per_second: 1 };
            network.command(host, Command::Busy(load)).expect("a member");
            pending.push((host, version, at_ms));
        } else if pending.is_empty() {
            break;
        }
        network.run(50);
        let now_ms = network.now_ms;
        pending.retain(|&(node, version, changed_ms)| {
            let known = (1..=nodes).all(|host| {
                let record = network.gossip(host).table().get(id(node));
                record.is_some_and(|record| record.entry.version >= version)
            });
            if known {
                rounds.push((now_ms - changed_ms) as f64 / ROUND_MS as f64);
            }
            !known
        });
    }
    rounds.sort_by(f64::total_cmp);
    rounds
}

/// Seconds until each observer suspects each node that dies, and suspicions of others meanwhile.
fn deaths(network: &mut Network, nodes: u64) -> (Vec<f64>, usize) {
    let mut seconds = Vec::new();
    let mut dead = BTreeSet::new();
    let mut others = 0;
    for _ in 0..DEATHS.min(nodes / 3) {
        network.forget_outcomes();
        let mut victim = 1 + network.random.below(nodes);
        while !dead.insert(victim) {
            victim = 1 + network.random.below(nodes);
        }
        let died_ms = network.now_ms;
        network.kill(victim);
        let mut suspected: BTreeMap<u64, u64> = BTreeMap::new();
        while (suspected.len() as u64) < nodes - dead.len() as u64 {
            assert!(network.now_ms - died_ms < 60_000, "all suspect the dead in time");
            network.run(1_000);
            for host in (1..=nodes).filter(|host| !dead.contains(host)) {
                for (at_ms, outcome) in network.outcomes(host) {
                    match *outcome {
                        Outcome::Liveness(node, Liveness::Suspected) if node == id(victim) => {
                            suspected.insert(host, at_ms - died_ms);
                        }
                        Outcome::Liveness(_, Liveness::Suspected) => others += 1,
                        _ => (),
                    }
                }
            }
            network.forget_outcomes();
        }
        seconds.extend(suspected.values().map(|&ms| ms as f64 / 1_000.0));
    }
    seconds.sort_by(f64::total_cmp);
    (seconds, others)
}

fn suspicions(network: &Network, nodes: u64) -> usize {
    let outcomes = (1..=nodes).flat_map(|host| network.outcomes(host));
    let suspected = |(_, outcome): &&(u64, Outcome)| {
        matches!(outcome, Outcome::Liveness(_, Liveness::Suspected))
    };
    outcomes.filter(suspected).count()
}

/// A day in which nobody fails.
fn day() {
    let mut network = settled(1, DAY_NODES);
    let mut count = 0;
    for hour in 1..=24 {
        network.run(3_600_000);
        count += suspicions(&network, DAY_NODES);
        network.forget_outcomes();
        eprintln!("{hour} hours, {count} suspicions");
    }
    println!("{DAY_NODES} nodes, 24 hours, none failed: {count} suspicions");
}

/// Ten minutes of as many nodes as are measured.
#[expect(clippy::disallowed_methods, reason = "it tells how long a simulation takes")]
fn ten_minutes() {
    let nodes = SIZES[SIZES.len() - 1];
    let begun = std::time::Instant::now();
    let mut network = settled(nodes, nodes);
    let settled_s = begun.elapsed().as_secs_f64();
    network.run(600_000);
    let count = suspicions(&network, nodes);
    println!(
        "{nodes} nodes, 10 minutes, none failed: {count} suspicions; simulated in {:.1} s after {settled_s:.1} s to \
         settle",
        begun.elapsed().as_secs_f64() - settled_s
    );
}

/// The value that `part` of all do not exceed.
fn quantile(ascending: &[f64], part: f64) -> f64 {
    let at = (ascending.len() as f64 * part).ceil() as usize;
    ascending[at.clamp(1, ascending.len()) - 1]
}

fn print_table(measured: &[Measured]) {
    eprintln!(
        "nodes | rounds: median, p99, most, 2·log2(n) | seconds: median, p99, most | false | KB/s quiet, busy | longest KB"
    );
    for it in measured {
        eprintln!(
            "{:>5} | {:.1} {:.1} {:.1} {:.1} | {:.1} {:.1} {:.1} | {} | {:.1} {:.1} | {:.1}",
            it.nodes,
            quantile(&it.rounds, 0.5),
            quantile(&it.rounds, 0.99),
            quantile(&it.rounds, 1.0),
            2.0 * (it.nodes as f64).log2(),
            quantile(&it.seconds, 0.5),
            quantile(&it.seconds, 0.99),
            quantile(&it.seconds, 1.0),
            it.false_suspicions,
            it.quiet_kb,
            it.busy_kb,
            it.longest_kb,
        );
    }
}

/// A line of a chart: its name, its colour, and its points.
type Line = (&'static str, RGBColor, Vec<(f64, f64)>);

fn draw_all(
    panels: &[DrawingArea<SVGBackend, Shift>],
    measured: &[Measured],
) -> Result<(), Failure> {
    let line = |name, color, value: &dyn Fn(&Measured) -> f64| -> Line {
        (name, color, measured.iter().map(|it| (it.nodes as f64, value(it))).collect())
    };
    let (red, yellow, blue) =
        (RGBColor(0xb5, 0x3a, 0x2e), RGBColor(0xe0, 0xa8, 0x20), RGBColor(0x1f, 0x5f, 0xa8));
    let rounds = [
        line("reach: 2·log2(n)", red, &|it| 2.0 * (it.nodes as f64).log2()),
        line("99 of 100 changes", yellow, &|it| quantile(&it.rounds, 0.99)),
        line("half of them", blue, &|it| quantile(&it.rounds, 0.5)),
    ];
    draw(&panels[0], "a change is known to all", "rounds of a second", 22.0, &rounds)?;
    let seconds = [
        line("reach: 10 s", red, &|_| 10.0),
        line("99 of 100 observers", yellow, &|it| quantile(&it.seconds, 0.99)),
        line("half of them", blue, &|it| quantile(&it.seconds, 0.5)),
    ];
    draw(&panels[1], "a dead node is suspected", "seconds", 14.0, &seconds)?;
    let bytes = [
        line("reach: 100 KB/s", red, &|_| 100.0),
        line("twenty changes a second", yellow, &|it| it.busy_kb),
        line("none, but loads", blue, &|it| it.quiet_kb),
    ];
    draw(&panels[2], "sent and received by a node", "KB/s", 120.0, &bytes)
}

fn draw(
    area: &DrawingArea<SVGBackend, Shift>,
    about: &str,
    y: &str,
    most: f64,
    lines: &[Line],
) -> Result<(), Failure> {
    let mut chart = ChartBuilder::on(area)
        .caption(about, ("sans-serif", 17))
        .margin(10)
        .x_label_area_size(42)
        .y_label_area_size(48)
        .build_cartesian_2d(
            (8.0..1_250.0).log_scale().with_key_points(SIZES.map(|nodes| nodes as f64).to_vec()),
            0.0..most,
        )?;
    chart
        .configure_mesh()
        .x_desc("nodes")
        .y_desc(y)
        .x_label_formatter(&|x| format!("{x}"))
        .y_label_formatter(&|y| format!("{y:.0}"))
        .max_light_lines(1)
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
        .draw()?;
    for (name, color, points) in lines {
        let style = color.stroke_width(2);
        chart
            .draw_series(LineSeries::new(points.iter().copied(), style))?
            .label(*name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], style));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(RGBColor(0xbb, 0xbb, 0xbb))
        .draw()?;
    Ok(())
}
