//! The ring as a value that gossip carries: the one of the later version wins.
//!
//! A node that joins learns by it how keys are placed. Joining rings is a choice of the greater in a total
//! order, so it is commutative, associative and idempotent; what is no ring is less than every ring.

use bytes::Bytes;
use ring::Ring;

/// Its name among the named values of gossip.
pub(crate) const NAME: &str = "ring";

pub(crate) fn encode(ring: &Ring) -> Bytes {
    clock::encode(ring).into()
}

/// The ring that `bytes` stand for, if they are one.
pub(crate) fn decode(bytes: &[u8]) -> Option<Ring> {
    clock::decode(bytes).ok()
}

/// Joins two versions of the value.
pub(crate) fn merge(held: &[u8], other: &[u8]) -> Vec<u8> {
    let rank = |bytes: &[u8]| decode(bytes).map(|ring| ring.version());
    if (rank(other), other) > (rank(held), held) { other.to_vec() } else { held.to_vec() }
}

#[cfg(test)]
mod tests {
    use clock::NodeId;
    use ring::{Member, PartitionCount};

    use super::*;

    #[test]
    fn the_later_ring_wins_whatever_the_order_and_rubbish_never() {
        let place = |nodes: &[u64], previous: Option<&Ring>| {
            let members: Vec<Member> = nodes.iter().map(|&id| Member::new(NodeId(id))).collect();
            Ring::place(&members, PartitionCount::new(8).unwrap(), 3, previous).unwrap().ring
        };
        let first = place(&[1], None);
        let second = place(&[1, 2], Some(&first));
        let apart = place(&[9], None);
        let rubbish = vec![0xff; 9_000];
        let all =
            [encode(&first).to_vec(), encode(&second).to_vec(), encode(&apart).into(), rubbish];
        for a in &all {
            assert_eq!(&merge(a, a), a);
            for b in &all {
                let ab = merge(a, b);
                assert_eq!(ab, merge(b, a));
                for c in &all {
                    assert_eq!(merge(&ab, c), merge(a, &merge(b, c)));
                }
            }
        }
        let merged = merge(&merge(&all[0], &all[1]), &all[3]);
        assert_eq!(decode(&merged), Some(second));
    }
}
