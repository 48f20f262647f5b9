//! What all connections of one server share: who the server is, who is connected, and the places
//! of collection scans.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use values::Limits;

use crate::codec::ParserLimits;
use crate::cursor::PlaceTable;
use crate::reply::Protocol;

/// The version of Redis that clients are told, since they choose by it what to send.
pub(crate) const REDIS_VERSION: &str = "7.2.4";

/// How long a connection may hold what nobody moves on: a command of which a part was sent, or
/// replies that are not received. A guess: a 16 MiB command comes whole at 2.2 Mbit/s, and a person
/// who types an inline command is done by then.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of collection places that are remembered: over 100,000 scans of short elements at a time.
const PLACE_BYTES_MAX: usize = 16 << 20;

/// A server of the Redis protocol, as its connections see it.
#[derive(Debug)]
pub struct ServerInfo {
    /// The node's name.
    pub(crate) node: String,
    /// The product's version.
    pub(crate) version: String,
    /// The port that it listens on.
    pub(crate) port: u16,
    pub(crate) limits: ParserLimits,
    /// What the node accepts of a value and of an operation, where a bucket sets no lower limit.
    pub(crate) value_limits: Limits,
    pub(crate) patience: Duration,
    started: Instant,
    last_client: AtomicU64,
    clients: Mutex<BTreeMap<u64, Client>>,
    places: Mutex<PlaceTable>,
    counters: Counters,
}

/// What is counted since the start.
#[derive(Debug, Default)]
pub(crate) struct Counters {
    /// Connections accepted.
    pub(crate) connections: AtomicU64,
    /// Commands read.
    pub(crate) commands: AtomicU64,
    /// Connections closed for not speaking the protocol.
    pub(crate) protocol_errors: AtomicU64,
    /// Of those, the ones that sent HTTP.
    pub(crate) http_refused: AtomicU64,
}

impl Counters {
    /// Adds `by`; returns the sum.
    pub(crate) fn add(counter: &AtomicU64, by: u64) -> u64 {
        counter.fetch_add(by, Ordering::Relaxed) + by
    }

    pub(crate) fn read(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }
}

/// One connected client.
#[derive(Clone, Debug)]
pub(crate) struct Client {
    /// Its end of the connection.
    pub(crate) address: Option<SocketAddr>,
    /// Ours.
    pub(crate) local: Option<SocketAddr>,
    /// The name that it gave itself.
    pub(crate) name: Bytes,
    /// The library that it says it is.
    pub(crate) library_name: Bytes,
    /// That library's version.
    pub(crate) library_version: Bytes,
    /// The protocol that it chose.
    pub(crate) protocol: Protocol,
    /// When it connected.
    pub(crate) since: Instant,
}

impl ServerInfo {
    /// A server named `node` of product version `version` that listens on `port`, with default
    /// limits.
    pub fn new(node: impl Into<String>, version: impl Into<String>, port: u16) -> Self {
        // A restarted server gives out larger numbers than before, unless it gave out more than
        // 1,024 a millisecond. Below 2^53 until the year 2248.
        let first = Self::wall_clock().as_millis() as u64 * 1024;
        Self {
            node: node.into(),
            version: version.into(),
            port,
            limits: ParserLimits::default(),
            value_limits: Limits::default(),
            patience: PATIENCE,
            started: Instant::now(),
            last_client: AtomicU64::new(0),
            clients: Mutex::default(),
            places: Mutex::new(PlaceTable::new(PLACE_BYTES_MAX, first)),
            counters: Counters::default(),
        }
    }

    /// The same server with other limits on commands.
    #[must_use]
    pub const fn with_limits(mut self, limits: ParserLimits) -> Self {
        self.limits = limits;
        self
    }

    /// The same server of a node with other limits on values and operations.
    #[must_use]
    pub fn with_value_limits(mut self, limits: Limits) -> Self {
        self.value_limits = limits;
        self
    }

    /// The same server with another limit on how long a command may take to come whole, and a client
    /// may receive nothing of its replies, before the connection is closed; 60 s otherwise.
    #[must_use]
    pub const fn with_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How many clients are connected now.
    pub fn connected(&self) -> usize {
        self.clients().len()
    }

    pub(crate) fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    pub(crate) fn wall_clock() -> Duration {
        SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
    }

    pub(crate) const fn counters(&self) -> &Counters {
        &self.counters
    }

    pub(crate) fn places(&self) -> MutexGuard<'_, PlaceTable> {
        // A table is whole between its calls, so a panic elsewhere leaves nothing half done.
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn clients(&self) -> MutexGuard<'_, BTreeMap<u64, Client>> {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Enters a client into the list; it leaves when the registration is dropped.
    pub(crate) fn register(
        &self,
        address: Option<SocketAddr>,
        local: Option<SocketAddr>,
    ) -> Registration<'_> {
        let id = self.last_client.fetch_add(1, Ordering::Relaxed) + 1;
        let client = Client {
            address,
            local,
            name: Bytes::new(),
            library_name: Bytes::new(),
            library_version: Bytes::new(),
            protocol: Protocol::default(),
            since: Instant::now(),
        };
        self.clients().insert(id, client);
        Counters::add(&self.counters.connections, 1);
        Registration { info: self, id }
    }
}

/// A client's place in the list of clients.
pub(crate) struct Registration<'a> {
    info: &'a ServerInfo,
    pub(crate) id: u64,
}

impl Drop for Registration<'_> {
    fn drop(&mut self) {
        self.info.clients().remove(&self.id);
    }
}
