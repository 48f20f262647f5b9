//! Nodes that find one another by seeds, over real sockets on loopback.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use membership::{Liveness, MemberState, Snapshot};
use node::{Node, Settings, node_id};
use replication::{Request, RequestError};
use values::Operation;
use wire::{ClusterCall, MemberStatus};
use xxhash_rust::xxh3::xxh3_64;

use crate::ports::free_port;
use crate::support::{add, ends, eventually, members, set_key, settings};

/// How a node of these tests is started.
struct Start<'a> {
    name: &'a str,
    dir: &'a Path,
    peer: SocketAddr,
    seeds: Vec<SocketAddr>,
    bootstrap: bool,
}

fn any() -> SocketAddr {
    "127.0.0.1:0".parse().unwrap()
}

fn free() -> SocketAddr {
    ([127, 0, 0, 1], free_port()).into()
}

impl Start<'_> {
    async fn node(&self) -> Node {
        let settings = Settings {
            secret: Some("the secret of this test".into()),
            seeds: Some(self.seeds.iter().map(SocketAddr::to_string).collect()),
            bootstrap: Some(self.bootstrap),
            peer: Some(self.peer),
            barrier_interval_s: Some(1),
            retry_window_s: Some(0),
            ..settings(&self.dir.join(self.name), self.name, "ducks")
        };
        Node::start(settings.resolve().unwrap()).await.unwrap()
    }
}

fn first<'a>(name: &'a str, dir: &'a Path) -> Start<'a> {
    Start { name, dir, peer: any(), seeds: Vec::new(), bootstrap: true }
}

fn newcomer<'a>(name: &'a str, dir: &'a Path, seed: &Node) -> Start<'a> {
    Start { name, dir, peer: any(), seeds: vec![seed.addresses().peer], bootstrap: false }
}

/// How `node` sees the member called `name`, if it has heard of it.
async fn seen(node: &Node, name: &str) -> Option<MemberStatus> {
    let status = node.datastore().status().await.ok()?;
    status.members.into_iter().find(|member| member.name == name)
}

/// Waits until `node` sees the member as it should be.
async fn sees(node: &Node, name: &str, what: impl Fn(&MemberStatus) -> bool) -> MemberStatus {
    let text = format!("{} sees {name} as it is", node.name());
    eventually(&text, async || seen(node, name).await.filter(|member| what(member))).await
}

#[tokio::test]
async fn a_newcomer_is_known_to_all_serves_by_forwarding_and_owns_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let a = first("a", dir.path()).node().await;
    let b = newcomer("b", dir.path(), &a).node().await;
    ends("the ring", b.serving()).await;
    // It knows one of them, and comes to know the other.
    let c = newcomer("c", dir.path(), &b).node().await;
    ends("the ring", c.serving()).await;
    for node in [&a, &b, &c] {
        for name in ["a", "b", "c"] {
            sees(node, name, |member| member.connected).await;
        }
    }
    let acks = add(&*c.datastore(), "s", "x").await.unwrap().acks;
    assert_eq!((acks.owners, acks.answered), (1, 1));
    assert_eq!(members(&*b.datastore(), "s").await, ["x"]);
    assert_eq!(a.datastore().status().await.unwrap().keys, 1);
    let status = c.datastore().status().await.unwrap();
    let own: Vec<_> = status.members.iter().map(|it| (it.state, it.partitions)).collect();
    assert!(own.contains(&(MemberState::Up, 4096)) && own.contains(&(MemberState::Joining, 0)));
    for node in [a, b, c] {
        node.stop().await;
    }
}

#[tokio::test]
async fn without_its_seed_a_node_waits_says_so_refuses_and_finds_it_later() {
    let dir = tempfile::tempdir().unwrap();
    let at = free();
    let waiting =
        Start { name: "b", dir: dir.path(), peer: any(), seeds: vec![at], bootstrap: false };
    let b = waiting.node().await;
    let said = eventually("the seed was tried", async || {
        let waiting = b.datastore().status().await.unwrap().waiting?;
        waiting.contains("cannot connect").then_some(waiting)
    })
    .await;
    assert!(said.contains(&at.to_string()) && said.contains("--bootstrap"), "{said}");
    assert_eq!(b.waiting(), Some(said.clone()));
    let refused = add(&*b.datastore(), "s", "x").await;
    assert!(matches!(refused, Err(RequestError::Unreachable(why)) if why == said));
    let a = Start { peer: at, ..first("a", dir.path()) }.node().await;
    ends("the ring", b.serving()).await;
    assert_eq!(b.waiting(), None);
    // Before its link is up it keeps a hint for the owner.
    ends("the link", b.linked()).await;
    add(&*b.datastore(), "s", "x").await.unwrap();
    assert_eq!(members(&*a.datastore(), "s").await, ["x"]);
    a.stop().await;
    b.stop().await;
}

/// A node which another joined that has stopped since.
async fn first_left_by(other: &'static str, dir: &Path) -> Node {
    let a = first("a", dir).node().await;
    let b = newcomer(other, dir, &a).node().await;
    ends("the ring", b.serving()).await;
    sees(&a, other, |member| member.connected).await;
    b.stop().await;
    a
}

#[tokio::test]
async fn a_node_that_starts_again_elsewhere_is_found_again_without_seeds() {
    let dir = tempfile::tempdir().unwrap();
    let a = first_left_by("b", dir.path()).await;
    let at = free();
    let again = Start { name: "b", dir: dir.path(), peer: at, seeds: Vec::new(), bootstrap: false };
    let b = again.node().await;
    // It knows the ring by itself.
    assert_eq!(b.waiting(), None);
    let b_seen = sees(&a, "b", |member| member.connected && member.generation == 2).await;
    assert_eq!(b_seen.peer_address, at.to_string());
    assert_eq!(b_seen.state, MemberState::Joining);
    a.stop().await;
    b.stop().await;
}

/// A directory where the snapshot is drafted is a disk that does not take it.
#[tokio::test]
async fn a_disk_that_takes_no_snapshot_holds_up_neither_members_nor_those_who_ask() {
    let dir = tempfile::tempdir().unwrap();
    let a = first_left_by("b", dir.path()).await;
    let draft = dir.path().join("a/members.new");
    let takes_none = async || {
        // The room of the next one.
        let _ = fs::remove_file(&draft);
        fs::create_dir(&draft).ok()
    };
    eventually("no snapshot is being written", takes_none).await;
    let b = newcomer("b", dir.path(), &a).node().await;
    sees(&a, "b", |member| member.connected && member.generation == 2).await;
    ends("the owner", add(&*b.datastore(), "s", "x")).await.unwrap();
    // What rests on the snapshot is not told.
    let at_a = a.datastore();
    let call = ClusterCall::Weigh { member: "a".into(), weight: 3 };
    let order = tokio::spawn(async move { at_a.cluster(call).await });
    sees(&a, "a", |member| member.weight == 3).await;
    assert!(!order.is_finished());
    assert_eq!(seen(&b, "a").await.map(|member| member.weight), Some(1));
    fs::remove_dir(&draft).unwrap();
    ends("the order", order).await.unwrap().unwrap();
    sees(&b, "a", |member| member.weight == 3).await;
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn clusters_bootstrapped_apart_refuse_each_other_and_serve_on() {
    let dir = tempfile::tempdir().unwrap();
    let a = first("a", dir.path()).node().await;
    let apart = Start { bootstrap: true, ..newcomer("z", dir.path(), &a) };
    let z = apart.node().await;
    // Only a newcomer that a takes in shows that z was there before and was not.
    let b = newcomer("b", dir.path(), &a).node().await;
    ends("the ring", b.serving()).await;
    add(&*z.datastore(), "s", "z").await.unwrap();
    add(&*a.datastore(), "s", "a").await.unwrap();
    assert_eq!(members(&*a.datastore(), "s").await, ["a"]);
    assert_eq!(members(&*z.datastore(), "s").await, ["z"]);
    assert!(seen(&a, "z").await.is_none() && seen(&z, "a").await.is_none());
    for node in [a, b, z] {
        node.stop().await;
    }
}

#[tokio::test]
async fn administrators_change_members_through_any_node() {
    let dir = tempfile::tempdir().unwrap();
    let a = first("a", dir.path()).node().await;
    let b = newcomer("b", dir.path(), &a).node().await;
    let c = newcomer("c", dir.path(), &a).node().await;
    for node in [&b, &c] {
        ends("the ring", node.serving()).await;
    }
    sees(&b, "c", |member| member.connected).await;
    let member = |name: &str| name.to_owned();
    let at_b = b.datastore();
    at_b.cluster(ClusterCall::Join { member: member("c") }).await.unwrap();
    at_b.cluster(ClusterCall::Weigh { member: member("c"), weight: 7 }).await.unwrap();
    sees(&a, "c", |member| (member.state, member.weight) == (MemberState::Up, 7)).await;
    let error = at_b.cluster(ClusterCall::Weigh { member: member("c"), weight: 0 }).await;
    assert_eq!(error.unwrap_err().to_string(), "a weight of 0: it must be from 1 to 1000");
    let error = at_b.cluster(ClusterCall::Join { member: member("x") }).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no member \"x\"; there are a, b, c");
    let error = at_b.cluster(ClusterCall::Remove { member: member("c") }).await.unwrap_err();
    assert!(error.to_string().starts_with("c was heard of moments ago: wait until"), "{error}");

    // It owns and keeps nothing: it has left within moments, and serves nobody any more.
    at_b.cluster(ClusterCall::Leave { member: member("c") }).await.unwrap();
    sees(&a, "c", |member| member.state == MemberState::Left && !member.connected).await;
    let why = async || c.waiting().filter(|why| why.contains("has left"));
    eventually("c knows it too", why).await;
    let refused = add(&*c.datastore(), "s", "x").await;
    assert!(matches!(refused, Err(RequestError::Unreachable(_))), "{refused:?}");
    c.stop().await;

    // A dead one is suspected, and can then be removed.
    b.stop().await;
    sees(&a, "b", |member| member.liveness == Liveness::Suspected).await;
    a.datastore().cluster(ClusterCall::Remove { member: member("b") }).await.unwrap();
    sees(&a, "b", |member| member.state == MemberState::Removed).await;
    a.stop().await;
}

/// Its record is lost with every disk that held it, as by one of an earlier day; how far it was is known still.
#[tokio::test]
async fn a_member_without_a_record_is_waited_for_until_it_is_removed_by_its_id() {
    let dir = tempfile::tempdir().unwrap();
    let lasting = first("a", dir.path());
    let a = lasting.node().await;
    let b = newcomer("b", dir.path(), &a).node().await;
    ends("the ring", b.serving()).await;
    let id = node_id("ducks", "b");
    let barrier = async |node: &Node| node.datastore().status().await.unwrap().barrier;
    let waits = async |node: &Node| barrier(node).await.waits_for;
    let delete = async |element| {
        add(&*a.datastore(), "s", element).await.unwrap();
        let delete = Request::update(set_key("s"), Operation::Delete(None));
        a.datastore().request(delete).await.unwrap();
    };
    delete("x").await;
    let forgotten = async || (barrier(&b).await.forgotten > 0).then_some(());
    eventually("b goes along", forgotten).await;
    b.stop().await;
    delete("y").await;
    eventually("b holds the barrier up", async || waits(&a).await.contains(&id).then_some(()))
        .await;
    a.stop().await;

    let file = dir.path().join("a").join("members");
    let mut snapshot: Snapshot = clock::decode(&fs::read(&file).unwrap()[8..]).unwrap();
    let kept = snapshot.table.iter().filter(|(node, _)| *node != id);
    snapshot.table = kept.map(|(node, record)| (node, record.clone())).collect();
    let bytes = clock::encode(&snapshot);
    fs::write(&file, [&xxh3_64(&bytes).to_le_bytes()[..], &bytes].concat()).unwrap();

    let a = lasting.node().await;
    eventually("it still does", async || waits(&a).await.contains(&id).then_some(())).await;
    assert!(seen(&a, "b").await.is_none());
    let remove = async |member: &str| {
        a.datastore().cluster(ClusterCall::Remove { member: member.to_owned() }).await
    };
    let stranger = remove(&node_id("ducks", "x").to_string()).await.unwrap_err();
    assert!(stranger.to_string().starts_with("there is no member"), "{stranger}");
    remove(&id.to_string()).await.unwrap();
    sees(&a, &id.to_string(), |member| member.state == MemberState::Removed).await;
    eventually("nobody does", async || waits(&a).await.is_empty().then_some(())).await;
    a.stop().await;
}

/// As one does that came over from another ring with all that it holds.
#[tokio::test]
async fn one_that_owns_nothing_and_keeps_something_leaves_only_once_it_has_handed_that_over() {
    let dir = tempfile::tempdir().unwrap();
    let owner = Start { peer: free(), ..first("a", dir.path()) };
    let a = owner.node().await;
    let b = newcomer("b", dir.path(), &a).node().await;
    ends("the ring", b.serving()).await;
    a.stop().await;
    add(&*b.datastore(), "s", "x").await.unwrap();
    b.datastore().cluster(ClusterCall::Leave { member: "b".into() }).await.unwrap();
    sees(&b, "b", |member| member.state == MemberState::Leaving).await;
    let a = owner.node().await;
    sees(&a, "b", |member| member.state == MemberState::Left).await;
    assert_eq!(members(&*a.datastore(), "s").await, ["x"]);
    a.stop().await;
    b.stop().await;
}

#[tokio::test]
async fn a_weight_that_was_changed_outlives_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let a = first("a", dir.path()).node().await;
    a.datastore().cluster(ClusterCall::Weigh { member: "a".into(), weight: 9 }).await.unwrap();
    a.stop().await;
    let a = first("a", dir.path()).node().await;
    assert_eq!(seen(&a, "a").await.map(|member| (member.weight, member.generation)), Some((9, 2)));
    a.stop().await;
}

#[tokio::test]
async fn a_clone_of_a_living_nodes_disk_is_not_let_in() {
    let dir = tempfile::tempdir().unwrap();
    let a = first("a", dir.path()).node().await;
    let b = newcomer("b", dir.path(), &a).node().await;
    ends("the ring", b.serving()).await;
    let b_seen = sees(&a, "b", |member| member.connected).await;
    let clone = tempfile::tempdir().unwrap();
    fs::create_dir(clone.path().join("b")).unwrap();
    for file in ["stamp", "members"] {
        let path = |dir: &Path| dir.join("b").join(file);
        fs::copy(path(dir.path()), path(clone.path())).unwrap();
    }
    let twin = newcomer("b", clone.path(), &a).node().await;
    // It has knocked, and whoever came after it is let in.
    let c = newcomer("c", dir.path(), &a).node().await;
    ends("the ring", c.serving()).await;
    sees(&a, "c", |member| member.connected).await;
    // The link may be down for a moment while it knocks.
    let still = sees(&a, "b", |member| member.connected).await;
    assert_eq!((still.peer_address, still.generation), (b_seen.peer_address, 1));
    for node in [a, b, c, twin] {
        node.stop().await;
    }
}
