//! `ring plan`: what a join, a leave, or other weights and zones would move, and the balance then.
//! Computed here, from members named on the command line or from a running node's ring; nothing is
//! changed anywhere.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::Result;
use client::{Client, Datastore as _};
use clock::NodeId;
use node::{node_id, unmet_shares};
use ring::{Member, PartitionCount, Placement, PlacementError, Ring, Weight, Zone};
use serde_json::{Value, json};

use crate::options::PlanOptions;
use crate::output::{Printer, table};

/// Most members that a plan takes; a guess far above any cluster of one ring, and placed at once.
const MEMBERS_MAX: usize = 1000;
/// Cluster whose members are planned without a node: the default name.
const CLUSTER: &str = "merganser";

/// What was asked for is no plan. Nothing was done.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlanError {
    /// Not `NAME[*WEIGHT][@ZONE]`.
    #[error("{0:?} is not NAME[*WEIGHT][@ZONE], with a weight from 1 to 1000")]
    Member(String),
    /// Not NAME=VALUE.
    #[error("{0:?} is not NAME=VALUE")]
    Setting(String),
    /// Not a zone's name, or not a weight.
    #[error("{setting}: {reason}")]
    Value {
        /// The argument.
        setting: String,
        /// What is wrong.
        reason: String,
    },
    /// Named as leaving, or to be changed, but not there.
    #[error("{0} is not a member; members are {1}")]
    NoMember(String, String),
    /// Named as joining, but there, or named twice.
    #[error("{0} is a member already")]
    AlreadyMember(String),
    /// More than can be planned.
    #[error("{0} members: a plan takes 1 to {MEMBERS_MAX}")]
    TooMany(usize),
    /// No such number of partitions.
    #[error(transparent)]
    Partitions(#[from] ring::InvalidPartitionCount),
    /// No ring can be placed.
    #[error(transparent)]
    Placement(#[from] PlacementError),
    /// The node's ring cannot be read.
    #[error("the node's ring: {0}")]
    Ring(#[from] ring::InvalidRing),
}

/// A ring, whose members have names.
struct Cluster {
    name: String,
    members: BTreeMap<String, Member>,
}

/// Shows what would come of the changes that `options` name.
pub(crate) async fn plan(printer: &Printer, node: &str, options: PlanOptions) -> Result<ExitCode> {
    let spread = Ring::spread_for(options.owners);
    let (before, mut cluster) = match &options.nodes {
        Some(nodes) => offline(nodes, options.partitions, spread)?,
        None => online(node).await?,
    };
    let mut names = cluster.names();
    cluster.change(&options)?;
    names.extend(cluster.names());
    let members: Vec<Member> = cluster.members.values().cloned().collect();
    let after = Ring::place(&members, before.partition_count(), spread, Some(&before))
        .map_err(PlanError::from)?;
    let outcome = Outcome::new(&before, &after, options.owners.into(), names);
    printer.show(&outcome.json(), || outcome.text());
    Ok(ExitCode::SUCCESS)
}

/// The ring that the named members would start with.
fn offline(nodes: &str, partitions: u32, spread: usize) -> Result<(Ring, Cluster), PlanError> {
    let mut cluster = Cluster { name: CLUSTER.into(), members: BTreeMap::new() };
    match nodes.parse::<usize>() {
        Ok(count) if !(1..=MEMBERS_MAX).contains(&count) => return Err(PlanError::TooMany(count)),
        Ok(count) => (1..=count).try_for_each(|number| cluster.add(&format!("node{number}")))?,
        Err(_) => nodes.split(',').try_for_each(|member| cluster.add(member))?,
    }
    let members: Vec<Member> = cluster.members.values().cloned().collect();
    let placement = Ring::place(&members, PartitionCount::new(partitions)?, spread, None)?;
    Ok((placement.ring, cluster))
}

/// The ring of a running node.
async fn online(node: &str) -> Result<(Ring, Cluster)> {
    let status = Client::connect(node).await?.status().await?;
    let mut members = Vec::new();
    let mut present = BTreeMap::new();
    // Owners are named by their place among these. One that is gone and owns something yet is to give it up.
    for shown in status.members {
        let zone = shown.zone.map(Zone::new).transpose();
        let (zone, weight) = (zone.map_err(anyhow::Error::msg)?, Weight::new(shown.weight)?);
        let member = Member { node: shown.node, weight, zone };
        if shown.state.is_here() {
            present.insert(shown.name, member.clone());
        }
        members.push(member);
    }
    let cluster = Cluster { name: status.cluster, members: present };
    let ring = Ring::new(status.ring_version, members, status.owners).map_err(PlanError::from)?;
    Ok((ring, cluster))
}

impl Cluster {
    /// Adds a member as the command line describes it.
    fn add(&mut self, described: &str) -> Result<(), PlanError> {
        let malformed = || PlanError::Member(described.into());
        let (rest, zone) = match described.split_once('@') {
            Some((rest, zone)) => (rest, Some(Zone::new(zone).map_err(|_| malformed())?)),
            None => (described, None),
        };
        let (name, weight) = match rest.split_once('*') {
            Some((name, weight)) => (name, self::weight(weight).ok_or_else(malformed)?),
            None => (rest, Weight::default()),
        };
        if name.is_empty() || name.chars().any(char::is_control) {
            return Err(malformed());
        }
        let member = Member { node: node_id(&self.name, name), weight, zone };
        if self.members.insert(name.to_owned(), member).is_some() {
            return Err(PlanError::AlreadyMember(name.into()));
        }
        if self.members.len() > MEMBERS_MAX {
            return Err(PlanError::TooMany(self.members.len()));
        }
        Ok(())
    }

    fn change(&mut self, options: &PlanOptions) -> Result<(), PlanError> {
        options.join.iter().try_for_each(|member| self.add(member))?;
        for setting in &options.weight {
            let (member, value) = self.setting(setting)?;
            let reason = || format!("a weight is a number from 1 to {}", Weight::MAX);
            member.weight = weight(value)
                .ok_or_else(|| PlanError::Value { setting: setting.clone(), reason: reason() })?;
        }
        for setting in &options.zone {
            let (member, value) = self.setting(setting)?;
            let zone = (!value.is_empty()).then(|| Zone::new(value)).transpose();
            member.zone = zone.map_err(|error| PlanError::Value {
                setting: setting.clone(),
                reason: error.to_string(),
            })?;
        }
        for name in &options.leave {
            if self.members.remove(name).is_none() {
                return Err(self.unknown(name));
            }
        }
        Ok(())
    }

    /// The member that NAME=VALUE names, and the value.
    fn setting<'a>(&mut self, setting: &'a str) -> Result<(&mut Member, &'a str), PlanError> {
        let (name, value) =
            setting.split_once('=').ok_or_else(|| PlanError::Setting(setting.into()))?;
        let unknown = self.unknown(name);
        Ok((self.members.get_mut(name).ok_or(unknown)?, value))
    }

    fn unknown(&self, name: &str) -> PlanError {
        let known: Vec<&str> = self.members.keys().map(String::as_str).collect();
        PlanError::NoMember(name.into(), known.join(", "))
    }

    fn names(&self) -> BTreeMap<NodeId, String> {
        self.members.iter().map(|(name, member)| (member.node, name.clone())).collect()
    }
}

fn weight(text: &str) -> Option<Weight> {
    Weight::new(text.parse().ok()?).ok()
}

/// One line of the plan.
struct Row {
    name: String,
    member: Option<Member>,
    /// Partitions owned, before and after.
    owned: [usize; 2],
    /// Replicas held, before and after.
    held: [usize; 2],
    /// Of the replicas, those that its weight is due and those that are possible.
    due: f64,
    possible: f64,
}

/// What comes of a plan.
struct Outcome {
    partitions: u32,
    n: usize,
    rows: Vec<Row>,
    /// Replicas sent, by giver and taker.
    moves: BTreeMap<(String, String), usize>,
    /// Replicas that any ring with such shares would have to send.
    least: f64,
    warnings: Vec<String>,
}

impl Outcome {
    fn new(before: &Ring, after: &Placement, n: usize, names: BTreeMap<NodeId, String>) -> Self {
        let (rings, shares) = ([before, &after.ring], after.copies(n));
        let owned = rings.map(|ring| ring.loads().into_iter().collect::<BTreeMap<_, _>>());
        let held = rings.map(|ring| replicas(ring, n));
        let of = |counts: &[BTreeMap<NodeId, usize>; 2], node| {
            [0, 1].map(|at| counts[at].get(node).copied().unwrap_or(0))
        };
        let mut rows: Vec<Row> = names
            .iter()
            .map(|(node, name)| {
                let share = shares.iter().find(|share| share.node == *node);
                let member = after.ring.roster().iter().find(|member| member.node == *node);
                Row {
                    name: name.clone(),
                    member: member.cloned(),
                    owned: of(&owned, node),
                    held: of(&held, node),
                    due: share.map_or(0.0, |share| share.due),
                    possible: share.map_or(0.0, |share| share.possible),
                }
            })
            .collect();
        rows.sort_by(|a, b| a.name.cmp(&b.name));
        let named = |node: NodeId| names.get(&node).cloned().unwrap_or_else(|| node.to_string());
        let mut moves = BTreeMap::new();
        for step in before.replica_moves(&after.ring, n) {
            *moves.entry((named(step.from), named(step.to))).or_default() += 1;
        }
        let least =
            rows.iter().map(|row| (row.possible - row.held[0] as f64).max(0.0)).sum::<f64>();
        let mut warnings = unmet_shares(after, n, &names);
        let members = after.ring.members().len();
        if members < n {
            warnings.push(format!("{members} members for {n} owners: each key has {members}"));
        }
        Self { partitions: before.partition_count().get(), n, rows, moves, least, warnings }
    }

    fn moved(&self) -> usize {
        self.moves.values().sum()
    }

    /// Moved beside the least possible.
    fn ratio(&self) -> Option<f64> {
        (self.least >= 1.0).then(|| self.moved() as f64 / self.least)
    }

    /// The fullest member beside its possible share.
    fn heaviest(&self) -> f64 {
        let rows = self.rows.iter().filter(|row| row.possible > 0.0);
        rows.map(|row| row.held[1] as f64 / row.possible).fold(0.0, f64::max)
    }

    fn json(&self) -> Value {
        let members = self.rows.iter().map(|row| {
            let member = row.member.as_ref();
            json!({
                "name": row.name,
                "weight": member.map(|member| member.weight.get()),
                "zone": member.and_then(|member| member.zone.as_ref()).map(Zone::as_str),
                "partitions": { "before": row.owned[0], "after": row.owned[1] },
                "replicas": { "before": row.held[0], "after": row.held[1],
                    "due": row.due, "possible": row.possible },
            })
        });
        let moves = self
            .moves
            .iter()
            .map(|((from, to), count)| json!({ "from": from, "to": to, "replicas": count }));
        json!({
            "partitions": self.partitions,
            "n": self.n,
            "members": members.collect::<Vec<_>>(),
            "moves": moves.collect::<Vec<_>>(),
            "moved": self.moved(),
            "least": self.least,
            "heaviest": self.heaviest(),
            "warnings": self.warnings,
        })
    }

    fn text(&self) -> String {
        let rows = self.rows.iter().map(|row| {
            let share = |of: f64| match &row.member {
                Some(_) if of > 0.0 => format!("{:.3}", row.held[1] as f64 / of),
                _ => String::new(),
            };
            let member = row.member.as_ref();
            let zone = member.and_then(|member| member.zone.as_ref());
            [
                row.name.clone(),
                member.map_or("leaves".into(), |member| member.weight.get().to_string()),
                zone.map_or(String::new(), ToString::to_string),
                row.owned[0].to_string(),
                row.owned[1].to_string(),
                row.held[0].to_string(),
                row.held[1].to_string(),
                share(row.due),
                share(row.possible),
            ]
        });
        let header = [
            "member",
            "weight",
            "zone",
            "owns before",
            "after",
            "holds before",
            "after",
            "of its due",
            "of what is possible",
        ];
        let mut text = format!(
            "{} partitions, {} owners each\n{}",
            self.partitions,
            self.n,
            table(header, rows.collect())
        );
        let moves = self.moves.iter();
        let moves = moves.map(|((from, to), count)| [from.clone(), to.clone(), count.to_string()]);
        if self.moves.is_empty() {
            text += "\nnothing moves";
        } else {
            text += "\nmoves\n";
            text += &table(["from", "to", "replicas"], moves.collect());
            let all: usize = self.rows.iter().map(|row| row.held[1]).sum();
            let part = 100.0 * self.moved() as f64 / all as f64;
            text += &format!("\n{} of {all} replicas move ({part:.1} %)", self.moved());
            if let Some(ratio) = self.ratio() {
                text +=
                    &format!("; the least for such shares is {:.0}: {ratio:.2} of it", self.least);
            }
        }
        for warning in &self.warnings {
            text += &format!("\nwarning: {warning}");
        }
        text
    }
}

/// Per member, the number of partitions whose keys it holds.
fn replicas(ring: &Ring, n: usize) -> BTreeMap<NodeId, usize> {
    let mut held = BTreeMap::new();
    for partition in ring.partition_count().iter() {
        for owner in ring.owners(partition, n) {
            *held.entry(owner).or_default() += 1;
        }
    }
    held
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(join: &[&str], leave: &[&str], weight: &[&str], zone: &[&str]) -> PlanOptions {
        let all = |of: &[&str]| of.iter().map(|&text| text.to_owned()).collect();
        PlanOptions {
            nodes: None,
            join: all(join),
            leave: all(leave),
            weight: all(weight),
            zone: all(zone),
            partitions: 64,
            owners: 3,
        }
    }

    fn planned(nodes: &str, options: &PlanOptions) -> Result<Outcome, PlanError> {
        let (before, mut cluster) = offline(nodes, 64, 3)?;
        let mut names = cluster.names();
        cluster.change(options)?;
        names.extend(cluster.names());
        let members: Vec<Member> = cluster.members.values().cloned().collect();
        let after = Ring::place(&members, before.partition_count(), 3, Some(&before))?;
        Ok(Outcome::new(&before, &after, 3, names))
    }

    #[test]
    fn a_join_moves_what_the_newcomer_is_due_and_nothing_else() {
        let outcome = planned("3", &options(&["node4"], &[], &[], &[])).unwrap();
        // 16 partitions of three replicas, less one that stays where it is.
        assert_eq!((outcome.moved(), outcome.least), (45, 48.0));
        assert!(outcome.moves.keys().all(|(_, to)| to == "node4"));
        let json = outcome.json();
        assert_eq!(json["members"].as_array().unwrap().len(), 4);
        assert_eq!(json["moved"], 45);
        assert!(outcome.text().contains("45 of 192 replicas move (23.4 %)"));
    }

    #[test]
    fn what_cannot_have_its_due_is_said() {
        let outcome = planned("4", &options(&[], &[], &["node1=9"], &[])).unwrap();
        assert_eq!(outcome.warnings.len(), 1);
        assert!(outcome.warnings[0].starts_with("\"node1\" is too heavy beside the others"));
    }

    #[test]
    fn members_are_described_with_weights_and_zones() {
        let (ring, cluster) = offline("a*2@x,b@y,c", 64, 3).unwrap();
        assert_eq!(ring.members().len(), 3);
        assert_eq!(cluster.members["a"].weight.get(), 2);
        assert_eq!(cluster.members["b"].zone.as_ref().unwrap().as_str(), "y");
        assert_eq!(cluster.members["c"].zone, None);
    }

    #[test]
    fn what_is_no_plan_is_refused_and_named() {
        let none = options(&[], &[], &[], &[]);
        let error = |nodes: &str, options: &PlanOptions| match planned(nodes, options) {
            Err(error) => error.to_string(),
            Ok(_) => panic!("a plan"),
        };
        assert_eq!(error("0", &none), "0 members: a plan takes 1 to 1000");
        assert!(error("a,,b", &none).starts_with("\"\" is not NAME[*WEIGHT][@ZONE]"));
        assert!(error("a*0", &none).starts_with("\"a*0\" is not NAME"));
        assert_eq!(error("a,a", &none), "a is a member already");
        assert_eq!(
            error("2", &options(&[], &["node3"], &[], &[])),
            "node3 is not a member; members are node1, node2"
        );
        assert_eq!(
            error("2", &options(&[], &[], &["node1=x"], &[])),
            "node1=x: a weight is a number from 1 to 1000"
        );
        assert_eq!(error("2", &options(&[], &[], &["node1"], &[])), "\"node1\" is not NAME=VALUE");
        assert_eq!(
            error("1", &options(&[], &["node1"], &[], &[])),
            "a ring needs at least one member"
        );
    }
}
