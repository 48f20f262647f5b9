//! A client library of the world (redis-rs) against the gateway.

use redis::{Client, Commands, Connection, Value};

use crate::support::Server;

/// Runs `session` with a connected client of a fresh server, once per protocol version.
async fn with_client(session: impl Fn(&mut Connection) + Send + Sync + 'static) {
    let session = std::sync::Arc::new(session);
    for protocol in ["resp2", "resp3"] {
        let server = Server::start().await;
        let url = format!("redis://127.0.0.1:{}/?protocol={protocol}", server.port);
        let session = session.clone();
        let client = tokio::task::spawn_blocking(move || {
            let mut connection = Client::open(url).unwrap().get_connection().unwrap();
            session(&mut connection);
        });
        client.await.unwrap();
    }
}

#[tokio::test]
async fn redis_rs_reads_and_writes_strings_sets_and_hashes() {
    with_client(|connection| {
        let _: () = connection.set("k", "v").unwrap();
        assert_eq!(connection.get::<_, String>("k").unwrap(), "v");
        assert_eq!(connection.get::<_, Option<String>>("none").unwrap(), None);
        assert_eq!(connection.incr::<_, _, i64>("n", 5).unwrap(), 5);
        assert_eq!(connection.decr::<_, _, i64>("n", 7).unwrap(), -2);
        assert_eq!(connection.sadd::<_, _, u64>("s", &["a", "b"]).unwrap(), 2);
        let members: std::collections::BTreeSet<String> = connection.smembers("s").unwrap();
        assert_eq!(members, ["a", "b"].map(String::from).into());
        assert!(connection.sismember::<_, _, bool>("s", "a").unwrap());
        assert_eq!(connection.hset::<_, _, _, u64>("h", "f", 1).unwrap(), 1);
        assert_eq!(connection.hincr::<_, _, _, i64>("h", "f", 2).unwrap(), 3);
        let fields: std::collections::BTreeMap<String, i64> = connection.hgetall("h").unwrap();
        assert_eq!(fields, [("f".to_owned(), 3)].into());
        let error = connection.get::<_, String>("s").unwrap_err();
        assert_eq!(error.code(), Some("WRONGTYPE"));
        assert_eq!(connection.del::<_, u64>(&["k", "none"]).unwrap(), 1);
    })
    .await;
}

#[tokio::test]
async fn redis_rs_pipelines_and_does_transactions() {
    with_client(|connection| {
        let (one, two): (i64, i64) =
            redis::pipe().atomic().incr("a", 1).incr("a", 1).query(connection).unwrap();
        assert_eq!((one, two), (1, 2));
        let mut pipe = redis::pipe();
        for n in 0..3_000 {
            pipe.set(format!("key{n}"), n).ignore().get(format!("key{n}"));
        }
        let values: Vec<u32> = pipe.query(connection).unwrap();
        assert_eq!(values, (0..3_000).collect::<Vec<_>>());
    })
    .await;
}

#[tokio::test]
async fn redis_rs_iterates_over_keys_and_members() {
    with_client(|connection| {
        for n in 0..500 {
            let _: () = connection.set(format!("{n:03}-key"), n).unwrap();
            let _: () = connection.sadd("set", n).unwrap();
        }
        let keys: std::collections::BTreeSet<String> =
            connection.scan_match("*-key").unwrap().map(Result::unwrap).collect();
        assert_eq!(keys.len(), 500);
        let members: Vec<u32> = connection.sscan("set").unwrap().map(Result::unwrap).collect();
        assert_eq!(members.len(), 500);
    })
    .await;
}

#[tokio::test]
async fn redis_rs_reads_siblings() {
    with_client(|connection| {
        let put = |connection: &mut Connection, value: &str| -> String {
            redis::cmd("MG.PUT").arg("k").arg(value).query(connection).unwrap()
        };
        put(connection, "tea");
        put(connection, "milk");
        let found: std::collections::BTreeMap<String, Value> =
            redis::cmd("MG.GET").arg("k").query(connection).unwrap();
        let siblings: Vec<String> = redis::from_redis_value(found["siblings"].clone()).unwrap();
        assert_eq!(siblings, ["tea", "milk"]);
    })
    .await;
}
