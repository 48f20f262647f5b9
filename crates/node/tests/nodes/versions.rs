//! Builds of neighbouring versions of messages work together, link by link; others refuse one another.

use std::net::SocketAddr;
use std::path::Path;

use membership::Versions;
use node::{Node, Settings};
use wire::MESSAGE_VERSIONS;

use crate::support::{add, ends, eventually, members, settings};

const THIS: u16 = MESSAGE_VERSIONS.max;

/// Starts a node of a build that speaks `messages`, which finds its cluster by `seed` or begins it.
async fn start(dir: &Path, name: &str, messages: Versions, seed: Option<SocketAddr>) -> Node {
    let settings = Settings {
        secret: Some("the secret of this test".into()),
        seeds: Some(seed.iter().map(SocketAddr::to_string).collect()),
        bootstrap: Some(seed.is_none()),
        ..settings(&dir.join(name), name, "ducks")
    };
    let mut config = settings.resolve().unwrap();
    config.messages = messages;
    Node::start(config).await.unwrap()
}

/// Waits until `node` sends the member called `name` messages of a version.
async fn speaks(node: &Node, name: &str, version: u16) {
    let what = format!("{} speaks version {version} with {name}", node.name());
    eventually(&what, async || {
        let status = node.datastore().status().await.ok()?;
        let mut all = status.members.into_iter();
        let member = all.find(|member| member.name == name)?;
        (member.connected && member.messages == Some(version)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_cluster_is_upgraded_node_by_node_to_the_next_version_of_messages() {
    let dir = tempfile::tempdir().unwrap();
    let (this, both) = (Versions::only(THIS), Versions { min: THIS, max: THIS + 1 });
    let dir = dir.path();
    let a = start(dir, "a", this, None).await;
    let seed = a.addresses().peer;
    let b = start(dir, "b", both, Some(seed)).await;
    let c = start(dir, "c", both, Some(seed)).await;
    for node in [&b, &c] {
        ends("the ring", node.serving()).await;
        speaks(node, "a", THIS).await;
        speaks(&a, node.name(), THIS).await;
    }
    // Those of the next build speak its version with one another meanwhile.
    speaks(&b, "c", THIS + 1).await;
    speaks(&c, "b", THIS + 1).await;
    for (node, element) in [(&a, "a"), (&b, "b"), (&c, "c")] {
        assert_eq!(add(&*node.datastore(), "s", element).await.unwrap().acks.answered, 1);
    }
    for node in [&a, &b, &c] {
        assert_eq!(members(&*node.datastore(), "s").await, ["a", "b", "c"], "{}", node.name());
    }

    ends("stop", a.stop()).await;
    let a = start(dir, "a", both, Some(b.addresses().peer)).await;
    for (node, other) in [(&a, "b"), (&b, "a"), (&a, "c"), (&c, "a")] {
        speaks(node, other, THIS + 1).await;
    }
    assert_eq!(members(&*b.datastore(), "s").await, ["a", "b", "c"]);

    // A build that is two versions on has none in common with this one.
    let old = start(dir, "old", this, Some(a.addresses().peer)).await;
    ends("the ring", old.serving()).await;
    ends("stop", c.stop()).await;
    let next = Versions { min: THIS + 1, max: THIS + 2 };
    let c = start(dir, "c", next, Some(b.addresses().peer)).await;
    speaks(&c, "b", THIS + 1).await;
    let far = start(dir, "far", next, Some(old.addresses().peer)).await;
    let said = eventually("the seed refused it", async || {
        let waiting = far.datastore().status().await.unwrap().waiting?;
        waiting.contains("no version of messages in common").then_some(waiting)
    })
    .await;
    assert!(said.contains(&format!("speaks {THIS} to {THIS}")), "{said}");
    for node in [a, b, c, old, far] {
        node.stop().await;
    }
}
