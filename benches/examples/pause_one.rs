//! What clients notice when one of three nodes is paused, and when one is killed: three real
//! processes on loopback, a steady load of reads and writes through two of them, the third stopped by
//! SIGSTOP for a while, then, in a second cluster, killed by SIGKILL and started again.
//!
//! Prints the percentiles of each phase, and writes the drawing to the file named.
//!
//! `cargo run --release -p benchmarks --example pause_one -- target/release/merganser FILE.svg`

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use benchmarks::{Cluster, Failure, Sample, Steady, histogram, print_phases};
use hdrhistogram::Histogram;
use plotters::coord::Shift;
use plotters::prelude::*;

/// First of the ports used.
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
const END_OF_FAULT: Duration = Duration::from_secs(21);
/// Percentiles are drawn of so long a time each.
const WINDOW: Duration = Duration::from_millis(250);
/// What is done to the third node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    Pause,
    Kill,
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
        println!("one of three nodes {}: milliseconds", name(fault));
        let phases = [("before", WARM_UP), ("during", WARM_UP + BEFORE), ("after", END_OF_FAULT)];
        print_phases(&samples, &phases);
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

/// Drives the load over all phases of one cluster.
async fn run(binary: &Path, fault: Fault) -> Result<Vec<Sample>, Failure> {
    let mut cluster = Cluster::start(binary, 3, PORT)?;
    let clients = vec![Arc::new(cluster.client(0).await?), Arc::new(cluster.client(1).await?)];
    let load = Steady::begin(clients, RATE, KEYS);
    load.until(WARM_UP + BEFORE).await;
    match fault {
        Fault::Pause => cluster.signal(2, "-STOP")?,
        Fault::Kill => cluster.signal(2, "-KILL")?,
    }
    load.until(END_OF_FAULT).await;
    match fault {
        Fault::Pause => cluster.signal(2, "-CONT")?,
        // Waits until it is ready, while the other thread drives the load.
        Fault::Kill => tokio::task::block_in_place(|| cluster.restart(2))?,
    }
    load.until(END_OF_FAULT + AFTER).await;
    load.end().await
}

fn name(fault: Fault) -> &'static str {
    match fault {
        Fault::Pause => "paused (SIGSTOP)",
        Fault::Kill => "killed (SIGKILL)",
    }
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
    let drawn = samples.partition_point(|sample| sample.due < WARM_UP);
    let windows: Vec<(f64, Histogram<u64>)> = samples[drawn..]
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
    (sample.due - WARM_UP).as_millis() / WINDOW.as_millis()
}
