//! Commands on the cluster: ring, status, contexts, links.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use client::{Client, Datastore};
use clock::{ContextToken, NodeId};
use membership::Liveness;
use replication::{ComparisonSummary, RequestError, summarize};
use serde_json::json;
use values::Key;
use wire::{ClusterCall, ClusterStatus, HandoverStatus, MemberStatus, PlanReport};

use crate::options::{ClusterCommand, LinksCommand};
use crate::output::{Printer, table, text_bytes};

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
                "partitions": m.partitions }))
            .collect::<Vec<_>>(),
        "key": lookup.as_ref().map(|found| json!({ "partition": found.partition,
            "owners": found.n, "preference_list": list })),
    });
    printer.show(&json, || {
        let rows = (0..).zip(&status.members).map(|(index, m)| {
            let letter = letter(index).to_string();
            let zone = m.zone.clone().unwrap_or_default();
            let (owned, weight) = (m.partitions.to_string(), m.weight.to_string());
            [letter, m.name.clone(), zone, weight, owned, share(m.partitions)]
        });
        let mut text = format!(
            "ring version {}, {} partitions; who owns them, once around:\n{}\n{}",
            status.ring_version,
            status.partitions,
            drawn(&status.owners),
            table(["", "member", "zone", "weight", "partitions", "share"], rows.collect())
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
        "barrier": barrier_json(&status),
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
                m.partitions.to_string(),
                m.pending.to_string(),
            ]
        });
        let headers = ["member", "address", "state", "link", "partitions", "waiting for it"];
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

fn member_json(m: &MemberStatus) -> serde_json::Value {
    json!({
        "name": m.name, "id": m.node.to_string(), "generation": m.generation,
        "peer_address": m.peer_address, "zone": m.zone, "weight": m.weight,
        "state": m.state.word(), "suspected": m.liveness == Liveness::Suspected, "phi": m.phi,
        "version": m.version, "connected": m.connected, "messages": m.messages, "cut": m.cut,
        "partitions": m.partitions, "pending": m.pending,
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
        ClusterCommand::Commit { dry_run } => {
            return Ok(committed(printer, &datastore.commit(dry_run).await?, dry_run));
        }
        ClusterCommand::Replace { dead, new, dry_run } => {
            let report = datastore.replace(&dead, &new, dry_run).await?;
            return Ok(committed(printer, &report, dry_run));
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

fn committed(printer: &Printer, report: &PlanReport, is_trial: bool) -> ExitCode {
    let moves = report.moves.iter();
    let moves = moves.map(|m| json!({ "name": m.name, "gets": m.gets, "gives": m.gives }));
    let json = json!({
        "version": report.version, "changed": report.is_changed, "dry_run": is_trial,
        "moves": moves.collect::<Vec<_>>(), "known": report.known, "members": report.members,
        "warnings": report.warnings,
    });
    printer.show(&json, || in_words(report, is_trial));
    ExitCode::SUCCESS
}

fn in_words(report: &PlanReport, is_trial: bool) -> String {
    let PlanReport { version, is_changed, moves, known, members, warnings } = report;
    if !is_changed {
        return format!(
            "nothing to do: members, weights and zones are those of plan {version} already, and all own what they are to"
        );
    }
    let copies: u32 = moves.iter().map(|m| m.gets).sum();
    let rows = moves.iter().map(|m| [m.name.clone(), m.gets.to_string(), m.gives.to_string()]);
    let done = if is_trial {
        format!("plan {version} would move {copies} copies of partitions; nothing was changed")
    } else {
        format!(
            "plan {version} is committed, and on the disks of {known} of {members} nodes; {copies} copies of \
             partitions move: `merganser status` shows how far it is"
        )
    };
    let mut text = done;
    if !moves.is_empty() {
        text += &format!("\n{}", table(["member", "gets", "gives up"], rows.collect()));
    }
    for warning in warnings {
        text += &format!("\nwarning: {warning}");
    }
    text
}

fn handover_json(handover: &HandoverStatus) -> serde_json::Value {
    json!({
        "partitions_moving": handover.partitions_moving, "receiving": handover.receiving,
        "driving": handover.driving, "departing": handover.departing,
        "waits_for": handover.waits_for.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// A line that says how far partitions have followed the plan, unless they have.
fn handover(status: &ClusterStatus) -> String {
    let HandoverStatus { partitions_moving, receiving, driving, departing, waits_for } =
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
    line + "\n"
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
                // Of the gone, silence says nothing.
                if m.state.is_present() { format!("{:.1}", m.phi) } else { String::new() },
            ]
        });
        let headers =
            ["member", "actor", "starts", "address", "zone", "weight", "version", "state", "phi"];
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_expected_of_a_plan_is_said_behind_what_moves_whether_it_is_tried_or_committed() {
        let report = PlanReport {
            version: 3,
            is_changed: true,
            moves: Vec::new(),
            known: 2,
            members: 3,
            warnings: vec!["it is heavy".to_owned(), "a commit would move 9 copies".to_owned()],
        };
        for is_trial in [true, false] {
            let text = in_words(&report, is_trial);
            let lines = "\nwarning: it is heavy\nwarning: a commit would move 9 copies";
            assert!(text.starts_with("plan 3 ") && text.ends_with(lines), "{text}");
        }
    }
}
