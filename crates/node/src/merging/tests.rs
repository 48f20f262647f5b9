use clock::NodeId;
use membership::{Entry, Incarnation, Liveness, Load, Phase, Snapshot, Values};
use replication::{BucketPolicy, ComparisonSummary};
use wire::HandoverStatus;

use super::*;

fn member(id: u64, state: MemberState, connected: bool) -> MemberStatus {
    MemberStatus {
        node: NodeId(id),
        name: format!("n{id}"),
        peer_address: String::new(),
        zone: None,
        weight: 1,
        state,
        liveness: Liveness::Reachable,
        phi: 0.0,
        generation: 1,
        version: String::new(),
        connected,
        messages: None,
        cut: false,
        partitions: 0,
        copies: 0,
        pending: 0,
        pending_bytes: 0,
        load: Load::default(),
    }
}

fn ring(members: Vec<MemberStatus>) -> ClusterStatus {
    ClusterStatus {
        cluster: "ducks".into(),
        node: "n1".into(),
        version: String::new(),
        waiting: None,
        ring_version: 1,
        handover: HandoverStatus::default(),
        partitions: 8,
        owners: Vec::new(),
        uptime_ms: 0,
        keys: 0,
        type_conflicts: 0,
        sibling_keys: 0,
        most_siblings: 0,
        compared: ComparisonSummary::default(),
        barrier: wire::BarrierStatus::default(),
        members,
        hint_bytes_max: 0,
        counters: Vec::new(),
    }
}

fn up(ids: &[u64]) -> ClusterStatus {
    ring(ids.iter().map(|&id| member(id, MemberState::Up, true)).collect())
}

fn said(ours: &ClusterStatus, theirs: &ClusterStatus) -> Option<String> {
    refusal((ours, &[]), (theirs, &[]))
}

#[track_caller]
fn assert_refused(why: Option<String>, because: &str) {
    let why = why.expect("it is refused");
    assert!(why.contains(because), "{why}");
}

#[test]
fn rings_are_merged_where_nothing_is_left_behind() {
    let (ours, theirs) = (up(&[1, 2]), up(&[3, 4]));
    assert_eq!(said(&ours, &theirs), None);
    // One of ours has gone there already.
    let ours = ring(vec![member(1, MemberState::Up, true), member(3, MemberState::Up, false)]);
    assert_eq!(said(&ours, &theirs), None);
    // Two of them are known there by who went; one of those cannot be reached.
    let expected = [1, 2].map(|id| member(id, MemberState::Expected, false));
    let expecting = ring([theirs.members.clone(), expected.to_vec()].concat());
    assert_eq!(said(&up(&[1, 2]), &expecting), None);
    let away = ring(vec![member(1, MemberState::Up, true), member(2, MemberState::Up, false)]);
    assert_refused(said(&away, &expecting), "\"n2\" cannot be reached");
    // Who is gone for good has nothing.
    let gone = [MemberState::Left, MemberState::Removed].map(|state| member(9, state, false));
    let ours = ring([vec![member(1, MemberState::Up, true)], gone.to_vec()].concat());
    assert_eq!(said(&ours, &theirs), None);
}

#[test]
fn what_does_not_go_together_or_is_not_all_there_is_not_merged() {
    let (ours, theirs) = (up(&[1, 2]), up(&[3, 4]));
    let other = ClusterStatus { cluster: "geese".into(), ..theirs.clone() };
    assert_refused(said(&ours, &other), "only rings of one name");
    let other = ClusterStatus { partitions: 16, ..theirs.clone() };
    assert_refused(said(&ours, &other), "only rings of as many");
    let other = ClusterStatus { waiting: Some("it drains".into()), ..theirs.clone() };
    assert_refused(said(&ours, &other), "does not serve: it drains");
    let moving = HandoverStatus { partitions_moving: 3, ..HandoverStatus::default() };
    let busy = ClusterStatus { handover: moving, ..ours.clone() };
    assert_refused(said(&busy, &theirs), "3 partitions");
    assert_refused(said(&ours, &up(&[2, 3])), "both rings have a member \"n2\"");
    let away = ring(vec![member(1, MemberState::Up, true), member(2, MemberState::Up, false)]);
    assert_refused(said(&away, &theirs), "\"n2\" cannot be reached");
    let leaving = ring(vec![member(1, MemberState::Leaving, true)]);
    assert_refused(said(&leaving, &theirs), "\"n1\" is leaving");
}

#[test]
fn a_bucket_that_one_ring_dropped_and_the_other_has_is_told() {
    let (ours, theirs) = (up(&[1]), up(&[2]));
    let bucket = |generation, standing| BucketInfo {
        name: "shop".into(),
        generation,
        standing,
        policy: BucketPolicy::default(),
        doubts: Vec::new(),
    };
    let check = |ours_has: &[BucketInfo], theirs_has: &[BucketInfo]| {
        refusal((&ours, ours_has), (&theirs, theirs_has))
    };
    let created = [bucket(0, Standing::Created)];
    assert_eq!(check(&created, &[]), None);
    assert_eq!(check(&created, &created), None);
    let mut wider = bucket(0, Standing::Created);
    wider.policy.n = 5;
    assert_refused(check(&created, &[wider]), "n = 5 in that ring and 3 in this one");
    for other in [bucket(0, Standing::Dropped), bucket(1, Standing::Created)] {
        // Nobody lists what goes by the default policy.
        for has in [&created[..], &[]] {
            assert_refused(check(has, std::slice::from_ref(&other)), "bucket \"shop\" was dropped");
            assert_refused(check(std::slice::from_ref(&other), has), "bucket \"shop\" was dropped");
        }
        let same = std::slice::from_ref(&other);
        assert_eq!(check(same, same), None);
    }
}

/// What a member knows of its cluster: another member, with a blank in its name, and one that is removed.
fn known(me: NodeId) -> Snapshot {
    let record = |(id, name, ended): (NodeId, &str, u64)| {
        let incarnation = Incarnation { generation: 1, nonce: id.0 };
        let about = About::new(name, "127.0.0.1:7392");
        let (phase, load) = (Phase::Up, Load::default());
        let entry = Entry { incarnation, version: 1, joined: 1, over: None, phase, about, load };
        (id, Record { entry, ended })
    };
    let members = [(me, "n1", 0), (NodeId(2), "n 2", 0), (NodeId(3), "n3", 1)];
    Snapshot {
        ids: [ClusterId(7)].into(),
        incarnation: Incarnation { generation: 1, nonce: me.0 },
        table: members.map(record).into_iter().collect(),
        values: Values::default(),
    }
}

#[test]
fn a_start_on_its_way_to_another_ring_forgets_its_own_and_begins_none() {
    let dir = tempfile::tempdir().unwrap();
    let settings = crate::Settings {
        data: Some(dir.path().to_owned()),
        bootstrap: Some(true),
        seeds: Some(vec!["127.0.0.1:1".into()]),
        secret: Some("the secret of this test".into()),
        ..crate::Settings::default()
    };
    let plain = settings.resolve().unwrap();
    let begins = |config: &NodeConfig| (config.beginning, config.seeds.clone());
    let mut config = plain.clone();
    fs::write(dir.path().join(snapshot_file::FILE), b"of before").unwrap();
    assert!(!prepare(&mut config).unwrap());
    assert_eq!(begins(&config), begins(&plain));
    assert!(dir.path().join(snapshot_file::FILE).exists());
    let seeds = ["127.0.0.1:7381", "127.0.0.1:7391"].map(str::to_owned);
    // What was left must be known, so that its nodes are not listened to.
    let me = config.node();
    assert!(write(dir.path(), me, &seeds).unwrap_err().to_string().contains("damaged"));
    snapshot_file::write(dir.path(), &known(me)).unwrap();
    write(dir.path(), me, &seeds).unwrap();
    assert!(prepare(&mut config).unwrap());
    assert_eq!(config.left, [ClusterId(7)].into());
    let fellow = About::new("n 2", "127.0.0.1:7392");
    assert_eq!(config.fellows, [(NodeId(2), fellow)].into());
    assert_eq!(begins(&config), (Beginning::Search, seeds.to_vec()));
    assert!(!dir.path().join(snapshot_file::FILE).exists());
    is_done(dir.path()).unwrap();
    let mut config = plain.clone();
    assert!(!prepare(&mut config).unwrap());
    assert_eq!(begins(&config), begins(&plain));
}
