//! Writes that a store loses which takes what a client or a replica has seen of a key before it was deleted for more
//! than it is (known from Riak as kv679): a key that is deleted and written again keeps what was written last,
//! whatever a client, a replica or a fallback remembers of it.

use std::collections::BTreeSet;

use redis::{Connection, FromRedisValue, Value};

use super::agreement::agree;
use super::forgetting;
use super::process::{HASTY, Spec, eventually};
use super::substitutes;

/// Puts a value where the writer has seen no more than `context`.
fn put(redis: &mut Connection, key: &str, value: &str, context: Option<&str>) {
    let mut put = redis::cmd("MG.PUT");
    put.arg(key).arg(value);
    if let Some(context) = context {
        put.arg("CONTEXT").arg(context);
    }
    let _: Value = put.query(redis).expect("it is put");
}

/// The siblings of a key, and what they have seen.
fn get(redis: &mut Connection, key: &str) -> (BTreeSet<String>, String) {
    let Value::Array(found) = redis::cmd("MG.GET").arg(key).query(redis).expect("it reads") else {
        panic!("no pairs")
    };
    let [_, siblings, _, context] = &found[..] else { panic!("{found:?}") };
    let siblings = FromRedisValue::from_redis_value_ref(siblings).expect("a list");
    (siblings, FromRedisValue::from_redis_value_ref(context).expect("a token"))
}

fn delete(redis: &mut Connection, key: &str, context: &str) {
    let _: Value =
        redis::cmd("MG.DEL").arg(&[key, "CONTEXT", context]).query(redis).expect("it is deleted");
}

/// Waits until each node shows exactly these siblings.
fn all_show(specs: &[Spec], key: &str, expected: &[&str]) {
    let expected: BTreeSet<String> = expected.iter().map(|value| (*value).to_owned()).collect();
    for spec in specs {
        let mut redis = spec.redis();
        eventually(&format!("{} shows {expected:?}", spec.name), || {
            (get(&mut redis, key).0 == expected).then_some(())
        });
    }
}

#[test]
fn a_key_deleted_and_written_again_with_a_stale_context_or_at_a_stale_replica_keeps_each_write() {
    let mut cluster = forgetting::Cluster::start();
    let specs = cluster.specs.clone();
    let mut redis = specs[0].redis();
    put(&mut redis, "k", "milk", None);
    agree(&specs, &[]);
    let (_, stale) = get(&mut redis, "k");

    // A replica misses the deletion, and what comes after it.
    cluster.kill(2);
    delete(&mut redis, "k", &stale);
    put(&mut redis, "k", "tea", Some(&stale));
    assert_eq!(get(&mut redis, "k").0, BTreeSet::from(["tea".to_owned()]));
    cluster.begin(2);
    // It writes at once: whatever it holds of the key by then, it is not this write that the deletion has seen.
    put(&mut specs[2].redis(), "k", "water", Some(&stale));
    agree(&specs, &[]);
    all_show(&specs, "k", &["tea", "water"]);

    // And so where all have forgotten the deletion, and what it removed.
    let (_, before) = get(&mut redis, "k");
    delete(&mut redis, "k", &before);
    cluster.forgotten(0);
    for (at, (value, context)) in [("coffee", &stale), ("juice", &before)].into_iter().enumerate() {
        put(&mut specs[at + 1].redis(), "k", value, Some(context));
    }
    agree(&specs, &[]);
    all_show(&specs, "k", &["coffee", "juice"]);
}

#[test]
fn a_fallback_that_comes_back_with_an_old_delete_takes_nothing_of_what_was_written_since() {
    let directory = tempfile::tempdir().unwrap();
    let mut cluster = substitutes::Cluster::start(directory.path(), 0, HASTY);
    let list = cluster.list("k0");
    let (one, away, fallback) = (list[0].clone(), list[2].clone(), list[3].clone());
    // Of one key of each type the deletion is kept there for the owner that misses it.
    let is_kept_there = |key: &String| {
        let list = cluster.list(key);
        list[..3].contains(&one) && list[..3].contains(&away) && list[3] == fallback
    };
    let keys: Vec<String> =
        (0..).map(|number| format!("k{number}")).filter(is_kept_there).take(3).collect();
    let [raw, set, counter] = [&keys[0], &keys[1], &keys[2]].map(String::as_str);
    let mut redis = cluster.spec(&one).redis();
    put(&mut redis, raw, "milk", None);
    let added: u32 = redis::cmd("SADD").arg(&[set, "x", "y"]).query(&mut redis).unwrap();
    let counted: i64 = redis::cmd("INCRBY").arg(counter).arg(5).query(&mut redis).unwrap();
    assert_eq!((added, counted), (2, 5));
    agree(&cluster.running(), &[]);
    let (_, stale) = get(&mut redis, raw);

    cluster.kill(std::slice::from_ref(&away));
    delete(&mut redis, raw, &stale);
    for key in [set, counter] {
        let deleted: u32 = redis::cmd("DEL").arg(key).query(&mut redis).unwrap();
        assert_eq!(deleted, 1, "{key}");
    }
    // The answer does not wait for it.
    eventually("the fallback keeps it", || (cluster.keeps(&fallback, &away) == 3).then_some(()));
    cluster.kill(std::slice::from_ref(&fallback));
    cluster.restart(std::slice::from_ref(&away));
    let mut redis = cluster.spec(&away).redis();
    // By what it holds the keys may be there still: what is written now the deletion has not seen.
    put(&mut redis, raw, "tea", Some(&stale));
    let _: u32 = redis::cmd("SADD").arg(&[set, "x"]).query(&mut redis).unwrap();
    let _: i64 = redis::cmd("INCRBY").arg(counter).arg(2).query(&mut redis).unwrap();

    cluster.restart(std::slice::from_ref(&fallback));
    let specs = cluster.running();
    agree(&specs, &[]);
    all_show(&specs, raw, &["tea"]);
    for spec in &specs {
        let mut redis = spec.redis();
        let members: Vec<String> = redis::cmd("SMEMBERS").arg(set).query(&mut redis).unwrap();
        let counted: i64 = redis::cmd("GET").arg(counter).query(&mut redis).unwrap();
        assert_eq!((members, counted), (vec!["x".to_owned()], 2), "at {}", spec.name);
    }
}
