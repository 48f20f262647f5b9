//! File descriptors: how many this process may have open, and how many connections that allows.
//!
//! Out of descriptors, a node cannot even tell a client that it is not served: the client waits in
//! the listener's queue for ever. So no more connections are taken than there surely are
//! descriptors for.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Descriptors for what a node opens beside connections: index, files, listeners, standard streams.
/// A guess, about twice of what is counted.
const OWN: u64 = 32;
/// For each event loop: what its runtime waits with.
const PER_LOOP: u64 = 4;
/// For each peer: the connections in both directions, and those that are about to replace them.
const PER_PEER: u64 = 4;
/// Most connections beyond the bound that are told why they are not served, or found to be peers. A
/// guess: a stranger must open as many within a peer's handshake to keep it out.
const REFUSALS_MAX: u64 = 64;

/// How many connections a node takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// Connections that are served.
    pub(crate) connections: usize,
    /// Connections beyond that are told why not.
    pub(crate) refusals: usize,
}

/// Raises this process's limit of open files as far as it may; returns what it is then, `None` for
/// no limit.
pub(crate) fn raise_limit() -> Option<u64> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return current;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => maximum,
        // Some systems refuse what they name as the maximum; then it stays as it was.
        Err(error) => {
            tracing::debug!(%error, "the limit of open files cannot be raised");
            current
        }
    }
}

impl Bounds {
    /// For a node that is to take `wanted` connections, in a process that may have `limit` open
    /// files, which it shares with others so that `nodes` divide them.
    pub(crate) fn of(
        wanted: usize,
        limit: Option<u64>,
        nodes: usize,
        loops: usize,
        peers: usize,
    ) -> Self {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        let share = limit.unwrap_or(u64::MAX) / count(nodes.max(1));
        let own = OWN + PER_LOOP * count(loops) + PER_PEER * count(peers);
        let left = share.saturating_sub(own);
        let refusals = (left / 8).clamp(1, REFUSALS_MAX);
        let connections = left.saturating_sub(refusals).max(1).min(count(wanted));
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        Self { connections: size(connections), refusals: size(refusals) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_and_refusals_fit_in_the_limit_beside_what_the_node_needs() {
        let of = |wanted, limit, nodes, loops, peers| {
            let Bounds { connections, refusals } = Bounds::of(wanted, limit, nodes, loops, peers);
            (connections, refusals)
        };
        assert_eq!(of(10_000, None, 1, 8, 2), (10_000, 64));
        assert_eq!(of(10_000, Some(1_048_576), 1, 8, 2), (10_000, 64));
        // 1,024 without 32 for itself, 32 for its loops, 8 for its peers, 64 refusals.
        assert_eq!(of(10_000, Some(1_024), 1, 8, 2), (888, 64));
        assert_eq!(of(100, Some(1_024), 1, 8, 2), (100, 64));
        // Each of three nodes has 341.
        assert_eq!(of(10_000, Some(1_024), 3, 1, 2), (260, 37));
        assert_eq!(of(10_000, Some(128), 1, 1, 0), (81, 11));
        // Too little for anything: it starts, and serves one.
        assert_eq!(of(10_000, Some(20), 1, 64, 127), (1, 1));
    }

    #[test]
    fn the_limit_is_raised_as_far_as_it_may_be() {
        let limit = raise_limit();
        assert_eq!(getrlimit(Resource::Nofile).current, limit);
        assert_eq!(limit, getrlimit(Resource::Nofile).maximum);
    }
}
