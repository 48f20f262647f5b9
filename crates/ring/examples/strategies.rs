//! The comparison of Dynamo §6.2, figure 8: how evenly three strategies of partitioning spread
//! load, against the size of what each node must know of the ring, and against the number of
//! nodes.
//!
//! 1. T random tokens for each node; a key belongs to the nodes of the tokens that follow it.
//! 2. T random tokens for each node, and Q equal partitions; a partition belongs to the nodes of
//!    the tokens that follow its end.
//! 3. Q equal partitions, Q/S for each of S nodes: ours ([`ring::Ring::place`]).
//!
//! Prints an SVG. With `--table` prints the numbers instead.

use std::collections::BTreeSet;

use clock::NodeId;
use plotters::coord::Shift;
use plotters::prelude::*;
use ring::{Member, PartitionCount, Ring, Token};

/// Owners of each key, as in the paper.
const N: usize = 3;
/// Nodes in the comparison by size of metadata, as in the paper.
const NODES: usize = 30;
/// Keys, and how skewed their popularity is: the k-th most popular gets k^-½ as many requests as
/// the first, so that a tenth of the keys gets a third of the requests. There are enough popular
/// keys to spread, as the paper takes for granted; a key more popular than a node's part no
/// partitioning can spread.
const KEYS: usize = 100_000;
const SKEW: f64 = 0.5;
/// Rings drawn for each point; the strategies with tokens depend on their luck.
const SEEDS: u64 = 20;
/// Bytes to name a token (strategies 1 and 2) and an owner.
const TOKEN_BYTES: usize = 16;
const OWNER_BYTES: usize = 2;
/// Metadata in the comparison by number of nodes: that of 4,096 partitions.
const BUDGET_BYTES: usize = 4096 * OWNER_BYTES;

type Failure = Box<dyn std::error::Error>;

/// Of one strategy, (x, efficiency): mean, least and most over the seeds.
struct Curve {
    name: &'static str,
    color: RGBColor,
    dashed: bool,
    points: Vec<(f64, [f64; 3])>,
}

fn main() -> Result<(), Failure> {
    let by_size = by_metadata()?;
    let by_nodes = by_nodes()?;
    if std::env::args().any(|argument| argument == "--table") {
        print_table("KiB of metadata, 30 nodes", &by_size);
        print_table("nodes, 8 KiB of metadata", &by_nodes);
        return Ok(());
    }
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (900, 420)).into_drawing_area();
        area.fill(&WHITE)?;
        let (left, right) = area.split_horizontally(450);
        let about = "30 nodes: by size of metadata";
        draw(
            &left,
            about,
            "KiB that each node must know",
            &by_size,
            &[0.125, 0.5, 2.0, 8.0, 32.0, 128.0],
        )?;
        let about = "8 KiB of metadata: by number of nodes";
        draw(&right, about, "nodes", &by_nodes, &[4.0, 8.0, 16.0, 32.0, 64.0, 128.0])?;
        area.present()?;
    }
    println!("{}", svg.trim_end());
    Ok(())
}

/// Efficiency at [`NODES`] nodes for ever more metadata.
fn by_metadata() -> Result<[Curve; 3], Failure> {
    let mut curves = curves();
    for partitions in (6..=16).map(|power| 1_usize << power) {
        let bytes = partitions * OWNER_BYTES;
        add(&mut curves, bytes as f64 / 1024.0, NODES, bytes)?;
    }
    Ok(curves)
}

/// Efficiency for ever more nodes at [`BUDGET_BYTES`] of metadata.
fn by_nodes() -> Result<[Curve; 3], Failure> {
    let mut curves = curves();
    for nodes in [4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128] {
        add(&mut curves, nodes as f64, nodes, BUDGET_BYTES)?;
    }
    Ok(curves)
}

fn curves() -> [Curve; 3] {
    [
        ("1: T random tokens each", RGBColor(0xb5, 0x3a, 0x2e), false),
        ("2: T random tokens each, equal partitions", RGBColor(0xe0, 0xa8, 0x20), true),
        ("3: Q/S equal partitions each (ours)", RGBColor(0x1f, 0x5f, 0xa8), false),
    ]
    .map(|(name, color, dashed)| Curve { name, color, dashed, points: Vec::new() })
}

/// Adds a point at `x` to each curve: `nodes` nodes, of which each keeps `bytes` of metadata. No
/// point for tokens where there is not one for each node.
fn add(curves: &mut [Curve; 3], x: f64, nodes: usize, bytes: usize) -> Result<(), Failure> {
    let tokens_each = bytes / (TOKEN_BYTES + OWNER_BYTES) / nodes;
    let partitions = PartitionCount::new(u32::try_from(bytes / OWNER_BYTES)?)?;
    let members: Vec<Member> = (0..nodes as u64).map(|id| Member::new(NodeId(id))).collect();
    let placed = Ring::place(&members, partitions, N, None)?.ring;
    let mut efficiencies = [const { Vec::new() }; 3];
    for seed in 0..SEEDS {
        let mut random = Random(seed);
        let keys: Vec<(Token, f64)> =
            (1..=KEYS).map(|rank| (random.token(), (rank as f64).powf(-SKEW))).collect();
        efficiencies[2].push(efficiency(nodes, &keys, |key, owners| {
            owners.extend(placed.owners(placed.partition(key), N).map(|node| node.0 as usize));
        }));
        if tokens_each == 0 {
            continue;
        }
        let tokens = Tokens::draw(&mut random, nodes, tokens_each);
        efficiencies[0].push(efficiency(nodes, &keys, |key, owners| tokens.owners(key, owners)));
        // The paper wants many more partitions than tokens.
        let fixed = PartitionCount::new(PartitionCount::MAX)?;
        efficiencies[1].push(efficiency(nodes, &keys, |key, owners| {
            let width = u128::MAX / u128::from(fixed.get());
            let end = (u128::from(fixed.partition(key).0) + 1).saturating_mul(width);
            tokens.owners(Token(end), owners);
        }));
    }
    for (curve, efficiencies) in curves.iter_mut().zip(efficiencies) {
        if !efficiencies.is_empty() {
            let mean = efficiencies.iter().sum::<f64>() / efficiencies.len() as f64;
            let least = efficiencies.iter().copied().fold(f64::INFINITY, f64::min);
            let most = efficiencies.iter().copied().fold(0.0, f64::max);
            curve.points.push((x, [mean, least, most]));
        }
    }
    Ok(())
}

/// The paper's load-balancing efficiency: requests served by a node on average, to those served by
/// the hottest. Each owner of a key serves the same part of its requests.
fn efficiency(
    nodes: usize,
    keys: &[(Token, f64)],
    owners_of: impl Fn(Token, &mut Vec<usize>),
) -> f64 {
    let mut loads = vec![0.0; nodes];
    let mut owners = Vec::new();
    for &(key, popularity) in keys {
        owners.clear();
        owners_of(key, &mut owners);
        for &owner in &owners {
            loads[owner] += popularity;
        }
    }
    let hottest = loads.iter().copied().fold(0.0, f64::max);
    loads.iter().sum::<f64>() / nodes as f64 / hottest
}

/// Random tokens with their nodes, ascending.
struct Tokens(Vec<(u128, usize)>);

impl Tokens {
    fn draw(random: &mut Random, nodes: usize, each: usize) -> Self {
        let mut tokens: Vec<(u128, usize)> =
            (0..nodes * each).map(|number| (random.token().0, number % nodes)).collect();
        tokens.sort_unstable();
        Self(tokens)
    }

    /// The first [`N`] distinct nodes at or after `point`.
    fn owners(&self, point: Token, owners: &mut Vec<usize>) {
        let start = self.0.partition_point(|&(token, _)| token < point.0);
        for &(_, node) in self.0[start..].iter().chain(&self.0[..start]) {
            if !owners.contains(&node) {
                owners.push(node);
                if owners.len() == N {
                    return;
                }
            }
        }
    }
}

/// SplitMix64: small, seeded, the same everywhere.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        bits ^ (bits >> 31)
    }

    fn token(&mut self) -> Token {
        Token(u128::from(self.next()) << 64 | u128::from(self.next()))
    }
}

/// One chart; the line is the mean, the bar spans all seeds.
fn draw(
    area: &DrawingArea<SVGBackend, Shift>,
    about: &str,
    x: &str,
    curves: &[Curve; 3],
    ticks: &[f64],
) -> Result<(), Failure> {
    let xs: BTreeSet<u64> =
        curves.iter().flat_map(|curve| &curve.points).map(|(x, _)| x.to_bits()).collect();
    let first = f64::from_bits(*xs.first().ok_or("no points")?);
    let last = f64::from_bits(*xs.last().ok_or("no points")?);
    let mut chart = ChartBuilder::on(area)
        .caption(about, ("sans-serif", 17))
        .margin(10)
        .x_label_area_size(42)
        .y_label_area_size(52)
        .build_cartesian_2d(
            (first * 0.85..last * 1.15).log_scale().base(2.0).with_key_points(ticks.to_vec()),
            0.0..1.05_f64,
        )?;
    chart
        .configure_mesh()
        .x_desc(x)
        .y_desc("load-balancing efficiency (mean / hottest)")
        .x_label_formatter(&|x| format!("{x}"))
        .y_label_formatter(&|y| format!("{y:.1}"))
        .max_light_lines(1)
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
        .draw()?;
    for curve in curves {
        let color = curve.color;
        let means = curve.points.iter().map(|&(x, [mean, ..])| (x, mean));
        // Dashed where it lies on another.
        let line = color.stroke_width(2);
        let series = if curve.dashed {
            chart.draw_series(DashedLineSeries::new(means.collect::<Vec<_>>(), 6, 6, line))?
        } else {
            chart.draw_series(LineSeries::new(means, line))?
        };
        series
            .label(curve.name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], line));
        chart.draw_series(curve.points.iter().map(|&(x, [_, least, most])| {
            PathElement::new([(x, least), (x, most)], color.mix(0.5))
        }))?;
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE)
        .border_style(RGBColor(0xbb, 0xbb, 0xbb))
        .draw()?;
    Ok(())
}

fn print_table(about: &str, curves: &[Curve; 3]) {
    println!("{about}: mean (least to most)");
    for curve in curves {
        println!("strategy {}", curve.name);
        for (x, [mean, least, most]) in &curve.points {
            println!("  {x:>8} {mean:.3} ({least:.3} to {most:.3})");
        }
    }
}
