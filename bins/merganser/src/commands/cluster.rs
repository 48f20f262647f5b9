//! Commands on the cluster: ring, status, contexts, links.

mod plan;
mod transfers;

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use client::moves::{plan_json, transfer_json};
use client::{Client, Datastore};
use clock::{ContextToken, NodeId};
use membership::Liveness;
use replication::{ComparisonSummary, RequestError, summarize};
use serde_json::json;
use values::Key;
use wire::{ClusterCall, ClusterStatus, HandoverStatus, MemberStatus, PlanCall};

use crate::options::{ClusterCommand, LinksCommand};
use crate::output::{Printer, bytes_in_words, table, text_bytes};

/// Shows what a context token says. Names of nodes are asked of a node, if one is in reach.
pub(crate) async fn context(printer: &Printer, node: &str, token: String) -> Result<ExitCode> {
    let claims = ContextToken::from(token).peek();
    let claims = claims.map_err(|error| RequestError::Context(error.to_string()))?;
    let names = match Client::connect(node).await {
        Ok(client) => client.status().await.map(|status| {
            status.members.into_iter().map(|member| (member.node, member.name)).collect()
        }),
        Err(_) => Ok(BTreeMap::new()),
    };
    let summary = summarize(&claims.context, &names.unwrap_or_default());
    let json = json!({ "context": summary, "time_ms": claims.time.millis() });
    printer.show(&json, || summary.clone());
    Ok(ExitCode::SUCCESS)
}

/// Shows who owns how much, and the preference list of a key.
pub(crate) async fn ring(
    printer: &Printer,
    datastore: &dyn Datastore,
    bucket: &str,
    key: Option<String>,
) -> Result<ExitCode> {
    let status = datastore.status().await?;
    let lookup = match key {
        Some(key) => {
            let key = Key::new(bucket.to_owned(), key).map_err(RequestError::from)?;
            Some(datastore.explain(key).await?)
        }
        None => None,
    };
    let q = f64::from(status.partitions);
    let share = |owned: u32| format!("{:.2} %", 100.0 * f64::from(owned) / q);
    let list = lookup.as_ref().map(|found| {
        let name = |node: &NodeId| named(*node, &found.names);
        found.preference_list.iter().map(name).collect::<Vec<_>>()
    });
    let json = json!({
        "version": status.ring_version,
        "partitions": status.partitions,
        "members": status.members.iter().map(|m| json!({ "name": m.name, "zone": m.zone, "weight": m.weight,
                "partitions": m.partitions, "copies": m.copies }))
            .collect::<Vec<_>>(),
        "key": lookup.as_ref().map(|found| json!({ "partition": found.partition,
            "owners": found.n, "preference_list": list })),
    });
    printer.show(&json, || {
        let rows = (0..).zip(&status.members).map(|(index, m)| {
            let letter = letter(index).to_string();
            let zone = m.zone.clone().unwrap_or_default();
            let (owned, weight) = (m.partitions.to_string(), m.weight.to_string());
            let (copies, all) = (m.copies.to_string(), share(m.copies));
            [letter, m.name.clone(), zone, weight, owned, share(m.partitions), copies, all]
        });
        let headers = [
            "",
            "member",
            "zone",
            "weight",
            "first owner of",
            "share",
            "holds copies of",
            "of all",
        ];
        let mut text = format!(
            "ring version {}, {} partitions; who owns them, once around:\n{}\n{}",
            status.ring_version,
            status.partitions,
            drawn(&status.owners),
            table(headers, rows.collect())
        );
        if let (Some(found), Some(list)) = (&lookup, &list) {
            let (owners, fallbacks) = list.split_at(usize::from(found.n).min(list.len()));
            text += &format!(
                "\nkey {} is in partition {}; owners {}",
                text_bytes(found.key.key()),
                found.partition,
                owners.join(", ")
            );
            if !fallbacks.is_empty() {
                text += &format!("; fallbacks {}", fallbacks.join(", "));
            }
        }
        text
    });
    Ok(ExitCode::SUCCESS)
}

/// The ring as one line of 64 letters: who owns a partition of each 64th of it. Of each the next one more from
/// its beginning: where members own partitions in turn, all are seen.
fn drawn(owners: &[u16]) -> String {
    let width = owners.len().min(64);
    let of_each = owners.len() / width.max(1);
    let place = |at: usize| at * of_each + at % of_each;
    let ring: String = (0..width).map(|at| letter(owners[place(at)])).collect();
    format!("[{ring}]")
}

/// A member's letter; beyond 26 members they come again.
fn letter(member: u16) -> char {
    char::from(b'A' + u8::try_from(member % 26).expect("less than 26"))
}

/// Shows members, links and pending deltas.
pub(crate) async fn status(printer: &Printer, datastore: &dyn Datastore) -> Result<ExitCode> {
    let status = datastore.status().await?;
    let json = json!({
        "cluster": status.cluster, "node": status.node, "version": status.version,
        "ring_version": status.ring_version, "handover": handover_json(&status.handover),
        "waiting": status.waiting, "uptime_ms": status.uptime_ms, "keys": status.keys,
        "compared": { "pairs": status.compared.pairs, "never": status.compared.never,
            "oldest_ms": status.compared.oldest_ms },
        "barrier": barrier_json(&status), "hint_bytes_max": status.hint_bytes_max,
        "members": status.members.iter().map(member_json).collect::<Vec<_>>(),
        "counters": status.counters.iter().cloned().collect::<BTreeMap<_, _>>(),
    });
    printer.show(&json, || {
        let present = status.members.iter().filter(|m| m.state.is_present() || m.partitions > 0);
        let rows = present.map(|m| {
            let link = match (m.name == status.node, m.cut, m.connected) {
                (true, true, _) => "this node, cut off",
                (true, ..) => "this node",
                (_, true, _) => "cut",
                (_, _, true) => "connected",
                (_, _, false) => "not connected",
            };
            [
                m.name.clone(),
                m.peer_address.clone(),
                state(m),
                link.to_owned(),
                phi(m),
                m.partitions.to_string(),
                kept(m, &status),
            ]
        });
        let headers = ["member", "address", "state", "link", "phi", "partitions", "waiting for it"];
        format!(
            "cluster {}, as node {} sees it: {} keys here, up {} s, version {}\n{}{}\n{}{}\n{}",
            status.cluster,
            status.node,
            status.keys,
            status.uptime_ms / 1000,
            status.version,
            waiting(&status),
            table(headers, rows.collect()),
            handover(&status),
            compared(&status.compared),
            barrier(&status)
        )
    });
    Ok(ExitCode::SUCCESS)
}

/// A line that says why the node does not serve, if it does not.
fn waiting(status: &ClusterStatus) -> String {
    let why = status.waiting.as_ref();
    why.map_or_else(String::new, |why| format!("does not serve: {why}\n"))
}

/// Where a member stands, and that it is suspected if it is.
fn state(member: &MemberStatus) -> String {
    let state = member.state.word();
    match member.liveness {
        Liveness::Suspected if member.state.is_present() => format!("{state}, suspected"),
        Liveness::Reachable | Liveness::Suspected => state.to_owned(),
    }
}

/// How surprising a member's silence is. Of the gone it says nothing.
fn phi(member: &MemberStatus) -> String {
    if member.state.is_present() { format!("{:.1}", member.phi) } else { String::new() }
}

/// How many keys are kept for a member, and how many bytes, of what may be.
fn kept(member: &MemberStatus, status: &ClusterStatus) -> String {
    let MemberStatus { pending, pending_bytes, .. } = member;
    match pending {
        0 => "0".to_owned(),
        _ => {
            let most = bytes_in_words(status.hint_bytes_max);
            format!("{pending} ({} of {most})", bytes_in_words(*pending_bytes))
        }
    }
}

fn member_json(m: &MemberStatus) -> serde_json::Value {
    json!({
        "name": m.name, "id": m.node.to_string(), "generation": m.generation,
        "peer_address": m.peer_address, "zone": m.zone, "weight": m.weight,
        "state": m.state.word(), "suspected": m.liveness == Liveness::Suspected, "phi": m.phi,
        "version": m.version, "connected": m.connected, "messages": m.messages, "cut": m.cut,
        "partitions": m.partitions, "copies": m.copies, "pending": m.pending,
        "pending_bytes": m.pending_bytes, "stored_bytes": m.load.stored_bytes,
        "requests_per_second": m.load.requests_per_second,
    })
}

fn barrier_json(status: &ClusterStatus) -> serde_json::Value {
    let barrier = &status.barrier;
    json!({
        "round": barrier.round, "stage": barrier.stage.word(), "agreed": barrier.agreed,
        "forgotten": barrier.forgotten, "waits_for": barrier_waits_for(status),
        "has_remnants": barrier.has_remnants,
        "doing": barrier.doing.map(|doing| doing.to_string()),
    })
}

fn barrier_waits_for(status: &ClusterStatus) -> Vec<String> {
    let names = status.members.iter().map(|m| (m.node, m.name.clone())).collect();
    status.barrier.waits_for.iter().map(|&node| named(node, &names)).collect()
}

/// A line that says how far the forgetting of deleted keys is.
fn barrier(status: &ClusterStatus) -> String {
    let barrier = &status.barrier;
    let mut text = match barrier.round {
        0 => "barrier: no round was begun yet".to_owned(),
        round => format!(
            "barrier: round {round}, {}; deleted keys of before round {} are forgotten",
            barrier.stage.word(),
            barrier.forgotten
        ),
    };
    if barrier.has_remnants {
        text += ", others wait for the next round";
    }
    if let Some(doing) = barrier.doing {
        text += &format!("; this node is {doing}");
    }
    let waits_for = barrier_waits_for(status);
    if !waits_for.is_empty() {
        text += &format!("; waits for {}", waits_for.join(", "));
    }
    text
}

/// Shows or changes who belongs to the cluster.
pub(crate) async fn cluster(
    printer: &Printer,
    datastore: &dyn Datastore,
    command: ClusterCommand,
) -> Result<ExitCode> {
    let (call, done) = match command {
        ClusterCommand::Members => return members(printer, datastore).await,
        ClusterCommand::Status { watch } => {
            transfers::show(printer, datastore, watch).await?;
            return Ok(ExitCode::SUCCESS);
        }
        ClusterCommand::Plan { replace } => {
            let call = match <[String; 2]>::try_from(replace) {
                Ok([dead, by]) => PlanCall::Replace { dead, by },
                Err(_) => PlanCall::Staged,
            };
            let report = datastore.plan(call).await?;
            printer.show(&plan_json(&report), || plan::tried(&report));
            return Ok(ExitCode::SUCCESS);
        }
        ClusterCommand::Commit => return commit(printer, datastore, PlanCall::Staged).await,
        ClusterCommand::Replace { dead, new } => {
            return commit(printer, datastore, PlanCall::Replace { dead, by: new }).await;
        }
        ClusterCommand::Merge { seed } => {
            datastore.merge(&seed).await?;
            printer.show(&json!({ "done": "all nodes join the other ring", "seed": seed }), || {
                format!(
                    "all nodes of this ring go over to that of {seed}; once `merganser --node {seed} cluster \
                     members` has them, commit a plan there: `merganser --node {seed} cluster commit`"
                )
            });
            return Ok(ExitCode::SUCCESS);
        }
        ClusterCommand::Join { member } => {
            let done = format!("{member} is up");
            (ClusterCall::Join { member }, done)
        }
        ClusterCommand::Leave { member } => {
            let done = format!("{member} leaves");
            (ClusterCall::Leave { member }, done)
        }
        ClusterCommand::Remove { member } => {
            let done = format!("{member} is removed");
            (ClusterCall::Remove { member }, done)
        }
        ClusterCommand::Weight { member, weight } => {
            let done = format!("{member} has weight {weight}");
            (ClusterCall::Weigh { member, weight }, done)
        }
    };
    datastore.cluster(call).await?;
    printer
        .show(&json!({ "done": done }), || format!("{done}; the others come to know it by gossip"));
    Ok(ExitCode::SUCCESS)
}

async fn commit(printer: &Printer, datastore: &dyn Datastore, call: PlanCall) -> Result<ExitCode> {
    let committed = datastore.commit(call).await?;
    printer.show(&plan::committed_json(&committed), || plan::committed(&committed));
    Ok(ExitCode::SUCCESS)
}

fn handover_json(handover: &HandoverStatus) -> serde_json::Value {
    json!({
        "partitions_moving": handover.partitions_moving, "receiving": handover.receiving,
        "driving": handover.driving, "departing": handover.departing,
        "waits_for": handover.waits_for.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "transfers": handover.transfers.iter().map(transfer_json).collect::<Vec<_>>(),
    })
}

/// A line that says how far partitions have followed the plan, unless they have.
fn handover(status: &ClusterStatus) -> String {
    let HandoverStatus { partitions_moving, receiving, driving, departing, waits_for, .. } =
        &status.handover;
    if (*partitions_moving, *departing) == (0, 0) {
        return String::new();
    }
    let mut line = format!(
        "{partitions_moving} of {} partitions do not follow plan {} yet; this node receives {receiving}, takes \
         {driving} from stage to stage, gives up {departing}",
        status.partitions, status.ring_version
    );
    if !waits_for.is_empty() {
        let name = |node: &NodeId| {
            let member = status.members.iter().find(|member| member.node == *node);
            member.map_or_else(|| node.to_string(), |member| member.name.clone())
        };
        let names: Vec<String> = waits_for.iter().map(name).collect();
        line += &format!("; it waits for {}", names.join(", "));
    }
    line + ": `merganser cluster status` shows all of it\n"
}

async fn members(printer: &Printer, datastore: &dyn Datastore) -> Result<ExitCode> {
    let status = datastore.status().await?;
    let json = json!({
        "cluster": status.cluster, "node": status.node, "waiting": status.waiting,
        "members": status.members.iter().map(member_json).collect::<Vec<_>>(),
    });
    printer.show(&json, || {
        let rows = status.members.iter().map(|m| {
            [
                m.name.clone(),
                m.node.to_string(),
                m.generation.to_string(),
                m.peer_address.clone(),
                m.zone.clone().unwrap_or_default(),
                m.weight.to_string(),
                m.version.clone(),
                state(m),
                phi(m),
                match m.load.stored_bytes {
                    0 => String::new(),
                    bytes => bytes_in_words(bytes),
                },
                m.load.requests_per_second.to_string(),
            ]
        });
        let headers = [
            "member",
            "actor",
            "starts",
            "address",
            "zone",
            "weight",
            "version",
            "state",
            "phi",
            "stored",
            "requests/s",
        ];
        let (cluster, node) = (&status.cluster, &status.node);
        let rows = table(headers, rows.collect());
        format!("cluster {cluster}, as node {node} sees it\n{}{rows}", waiting(&status))
    });
    Ok(ExitCode::SUCCESS)
}

/// How long ago the node's partitions were found equal with other owners, in words.
fn compared(compared: &ComparisonSummary) -> String {
    let ComparisonSummary { pairs, never, oldest_ms } = *compared;
    match (pairs, never) {
        (0, _) => "no other owner to compare with".to_owned(),
        (_, 0) => format!(
            "all partitions found equal with every other owner within the last {} s",
            oldest_ms / 1_000 + 1
        ),
        _ => format!(
            "{never} of {pairs} pairs of a partition and another owner not found equal since the start"
        ),
    }
}

/// Cuts or restores links.
pub(crate) async fn links(
    printer: &Printer,
    datastore: &dyn Datastore,
    command: LinksCommand,
) -> Result<ExitCode> {
    let (member, cut) = match command {
        LinksCommand::Cut { member } => (member, true),
        LinksCommand::Heal { member } => (member, false),
    };
    datastore.cut_links(&member, cut).await?;
    printer.show(&json!({ "member": member, "cut": cut }), || {
        format!("links of {member} are {}", if cut { "cut" } else { "whole" })
    });
    Ok(ExitCode::SUCCESS)
}

fn named(node: NodeId, names: &BTreeMap<NodeId, String>) -> String {
    names.get(&node).cloned().unwrap_or_else(|| node.to_string())
}
