//! Plans and what moves for them, as JSON documents.

use serde_json::{Value, json};
use wire::{PlanReport, Staged, StagedChange, TransferReport, TransferStatus};

/// The member that owns most by a plan beside what its weight is due, and how many times that.
pub fn heaviest(report: &PlanReport) -> Option<(&str, f64)> {
    let due = report.members.iter().filter(|member| member.fair > 0.0);
    let ratios = due.map(|member| (member.name.as_str(), f64::from(member.after) / member.fair));
    ratios.max_by(|one, other| one.1.total_cmp(&other.1))
}

/// What a plan changes.
pub fn plan_json(report: &PlanReport) -> Value {
    let staged = report.staged.iter();
    let staged = staged.map(|staged| json!({ "name": staged.name, "change": change_json(staged) }));
    let members = report.members.iter().map(|member| {
        json!({
            "name": member.name, "zone": member.zone, "weight": member.weight,
            "before": member.before, "after": member.after, "gets": member.gets,
            "gives": member.gives, "fair": member.fair,
        })
    });
    json!({
        "version": report.version, "changed": report.is_changed, "partitions": report.partitions,
        "n": report.n, "staged": staged.collect::<Vec<_>>(),
        "members": members.collect::<Vec<_>>(), "copies": report.copies(),
        "bytes": report.bytes, "heaviest": heaviest(report).map(|(_, ratio)| ratio),
        "narrow": { "before": report.narrow.0, "after": report.narrow.1 },
        "warnings": report.warnings,
    })
}

fn change_json(staged: &StagedChange) -> Value {
    match &staged.change {
        Staged::Joins => json!("joins"),
        Staged::Leaves => json!("leaves"),
        Staged::IsRemoved => json!("removed"),
        Staged::Replaces(dead) => json!({ "replaces": dead }),
        Staged::Weight { from, to } => json!({ "weight": { "from": from, "to": to } }),
        Staged::Zone { from, to } => json!({ "zone": { "from": from, "to": to } }),
    }
}

/// What moves in the cluster.
pub fn transfers_json(report: &TransferReport) -> Value {
    let silent = report.silent.iter();
    let silent = silent.map(|(name, why)| json!({ "name": name, "why": why }));
    json!({
        "ring_version": report.ring_version, "partitions": report.partitions,
        "partitions_moving": report.partitions_moving,
        "transfers": report.transfers.iter().map(transfer_json).collect::<Vec<_>>(),
        "more": report.more, "silent": silent.collect::<Vec<_>>(),
    })
}

/// What one member has to do with what moves.
pub fn transfer_json(transfer: &TransferStatus) -> Value {
    let peers = transfer
        .peers
        .iter()
        .map(|peer| json!({ "name": peer.name, "partitions": peer.partitions, "keys": peer.keys }));
    let waits = transfer.waits.iter().map(|wait| {
        json!({ "reason": wait.reason.word(), "member": wait.member,
            "partitions": wait.partitions })
    });
    json!({
        "member": transfer.member, "part": transfer.part.word(),
        "partitions": transfer.partitions, "done": transfer.done, "keys": transfer.keys,
        "keys_left": transfer.keys_left,
        "keys_per_second": transfer.keys_per_1000_s as f64 / 1_000.0,
        "left_ms": transfer.left_ms, "peers": peers.collect::<Vec<_>>(),
        "more_peers": transfer.more_peers, "waits": waits.collect::<Vec<_>>(),
        "more_waits": transfer.more_waits,
    })
}
