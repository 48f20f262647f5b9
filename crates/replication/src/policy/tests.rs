use proptest::prelude::*;

use super::*;

fn fields(pairs: &[(&str, &str)]) -> Result<PolicyFields, PolicyError> {
    let mut fields = PolicyFields::default();
    for (name, text) in pairs {
        fields.add(name, text)?;
    }
    Ok(fields)
}

fn made(pairs: &[(&str, &str)]) -> Result<BucketPolicy, String> {
    let made = fields(pairs).and_then(|fields| BucketPolicy::default().with(&fields));
    made.map_err(|error| error.to_string())
}

#[test]
fn a_policy_is_said_by_its_fields_and_shown_as_it_is_said() {
    let policy = made(&[
        ("n", "5"),
        ("r", "1"),
        ("w", "4"),
        ("availability", "quorum"),
        ("raw", "lww"),
        ("durability", "interval"),
        ("value_bytes_max", "1000"),
        ("siblings_max", "7"),
        ("siblings_soft", "6"),
        ("elements_max", "9"),
        ("ttl", "60"),
    ])
    .unwrap();
    assert_eq!(
        policy.to_string(),
        "n=5 r=1 w=4 availability=quorum raw=lww durability=interval value_bytes_max=1000 \
         siblings_max=7 siblings_soft=6 elements_max=9 ttl=60"
    );
    for field in Field::ALL {
        assert_eq!(Field::try_from(u8::from(field)).ok(), Some(field));
    }
}

#[test]
fn what_is_not_said_follows_n_down() {
    let policy = made(&[("n", "1")]).unwrap();
    assert_eq!((policy.n, policy.r, policy.w), (1, 1, 1));
}

#[test]
fn what_makes_no_sense_is_refused_with_what_would() {
    let refusals: [(&[(&str, &str)], &str); 9] = [
        (&[("n", "0")], "n=0 is not possible: use 1 to 5"),
        (&[("n", "6")], "n=6 is not possible: use 1 to 5"),
        (&[("w", "+1")], "w=+1 is not possible: use 1 to 5"),
        (&[("raw", "crdt")], "raw=crdt is not possible: use siblings or lww"),
        (&[("r", "4")], "n=3, r=4, w=2: r and w must be from 1 to n, and n from 1 to 5"),
        (&[("n", "2"), ("n", "2")], "n is given twice; give it once"),
        (
            &[("N", "2")],
            "a policy has no field \"N\"; it has n, r, w, availability, raw, durability, \
             value_bytes_max, siblings_max, siblings_soft, elements_max, ttl",
        ),
        (&[("ttl", "-1")], "ttl=-1 is not possible: use 0 to 4294967295"),
        (&[("siblings_max", "10001")], "siblings_max=10001 is not possible: use 0 to 10000"),
    ];
    for (pairs, why) in refusals {
        assert_eq!(made(pairs), Err(why.to_owned()));
    }
}

#[test]
fn a_merged_policy_that_contradicts_itself_is_clamped_and_says_so() {
    let values = [(1, 2), (2, 3), (3, 1), (4, 9), (77, 1)];
    let (policy, doubts) = BucketPolicy::default().clamped(values.into_iter());
    assert_eq!((policy.n, policy.r, policy.w), (2, 2, 1));
    assert_eq!(policy.availability, Availability::Always);
    assert_eq!(doubts, ["availability=9: counts as always", "r=3 with n=2: counts as 2"]);
}

#[test]
fn a_buckets_limits_tighten_the_nodes_own() {
    let own = Limits { value_bytes: 500, ..Limits::default() };
    let policy = made(&[("value_bytes_max", "100"), ("siblings_max", "3")]).unwrap();
    let limits = policy.limits(&own);
    assert_eq!((limits.value_bytes, limits.siblings, limits.siblings_soft), (100, 3, 3));
    let wide = made(&[("value_bytes_max", "1000")]).unwrap().limits(&own);
    assert_eq!((wide.value_bytes, wide.siblings), (500, own.siblings));
}

proptest! {
    #[test]
    fn whatever_was_merged_reads_as_a_policy_that_can_be_kept(
        values in prop::collection::vec((0..10_u8, any::<u64>()), 0..12),
    ) {
        let (policy, _) = BucketPolicy::default().clamped(values.into_iter());
        prop_assert_eq!(policy.check(), Ok(()));
    }
}
