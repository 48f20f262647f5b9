//! Who a node is: its id within its cluster, and which start of it this is.

use std::time::{SystemTime, UNIX_EPOCH};

use clock::NodeId;
use ring::{Ring, Token};
use wire::RingSummary;

/// The id of the node called `name` in `cluster`: the top 64 bits of the MD5 of both, so that
/// every member computes the same one from the configuration alone.
pub fn node_id(cluster: &str, name: &str) -> NodeId {
    let top = Token::of(cluster.as_bytes(), name.as_bytes()).0 >> 64;
    // 0 stands for no node.
    NodeId(u64::try_from(top).expect("64 bits are left").max(1))
}

/// The ring in short, for peers to compare: members called `names` and who owns what.
pub(crate) fn ring_summary<'a>(
    ring: &Ring,
    names: impl IntoIterator<Item = &'a str>,
) -> RingSummary {
    let owners = ring.partition_count().iter().map(|partition| ring.owner(partition));
    let bytes: Vec<u8> = owners.flat_map(|owner| owner.0.to_be_bytes()).collect();
    let digest = Token::of(b"ring", &bytes).0.to_be_bytes();
    RingSummary::new(digest, ring.partition_count().get(), names)
}

/// A number for this start of a node: milliseconds since 1970, then 16 random bits. Larger than
/// those of earlier starts as far as the wall clock goes forward.
pub(crate) fn draw_incarnation() -> u64 {
    (wall_ms() << 16) | (random_u64() & 0xffff)
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
    use ring::{Member, PartitionCount};

    /// Stored data names nodes by these ids: `printf '\0\0\0\5ducksa' | md5sum`.
    #[test]
    fn a_nodes_id_follows_from_cluster_and_name_for_ever() {
        assert_eq!(node_id("ducks", "a"), NodeId(0x87f0_f320_b5ff_2330));
        assert_ne!(node_id("ducks", "a"), node_id("duck", "sa"));
    }

    #[test]
    fn rings_of_other_members_or_partitions_have_other_digests_whatever_the_order() {
        let digest = |names: &[&str], partitions| {
            let members: Vec<_> =
                names.iter().map(|name| Member::new(node_id("ducks", name))).collect();
            let partitions = PartitionCount::new(partitions).unwrap();
            let ring = Ring::place(&members, partitions, 5, None).unwrap().ring;
            ring_summary(&ring, names.iter().copied()).digest
        };
        let first = digest(&["a", "b", "c"], 64);
        assert_eq!(digest(&["c", "a", "b"], 64), first);
        assert_ne!(digest(&["a", "b", "d"], 64), first);
        assert_ne!(digest(&["a", "b"], 64), first);
        assert_ne!(digest(&["a", "b", "c"], 128), first);
    }
}
