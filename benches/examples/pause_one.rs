//! What clients notice when one of three nodes is paused, and when one is killed: three real
//! processes on loopback, a steady load of reads and writes through two of them, the third stopped by
//! SIGSTOP for a while, then, in a second cluster, killed by SIGKILL and started again.
//!
//! Requests are sent at a fixed rate, whether earlier ones were answered or not, and timed from the
//! moment at which they were due: a stall is not hidden by a client that waits. Half are reads and
//! half are sets of registers of 100 bytes (a set reads at r owners before it writes at w).
//!
//! Prints the percentiles of each phase, and writes the drawing to the file named.
//!
//! `cargo run --release -p benchmarks --example pause_one -- target/release/merganser FILE.svg`

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use client::{Client, Datastore};
use hdrhistogram::Histogram;
use plotters::coord::Shift;
use plotters::prelude::*;
use replication::Request;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use values::{Key, Operation, RegisterOp, Scope};

/// First of the nine ports used.
const PORT: u16 = 18_000;
/// Requests in a second, both nodes together.
const RATE: u64 = 500;
/// Keys, so that hardly two requests meet at one.
const KEYS: u64 = 10_000;
/// Before the first phase: connections open, memory warms, delays are learnt.
const WARM_UP: Duration = Duration::from_secs(5);
const BEFORE: Duration = Duration::from_secs(10);
const DURING: Duration = Duration::from_secs(6);
const AFTER: Duration = Duration::from_secs(10);
/// Percentiles are drawn of so long a time each.
const WINDOW: Duration = Duration::from_millis(250);
const MICROSECONDS_MAX: u64 = 60_000_000;

type Failure = Box<dyn std::error::Error + Send + Sync>;

/// What is done to the third node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Pause,
    Kill,
}

/// One request: when it was due since the warm-up ended, how long it took from then on, and whether
/// the promised number of owners answered.
struct Sample {
    due: Duration,
    took: Duration,
    outcome: Outcome,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Met,
    /// Answered, by fewer owners than asked for.
    Partial,
    Failed,
}

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let (Some(binary), Some(drawing)) = (arguments.next(), arguments.next()) else {
        return Err("usage: pause_one MERGANSER FILE.svg".into());
    };
    let mut runs = Vec::new();
    for fault in [Fault::Pause, Fault::Kill] {
        let samples = run(Path::new(&binary), fault).await?;
        print_table(fault, &samples);
        runs.push((fault, samples));
    }
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (900, 760)).into_drawing_area();
        area.fill(&WHITE)?;
        for (part, (fault, samples)) in area.split_evenly((2, 1)).iter().zip(&runs) {
            draw(part, *fault, samples)?;
        }
        area.present()?;
    }
    Ok(std::fs::write(drawing, svg)?)
}

/// Three processes, ended when dropped.
struct Cluster {
    binary: std::path::PathBuf,
    directory: tempfile::TempDir,
    nodes: Vec<Child>,
}

impl Cluster {
    fn start(binary: &Path) -> Result<Self, Failure> {
        let beside = binary.parent().unwrap_or(Path::new("."));
        let directory = tempfile::tempdir_in(beside)?;
        let mut cluster = Self { binary: binary.to_owned(), directory, nodes: Vec::new() };
        for node in 0..3 {
            let child = cluster.spawn(node)?;
            cluster.nodes.push(child);
        }
        Ok(cluster)
    }

    fn spawn(&self, node: u16) -> Result<Child, Failure> {
        let secret = self.directory.path().join("secret");
        if !secret.exists() {
            std::fs::write(&secret, "for one run of a benchmark")?;
            let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
            std::fs::set_permissions(&secret, private)?;
        }
        let mut command = Command::new(&self.binary);
        command.args(["start", "--cluster", "pause-one", "--name", &format!("node{node}")]);
        command.arg("--data").arg(self.directory.path().join(format!("node{node}")));
        command.arg("--secret-file").arg(secret);
        for (flag, port) in [("--resp", 0), ("--http", 1), ("--peer", 2)] {
            command.args([flag, &format!("127.0.0.1:{}", PORT + 10 * node + port)]);
        }
        for member in 0..3 {
            command.args(["--member", &format!("node{member}={}", peer_address(member))]);
        }
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let is_ready = |line: &std::io::Result<String>| {
            line.as_ref().is_ok_and(|line| line.starts_with("ready"))
        };
        if !BufReader::new(output).lines().any(|line| is_ready(&line)) {
            child.kill()?;
            return Err(format!("node {node} ended before it was ready").into());
        }
        Ok(child)
    }

    fn signal(&self, node: usize, signal: &str) -> Result<(), Failure> {
        let pid = self.nodes[node].id().to_string();
        let status = Command::new("kill").args([signal, &pid]).status()?;
        if status.success() { Ok(()) } else { Err(format!("kill {signal} {pid}: {status}").into()) }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            // It may have ended already.
            let _ = node.kill();
            let _ = node.wait();
        }
    }
}

fn peer_address(node: u16) -> String {
    format!("127.0.0.1:{}", PORT + 10 * node + 2)
}

/// Drives the load over all phases of one cluster.
async fn run(binary: &Path, fault: Fault) -> Result<Vec<Sample>, Failure> {
    let mut cluster = Cluster::start(binary)?;
    let clients =
        [Client::connect(&peer_address(0)).await?, Client::connect(&peer_address(1)).await?]
            .map(Arc::new);
    let (results, mut received) = mpsc::unbounded_channel();
    let start = Instant::now() + Duration::from_millis(100);
    let until = WARM_UP + BEFORE + DURING + AFTER;
    let load = tokio::spawn(async move {
        let mut number = 0_u64;
        loop {
            let at = Duration::from_micros(number * 1_000_000 / RATE);
            if at >= until {
                return;
            }
            sleep_until(start + at).await;
            let client = Arc::clone(&clients[(number % 2) as usize]);
            let (request, results) = (request(number), results.clone());
            tokio::spawn(async move {
                let answer = client.request(request).await;
                let took = (start + at).elapsed();
                let outcome = match answer {
                    Ok(answer) if answer.acks.is_met() => Outcome::Met,
                    Ok(_) => Outcome::Partial,
                    Err(_) => Outcome::Failed,
                };
                if let Some(due) = at.checked_sub(WARM_UP) {
                    // The receiver stays until all have sent.
                    let _ = results.send(Sample { due, took, outcome });
                }
            });
            number += 1;
        }
    });
    sleep_until(start + WARM_UP + BEFORE).await;
    match fault {
        Fault::Pause => cluster.signal(2, "-STOP")?,
        Fault::Kill => cluster.signal(2, "-KILL")?,
    }
    sleep_until(start + WARM_UP + BEFORE + DURING).await;
    match fault {
        Fault::Pause => cluster.signal(2, "-CONT")?,
        Fault::Kill => {
            cluster.nodes[2].wait()?;
            // Waits until it is ready, while the other thread drives the load.
            let restarted = tokio::task::block_in_place(|| cluster.spawn(2));
            cluster.nodes[2] = restarted?;
        }
    }
    load.await?;
    let mut samples = Vec::new();
    while let Some(sample) = received.recv().await {
        samples.push(sample);
    }
    samples.sort_unstable_by_key(|sample| sample.due);
    Ok(samples)
}

fn request(number: u64) -> Request {
    let which = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    let key = Key::new("default", format!("key:{:08}", which % KEYS)).expect("a short name");
    if number & 2 == 0 {
        return Request::get(key, Scope::Whole);
    }
    let value = Bytes::from(vec![b'x'; 100]);
    Request::update(key, Operation::Register(RegisterOp::Set { value, at: None, replace: false }))
}

fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::Pause => "paused (SIGSTOP)",
        Fault::Kill => "killed (SIGKILL)",
    }
}

fn print_table(fault: Fault, samples: &[Sample]) {
    println!("one of three nodes {}: milliseconds", name(fault));
    println!("phase     requests   p50     p99   p99.9     max  partial  failed");
    let bounds = [Duration::ZERO, BEFORE, BEFORE + DURING, Duration::MAX];
    for (phase, bounds) in ["before", "during", "after"].iter().zip(bounds.windows(2)) {
        let within: Vec<&Sample> =
            samples.iter().filter(|sample| (bounds[0]..bounds[1]).contains(&sample.due)).collect();
        let histogram = histogram(within.iter().copied());
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        let count = |outcome| within.iter().filter(|sample| sample.outcome == outcome).count();
        println!(
            "{phase:<8} {:>9} {:>5.1} {:>7.1} {:>7.1} {:>7.1} {:>8} {:>7}",
            within.len(),
            ms(0.5),
            ms(0.99),
            ms(0.999),
            ms(1.0),
            count(Outcome::Partial),
            count(Outcome::Failed)
        );
    }
}

fn histogram<'a>(samples: impl Iterator<Item = &'a Sample>) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_max(MICROSECONDS_MAX, 3).expect("three digits");
    for sample in samples {
        histogram.saturating_record(sample.took.as_micros() as u64);
    }
    histogram
}

/// Percentiles over time.
fn draw(
    area: &DrawingArea<SVGBackend<'_>, Shift>,
    fault: Fault,
    samples: &[Sample],
) -> Result<(), Failure> {
    let total = (BEFORE + DURING + AFTER).as_secs_f64();
    let mut chart = ChartBuilder::on(area)
        .caption(format!("one of three nodes {}", name(fault)), ("sans-serif", 17))
        .margin(10)
        .x_label_area_size(42)
        .y_label_area_size(58)
        .build_cartesian_2d(0.0..total, (0.3..1_000.0_f64).log_scale())?;
    let (from, to) = (BEFORE.as_secs_f64(), (BEFORE + DURING).as_secs_f64());
    let shade = RGBColor(0xf1, 0xe6, 0xd8);
    chart.draw_series([Rectangle::new([(from, 0.3), (to, 1_000.0)], shade.filled())])?;
    chart
        .configure_mesh()
        .x_desc("seconds (shaded: the node is away)")
        .y_desc("milliseconds")
        .y_label_formatter(&|ms| format!("{ms}"))
        .max_light_lines(1)
        .light_line_style(TRANSPARENT)
        .bold_line_style(RGBColor(0xdd, 0xdd, 0xdd))
        .draw()?;
    let windows: Vec<(f64, Histogram<u64>)> = samples
        .chunk_by(|a, b| window(a) == window(b))
        .map(|chunk| {
            let middle = (window(&chunk[0]) as f64 + 0.5) * WINDOW.as_secs_f64();
            (middle, histogram(chunk.iter()))
        })
        .collect();
    for (name, quantile, color) in [
        ("slowest", 1.0, RGBColor(0xb5, 0x3a, 0x2e)),
        ("99 % took at most", 0.99, RGBColor(0xe0, 0xa8, 0x20)),
        ("half took at most", 0.5, RGBColor(0x1f, 0x5f, 0xa8)),
    ] {
        let line = color.stroke_width(2);
        let points = windows
            .iter()
            .map(|(at, histogram)| (*at, histogram.value_at_quantile(quantile) as f64 / 1000.0));
        chart
            .draw_series(LineSeries::new(points, line))?
            .label(name)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], line));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::UpperLeft)
        .background_style(WHITE)
        .border_style(RGBColor(0xbb, 0xbb, 0xbb))
        .draw()?;
    Ok(())
}

/// The number of the window that a request falls into.
fn window(sample: &Sample) -> u128 {
    sample.due.as_millis() / WINDOW.as_millis()
}
