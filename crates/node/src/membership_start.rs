//! What a node's membership starts from: its configuration and what the last start left on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use membership::{
    About, ClusterId, Command, Config, Effect, Event, Gossip, InvalidConfig, Phase, Snapshot,
};
use ring::Ring;
use wire::NAME_BYTES_MAX;

use crate::config::{Beginning, NodeConfig};
use crate::identity::{random_bytes, random_u64};
use crate::start_error::StartError;
use crate::{barrier_view, ring_value, snapshot_file};

/// A membership whose start is on disk and of which nobody has heard yet.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) gossip: Gossip,
    /// What is to be done first.
    pub(crate) effects: Vec<Effect>,
    /// Where it is persisted.
    pub(crate) dir: PathBuf,
    /// By which keys are placed, if that is known.
    pub(crate) ring: Option<Arc<Ring>>,
}

/// Makes the membership of a node that listens at the addresses of `config`, and persists its start in
/// `dir`.
pub(crate) fn prepare(config: &NodeConfig, dir: &Path) -> Result<Prepared, StartError> {
    let snapshot = snapshot_file::read(dir)?;
    let begun = snapshot.as_ref().is_some_and(|snapshot| !snapshot.ids.is_empty());
    if let (Beginning::Founders(id), true, Some(snapshot)) = (config.beginning, begun, &snapshot)
        && !snapshot.ids.contains(&id)
    {
        return Err(other_founders(config, dir, snapshot));
    }
    let mut gossip =
        Gossip::new(gossip_config(config, snapshot.as_ref()), snapshot, 0).map_err(|error| {
            match error {
                InvalidConfig::Lost => StartError::Lost,
                other => StartError::Membership(other),
            }
        })?;
    let mut effects = Vec::new();
    let ring = match (ring_of(&gossip), config.beginning) {
        (Some(ring), _) => Some(ring),
        (None, Beginning::Search) => None,
        // A cluster that it begins it has together with its ring, in one snapshot: this one it has found. A
        // first ring of its own would be a second one there, and might win over the other.
        (None, Beginning::Bootstrap | Beginning::Founders(_)) if begun => {
            return Err(StartError::RingUnknown);
        }
        (None, Beginning::Bootstrap | Beginning::Founders(_)) => {
            let spread = Ring::spread_for(config.default_policy.n);
            let ring = Ring::place(&config.members(), config.partitions, spread, None)?.ring;
            let (name, bytes) = (ring_value::NAME.to_owned(), ring_value::encode(&ring));
            let published = gossip.command(0, Command::Publish { name, bytes }, &mut effects);
            published.expect("a first ring is small, and the first value");
            Some(ring)
        }
    };
    if let Some(found) = ring.as_ref().map(|ring| ring.partition_count())
        && found != config.partitions
    {
        return Err(StartError::Partitions { found: found.get(), wanted: config.partitions.get() });
    }
    gossip.step(0, Event::Tick { random: random_u64() }, &mut effects);
    // The last one says all that those before it said.
    let last = effects.iter().rev().find_map(|effect| match effect {
        Effect::Persist(snapshot) => Some(snapshot),
        _ => None,
    });
    snapshot_file::write(dir, last.expect("a start is persisted"))
        .map_err(|source| StartError::File { path: dir.join(snapshot_file::FILE), source })?;
    effects.retain(|effect| !matches!(effect, Effect::Persist(_)));
    Ok(Prepared { gossip, effects, dir: dir.to_owned(), ring: ring.map(Arc::new) })
}

/// The ring among the values of gossip.
pub(crate) fn ring_of(gossip: &Gossip) -> Option<Ring> {
    gossip.values().get(ring_value::NAME).and_then(|bytes| ring_value::decode(bytes))
}

fn gossip_config(config: &NodeConfig, snapshot: Option<&Snapshot>) -> Config {
    let mut about = About::new(&config.name, config.peer_address());
    let listen = &config.listen;
    for (label, address) in [("resp", listen.resp), ("http", listen.http)] {
        about.addresses.insert(label.into(), address.to_string());
    }
    about.software = env!("CARGO_PKG_VERSION").into();
    about.messages = config.messages;
    (about.zone, about.weight) = (config.zone.clone(), config.weight);
    // The weight is an administrator's to change, once the node is a member.
    let known = snapshot.and_then(|snapshot| snapshot.table.get(config.node()));
    if let Some(known) = known.filter(|known| !known.is_over()) {
        about.weight = known.entry.about.weight;
        if about.zone.is_none() {
            about.zone.clone_from(&known.entry.about.zone);
        }
    }
    let mut gossip = Config::new(config.node(), &config.cluster, about, random_u64());
    gossip.seeds.clone_from(&config.seeds);
    gossip.merge_value = merge_value;
    gossip.detector.threshold = config.phi_threshold;
    gossip.left.clone_from(&config.left);
    gossip.fellows.clone_from(&config.fellows);
    gossip.bootstrap = match config.beginning {
        Beginning::Search => None,
        Beginning::Bootstrap => Some(ClusterId(u128::from_ne_bytes(random_bytes()))),
        Beginning::Founders(id) => Some(id),
    };
    gossip
}

/// Joins two versions of a named value; those of other names are a later version's, of which the larger wins.
fn merge_value(name: &str, held: &[u8], other: &[u8]) -> Vec<u8> {
    match name {
        ring_value::NAME => ring_value::merge(held, other),
        barrier_view::NAME => barrier_view::merge(held, other),
        _ => membership::larger_value(name, held, other),
    }
}

fn other_founders(config: &NodeConfig, dir: &Path, snapshot: &Snapshot) -> StartError {
    let found = snapshot
        .table
        .iter()
        .filter(|(_, record)| !record.is_over())
        .filter(|(_, record)| !matches!(record.entry.phase, Phase::Joining | Phase::Expected));
    let mut found: Vec<String> = found.map(|(_, record)| record.entry.about.name.clone()).collect();
    let peers = config.peers.iter().map(|peer| peer.name.clone());
    let mut wanted: Vec<String> = peers.chain([config.name.clone()]).collect();
    found.sort();
    wanted.sort();
    StartError::OtherFounders { dir: dir.to_owned(), found, wanted }
}

const _: () = assert!(NAME_BYTES_MAX == membership::NAME_BYTES_MAX, "a name is told to both");

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use membership::{Incarnation, Table, Values};

    use super::*;

    #[test]
    fn gossip_suspects_from_the_threshold_of_the_configuration_on() {
        let settings = crate::Settings {
            data: Some("d".into()),
            phi_threshold: Some(7.5),
            ..crate::Settings::default()
        };
        let gossip = gossip_config(&settings.resolve().unwrap(), None);
        assert_eq!(gossip.detector.threshold, 7.5);
    }

    /// Its seed had answered, and died before it could tell of the ring.
    #[test]
    fn a_node_that_has_found_a_cluster_and_not_its_ring_begins_no_ring_there() {
        let dir = tempfile::tempdir().unwrap();
        let settings = crate::Settings {
            data: Some(dir.path().to_owned()),
            seeds: Some(vec!["127.0.0.1:1".into()]),
            secret: Some("the secret of this test".into()),
            ..crate::Settings::default()
        };
        let found = Snapshot {
            ids: BTreeSet::from([ClusterId(7)]),
            incarnation: Incarnation { generation: 1, nonce: 9 },
            table: Table::default(),
            values: Values::default(),
        };
        snapshot_file::write(dir.path(), &found).unwrap();
        let begins = crate::Settings { bootstrap: Some(true), ..settings.clone() };
        let error = prepare(&begins.resolve().unwrap(), dir.path()).unwrap_err();
        assert!(matches!(error, StartError::RingUnknown), "{error}");
        assert_eq!(snapshot_file::read(dir.path()).unwrap(), Some(found));
        // As its seeds are those of that cluster, it goes on looking for the ring.
        let prepared = prepare(&settings.resolve().unwrap(), dir.path()).unwrap();
        assert!(prepared.ring.is_none() && ring_of(&prepared.gossip).is_none());
        assert_eq!(prepared.gossip.cluster_ids().first(), Some(&ClusterId(7)));
    }

    #[test]
    fn where_the_start_cannot_be_persisted_the_file_is_named() {
        let dir = tempfile::tempdir().unwrap();
        // Here no file can be made.
        std::fs::create_dir(dir.path().join("members.new")).unwrap();
        let settings = crate::Settings {
            data: Some(dir.path().to_owned()),
            bootstrap: Some(true),
            ..crate::Settings::default()
        };
        let error = prepare(&settings.resolve().unwrap(), dir.path()).unwrap_err();
        let file = dir.path().join("members");
        assert!(error.to_string().starts_with(&format!("{}: ", file.display())), "{error}");
    }
}
