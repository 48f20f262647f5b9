//! Plans, tried and committed: what is staged, what moves, and how even it gets.

use std::collections::BTreeMap;

use client::moves::{heaviest, plan_json};
use serde_json::Value;
use wire::{CommittedPlan, PlanReport, PlannedMember, Staged, StagedChange};

use crate::output::{bytes_in_words, table};

pub(super) fn committed_json(committed: &CommittedPlan) -> Value {
    let mut json = plan_json(&committed.plan);
    (json["known"], json["nodes"]) = (committed.known.into(), committed.members.into());
    json
}

/// What a plan would do.
pub(super) fn tried(report: &PlanReport) -> String {
    if !report.is_changed {
        return unchanged(report);
    }
    let PlanReport { version, .. } = report;
    let mut text = format!("plan {version}, not committed yet\n{}", staged(report));
    text += &outcome(report);
    let replaces = report.staged.iter().find_map(|staged| match &staged.change {
        Staged::Replaces(dead) => Some(format!("replace {dead} {}", staged.name)),
        _ => None,
    });
    let command = replaces.as_deref().unwrap_or("commit");
    text + &format!("\n`merganser cluster {command}` commits it")
}

/// What a committed plan does.
pub(super) fn committed(committed: &CommittedPlan) -> String {
    let CommittedPlan { plan, known, members } = committed;
    if !plan.is_changed {
        return unchanged(plan);
    }
    format!(
        "plan {} is committed, and on the disks of {known} of {members} nodes: `merganser cluster status` shows how far \
         it is\n{}",
        plan.version,
        outcome(plan)
    )
}

fn unchanged(report: &PlanReport) -> String {
    format!(
        "nothing to do: members, weights and zones are those of plan {} already, and all own what they are to\n{}",
        report.version,
        shares(report)
    )
}

fn staged(report: &PlanReport) -> String {
    if report.staged.is_empty() {
        return "nothing is staged: members get what weights and zones allow\n".to_owned();
    }
    let zone = |zone: &Option<String>| zone.clone().unwrap_or_else(|| "no zone".to_owned());
    let line = |staged: &StagedChange| {
        let what = match &staged.change {
            Staged::Joins => "joins".to_owned(),
            Staged::Leaves => "leaves".to_owned(),
            Staged::IsRemoved => "is removed".to_owned(),
            Staged::Replaces(dead) => format!("takes the places of {dead}, which is removed"),
            Staged::Weight { from, to } => format!("has weight {to} instead of {from}"),
            Staged::Zone { from, to } => format!("is in {} instead of {}", zone(to), zone(from)),
        };
        format!("  {} {what}\n", staged.name)
    };
    report.staged.iter().map(line).collect()
}

fn outcome(report: &PlanReport) -> String {
    let copies = report.copies();
    let all: f64 = report.members.iter().map(|member| f64::from(member.after)).sum();
    let about =
        report.bytes.map_or_else(String::new, |bytes| format!(", about {}", bytes_in_words(bytes)));
    let mut text = format!(
        "{copies} copies of partitions move, {:.1} % of all (n={}){about}\n{}",
        100.0 * copies as f64 / all.max(1.0),
        report.n,
        shares(report)
    );
    for warning in &report.warnings {
        text += &format!("\nwarning: {warning}");
    }
    text
}

/// What each member owns, and how even that is.
fn shares(report: &PlanReport) -> String {
    let has_zones = report.members.iter().any(|member| member.zone.is_some());
    let row = |member: &PlannedMember| {
        let beside = match member.fair > 0.0 {
            true => format!("{:.3}", f64::from(member.after) / member.fair),
            false => String::new(),
        };
        [
            member.name.clone(),
            member.zone.clone().unwrap_or_default(),
            member.weight.map_or_else(String::new, |weight| weight.to_string()),
            member.before.to_string(),
            member.gets.to_string(),
            member.gives.to_string(),
            member.after.to_string(),
            beside,
        ]
    };
    let headers =
        ["member", "zone", "weight", "copies now", "gets", "gives up", "then", "of its fair share"];
    let mut text = table(headers, report.members.iter().map(row).collect());
    if let Some((name, ratio)) = heaviest(report) {
        text += &format!("\nthe heaviest then is {name}, with {ratio:.3} of its fair share");
    }
    if has_zones {
        text += &format!("\n{}", zones(report));
    }
    text
}

fn zones(report: &PlanReport) -> String {
    let mut zones = BTreeMap::<&str, (u64, u64)>::new();
    for member in &report.members {
        let sums = zones.entry(member.zone.as_deref().unwrap_or("no zone")).or_default();
        (sums.0, sums.1) = (sums.0 + u64::from(member.before), sums.1 + u64::from(member.after));
    }
    let zones: Vec<String> = zones
        .into_iter()
        .map(|(zone, (before, after))| format!("{zone} {before} → {after}"))
        .collect();
    let mut text = format!("copies by zone: {}", zones.join(", "));
    if report.narrow != (0, 0) {
        let (before, after) = report.narrow;
        text += &format!(
            "; partitions with owners in fewer zones than there are: {before} → {after} of {}",
            report.partitions
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(name: &str, before: u32, gets: u32, gives: u32, fair: f64) -> PlannedMember {
        PlannedMember {
            name: name.to_owned(),
            zone: Some(if name == "a" { "x" } else { "y" }.to_owned()),
            weight: (fair > 0.0).then_some(1),
            before,
            after: before + gets - gives,
            gets,
            gives,
            fair,
        }
    }

    fn report() -> PlanReport {
        PlanReport {
            version: 3,
            is_changed: true,
            partitions: 16,
            n: 3,
            staged: vec![
                StagedChange { name: "b".into(), change: Staged::Leaves },
                StagedChange { name: "d".into(), change: Staged::Joins },
                StagedChange { name: "d".into(), change: Staged::Weight { from: 1, to: 2 } },
            ],
            members: vec![
                member("a", 16, 0, 0, 16.0),
                member("b", 16, 0, 16, 0.0),
                member("c", 16, 0, 0, 12.0),
                member("d", 0, 16, 0, 20.0),
            ],
            bytes: Some(3 << 20),
            narrow: (4, 0),
            warnings: vec!["it is heavy".to_owned()],
        }
    }

    #[test]
    fn a_plan_says_what_is_staged_what_moves_and_how_even_it_gets() {
        let text = tried(&report());
        for line in [
            "plan 3, not committed yet",
            "  b leaves",
            "  d has weight 2 instead of 1",
            "16 copies of partitions move, 33.3 % of all (n=3), about 3.0 MiB",
            "the heaviest then is c, with 1.333 of its fair share",
            "copies by zone: x 16 → 16, y 32 → 32; partitions with owners in fewer zones than there are: 4 → 0 of 16",
            "warning: it is heavy",
        ] {
            assert!(text.lines().any(|found| found == line), "{line}\n{text}");
        }
        assert!(text.ends_with("\n`merganser cluster commit` commits it"), "{text}");
        let change = Staged::Replaces("c".into());
        let staged = vec![StagedChange { name: "e".into(), change }];
        let text = tried(&PlanReport { staged, ..report() });
        assert!(text.ends_with("\n`merganser cluster replace c e` commits it"), "{text}");
        let json = plan_json(&report());
        assert_eq!((&json["copies"], &json["staged"][0]["change"]), (&16.into(), &"leaves".into()));
    }

    #[test]
    fn what_is_committed_says_on_how_many_disks_it_is_and_what_is_not_expected() {
        let plan = CommittedPlan { plan: report(), known: 2, members: 3 };
        let text = committed(&plan);
        assert!(
            text.starts_with("plan 3 is committed, and on the disks of 2 of 3 nodes"),
            "{text}"
        );
        assert!(text.ends_with("\nwarning: it is heavy"), "{text}");
        let nothing = PlanReport { is_changed: false, ..report() };
        assert!(tried(&nothing).starts_with("nothing to do"));
    }
}
