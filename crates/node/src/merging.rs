//! Merging two rings that were bootstrapped apart under one name: the nodes of one of them join the other,
//! with all that they hold.
//!
//! Each drains, forgets its membership and by which tenures it went, and starts anew as a member that
//! joins and owns nothing. What it holds is then of partitions that others own: it becomes an owner by
//! comparing with those, or leaves its copy to them, as in any handover, and either is a merge. So all
//! that any of its disks holds comes to the owners. A file in the data directory says what is under way,
//! so that a crash leaves the node on its way and never alone with a ring of its own.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use clock::NodeId;
use membership::{About, ClusterId, MemberState, Record};
use replication::{BucketInfo, Standing};
use wire::{ClusterStatus, MemberStatus};

use crate::config::{Beginning, NodeConfig};
use crate::data_directory::replace_durably;
use crate::snapshot_file;

/// The file: a line `seed ADDRESS` for each node of the ring to join, by its peer address, one `left ID` for each
/// id of the cluster that is left, and `fellow ID`, a tab, its peer address, a tab, and its name for each other
/// member of that.
pub(crate) const FILE: &str = "merging";

/// Has the next start of `me` on `dir` join the ring of the nodes at `seeds`.
pub(crate) fn write(dir: &Path, me: NodeId, seeds: &[String]) -> io::Result<()> {
    let snapshot = snapshot_file::read(dir).map_err(io::Error::other)?;
    let (left, table) = snapshot.map(|snapshot| (snapshot.ids, snapshot.table)).unwrap_or_default();
    let seeds = seeds.iter().map(|seed| format!("seed {seed}\n"));
    let left = left.iter().map(|id| format!("left {:032x}\n", id.0));
    let fellow = |(node, record): (NodeId, &Record)| {
        let about = &record.entry.about;
        format!("fellow {:016x}\t{}\t{}\n", node.0, about.peer_address(), about.name)
    };
    let fellows =
        table.iter().filter(|&(node, record)| node != me && !record.is_over()).map(fellow);
    let lines: String = seeds.chain(left).chain(fellows).collect();
    replace_durably(dir, FILE, 0o666, lines.as_bytes())
}

/// What a start has to do with what `write` left: the membership of before is gone, and the ring is found by
/// the seeds, whatever the configuration says of how a cluster begins. Returns whether there was anything.
pub(crate) fn prepare(config: &mut NodeConfig) -> io::Result<bool> {
    let kept = match fs::read_to_string(config.data.join(FILE)) {
        Ok(kept) => kept,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(error),
    };
    let of = |word| kept.lines().filter_map(move |line| line.strip_prefix(word));
    let ids = of("left ").filter_map(|id| u128::from_str_radix(id, 16).ok());
    config.left = ids.map(ClusterId).collect();
    let fellow = |line: &str| {
        let mut parts = line.splitn(3, '\t');
        let node = u64::from_str_radix(parts.next()?, 16).ok()?;
        let (address, name) = (parts.next()?, parts.next()?);
        Some((NodeId(node), About::new(name, address)))
    };
    config.fellows = of("fellow ").filter_map(fellow).collect();
    // And by no other: those may be of the ring that it leaves, whose nodes are on their way too. They may
    // still speak to it, and are not listened to.
    config.seeds = of("seed ").map(str::to_owned).collect();
    let seeds = config.seeds.join(", ");
    tracing::warn!(name = config.name, seeds, "this node leaves its ring and joins another one");
    remove(&config.data, snapshot_file::FILE)?;
    config.beginning = Beginning::Search;
    Ok(true)
}

/// The ring was found, membership in it is on disk with it, and so is the life that the node begins there with
/// the barrier: until then what its disk says of these is of the ring that it left.
pub(crate) fn is_done(dir: &Path) -> io::Result<()> {
    remove(dir, FILE)
}

fn remove(dir: &Path, name: &str) -> io::Result<()> {
    match fs::remove_file(dir.join(name)) {
        Ok(()) => File::open(dir)?.sync_all(),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// Why the nodes of the ring `ours` cannot join that of `theirs`, if they cannot.
pub(crate) fn refusal(
    (ours, our_buckets): (&ClusterStatus, &[BucketInfo]),
    (theirs, their_buckets): (&ClusterStatus, &[BucketInfo]),
) -> Option<String> {
    let is_present = |member: &&MemberStatus| member.state.is_present();
    if theirs.cluster != ours.cluster {
        return Some(format!(
            "that node belongs to cluster {:?}, this one to {:?}: only rings of one name are merged",
            theirs.cluster, ours.cluster
        ));
    }
    if theirs.partitions != ours.partitions {
        return Some(format!(
            "that ring has {} partitions, this one {}: only rings of as many are merged",
            theirs.partitions, ours.partitions
        ));
    }
    if let Some(waiting) = theirs.waiting.as_ref().or(ours.waiting.as_ref()) {
        return Some(format!("one of the two nodes does not serve: {waiting}"));
    }
    // Of those that are expected there this ring says whether they can be reached.
    let there = theirs.members.iter().filter(|it| it.state.is_here());
    let there: BTreeMap<_, _> = there.map(|it| (it.node, &it.name)).collect();
    for member in ours.members.iter().filter(is_present) {
        let name = &member.name;
        match (member.connected, there.get(&member.node)) {
            (true, Some(_)) => {
                return Some(format!(
                    "both rings have a member {name:?}: if they are two nodes, have one of them leave first; \
                     if it is one, the two are one ring already"
                ));
            }
            // It has gone there before this one.
            (false, Some(_)) => {}
            (false, None) => {
                return Some(format!(
                    "{name:?} cannot be reached, and what it holds would be left behind: start it, or \
                     remove it"
                ));
            }
            (true, None) if member.state == MemberState::Leaving => {
                return Some(format!("{name:?} is leaving: wait until it has left"));
            }
            (true, None) => {}
        }
    }
    if ours.handover.partitions_moving > 0 {
        let moving = ours.handover.partitions_moving;
        return Some(format!("{moving} partitions of this ring do not follow its plan yet: wait"));
    }
    let of_name = |buckets: &[BucketInfo]| -> BTreeMap<_, _> {
        let stands = |it: &BucketInfo| (it.generation, it.standing == Standing::Dropped);
        buckets.iter().map(|it| (it.name.clone(), stands(it))).collect()
    };
    for here in our_buckets.iter().filter(|it| it.standing == Standing::Created) {
        let there = their_buckets.iter().find(|it| it.name == here.name);
        let there = there.filter(|it| it.standing == Standing::Created);
        if let Some(there) = there
            && there.policy.n != here.policy.n
        {
            return Some(format!(
                "bucket {:?} has n = {} in that ring and {} in this one: keys of one of them would be looked \
                 for where they are not; export one, and drop it there",
                String::from_utf8_lossy(&here.name),
                there.policy.n,
                here.policy.n
            ));
        }
    }
    let (here, there) = (of_name(our_buckets), of_name(their_buckets));
    // That of a bucket that nobody dropped.
    let first = (0, false);
    let names = here.keys().chain(there.keys());
    for name in names {
        let (ours, theirs) = (here.get(name).unwrap_or(&first), there.get(name).unwrap_or(&first));
        if ours != theirs {
            return Some(format!(
                "bucket {:?} was dropped in one of the two rings: what the other holds under that name would be \
                 gone; export it, or drop it there too",
                String::from_utf8_lossy(name)
            ));
        }
    }
    None
}

#[cfg(test)]
mod tests;
