//! Bucket policies over real sockets, with several loops and LMDB on disk.

use bytes::Bytes;
use client::{Client, Datastore};
use node::{DevCluster, DevOptions};
use replication::{
    BucketCall, BucketError, BucketInfo, BucketReply, PolicyFields, Request, RequestError,
};
use values::{CounterOp, Key, Operation};

use crate::support::{ends, eventually, start};

fn create(pairs: &[(&str, &str)]) -> BucketCall {
    let mut fields = PolicyFields::default();
    for (name, value) in pairs {
        fields.add(name, value).unwrap();
    }
    BucketCall::Create { name: Bytes::from_static(b"carts"), fields }
}

fn drop_it() -> BucketCall {
    BucketCall::Drop { name: Bytes::from_static(b"carts") }
}

async fn changed(datastore: &dyn Datastore, call: BucketCall) -> (BucketInfo, u16, u16) {
    match datastore.buckets(call).await {
        Ok(BucketReply::Changed { bucket, known, members }) => (bucket, known, members),
        other => panic!("{other:?}"),
    }
}

/// One addition to each of many keys, in all loops.
fn additions() -> Vec<Request> {
    let key = |number: u32| Key::new("carts", format!("k{number}")).unwrap();
    let add = Operation::Counter(CounterOp::Add(1));
    (0..64).map(|number| Request::update(key(number), add.clone())).collect()
}

/// How many additions were met by how many owners; an error if the bucket was dropped.
async fn met(datastore: &dyn Datastore) -> Result<u8, RequestError> {
    let mut needed = None;
    for answer in datastore.execute(additions()).await {
        let acks = answer?.acks;
        assert_eq!(*needed.get_or_insert(acks.needed), acks.needed, "all loops go by one policy");
    }
    Ok(needed.unwrap())
}

async fn three(dir: &std::path::Path) -> DevCluster {
    start(DevOptions { dir: Some(dir.into()), ..DevOptions::default() }, 3).await
}

#[tokio::test]
async fn every_loop_of_every_node_goes_by_a_change_once_it_is_answered_and_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = three(dir.path()).await;
    let peer = cluster.nodes()[1].addresses().peer.to_string();
    let client = ends("connecting", Client::connect(&peer)).await.unwrap();
    let (bucket, known, members) = changed(&client, create(&[("w", "3")])).await;
    assert_eq!((bucket.generation, known, members), (0, 3, 3));
    for node in cluster.nodes() {
        assert_eq!(met(&*node.datastore()).await, Ok(3));
    }
    assert_eq!(client.count("carts".into()).await, Ok(64));
    changed(&*cluster.nodes()[2].datastore(), drop_it()).await;
    let dropped = RequestError::Bucket(BucketError::Dropped { bucket: "carts".into() });
    for node in cluster.nodes() {
        assert_eq!(met(&*node.datastore()).await, Err(dropped.clone()));
    }
    let (bucket, ..) = changed(&client, create(&[("w", "1")])).await;
    assert_eq!(bucket.generation, 1);
    cluster.stop().await;

    let cluster = three(dir.path()).await;
    for node in cluster.nodes() {
        let datastore = node.datastore();
        assert_eq!(datastore.count("carts".into()).await, Ok(0));
        let show = BucketCall::Show { name: "carts".into() };
        let Ok(BucketReply::Shown(bucket)) = datastore.buckets(show).await else { panic!() };
        assert_eq!((bucket.generation, bucket.policy.w), (1, 1));
    }
    assert_eq!(met(&*cluster.nodes()[0].datastore()).await, Ok(1));
    cluster.stop().await;
}

#[tokio::test]
async fn a_member_that_was_cut_off_gets_a_change_when_its_links_are_back() {
    let cluster = crate::support::three().await;
    cluster.cut(2, true).await;
    let (_, known, members) =
        changed(&*cluster.nodes()[0].datastore(), create(&[("r", "1")])).await;
    assert_eq!((known, members), (2, 3));
    cluster.cut(2, false).await;
    let datastore = cluster.nodes()[2].datastore();
    eventually("the member has the bucket", async || {
        match datastore.buckets(BucketCall::List).await {
            Ok(BucketReply::Listed(buckets)) => (buckets.len() == 1).then_some(()),
            _ => None,
        }
    })
    .await;
    cluster.stop().await;
}
