//! What moves in the cluster, how fast, and what it waits for.

use std::time::Duration;

use anyhow::Result;
use client::Datastore;
use client::moves::transfers_json;
use replication::{Part, WaitReason};
use wire::{TransferReport, TransferStatus, TransferWait};

use crate::output::{Printer, table};

/// Others that a member's rows are shown for; the rest is counted.
const PEERS_SHOWN: usize = 8;
/// Time between two looks.
const PERIOD: Duration = Duration::from_secs(1);

/// Shows it once, or again and again until nothing moves at any member.
pub(super) async fn show(
    printer: &Printer,
    datastore: &dyn Datastore,
    watches: bool,
) -> Result<()> {
    loop {
        let report = datastore.transfers().await?;
        printer.show(&transfers_json(&report), || in_words(&report));
        let nothing_moves = report.partitions_moving == 0 && report.transfers.is_empty();
        let is_over = nothing_moves && report.silent.is_empty();
        if !watches || is_over {
            return Ok(());
        }
        tokio::time::sleep(PERIOD).await;
    }
}

fn in_words(report: &TransferReport) -> String {
    let TransferReport { ring_version, partitions, partitions_moving, transfers, .. } = report;
    let mut text = match (*partitions_moving, transfers.is_empty()) {
        (0, true) => {
            format!("nothing moves: all {partitions} partitions follow plan {ring_version}")
        }
        (0, false) => format!(
            "all {partitions} partitions follow plan {ring_version}; copies are left that nobody is to have"
        ),
        (moving, _) => {
            format!("{moving} of {partitions} partitions do not follow plan {ring_version} yet")
        }
    };
    if !transfers.is_empty() {
        let headers = ["member", "", "partitions", "keys", "keys/s", "left", "waits for"];
        text += &format!("\n{}", table(headers, transfers.iter().flat_map(rows).collect()));
    }
    if report.more > 0 {
        text += &format!("\nand {} more", report.more);
    }
    for (name, why) in &report.silent {
        text += &format!("\nnot asked: {name}: {why}");
    }
    text
}

/// A row of a member, and of each that it receives from.
fn rows(transfer: &TransferStatus) -> Vec<[String; 7]> {
    let all = transfer.partitions + transfer.done;
    let keys = match (transfer.part, transfer.keys_left) {
        (Part::Driving, _) => String::new(),
        (Part::Receiving, Some(left)) => {
            format!("{} of about {}", transfer.keys, transfer.keys + left)
        }
        (Part::Receiving, None) => format!("{} so far", transfer.keys),
        (Part::Departing, _) => format!("{} dropped", transfer.keys),
    };
    let rate = transfer.keys_per_1000_s / 1_000;
    let mut waits: Vec<String> = transfer.waits.iter().map(in_a_line).collect();
    if transfer.more_waits > 0 {
        waits.push(format!("and {} more", transfer.more_waits));
    }
    let mut rows = vec![[
        transfer.member.clone(),
        match transfer.part {
            Part::Receiving => "receives".to_owned(),
            Part::Driving => "takes from stage to stage".to_owned(),
            Part::Departing => "gives up".to_owned(),
        },
        format!("{} of {all} done", transfer.done),
        keys,
        if transfer.part == Part::Driving { String::new() } else { rate.to_string() },
        transfer.left_ms.map_or_else(String::new, time),
        waits.join("\n"),
    ]];
    if transfer.part == Part::Receiving {
        for peer in transfer.peers.iter().take(PEERS_SHOWN) {
            let mut row = <[String; 7]>::default();
            row[1] = format!("  from {}", peer.name);
            row[2] = format!("{} left", peer.partitions);
            row[3] = peer.keys.to_string();
            rows.push(row);
        }
        let beyond = transfer.peers.len().saturating_sub(PEERS_SHOWN) as u64;
        let more = beyond + u64::from(transfer.more_peers);
        if more > 0 {
            let mut row = <[String; 7]>::default();
            row[1] = format!("  from {more} more");
            rows.push(row);
        }
    }
    rows
}

/// What some partitions wait for.
fn in_a_line(wait: &TransferWait) -> String {
    let member = wait.member.as_deref().unwrap_or("a member");
    let what = match wait.reason {
        WaitReason::OutOfReach => format!("{member}, which is out of reach"),
        WaitReason::Unheard => format!("{member}, to say where it stands"),
        WaitReason::Receiver => format!("{member}, which is being sent them"),
        WaitReason::Driver => format!("{member}, to take them further once all have them"),
        WaitReason::Rest => "another try, after one without answer".to_owned(),
        WaitReason::Turn => "their turn".to_owned(),
        WaitReason::Comparison => "their turn to be compared".to_owned(),
        WaitReason::Budget => "the bound on what comparing sends a second".to_owned(),
        WaitReason::Clients => "clients, who come first".to_owned(),
        WaitReason::Dropping => "their keys to be dropped".to_owned(),
    };
    format!("{}: {what}", wait.partitions)
}

/// A time in the two largest of its units.
fn time(ms: u64) -> String {
    let seconds = ms.div_ceil(1_000);
    match seconds {
        0..=99 => format!("{seconds} s"),
        100..=5_999 => format!("{} min {} s", seconds / 60, seconds % 60),
        _ => format!("{} h {} min", seconds / 3_600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use wire::TransferPeer;

    use super::*;

    fn transfer() -> TransferStatus {
        TransferStatus {
            member: "d".into(),
            part: Part::Receiving,
            partitions: 300,
            done: 100,
            keys: 2_000,
            keys_left: Some(6_000),
            keys_per_1000_s: 500_000,
            left_ms: Some(12_000),
            peers: vec![TransferPeer { name: "a".into(), partitions: 7, keys: 2_000 }],
            more_peers: 3,
            waits: vec![TransferWait {
                reason: WaitReason::OutOfReach,
                member: Some("b".into()),
                partitions: 9,
            }],
            more_waits: 0,
        }
    }

    #[test]
    fn a_transfer_is_a_row_with_progress_rate_time_and_reason() {
        let rows = rows(&transfer());
        let first = ["d", "receives", "100 of 400 done", "2000 of about 8000", "500", "12 s"];
        assert_eq!(rows[0][..6], first);
        assert_eq!(rows[0][6], "9: b, which is out of reach");
        assert_eq!(rows[1][1..4], ["  from a", "7 left", "2000"]);
        assert_eq!(rows[2][1], "  from 3 more");
    }

    #[test]
    fn times_are_as_long_as_anybody_reads() {
        assert_eq!(
            [1, 99_500, 3_700_000, 9_000_000].map(time),
            ["1 s", "1 min 40 s", "61 min 40 s", "2 h 30 min"]
        );
    }
}
