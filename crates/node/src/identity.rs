//! Who a node is within its cluster; the wall clock and the system's random bits.

use std::time::{SystemTime, UNIX_EPOCH};

use clock::NodeId;
use values::identifier;

/// The id of the node called `name` in `cluster`: the top 64 bits of the MD5 of both, so that
/// every member computes the same one from the configuration alone.
pub fn node_id(cluster: &str, name: &str) -> NodeId {
    let top = identifier(cluster.as_bytes(), name.as_bytes()) >> 64;
    // 0 stands for no node.
    NodeId(u64::try_from(top).expect("64 bits are left").max(1))
}

/// Milliseconds since 1970; 0 on a clock that stands before.
pub(crate) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// 64 bits from the system's generator.
pub(crate) fn random_u64() -> u64 {
    u64::from_ne_bytes(random_bytes())
}

/// Bytes from the system's generator.
///
/// # Panics
/// If the system has none to give: without them dots could be issued twice, and secrets guessed.
pub(crate) fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the system's random generator works");
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Stored data names nodes by these ids: `printf '\0\0\0\5ducksa' | md5sum`.
    #[test]
    fn a_nodes_id_follows_from_cluster_and_name_for_ever() {
        assert_eq!(node_id("ducks", "a"), NodeId(0x87f0_f320_b5ff_2330));
        assert_ne!(node_id("ducks", "a"), node_id("duck", "sa"));
    }
}
