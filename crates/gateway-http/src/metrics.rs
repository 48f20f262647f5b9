//! Metrics: what this gateway counts itself, and what the node says of itself when scraped.

use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use membership::Liveness;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};
use wire::{ClusterStatus, HandoverStatus};

use crate::gateway::Shared;
use crate::problem::Problem;

const PREFIX: &str = "merganser";

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RequestLabels {
    api: &'static str,
    op: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct DurationLabels {
    api: &'static str,
    op: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabels {
    peer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct StateLabels {
    peer: String,
    state: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PartLabels {
    part: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct WaitLabels {
    part: &'static str,
    reason: &'static str,
}

type Durations = Family<DurationLabels, Histogram, fn() -> Histogram>;
type Gauges = Family<PeerLabels, Gauge<u64, AtomicU64>>;

/// What the gateway counts. Labels are bounded: routes, never keys.
pub(crate) struct Metrics {
    registry: Registry,
    requests: Family<RequestLabels, Counter>,
    durations: Durations,
}

impl Default for Metrics {
    fn default() -> Self {
        let requests = Family::<RequestLabels, Counter>::default();
        // From 0.1 ms to 3.3 s, doubling. A guess: a local read takes under a millisecond, and a
        // deadline is some seconds.
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0001, 2.0, 16));
        let durations: Durations = Family::new_with_constructor(histogram);
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register("requests", "Requests answered", requests.clone());
        registry.register_with_unit(
            "request_duration",
            "Time from a request's head to its answer's",
            Unit::Seconds,
            durations.clone(),
        );
        Self { registry, requests, durations }
    }
}

impl Metrics {
    /// Counts a request answered.
    pub(crate) fn count(&self, op: &'static str, status: StatusCode, took: Duration) {
        let outcome = match status.as_u16() {
            202 => "accepted",
            200..=399 => "ok",
            400..=499 => "refused",
            _ => "failed",
        };
        self.requests.get_or_create(&RequestLabels { api: "http", op, outcome }).inc();
        self.durations
            .get_or_create(&DurationLabels { api: "http", op })
            .observe(took.as_secs_f64());
    }
}

/// All metrics in the OpenMetrics text format.
pub(crate) async fn get(State(gateway): Shared) -> Result<Response, Problem> {
    // The node's own figures may be out of reach; the gateway's never are.
    let status = gateway.datastore.status().await.ok();
    let ready = gateway.options.is_ready();
    let node = node_registry(status.as_ref(), ready);
    let mut text = String::new();
    let encoded = encode_registry(&mut text, &gateway.metrics.registry)
        .and_then(|()| encode_registry(&mut text, &node))
        .and_then(|()| encode_eof(&mut text));
    encoded.expect("writing to a string does not fail");
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

/// What a counter of the node counts, all since its start.
fn help(counter: &str) -> &'static str {
    match counter {
        "reads" => "Reads coordinated",
        "writes" => "Writes coordinated",
        "writes_repeated" => {
            "Writes sent again under their idempotency key, found done and not done again"
        }
        "forwards" => "Requests passed on to a replica of their key",
        "forwards_retried" => {
            "Requests passed on to a second replica because the first did not answer in time"
        }
        "forwards_repeated" => "Forwarded requests that came twice and were done once",
        "read_repairs" => "Stale replicas that a read sent what they lacked",
        "reads_hedged" => "Reads for which another replica was asked beside a slow one",
        "digests_differing" => "Reads that needed full views because digests differed",
        "hints_taken" => "Writes kept here for an owner that did not answer another node",
        "hinted_writes" => "Writes kept for an owner that did not answer",
        "deliveries" => "Kept writes that their owner has now",
        "unmet_quorums" => "Requests answered with fewer replicas than r or w",
        "comparisons" => "Comparisons with other owners that ended with both holding the same",
        "comparisons_unfinished" => "Comparisons given up, or with something left to a later one",
        "comparison_bytes" => "Bytes sent and received by comparisons that this node began",
        "keys_pulled" => "Deltas that a comparison found to be missing here",
        "keys_pushed" => "Deltas that a comparison found to be missing at another owner",
        "hints_refused" => "Hints not kept because too much is kept for their owner",
        "deltas_dropped" => "Writes of others that the disk refused again and again",
        "conflicts" => "Reads of keys with siblings or several types",
        "siblings_many" => "Puts that left more siblings than the soft limit",
        "siblings_refused" => "Puts refused because of too many siblings",
        "keys_dropped" => "Keys dropped of partitions that this node owns no more",
        "overloaded" => "Calls refused because too many were under way",
        "damaged_records" => "Records found damaged on disk",
        "damaged_log_places" => "Places of the log found damaged at the start",
        "connections_accepted" => "Connections accepted, of all ports",
        "connections_refused" => "Connections refused because there were too many, of all ports",
        _ => "A counter of the node since its start",
    }
}

/// What the node says of itself, as metrics.
fn node_registry(status: Option<&ClusterStatus>, ready: bool) -> Registry {
    let mut registry = Registry::with_prefix(PREFIX);
    let gauge = |registry: &mut Registry, name: &str, help: &str, value: u64| {
        let gauge = Gauge::<u64, AtomicU64>::default();
        gauge.set(value);
        registry.register(name, help, gauge);
    };
    gauge(&mut registry, "ready", "Whether the node serves", u64::from(ready));
    let Some(status) = status else { return registry };
    let connected = status.members.iter().filter(|member| member.connected).count() as u64;
    let present = status.members.iter().filter(|member| member.state.is_present()).count() as u64;
    gauge(&mut registry, "members", "Members of the cluster", present);
    gauge(&mut registry, "members_connected", "Members this node is connected to", connected);
    gauge(&mut registry, "keys", "Live keys on this node", status.keys);
    let conflicts = [
        ("keys_type_conflicts", "Live keys on this node with several types", status.type_conflicts),
        ("keys_siblings", "Live keys on this node with several siblings", status.sibling_keys),
        ("siblings_max", "Most siblings of a key on this node", status.most_siblings.into()),
    ];
    for (name, help, value) in conflicts {
        gauge(&mut registry, name, help, value);
    }
    let replication::ComparisonSummary { pairs, never, oldest_ms } = status.compared;
    let compared = [
        ("comparison_pairs", "Partitions of this node, each with every other owner", pairs),
        ("comparison_pairs_never", "Those of them never found equal since the start", never),
        (
            "comparison_oldest_seconds",
            "How long ago the oldest of the others was",
            oldest_ms / 1000,
        ),
    ];
    for (name, help, value) in compared {
        gauge(&mut registry, name, help, value);
    }
    let barrier = &status.barrier;
    let barrier = [
        ("barrier_round", "Round of forgetting that this node entered last", barrier.round),
        ("barrier_agreed", "Last round on which all members are agreed", barrier.agreed),
        (
            "barrier_forgotten",
            "Last round of which all that is older is forgotten here",
            barrier.forgotten,
        ),
        (
            "barrier_waits_for",
            "Members that are not as far as this node",
            barrier.waits_for.len() as u64,
        ),
    ];
    for (name, help, value) in barrier {
        gauge(&mut registry, name, help, value);
    }
    register_handover(&mut registry, &status.handover);
    gauge(
        &mut registry,
        "hint_bytes_max",
        "Most bytes kept here for a peer",
        status.hint_bytes_max,
    );
    gauge(&mut registry, "ring_version", "Version of this node's ring", status.ring_version);
    gauge(&mut registry, "uptime_seconds", "Time since the start", status.uptime_ms / 1000);
    let (pending, pending_bytes) = (Gauges::default(), Gauges::default());
    let (owned, copies) = (Gauges::default(), Gauges::default());
    let (suspected, states) = (Gauges::default(), Family::<StateLabels, Gauge>::default());
    let phis = Family::<PeerLabels, Gauge<f64, AtomicU64>>::default();
    for member in &status.members {
        let labels = PeerLabels { peer: member.name.clone() };
        pending.get_or_create(&labels).set(member.pending);
        pending_bytes.get_or_create(&labels).set(member.pending_bytes);
        owned.get_or_create(&labels).set(member.partitions.into());
        copies.get_or_create(&labels).set(member.copies.into());
        let is_suspected = member.liveness == Liveness::Suspected;
        suspected.get_or_create(&labels).set(is_suspected.into());
        let state = member.state.word();
        states.get_or_create(&StateLabels { peer: member.name.clone(), state }).set(1);
        phis.get_or_create(&labels).set(member.phi);
    }
    registry.register("member_state", "Where a member stands: 1 for its state", states);
    registry.register("member_suspected", "Whether this node takes a member for dead", suspected);
    registry.register("member_phi", "How surprising a member's silence is to this node", phis);
    registry.register("hints_pending", "Keys with writes that wait here for a peer", pending);
    registry.register("hints_pending_bytes", "Bytes of them", pending_bytes);
    registry.register("ring_partitions_owned", "Partitions that a peer owns", owned);
    registry.register("ring_copies_owned", "Copies of partitions that a peer owns", copies);
    let counters = registry.sub_registry_with_prefix("node");
    for (name, count) in &status.counters {
        // The encoder adds the suffix.
        let name = name.strip_suffix("_total").unwrap_or(name);
        if name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
            let counter = Counter::<u64, AtomicU64>::default();
            counter.inc_by(*count);
            counters.register(name, help(name), counter);
        }
    }
    registry
}

/// What this node has to do with partitions that move. Labels are bounded: three parts, ten reasons.
fn register_handover(registry: &mut Registry, handover: &HandoverStatus) {
    let [partitions, done, keys, keys_left, seconds] =
        [(); 5].map(|()| Family::<PartLabels, Gauge<u64, AtomicU64>>::default());
    let rates = Family::<PartLabels, Gauge<f64, AtomicU64>>::default();
    let waits = Family::<WaitLabels, Gauge<u64, AtomicU64>>::default();
    let moving = Gauge::<u64, AtomicU64>::default();
    moving.set(handover.partitions_moving.into());
    for transfer in &handover.transfers {
        let labels = PartLabels { part: transfer.part.word() };
        partitions.get_or_create(&labels).set(transfer.partitions);
        done.get_or_create(&labels).set(transfer.done);
        keys.get_or_create(&labels).set(transfer.keys);
        rates.get_or_create(&labels).set(transfer.keys_per_1000_s as f64 / 1_000.0);
        let known =
            [(&keys_left, transfer.keys_left), (&seconds, transfer.left_ms.map(|ms| ms / 1_000))];
        for (gauges, value) in known {
            if let Some(value) = value {
                gauges.get_or_create(&labels).set(value);
            }
        }
        for wait in &transfer.waits {
            let labels = WaitLabels { part: labels.part, reason: wait.reason.word() };
            // One reason may be given for several members.
            waits.get_or_create(&labels).inc_by(wait.partitions);
        }
    }
    let registry = registry.sub_registry_with_prefix("handover");
    registry.register("partitions_moving", "Partitions not owned as the plan says yet", moving);
    registry.register(
        "partitions",
        "Partitions left to this node, by its part in them",
        partitions,
    );
    registry.register("partitions_done", "Partitions done for the present plan", done);
    registry.register("keys", "Keys brought here or dropped for the present plan", keys);
    registry.register("keys_left", "About how many keys are still to be brought here", keys_left);
    registry.register(
        "keys_per_second",
        "Keys brought here or dropped in a second, of late",
        rates,
    );
    registry.register("left_seconds", "About how long it takes still", seconds);
    registry.register("partitions_waiting", "Partitions that wait, by what for", waits);
}

#[cfg(test)]
mod tests {
    use prometheus_client::encoding::text::encode;

    use super::*;

    #[test]
    fn every_counter_of_a_node_says_what_it_counts() {
        let counters = replication::Counters::default().named();
        let others = ["damaged_records", "connections_accepted", "connections_refused"];
        for name in counters.into_iter().map(|(name, _)| name).chain(others) {
            assert_ne!(help(name), help("unknown"), "{name}");
        }
        let status = ClusterStatus {
            cluster: "c".into(),
            node: "a".into(),
            version: "1".into(),
            waiting: None,
            ring_version: 1,
            handover: HandoverStatus {
                partitions_moving: 9,
                transfers: vec![wire::TransferStatus {
                    member: "a".into(),
                    part: replication::Part::Receiving,
                    partitions: 5,
                    done: 4,
                    keys: 70,
                    keys_left: Some(30),
                    keys_per_1000_s: 1_500,
                    left_ms: None,
                    peers: Vec::new(),
                    more_peers: 0,
                    waits: ["b", "c"]
                        .map(|member| wire::TransferWait {
                            reason: replication::WaitReason::OutOfReach,
                            member: Some(member.into()),
                            partitions: 2,
                        })
                        .into(),
                    more_waits: 0,
                }],
                ..HandoverStatus::default()
            },
            hint_bytes_max: 1_024,
            partitions: 1,
            owners: Vec::new(),
            uptime_ms: 0,
            keys: 0,
            type_conflicts: 1,
            sibling_keys: 2,
            most_siblings: 5,
            compared: replication::ComparisonSummary { pairs: 4, never: 1, oldest_ms: 65_000 },
            barrier: wire::BarrierStatus {
                round: 3,
                agreed: 2,
                forgotten: 2,
                ..Default::default()
            },
            members: Vec::new(),
            counters: vec![("writes_repeated".into(), 7)],
        };
        let mut text = String::new();
        encode(&mut text, &node_registry(Some(&status), true)).unwrap();
        assert!(
            text.contains(
                "# HELP merganser_node_writes_repeated Writes sent again under their idempotency \
                 key, found done and not done again.\n"
            ),
            "{text}"
        );
        assert!(text.contains("\nmerganser_node_writes_repeated_total 7\n"), "{text}");
        for gauge in [
            "keys_type_conflicts 1",
            "keys_siblings 2",
            "siblings_max 5",
            "comparison_oldest_seconds 65",
            "hint_bytes_max 1024",
            "handover_partitions_moving 9",
            "handover_partitions{part=\"receiving\"} 5",
            "handover_partitions_done{part=\"receiving\"} 4",
            "handover_keys_left{part=\"receiving\"} 30",
            "handover_keys_per_second{part=\"receiving\"} 1.5",
            "handover_partitions_waiting{part=\"receiving\",reason=\"out-of-reach\"} 4",
        ] {
            assert!(text.contains(&format!("\nmerganser_{gauge}\n")), "{text}");
        }
    }
}
