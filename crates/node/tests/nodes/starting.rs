//! Starting: what a node refuses to start with, and that it says what to do.

use std::path::Path;

use node::{DevCluster, DevError, DevOptions, Node, NodeConfig, Settings, StartError};
use replication::Request;
use values::Operation;

use crate::support::{add, ends, eventually, members, set_key, settings};

/// A node alone on any free ports.
fn alone(dir: &Path, name: &str, cluster: &str) -> NodeConfig {
    let settings = Settings { bootstrap: Some(true), ..settings(dir, name, cluster) };
    settings.resolve().unwrap()
}

async fn refusal(config: NodeConfig) -> StartError {
    Node::start(config).await.expect_err("it must not start")
}

#[tokio::test]
async fn a_node_alone_serves_stops_and_starts_again_with_its_data() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(alone(dir.path(), "a", "ducks")).await.unwrap();
    ends("no other members", node.linked()).await;
    let acks = add(&*node.datastore(), "s", "x").await.unwrap().acks;
    assert_eq!((acks.owners, acks.needed, acks.answered), (1, 1, 1));
    ends("stop", node.stop()).await;
    let node = Node::start(alone(dir.path(), "a", "ducks")).await.unwrap();
    assert_eq!(members(&*node.datastore(), "s").await, ["x"]);
    ends("stop", node.stop()).await;
}

#[tokio::test]
async fn a_port_in_use_is_named_with_the_setting_to_change() {
    let dir = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    let mut config = alone(dir.path(), "a", "ducks");
    config.listen.http = address;
    let error = refusal(config).await;
    assert_eq!(
        error.to_string(),
        format!(
            "port {} is in use ({address}): stop what listens there, or choose another with `http`",
            address.port()
        )
    );
}

#[tokio::test]
async fn a_data_directory_of_another_cluster_or_node_is_refused_and_left_alone() {
    let dir = tempfile::tempdir().unwrap();
    Node::start(alone(dir.path(), "a", "ducks")).await.unwrap().stop().await;
    let error = refusal(alone(dir.path(), "a", "geese")).await.to_string();
    assert!(
        error.contains("belongs to cluster \"ducks\", this node is of cluster \"geese\""),
        "{error}"
    );
    let error = refusal(alone(dir.path(), "b", "ducks")).await.to_string();
    assert!(error.contains("belongs to node \"a\", this is node \"b\""), "{error}");
    Node::start(alone(dir.path(), "a", "ducks")).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_data_directory_is_used_by_one_node_at_a_time() {
    let dir = tempfile::tempdir().unwrap();
    let first = Node::start(alone(dir.path(), "a", "ducks")).await.unwrap();
    let error = refusal(alone(dir.path(), "a", "ducks")).await;
    assert!(matches!(error, StartError::Open(_)), "{error}");
    first.stop().await;
}

#[tokio::test]
async fn a_directory_that_is_a_file_is_refused() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let error = refusal(alone(file.path(), "a", "ducks")).await;
    assert!(matches!(error, StartError::Open(_)), "{error}");
}

#[tokio::test]
async fn a_data_directory_of_a_cluster_with_other_founders_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    Node::start(alone(dir.path(), "a", "ducks")).await.unwrap().stop().await;
    let with_b = || {
        let any = Some("127.0.0.1:0".parse().unwrap());
        let settings = Settings {
            name: Some("a".into()),
            cluster: Some("ducks".into()),
            data: Some(dir.path().into()),
            members: Some([("b".into(), "127.0.0.1:1".into())].into()),
            secret: Some("the secret of this test".into()),
            resp: any,
            http: any,
            peer: any,
            ..Settings::default()
        };
        settings.resolve().unwrap()
    };
    let error = refusal(with_b()).await.to_string();
    let expected = "it is of a cluster whose members are [\"a\"], and was not founded by [\"a\", \"b\"] \
                    with these zones and weights: start with the same `members` as the first time, or \
                    with none";
    assert!(error.ends_with(expected), "{error}");
    Node::start(alone(dir.path(), "a", "ducks")).await.unwrap().stop().await;
}

#[tokio::test]
async fn what_is_beside_a_damaged_index_is_verified_all_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let node = Node::start(alone(dir.path(), "a", "ducks")).await.unwrap();
    add(&*node.datastore(), "s", "x").await.unwrap();
    ends("stop", node.stop()).await;
    let pages = dir.path().join("index").join("data.mdb");
    let mut bytes = std::fs::read(&pages).unwrap();
    // The pages of LMDB's own come first.
    bytes[8192..].fill(0xff);
    std::fs::write(&pages, bytes).unwrap();

    let found = node::offline::verify(dir.path(), &mut |_| ()).unwrap();
    let faults: Vec<&str> = found.faults.iter().map(|fault| &fault.place[..]).collect();
    assert_eq!((found.node.as_str(), faults, found.fault_count), ("a", vec!["index"], 1));
    assert!(found.faults[0].what.contains("data.mdb"), "{found:?}");
    let checked: Vec<&str> = found.checked.iter().map(|(what, _)| *what).collect();
    assert_eq!(checked, ["stamp", "members", "log"]);
}

/// Copies what is in a directory into a new one.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (path, to) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        if path.is_dir() {
            copy(&path, &to);
        } else {
            std::fs::copy(path, to).unwrap();
        }
    }
}

#[tokio::test]
async fn a_development_cluster_with_a_node_of_an_earlier_day_begins_it_anew_and_starts() {
    let dir = tempfile::tempdir().unwrap();
    let settings = Settings {
        loops: Some(1),
        partitions: Some(64),
        barrier_interval_s: Some(1),
        anti_entropy_interval_s: Some(1),
        retry_window_s: Some(0),
        ..Settings::default()
    };
    let started = async || {
        let options = DevOptions { nodes: 3, dir: Some(dir.path().into()), port_base: None };
        let started = DevCluster::start_configured(options, &settings);
        ends("the start", started).await.unwrap()
    };
    let cluster = started().await;
    add(&*cluster.nodes()[0].datastore(), "s", "x").await.unwrap();
    ends("stop", cluster.stop()).await;
    let (data, earlier) = (dir.path().join("node3"), dir.path().join("earlier"));
    copy(&data, &earlier);

    let cluster = started().await;
    // Rounds are begun while there is something to forget.
    eventually("a round was agreed on and is over", async || {
        let third = cluster.nodes()[2].datastore();
        add(&*third, "deleted", "x").await.ok()?;
        let delete = Request::update(set_key("deleted"), Operation::Delete(None));
        third.request(delete).await.ok()?;
        let barrier = third.status().await.ok()?.barrier;
        (barrier.forgotten > 0).then_some(())
    })
    .await;
    ends("stop", cluster.stop()).await;
    std::fs::remove_dir_all(&data).unwrap();
    std::fs::rename(&earlier, &data).unwrap();

    let aside = data.join("older-than-barrier-1");
    let mut cluster = started().await;
    if !aside.exists() {
        // It served before it heard from the others.
        ends("it hears that it is outdated", cluster.outdated()).await;
        ends("stop", cluster.stop()).await;
        cluster = started().await;
    }
    assert!(aside.exists());
    assert_eq!(members(&*cluster.nodes()[2].datastore(), "s").await, ["x"]);
    ends("stop", cluster.stop()).await;
}

#[tokio::test]
async fn a_development_cluster_of_another_size_is_refused_and_told_the_size() {
    let dir = tempfile::tempdir().unwrap();
    let of = |nodes| DevOptions { nodes, dir: Some(dir.path().into()), port_base: None };
    ends("the start", DevCluster::start(of(2))).await.unwrap().stop().await;
    for nodes in [1, 3] {
        let error = ends("a refusal", DevCluster::start(of(nodes))).await.unwrap_err();
        assert!(matches!(error, DevError::OtherNodes { found: 2, .. }), "{error}");
        let expected = format!(
            "{} holds the data of 2 nodes, this start asks for {nodes}: use `--nodes 2`, or \
             another `--dir`; data is not moved to other members yet",
            dir.path().display()
        );
        assert_eq!(error.to_string(), expected);
    }
    ends("the start", DevCluster::start(of(2))).await.unwrap().stop().await;
}

#[tokio::test]
async fn a_node_that_has_nothing_to_start_from_is_told_the_two_ways() {
    let dir = tempfile::tempdir().unwrap();
    let mut config = alone(dir.path(), "a", "ducks");
    config.beginning = node::Beginning::Search;
    let error = refusal(config).await;
    assert!(matches!(error, StartError::Lost), "{error}");
    assert_eq!(
        error.to_string(),
        "this node belongs to no cluster yet: `--bootstrap` begins one, `--seed HOST:PORT` (a member's \
         peer address) joins one"
    );
}

#[tokio::test]
async fn what_membership_left_on_disk_is_not_taken_if_it_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    Node::start(alone(dir.path(), "a", "ducks")).await.unwrap().stop().await;
    std::fs::write(dir.path().join("members"), b"rubbish").unwrap();
    let error = refusal(alone(dir.path(), "a", "ducks")).await;
    assert!(matches!(error, StartError::Snapshot(_)), "{error}");
}

/// It would serve as an empty replica, and reads that ask it would lose acknowledged writes.
#[tokio::test]
async fn an_index_that_is_gone_is_a_loss_that_the_operator_must_see() {
    let dir = tempfile::tempdir().unwrap();
    Node::start(alone(dir.path(), "a", "ducks")).await.unwrap().stop().await;
    let data = dir.path().join("index").join("data.mdb");
    std::fs::write(&data, b"").unwrap();
    let empty = refusal(alone(dir.path(), "a", "ducks")).await.to_string();
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    let missing = refusal(alone(dir.path(), "a", "ducks")).await.to_string();
    for error in [empty, missing] {
        let expected = "index is damaged (data.mdb is missing or empty): restore it from a backup, \
                        or move the node's whole data directory away and start with an empty \
                        directory (the other owners bring back what they hold";
        assert!(error.contains(expected), "{error}");
    }
}

#[tokio::test]
async fn a_start_that_crashed_before_its_index_was_there_is_done_again() {
    let dir = tempfile::tempdir().unwrap();
    Node::start(alone(dir.path(), "a", "ducks")).await.unwrap().stop().await;
    std::fs::remove_dir_all(dir.path().join("index")).unwrap();
    std::fs::remove_file(dir.path().join(".indexed")).unwrap();
    Node::start(alone(dir.path(), "a", "ducks")).await.unwrap().stop().await;
}

#[tokio::test]
async fn an_index_without_a_stamp_is_not_adopted() {
    let dir = tempfile::tempdir().unwrap();
    Node::start(alone(dir.path(), "a", "ducks")).await.unwrap().stop().await;
    std::fs::remove_file(dir.path().join("stamp")).unwrap();
    let error = refusal(alone(dir.path(), "b", "geese")).await.to_string();
    assert!(error.contains("holds \"index\" but no stamp"), "{error}");
    assert!(!dir.path().join("stamp").exists());
}
