//! The configuration after its defaults are filled in and its rules are checked.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use clock::{ClusterSecret, NodeId};
use membership::{ADDRESS_BYTES_MAX, About, ClusterId, DetectorConfig, Versions};
use replication::{AntiEntropyConfig, BucketPolicy, RETRY_WINDOW_MS};
use ring::{PartitionCount, Weight, Zone};
use values::{Limits, identifier};
use wire::{FRAME_BYTES_MAX, NAME_BYTES_MAX};

use super::{BucketSettings, ConfigError, MemberSettings, Settings};
use crate::identity::node_id;

/// Shortest secret, in bytes: 128 bits, if they are random.
const SECRET_BYTES_MIN: usize = 16;
/// Most event loops: cores are numbered by a byte.
const LOOPS_MAX: u16 = 64;
/// Most connections that may be configured: a guess, beyond what one machine has ports for.
const CONNECTIONS_MAX: usize = 1_000_000;
/// Most siblings that a key may be allowed: a guess, far beyond what anybody reconciles.
const SIBLINGS_MAX: usize = 10_000;
/// What rows take in memory when a checkpoint is made, if nothing is said: a guess, large enough that a page of the index
/// is written once for several rows, small beside what a machine has.
const MEMTABLE_BYTES: usize = 64 << 20;
/// And at the least: a checkpoint has costs of its own.
const MEMTABLE_BYTES_MIN: usize = 64 << 10;
/// Phi from which on a member may be suspected: below this a common delay is taken for death, once in a thousand; beyond
/// it a death is noticed later and nothing is gained. Guesses.
const PHI_THRESHOLD: RangeInclusive<f64> = 3.0..=100.0;
/// Least bound on hints: each loop has its part of it.
const HINT_BYTES_MIN: u64 = 1 << 20;
/// Least that comparing may send and receive in a second, in bytes. A guess: with less a full
/// comparison of an empty cluster takes minutes.
const ANTI_ENTROPY_BYTES_MIN: u64 = 1 << 10;
/// Most founders; a guess far above what anybody starts at once.
const MEMBERS_MAX: usize = 128;
/// Most seeds. A guess: three are enough.
const SEEDS_MAX: usize = 64;

/// A node's configuration. Checked: names, members, policies and limits fit one another.
#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's name.
    pub name: String,
    /// The cluster's name.
    pub cluster: String,
    /// The data directory.
    pub data: PathBuf,
    /// Where the node listens.
    pub listen: Listeners,
    /// Where other nodes reach this one, if not where it listens for them.
    pub advertise: Option<String>,
    /// Addresses by which the cluster is found, those of founders included.
    pub seeds: Vec<String>,
    /// What this start may begin.
    pub beginning: Beginning,
    /// Clusters that it has left for another one, which it looks for.
    pub(crate) left: BTreeSet<ClusterId>,
    /// Who else goes over from there.
    pub(crate) fellows: BTreeMap<NodeId, About>,
    /// All founders but this one.
    pub peers: Vec<Member>,
    /// What this node fails together with.
    pub zone: Option<Zone>,
    /// Its capacity beside that of the others.
    pub weight: Weight,
    /// The cluster's secret; `None` for one of the node's own, kept in its data directory.
    pub secret: Option<ClusterSecret>,
    /// Partitions of the ring.
    pub partitions: PartitionCount,
    /// Event loops, at least 1.
    pub loops: u8,
    /// Policy of buckets that nobody created.
    pub default_policy: BucketPolicy,
    /// Limits of values.
    pub limits: Limits,
    /// Time limits.
    pub timeouts: Timeouts,
    /// How replicas are compared, all loops together.
    pub anti_entropy: AntiEntropyConfig,
    /// What rows take in memory, in bytes and all loops together, when a checkpoint is made.
    pub memtable_bytes: usize,
    /// Phi from which on a member is suspected.
    pub phi_threshold: f64,
    /// Most bytes of hints kept for one member.
    pub hint_bytes_max: u64,
    /// Rounds in which deleted keys are forgotten are at least so far apart, in milliseconds; `None` for a
    /// node that begins none.
    pub barrier_interval_ms: Option<u64>,
    /// For so long what is left of a deleted key is kept at least.
    pub retry_window_ms: u64,
    /// Connections at once, on all ports together.
    pub connections_max: usize,
    /// Versions of messages that it speaks: those of this build. No setting changes it; tests do, to be
    /// builds that are to come.
    pub messages: Versions,
}

/// Where a node listens. Port 0 takes any that is free.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Listeners {
    /// Redis protocol.
    pub resp: SocketAddr,
    /// HTTP.
    pub http: SocketAddr,
    /// Peers and native clients.
    pub peer: SocketAddr,
}

/// What a node begins that belongs to no cluster yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beginning {
    /// Nothing: it looks for its cluster.
    Search,
    /// A cluster of its own.
    Bootstrap,
    /// The cluster of its founders, which has this id wherever it is begun.
    Founders(ClusterId),
}

/// Another founder of the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its id.
    pub node: NodeId,
    /// Its name.
    pub name: String,
    /// Where its peers reach it: host and port.
    pub address: String,
    /// What it fails together with.
    pub zone: Option<Zone>,
    /// Its capacity beside that of the others.
    pub weight: Weight,
}

/// Time limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// Of a request that names none, in milliseconds.
    pub request_ms: u32,
    /// Of an owner's answer before the request goes on without it, in milliseconds.
    pub cover_ms: u32,
    /// Of a graceful stop.
    pub stop: Duration,
}

impl NodeConfig {
    pub(super) fn new(settings: Settings) -> Result<Self, ConfigError> {
        let limits = limits(&settings)?;
        let name = settings.name.unwrap_or_else(|| "node1".into());
        let cluster = settings.cluster.unwrap_or_else(|| "merganser".into());
        check_name("name", &name)?;
        check_name("cluster", &cluster)?;
        let data = settings.data.ok_or(ConfigError::Missing {
            setting: "data",
            hint: "name the directory that keeps this node's data, with --data DIR or in the file",
        })?;
        let listen = Listeners {
            resp: settings.resp.unwrap_or_else(|| loopback(7379)),
            http: settings.http.unwrap_or_else(|| loopback(7380)),
            peer: settings.peer.unwrap_or_else(|| loopback(7381)),
        };
        listen.check(settings.insecure_listen.unwrap_or(false))?;
        let is_anywhere = listen.peer.ip().is_unspecified();
        let members = settings.members.unwrap_or_default();
        let own = members.get(&name).cloned();
        let said = own.as_ref().map(|own| own.address.clone());
        let advertise = advertised(settings.advertise.or(said))?;
        if is_anywhere && advertise.is_none() {
            return Err(ConfigError::Missing {
                setting: "advertise",
                hint: "the node listens on all addresses: name the one, HOST:PORT, at which other \
                       nodes reach it",
            });
        }
        let zone = settings.zone.map(Zone::new).transpose();
        let zone = zone.map_err(|error| invalid("zone", error))?;
        let weight = settings.weight.map(Weight::new).transpose();
        let weight = weight.map_err(|error| invalid("weight", error))?;
        let (zone, weight) = match own {
            Some(own) if zone.is_none() && weight.is_none() => (own.zone, own.weight),
            Some(_) => return Err(twice(&name)),
            None => (zone, weight.unwrap_or_default()),
        };
        let founded = !members.is_empty();
        let peers = peers(&cluster, &name, members)?;
        let partitions = PartitionCount::new(settings.partitions.unwrap_or(4096))
            .map_err(|error| invalid("partitions", error))?;
        let mut seeds = seeds(settings.seeds.unwrap_or_default())?;
        seeds.extend(peers.iter().map(|peer| peer.address.clone()));
        let beginning = match (founded, settings.bootstrap.unwrap_or(false)) {
            (true, true) => return Err(invalid("bootstrap", FOUNDED)),
            (true, false) => {
                let own = (name.as_str(), zone.as_ref(), weight);
                Beginning::Founders(founders_id(&cluster, partitions, own, &peers))
            }
            (false, true) => Beginning::Bootstrap,
            (false, false) => Beginning::Search,
        };
        let secret = secret(settings.secret, seeds.is_empty())?;
        let default = settings.default_bucket.unwrap_or_default();
        let default_policy = policy(default)?;
        Ok(Self {
            name,
            cluster,
            data,
            listen,
            advertise,
            seeds,
            beginning,
            left: BTreeSet::new(),
            fellows: BTreeMap::new(),
            peers,
            zone,
            weight,
            secret,
            partitions,
            loops: loops(settings.loops.unwrap_or(0))?,
            default_policy,
            limits,
            timeouts: Timeouts {
                request_ms: positive("timeout_ms", settings.timeout_ms, 2_000)?,
                cover_ms: positive("cover_ms", settings.cover_ms, 100)?,
                stop: Duration::from_millis(settings.stop_ms.unwrap_or(5_000).into()),
            },
            anti_entropy: anti_entropy(
                settings.anti_entropy_interval_s,
                settings.anti_entropy_bytes_per_second,
            )?,
            memtable_bytes: memtable_bytes(settings.memtable_bytes)?,
            phi_threshold: phi_threshold(settings.phi_threshold)?,
            hint_bytes_max: hint_bytes_max(settings.hint_bytes_max)?,
            barrier_interval_ms: match settings.barrier_interval_s.unwrap_or(600) {
                0 => None,
                seconds => Some(u64::from(seconds) * 1_000),
            },
            retry_window_ms: match settings.retry_window_s {
                Some(seconds) => u64::from(seconds) * 1_000,
                None => RETRY_WINDOW_MS,
            },
            connections_max: connections_max(settings.connections_max)?,
            messages: wire::MESSAGE_VERSIONS,
        })
    }

    /// The node's id.
    pub fn node(&self) -> NodeId {
        node_id(&self.cluster, &self.name)
    }

    /// All founders as the placement sees them, this one included.
    pub fn members(&self) -> Vec<ring::Member> {
        let own = ring::Member { node: self.node(), weight: self.weight, zone: self.zone.clone() };
        let peers = self.peers.iter().map(|peer| ring::Member {
            node: peer.node,
            weight: peer.weight,
            zone: peer.zone.clone(),
        });
        std::iter::once(own).chain(peers).collect()
    }

    /// Where other nodes reach this one.
    pub(crate) fn peer_address(&self) -> String {
        self.advertise.clone().unwrap_or_else(|| self.listen.peer.to_string())
    }
}

impl Listeners {
    fn check(&self, insecure: bool) -> Result<(), ConfigError> {
        for (setting, address) in [("resp", self.resp), ("http", self.http), ("peer", self.peer)] {
            if !insecure && !address.ip().is_loopback() {
                return Err(invalid(
                    setting,
                    format!(
                        "{address} can be reached from other machines, and nothing is encrypted or \
                         authenticated yet: listen on 127.0.0.1, or set `insecure_listen = true` in the \
                         configuration file"
                    ),
                ));
            }
        }
        Ok(())
    }
}

fn loopback(port: u16) -> SocketAddr {
    SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
}

fn invalid(setting: &str, reason: impl ToString) -> ConfigError {
    ConfigError::Invalid { setting: setting.into(), reason: reason.to_string() }
}

fn positive(setting: &str, value: Option<u32>, default: u32) -> Result<u32, ConfigError> {
    match value {
        Some(0) => Err(invalid(setting, "at least 1")),
        Some(value) => Ok(value),
        None => Ok(default),
    }
}

/// The limits of values.
fn limits(settings: &Settings) -> Result<Limits, ConfigError> {
    let default = Limits::default();
    let value_bytes = settings.value_bytes_max.unwrap_or(default.value_bytes);
    if !(1..=FRAME_BYTES_MAX / 2).contains(&value_bytes) {
        let reason = format!("1 to {}, half of what a message may be", FRAME_BYTES_MAX / 2);
        return Err(invalid("value_bytes_max", reason));
    }
    let siblings = settings.siblings_max.unwrap_or(default.siblings);
    if !(1..=SIBLINGS_MAX).contains(&siblings) {
        return Err(invalid("siblings_max", format!("1 to {SIBLINGS_MAX}")));
    }
    let siblings_soft = settings.siblings_soft.unwrap_or(default.siblings_soft.min(siblings));
    if !(1..=siblings).contains(&siblings_soft) {
        let reason = format!("1 to {siblings}, which is `siblings_max`");
        return Err(invalid("siblings_soft", reason));
    }
    let elements = settings.elements_max.map_or(default.elements, u64::from);
    if elements == 0 {
        return Err(invalid("elements_max", "at least 1"));
    }
    Ok(Limits { value_bytes, siblings_soft, siblings, elements, ..default })
}

fn anti_entropy(
    interval_s: Option<u32>,
    bytes_per_second: Option<u64>,
) -> Result<AntiEntropyConfig, ConfigError> {
    let interval_s = interval_s.unwrap_or(600);
    let bytes_per_second = bytes_per_second.unwrap_or(8 << 20);
    if bytes_per_second < ANTI_ENTROPY_BYTES_MIN {
        let reason = format!("at least {ANTI_ENTROPY_BYTES_MIN}");
        return Err(invalid("anti_entropy_bytes_per_second", reason));
    }
    let interval_ms = (interval_s > 0).then_some(u64::from(interval_s) * 1_000);
    Ok(AntiEntropyConfig { interval_ms, bytes_per_second })
}

fn memtable_bytes(wanted: Option<usize>) -> Result<usize, ConfigError> {
    let wanted = wanted.unwrap_or(MEMTABLE_BYTES);
    match wanted >= MEMTABLE_BYTES_MIN {
        true => Ok(wanted),
        false => Err(invalid("memtable_bytes", format!("at least {MEMTABLE_BYTES_MIN}"))),
    }
}

fn phi_threshold(wanted: Option<f64>) -> Result<f64, ConfigError> {
    let wanted = wanted.unwrap_or_else(|| DetectorConfig::default().threshold);
    match PHI_THRESHOLD.contains(&wanted) {
        true => Ok(wanted),
        false => {
            let (least, most) = (PHI_THRESHOLD.start(), PHI_THRESHOLD.end());
            Err(invalid("phi_threshold", format!("{least} to {most}")))
        }
    }
}

fn hint_bytes_max(wanted: Option<u64>) -> Result<u64, ConfigError> {
    let wanted = wanted.unwrap_or(1 << 30);
    match wanted >= HINT_BYTES_MIN {
        true => Ok(wanted),
        false => Err(invalid("hint_bytes_max", format!("at least {HINT_BYTES_MIN}"))),
    }
}

fn connections_max(wanted: Option<usize>) -> Result<usize, ConfigError> {
    match wanted.unwrap_or(10_000) {
        wanted if (1..=CONNECTIONS_MAX).contains(&wanted) => Ok(wanted),
        _ => Err(invalid("connections_max", format!("1 to {CONNECTIONS_MAX}"))),
    }
}

fn check_name(setting: &str, name: &str) -> Result<(), ConfigError> {
    let fits = (1..=NAME_BYTES_MAX).contains(&name.len());
    if fits && !name.contains(|c: char| c.is_control() || c == '"' || c == '\\') {
        return Ok(());
    }
    let reason =
        format!("1 to {NAME_BYTES_MAX} bytes without quotes, backslashes or control characters");
    Err(invalid(setting, reason))
}

fn peers(
    cluster: &str,
    name: &str,
    members: BTreeMap<String, MemberSettings>,
) -> Result<Vec<Member>, ConfigError> {
    if members.len() > MEMBERS_MAX {
        return Err(invalid("members", format!("at most {MEMBERS_MAX}")));
    }
    let others = members.into_iter().filter(|(member, _)| member != name);
    others
        .map(|(member, MemberSettings { address, zone, weight })| {
            let setting = format!("members.{member}");
            check_name(&setting, &member)?;
            check_address(&setting, &address)?;
            Ok(Member { node: node_id(cluster, &member), name: member, address, zone, weight })
        })
        .collect()
}

/// Equal for founders who were told the same of one another.
fn founders_id(
    cluster: &str,
    partitions: PartitionCount,
    own: (&str, Option<&Zone>, Weight),
    peers: &[Member],
) -> ClusterId {
    let mut founders: Vec<_> =
        peers.iter().map(|peer| (peer.name.as_str(), peer.zone.as_ref(), peer.weight)).collect();
    founders.push(own);
    founders.sort_unstable();
    let said = clock::encode(&(cluster, partitions.get(), founders));
    ClusterId(identifier(b"founders", &said))
}

const FOUNDED: &str =
    "a cluster with founders begins by itself: leave out `members`, or `--bootstrap`";

fn twice(name: &str) -> ConfigError {
    let reason =
        format!("stands beside `zone` or `weight`: say in {name:?}'s own entry what it is");
    ConfigError::Invalid { setting: format!("members.{name}"), reason }
}

fn advertised(address: Option<String>) -> Result<Option<String>, ConfigError> {
    let Some(address) = address else { return Ok(None) };
    check_address("advertise", &address).map(|()| Some(address))
}

fn seeds(seeds: Vec<String>) -> Result<Vec<String>, ConfigError> {
    if seeds.len() > SEEDS_MAX {
        return Err(invalid("seeds", format!("at most {SEEDS_MAX}")));
    }
    seeds.iter().try_for_each(|seed| check_address("seeds", seed))?;
    Ok(seeds)
}

fn check_address(setting: &str, address: &str) -> Result<(), ConfigError> {
    let host = address.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok());
    let fits = address.len() <= ADDRESS_BYTES_MAX && !address.contains(char::is_control);
    if fits && host.is_some_and(|(host, _)| !host.is_empty()) {
        return Ok(());
    }
    Err(invalid(setting, format!("{address:?} is not HOST:PORT")))
}

fn secret(secret: Option<String>, alone: bool) -> Result<Option<ClusterSecret>, ConfigError> {
    match secret {
        Some(secret) if secret.len() < SECRET_BYTES_MIN => {
            Err(invalid("secret", format!("at least {SECRET_BYTES_MIN} bytes, better random ones")))
        }
        Some(secret) => Ok(Some(ClusterSecret::new(secret))),
        None if alone => Ok(None),
        None => Err(ConfigError::Missing {
            setting: "secret",
            hint: "the members of a cluster prove it to one another; give all of them the same, \
                   for example the output of `openssl rand -hex 32`, with --secret-file FILE or in the \
                   configuration",
        }),
    }
}

fn loops(wanted: u16) -> Result<u8, ConfigError> {
    if wanted > LOOPS_MAX {
        return Err(invalid("loops", format!("at most {LOOPS_MAX}")));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let loops = if wanted == 0 { cores.min(LOOPS_MAX.into()) } else { wanted.into() };
    Ok(u8::try_from(loops).expect("at most 64"))
}

fn policy(settings: BucketSettings) -> Result<BucketPolicy, ConfigError> {
    let default = BucketPolicy::default();
    let n = settings.n.unwrap_or(default.n);
    // What is not said follows n down: n = 1 alone is a policy.
    let policy = BucketPolicy {
        n,
        r: settings.r.unwrap_or(default.r.min(n)),
        w: settings.w.unwrap_or(default.w.min(n)),
        availability: settings.availability.unwrap_or(default.availability),
        raw: settings.raw.unwrap_or(default.raw),
        durability: settings.durability.unwrap_or(default.durability),
        ..default
    };
    policy.check().map(|()| policy).map_err(|error| invalid("default_bucket", error))
}
