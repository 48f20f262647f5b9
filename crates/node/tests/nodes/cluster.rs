//! Three nodes on loopback, with real sockets and LMDB on disk.

use crate::support::{add, eventually, members, set_key, three};
use client::{Datastore, RegisterHandle};
use node::DevOptions;
use replication::{Request, RequestError};
use values::{Operation, RegisterOp, Scope};

#[tokio::test]
async fn a_write_at_one_node_is_read_at_the_others() {
    let cluster = three().await;
    let acks = add(&*cluster.nodes()[0].datastore(), "s", "a").await.unwrap().acks;
    assert_eq!((acks.owners, acks.needed, acks.is_met()), (3, 2, true));
    for node in cluster.nodes() {
        assert_eq!(members(&*node.datastore(), "s").await, ["a"]);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn both_sides_of_a_cut_take_writes_and_converge_once_it_heals_without_a_read() {
    let cluster = three().await;
    let [a, b, c] = [0, 1, 2].map(|index| cluster.nodes()[index].datastore());
    // What each replica holds by itself, which `explain` asks without repairing.
    let all_hold = async |expected: &[&str]| {
        let explained = a.explain(set_key("s")).await.ok()?;
        let whole = explained.replicas.iter().all(|replica| {
            replica.view.as_ref().is_ok_and(|view| crate::support::elements(view) == expected)
        });
        (whole && explained.replicas.len() == 3).then_some(())
    };
    add(&*a, "s", "before").await.unwrap();
    eventually("all replicas hold the first", async || all_hold(&["before"]).await).await;
    cluster.cut(2, true).await;
    let here = add(&*a, "s", "here").await.unwrap().acks;
    // With w met the answer does not wait for the hint.
    assert_eq!((here.answered, here.is_met()), (2, true));
    let there = add(&*c, "s", "there").await.unwrap().acks;
    assert_eq!((there.answered, there.hinted), (1, 2));
    assert!(!there.is_met());
    assert_eq!(members(&*b, "s").await, ["before", "here"]);
    assert_eq!(members(&*c, "s").await, ["before", "there"]);

    cluster.cut(2, false).await;
    let expected = ["before", "here", "there"];
    eventually("all replicas hold all three", async || all_hold(&expected).await).await;
    eventually("nothing is pending any more", async || {
        let pending = async |datastore: &dyn Datastore| {
            let status = datastore.status().await.unwrap();
            status.members.iter().map(|member| member.pending).sum::<u64>()
        };
        (pending(&*a).await + pending(&*b).await + pending(&*c).await == 0).then_some(())
    })
    .await;
    cluster.stop().await;
}

#[tokio::test]
async fn a_graceful_stop_and_a_start_keep_every_acknowledged_write() {
    let dir = tempfile::tempdir().unwrap();
    let options = || DevOptions { dir: Some(dir.path().into()), ..DevOptions::default() };
    let cluster = crate::support::start(options(), 1).await;
    let datastore = cluster.nodes()[1].datastore();
    let adds = (0..100).map(|i| crate::support::adding("s", &format!("{i:02}")));
    for result in datastore.execute(adds.collect()).await {
        result.unwrap();
    }
    cluster.stop().await;
    assert!(matches!(datastore.count("default".into()).await, Err(RequestError::Stopping)));

    let cluster = crate::support::start(options(), 1).await;
    let expected: Vec<String> = (0..100).map(|i| format!("{i:02}")).collect();
    for node in cluster.nodes() {
        assert_eq!(members(&*node.datastore(), "s").await, expected);
    }
    cluster.stop().await;
}

#[tokio::test]
async fn several_loops_share_one_index_and_count_list_and_serve_as_one() {
    let dir = tempfile::tempdir().unwrap();
    let start = async |nodes| {
        let dir = Some(dir.path().to_owned());
        let options = DevOptions { nodes, dir, ..DevOptions::default() };
        crate::support::start(options, 3).await
    };
    let cluster = start(2).await;
    let datastore = cluster.nodes()[0].datastore();
    let requests: Vec<_> =
        (0..200).map(|i| crate::support::adding(&format!("k{i:03}"), "x")).collect();
    for result in datastore.execute(requests).await {
        assert_eq!(result.unwrap().acks.answered, 2);
    }
    let expected: Vec<String> = (0..200).map(|i| format!("k{i:03}")).collect();
    for node in cluster.nodes() {
        assert_eq!(node.datastore().count("default".into()).await, Ok(200));
        assert_eq!(crate::support::all_keys(&*node.datastore(), 7).await, expected);
        assert_eq!(node.datastore().status().await.unwrap().keys, 200);
    }
    cluster.stop().await;
    let cluster = start(2).await;
    for node in cluster.nodes() {
        assert_eq!(node.datastore().status().await.unwrap().keys, 200);
        assert_eq!(node.datastore().count("default".into()).await, Ok(200));
    }
    cluster.stop().await;
}

#[tokio::test]
async fn the_status_names_members_owners_and_cuts() {
    let cluster = three().await;
    cluster.nodes()[0].datastore().cut_links("node2", true).await.unwrap();
    let status = eventually("node2 is seen cut off", async || {
        let status = cluster.nodes()[0].datastore().status().await.unwrap();
        (status.members.iter().filter(|member| !member.connected).count() == 1).then_some(status)
    })
    .await;
    assert_eq!((status.cluster.as_str(), status.node.as_str()), ("dev", "node1"));
    assert_eq!((status.partitions, status.owners.len()), (4096, 4096));
    let cut: Vec<_> = status.members.iter().filter(|member| member.cut).collect();
    assert_eq!((cut.len(), cut[0].name.as_str(), cut[0].connected), (1, "node2", false));
    let partitions: u32 = status.members.iter().map(|member| member.partitions).sum();
    assert_eq!(partitions, 4096);
    let unknown = cluster.nodes()[0].datastore().cut_links("node9", true).await;
    assert!(matches!(unknown, Err(RequestError::Unsupported(text)) if text.contains("node9")));
    cluster.stop().await;
}

/// What the facade promises, and with it a pipeline and MULTI of the Redis protocol: `SET k 5`, `INCR
/// k`, `GET k` in one batch. A replacing set asks other replicas first; what stands behind it must
/// not overtake it.
#[tokio::test]
async fn requests_on_one_key_in_one_batch_are_done_in_the_order_given() {
    let cluster = three().await;
    for node in cluster.nodes() {
        let datastore = node.datastore();
        for number in 0..5 {
            let key = || set_key(&format!("{}-{number}", node.name()));
            let five = RegisterOp::Set { value: "5".into(), at: None, replace: true };
            let batch = vec![
                Request::update(key(), Operation::Register(five)),
                Request::update(key(), Operation::Register(RegisterOp::Increment(1))),
                Request::get(key(), Scope::Headers),
            ];
            let shown: Vec<_> = datastore
                .execute(batch)
                .await
                .into_iter()
                .map(|answer| RegisterHandle::read(&answer.unwrap()).unwrap_or_default())
                .collect();
            assert_eq!(shown, ["5", "6", "6"], "{:?}", key());
            // The increment was acknowledged: it stays.
            let read = datastore.request(Request::get(key(), Scope::Headers)).await.unwrap();
            assert_eq!(RegisterHandle::read(&read).unwrap(), "6");
        }
    }
    cluster.stop().await;
}
