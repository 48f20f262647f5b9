//! Rings come from other nodes and from disk: what is not a ring is an error there, never a panic
//! later.

use clock::{NodeId, decode, encode};
use proptest::collection::vec;
use proptest::prelude::{any, prop_assert, prop_assert_eq, proptest};
use ring::{Member, Partition, PartitionCount, Ring, Token, Weight, Zone};

/// The fields of a ring as a forger would write them, with weights and zones by member.
fn forged(version: u64, members: &[u64], owners: &[u16]) -> Vec<u8> {
    let zones = [None, Some("x"), Some("y")];
    let all = members.iter().zip((0..3).cycle());
    let members: Vec<_> = all.map(|(&id, at)| (id, at as u16 + 1, zones[at])).collect();
    encode(&(version, members, owners))
}

/// Touches all that a request could touch.
fn use_everywhere(ring: &Ring) {
    for number in [0, 1, 4095, 65_535, u32::MAX] {
        let partition = Partition(number);
        let list = ring.preference_list(partition);
        assert_eq!(list.len(), ring.members().len());
        assert_eq!(list[0], ring.owner(partition));
        assert!(ring.is_owner(partition, 1, list[0]));
    }
    ring.partition(Token(u128::MAX));
    ring.loads();
    ring.moves(ring);
    for spread in [0, 3, 5] {
        Ring::place(ring.roster(), ring.partition_count(), spread, Some(ring)).ok();
    }
    ring.replica_moves(ring, 3);
}

#[test]
fn a_ring_survives_its_encoding() {
    let members: Vec<Member> = (1..=20).map(|id| Member::new(NodeId(id))).collect();
    let ring = Ring::place(&members, PartitionCount::new(16).unwrap(), 3, None).unwrap().ring;
    assert_eq!(decode::<Ring>(&encode(&ring)).unwrap(), ring);
}

/// Fixed for ever: rings of this format are stored and sent.
#[test]
fn a_ring_is_encoded_as_version_members_and_owners() {
    let zone = Some(Zone::new("z").unwrap());
    let heavy = Member { node: NodeId(7), weight: Weight::new(3).unwrap(), zone };
    let ring = Ring::new(1, vec![Member::new(NodeId(5)), heavy], vec![0, 1, 0, 1]).unwrap();
    let (light, heavy) = ([5, 1, 0], [7, 3, 1, 1, b'z']);
    let expected: Vec<u8> = [&[1, 1, 2], &light[..], &heavy, &[4, 0, 1, 0, 1]].concat();
    assert_eq!(encode(&ring), expected);
}

#[test]
fn forged_rings_are_refused() {
    assert!(decode::<Ring>(&forged(1, &[5, 7], &[0, 1])).is_ok());
    assert!(decode::<Ring>(&forged(1, &[], &[])).is_err(), "nobody");
    assert!(decode::<Ring>(&forged(1, &[], &[0])).is_err(), "an owner but no members");
    assert!(decode::<Ring>(&forged(1, &[5, 7], &[])).is_err(), "no partitions");
    assert!(decode::<Ring>(&forged(1, &[5, 7], &[0, 1, 0])).is_err(), "three partitions");
    assert!(decode::<Ring>(&forged(1, &[5, 7], &[0, 2])).is_err(), "an owner out of range");
    assert!(decode::<Ring>(&forged(1, &[5, 5], &[0, 1])).is_err(), "a member twice");
    assert!(decode::<Ring>(&forged(1, &[7, 5], &[0, 1])).is_err(), "members out of order");
    assert!(decode::<Ring>(&forged(1, &[5], &[0; 1 << 17])).is_err(), "too many partitions");
}

#[test]
fn forged_weights_and_zones_are_refused() {
    let ring = |weight: u16, zone: &str| {
        decode::<Ring>(&encode(&(1_u64, vec![(5_u64, weight, Some(zone))], vec![0_u16])))
    };
    assert!(ring(1, "z").is_ok());
    assert!(ring(0, "z").is_err(), "a weight of nothing");
    assert!(ring(1001, "z").is_err(), "a weight out of bounds");
    assert!(ring(1, "").is_err(), "a zone without a name");
    assert!(ring(1, &"z".repeat(65)).is_err(), "a name too long");
}

#[test]
fn forged_partition_counts_are_refused() {
    assert_eq!(decode::<PartitionCount>(&encode(&16_u32)).unwrap().get(), 16);
    for count in [0_u32, 3, 65_537, u32::MAX] {
        assert!(decode::<PartitionCount>(&encode(&count)).is_err(), "{count}");
    }
}

proptest! {
    #[test]
    fn no_bytes_panic(bytes in vec(any::<u8>(), 0..64)) {
        if let Ok(ring) = decode::<Ring>(&bytes) {
            use_everywhere(&ring);
        }
    }

    /// Any assignment within the invariants may arrive, balanced or not.
    #[test]
    fn whatever_decodes_can_be_used_and_placed_again(
        version in any::<u64>(),
        member_count in 1_u16..12,
        size in 0_u32..8,
        owners in vec(0_u16..13, 128),
    ) {
        let members: Vec<u64> = (0..u64::from(member_count)).collect();
        let owners = &owners[..1 << size];
        let valid = owners.iter().all(|&owner| owner < member_count);
        let decoded = decode::<Ring>(&forged(version, &members, owners));
        prop_assert_eq!(decoded.is_ok(), valid);
        if let Ok(ring) = decoded {
            prop_assert!(ring.version() == version);
            use_everywhere(&ring);
        }
    }
}
