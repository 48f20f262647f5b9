//! Starting: what a node refuses to start with, and that it says what to do.

use std::path::Path;

use node::{Node, NodeConfig, Settings, StartError};

use crate::support::{add, ends, members};

/// A node alone on any free ports.
fn alone(dir: &Path, name: &str, cluster: &str) -> NodeConfig {
    let any = Some("127.0.0.1:0".parse().unwrap());
    let settings = Settings {
        name: Some(name.into()),
        cluster: Some(cluster.into()),
        data: Some(dir.into()),
        resp: any,
        http: any,
        peer: any,
        loops: Some(1),
        ..Settings::default()
    };
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
    assert!(error.contains("belongs to cluster \"ducks\", this node is of cluster \"geese\""), "{error}");
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
