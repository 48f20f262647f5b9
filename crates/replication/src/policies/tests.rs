use proptest::prelude::*;
use values::{Key, Limits};

use super::*;

const NODES: u64 = 3;

fn fields(pairs: &[(&str, &str)]) -> PolicyFields {
    let mut fields = PolicyFields::default();
    for (name, text) in pairs {
        fields.add(name, text).unwrap();
    }
    fields
}

fn name() -> Bytes {
    Bytes::from_static(b"carts")
}

fn at(ms: u64, node: u64) -> (Stamp, NodeId) {
    (Stamp::from_millis(ms), NodeId(node))
}

fn default() -> BucketPolicy {
    BucketPolicy::default()
}

fn created(table: &mut PolicyTable, pairs: &[(&str, &str)], at: (Stamp, NodeId)) -> PolicyTable {
    let change = table.create(&name(), &fields(pairs), default(), at).unwrap();
    table.join(&change)
}

fn bucket(table: &PolicyTable) -> Bucket {
    Buckets::new(table, default(), &Limits::default()).of(&name()).clone()
}

#[test]
fn created_on_two_sides_of_a_cut_it_is_one_bucket_and_each_field_the_later() {
    let (mut one, mut other) = (PolicyTable::default(), PolicyTable::default());
    created(&mut one, &[("r", "1"), ("raw", "lww")], at(10, 1));
    created(&mut other, &[("r", "3")], at(20, 2));
    let change = one.set(&name(), &fields(&[("w", "3")]), default(), at(30, 1)).unwrap();
    one.join(&change);
    let before = one.clone();
    one.join(&other);
    other.join(&before);
    assert_eq!(one, other);
    let Bucket { generation, standing, policy, doubts, .. } = bucket(&one);
    assert_eq!((generation, standing, doubts), (0, Standing::Created, Vec::new()));
    // The later creation said every field; the later setting only w.
    assert_eq!(
        policy.to_string(),
        default().with(&fields(&[("r", "3"), ("w", "3")])).unwrap().to_string()
    );
}

#[test]
fn contradictions_of_a_merge_are_clamped_alike_everywhere_and_a_setting_mends_them() {
    let mut one = PolicyTable::default();
    created(&mut one, &[], at(10, 1));
    let mut other = one.clone();
    let change = one.set(&name(), &fields(&[("r", "3")]), default(), at(20, 1)).unwrap();
    one.join(&change);
    let change = other.set(&name(), &fields(&[("n", "2")]), default(), at(20, 2)).unwrap();
    other.join(&change);
    one.join(&other);
    let bucket_now = bucket(&one);
    assert_eq!((bucket_now.policy.n, bucket_now.policy.r), (2, 2));
    assert_eq!(bucket_now.doubts, ["r=3 with n=2: counts as 2"]);
    let change = one.set(&name(), &fields(&[("w", "1")]), default(), at(30, 1)).unwrap();
    one.join(&change);
    assert_eq!(bucket(&one).doubts, Vec::<String>::new());
    assert_eq!(bucket(&one).policy.r, 2);
}

#[test]
fn a_drop_covers_its_generation_and_a_creation_begins_the_next() {
    let mut table = PolicyTable::default();
    created(&mut table, &[("r", "1")], at(10, 1));
    let stale = table.clone();
    let change = table.drop_bucket(&name()).unwrap();
    table.join(&change);
    let gone = Key::new("carts", "ann").unwrap();
    let buckets = Buckets::new(&table, default(), &Limits::default());
    assert!(buckets.is_gone(&gone));
    let error = BucketError::Dropped { bucket: "carts".into() };
    assert_eq!(buckets.live(b"carts").map(|bucket| bucket.generation), Err(error.clone()));
    assert_eq!(table.drop_bucket(&name()), Err(error.clone()));
    assert_eq!(table.set(&name(), &fields(&[("r", "1")]), default(), at(20, 1)), Err(error));

    created(&mut table, &[], at(30, 2));
    assert_eq!(bucket(&table).generation, 1);
    // What was said of generation 0 says nothing of this one, however late it comes.
    assert_eq!(table.join(&stale), PolicyTable::default());
    assert_eq!(bucket(&table).policy, default());
    let buckets = Buckets::new(&table, default(), &Limits::default());
    assert!(buckets.is_gone(&gone));
    assert!(!buckets.is_gone(&gone.in_generation(1)));
}

#[test]
fn a_bucket_that_nobody_created_can_be_dropped_and_created_but_not_set() {
    let mut table = PolicyTable::default();
    assert_eq!(bucket(&table).standing, Standing::Implicit);
    let set = table.set(&name(), &fields(&[("r", "1")]), default(), at(1, 1));
    assert_eq!(set, Err(BucketError::NotCreated { bucket: "carts".into() }));
    let change = table.drop_bucket(&name()).unwrap();
    table.join(&change);
    created(&mut table, &[], at(2, 1));
    assert_eq!((bucket(&table).generation, bucket(&table).standing), (1, Standing::Created));
    let again = table.create(&name(), &fields(&[]), default(), at(3, 1));
    assert_eq!(again, Err(BucketError::Exists { bucket: "carts".into() }));
}

#[test]
fn a_table_is_found_again_in_its_notes() {
    let mut table = PolicyTable::default();
    created(&mut table, &[("w", "1")], at(10, 1));
    let change = table.drop_bucket(&Bytes::from_static(b"old")).unwrap();
    table.join(&change);
    let mut notes = read(&table);
    notes.push(("something else".into(), Some("x".into())));
    notes.push(("something damaged".into(), None));
    assert_eq!(PolicyTable::of_notes(&notes), table);
}

/// What an engine reads of the table's notes.
fn read(table: &PolicyTable) -> Vec<(Bytes, Option<Bytes>)> {
    table.notes().into_iter().map(|(name, value)| (name, Some(value))).collect()
}

/// Begun anew at generation 0, a bucket would show what was dropped.
#[test]
fn a_bucket_whose_note_is_damaged_is_refused_until_another_member_tells_of_it() {
    let mut table = PolicyTable::default();
    created(&mut table, &[], at(10, 1));
    let change = table.drop_bucket(&name()).unwrap();
    table.join(&change);
    created(&mut table, &[], at(30, 1));
    for value in [None, Some(Bytes::from_static(b"x"))] {
        let mut notes = read(&table);
        notes[0].1 = value;
        let mut read = PolicyTable::of_notes(&notes);
        let error = BucketError::Damaged { bucket: "carts".into() };
        let buckets = Buckets::new(&read, default(), &Limits::default());
        assert_eq!(buckets.live(b"carts"), Err(error.clone()));
        assert!(buckets.live(b"other").is_ok());
        let create = BucketCall::Create { name: name(), fields: fields(&[]) };
        assert_eq!(read.change(&create, default(), at(40, 1)), Err(error));
        // Its digest is that of what it knows, so that the others tell.
        assert_eq!(read.digest(), PolicyTable::default().digest());
        assert_eq!(read.join(&table), table);
        assert_eq!((read.clone(), bucket(&read).generation), (table.clone(), 1));
        assert!(Buckets::new(&read, default(), &Limits::default()).live(b"carts").is_ok());
    }
}

#[test]
fn names_that_no_bucket_has_are_not_taken_over() {
    let entry = BucketEntry::default();
    let long = Bytes::from(vec![b'b'; BUCKET_BYTES_MAX + 1]);
    let other = PolicyTable([(Bytes::new(), entry.clone()), (long, entry)].into(), BTreeSet::new());
    let mut table = PolicyTable::default();
    assert_eq!(table.join(&other), PolicyTable::default());
    assert!(table.is_empty());
}

/// One change, as an administrator could make it at a node that knows a table.
#[derive(Clone, Debug)]
enum Step {
    Create(u8),
    Set(u8),
    Drop,
}

/// Tables of three nodes after changes at each and exchanges in between.
fn tables() -> impl Strategy<Value = Vec<PolicyTable>> {
    let step = prop_oneof![
        3 => (1..4_u8).prop_map(Step::Create),
        3 => (1..4_u8).prop_map(Step::Set),
        2 => Just(Step::Drop),
    ];
    let happening = (0..NODES, 0..NODES, 0..3_u8, step, 0..40_u64);
    prop::collection::vec(happening, 0..24).prop_map(|happenings| {
        let mut tables = vec![PolicyTable::default(); NODES as usize];
        for (node, from, which, step, ms) in happenings {
            if node != from {
                let theirs = tables[from as usize].clone();
                tables[node as usize].join(&theirs);
                continue;
            }
            let table = &mut tables[node as usize];
            let bucket = Bytes::from(vec![b'a' + which]);
            let said = |value: u8| fields(&[("r", &value.to_string())]);
            let change = match step {
                Step::Create(r) => table.create(&bucket, &said(r.min(3)), default(), at(ms, node)),
                Step::Set(r) => table.set(&bucket, &said(r.min(3)), default(), at(ms, node)),
                Step::Drop => table.drop_bucket(&bucket),
            };
            if let Ok(change) = change {
                table.join(&change);
            }
        }
        tables
    })
}

fn joined(tables: &[&PolicyTable]) -> PolicyTable {
    let mut all = PolicyTable::default();
    for table in tables {
        all.join(table);
    }
    all
}

proptest! {
    #[test]
    fn joining_tables_is_a_join(tables in tables()) {
        let [a, b, c] = &tables[..] else { unreachable!() };
        prop_assert_eq!(joined(&[a, b]), joined(&[b, a]));
        prop_assert_eq!(joined(&[&joined(&[a, b]), c]), joined(&[a, &joined(&[b, c])]));
        prop_assert_eq!(joined(&[a, a]), a.clone());
        prop_assert_eq!(joined(&[&joined(&[a, b]), a]), joined(&[a, b]));
    }

    #[test]
    fn what_a_join_reports_as_changed_is_what_the_other_side_lacked(tables in tables()) {
        let [a, b, _] = &tables[..] else { unreachable!() };
        let mut after = a.clone();
        let changed = after.join(b);
        prop_assert_eq!(&changed, &b.beyond(a));
        prop_assert_eq!(joined(&[a, &changed]), after.clone());
        prop_assert_eq!(changed.is_empty(), after == *a);
        prop_assert_eq!(after.digest() == a.digest(), after == *a);
    }

    /// A generation never goes back, and within one a drop is for ever.
    #[test]
    fn no_join_brings_a_dropped_generation_back(tables in tables()) {
        let [a, b, _] = &tables[..] else { unreachable!() };
        let after = joined(&[a, b]);
        for (name, entry) in a.iter() {
            let now = &after.0[name];
            prop_assert!(now.generation >= entry.generation);
            prop_assert!(now.generation > entry.generation || now.dropped || !entry.dropped);
        }
    }
}
