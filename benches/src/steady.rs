//! A steady load: requests sent at a fixed rate, whether earlier ones were answered or not, and timed from
//! the moment at which they were due. So a stall is not hidden by a client that waits.
//!
//! Half are reads and half are sets of registers of 100 bytes (a set reads at r owners before it writes
//! at w).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use client::{Client, Datastore};
use hdrhistogram::Histogram;
use replication::Request;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use values::{Key, Operation, RegisterOp, Scope};

use crate::Failure;

/// Longest time that is told apart.
const MICROSECONDS_MAX: u64 = 60_000_000;

/// One request: when it was due since the load began, how long it took from then on, and whether the promised
/// number of owners answered.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    /// Since the load began.
    pub due: Duration,
    /// From then on.
    pub took: Duration,
    /// What became of it.
    pub outcome: Outcome,
}

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered by as many owners as asked for.
    Met,
    /// Answered, by fewer.
    Partial,
    /// Not answered, or by an error.
    Failed,
}

/// A load under way.
#[derive(Debug)]
pub struct Steady {
    start: Instant,
    is_over: Arc<AtomicBool>,
    load: JoinHandle<()>,
    received: mpsc::UnboundedReceiver<Sample>,
}

impl Steady {
    /// Begins `rate` requests a second of `keys` keys through all clients in turn.
    pub fn begin(clients: Vec<Arc<Client>>, rate: u64, keys: u64) -> Self {
        let (results, received) = mpsc::unbounded_channel();
        let start = Instant::now() + Duration::from_millis(100);
        let is_over = Arc::new(AtomicBool::new(false));
        let ends = Arc::clone(&is_over);
        let load = tokio::spawn(async move {
            for number in 0.. {
                let due = Duration::from_micros(number * 1_000_000 / rate);
                sleep_until(start + due).await;
                if ends.load(Ordering::Relaxed) {
                    return;
                }
                let client = Arc::clone(&clients[number as usize % clients.len()]);
                let results = results.clone();
                tokio::spawn(async move {
                    let answer = client.request(request(number, keys)).await;
                    let took = (start + due).elapsed();
                    let outcome = match answer {
                        Ok(answer) if answer.acks.is_met() => Outcome::Met,
                        Ok(_) => Outcome::Partial,
                        Err(_) => Outcome::Failed,
                    };
                    // The receiver stays until all have sent.
                    let _ = results.send(Sample { due, took, outcome });
                });
            }
        });
        Self { start, is_over, load, received }
    }

    /// How long it has gone on.
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Waits until it has gone on for so long.
    pub async fn until(&self, elapsed: Duration) {
        sleep_until(self.start + elapsed).await;
    }

    /// Ends it; returns all requests in the order in which they were due.
    pub async fn end(mut self) -> Result<Vec<Sample>, Failure> {
        self.is_over.store(true, Ordering::Relaxed);
        self.load.await?;
        let mut samples = Vec::new();
        while let Some(sample) = self.received.recv().await {
            samples.push(sample);
        }
        samples.sort_unstable_by_key(|sample| sample.due);
        Ok(samples)
    }
}

/// The key of this number.
pub fn key(number: u64) -> Key {
    Key::new("default", format!("key:{number:08}")).expect("a short name")
}

/// A set of a key's register to 100 bytes.
pub fn set(number: u64) -> Request {
    let value = Bytes::from(vec![b'x'; 100]);
    let set = RegisterOp::Set { value, at: None, replace: false };
    Request::update(key(number), Operation::Register(set))
}

fn request(number: u64, keys: u64) -> Request {
    let which = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 32;
    if number & 2 == 0 { Request::get(key(which % keys), Scope::Whole) } else { set(which % keys) }
}

/// How long the requests of some samples took.
pub fn histogram<'a>(samples: impl Iterator<Item = &'a Sample>) -> Histogram<u64> {
    let mut histogram = Histogram::new_with_max(MICROSECONDS_MAX, 3).expect("three digits");
    for sample in samples {
        histogram.saturating_record(sample.took.as_micros() as u64);
    }
    histogram
}

/// Prints the percentiles of phases, each from its time to that of the next; what was before the first is not
/// counted. Returns the 99th of each, in milliseconds.
pub fn print_phases(samples: &[Sample], phases: &[(&str, Duration)]) -> Vec<f64> {
    println!("phase        requests   p50     p99   p99.9     max  partial  failed");
    let ends = phases.iter().skip(1).map(|phase| phase.1).chain([Duration::MAX]);
    let mut all = Vec::new();
    for (&(phase, from), until) in phases.iter().zip(ends) {
        let within = || samples.iter().filter(move |it| (from..until).contains(&it.due));
        let histogram = histogram(within());
        let ms = |quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0;
        let count = |outcome| within().filter(|sample| sample.outcome == outcome).count();
        println!(
            "{phase:<12} {:>8} {:>5.1} {:>7.1} {:>7.1} {:>7.1} {:>8} {:>7}",
            within().count(),
            ms(0.5),
            ms(0.99),
            ms(0.999),
            ms(1.0),
            count(Outcome::Partial),
            count(Outcome::Failed)
        );
        all.push(ms(0.99));
    }
    all
}
