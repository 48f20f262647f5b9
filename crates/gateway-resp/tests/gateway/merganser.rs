//! The `MG.` commands over a real loopback socket: bytes in, bytes out.

use client::conflict_cursor;
use clock::NodeId;
use replication::ConflictCursor;
use storage::ConflictPosition;

use crate::support::Server;

#[tokio::test]
async fn siblings_stand_side_by_side_until_a_put_with_their_context() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let first = client.ask("MG.PUT k tea").await.lines().nth(1).unwrap().to_owned();
    client.ask("MG.PUT k milk").await;
    let both = client.ask("MG.GET k").await;
    assert!(
        both.starts_with(
            "*4\r\n$8\r\nsiblings\r\n*2\r\n$3\r\ntea\r\n$4\r\nmilk\r\n$7\r\ncontext\r\n$"
        ),
        "{both}"
    );
    let context = both.lines().last().unwrap().to_owned();
    let dots = client.ask("MG.GET k WITHDOTS").await;
    assert!(dots.contains("$3\r\ndot\r\n$8\r\nmemory:2\r\n$7\r\ntime_ms\r\n:"), "{dots}");
    let text = client.ask(&format!("MG.CONTEXT {context}")).await;
    assert!(text.contains("{memory:2} at "), "{text}");

    // What the first context has seen is gone; milk stays beside the new value.
    client.ask(&format!("MG.PUT k coffee CONTEXT {first}")).await;
    client
        .expect_start("MG.GET k", "*4\r\n$8\r\nsiblings\r\n*2\r\n$4\r\nmilk\r\n$6\r\ncoffee")
        .await;
    let all = client.ask("MG.GET k").await.lines().last().unwrap().to_owned();
    client.expect_start(&format!("MG.DEL k CONTEXT {all}"), "$").await;
    client.expect_start("MG.GET k", "*4\r\n$8\r\nsiblings\r\n*0\r\n$7\r\ncontext\r\n$").await;

    client.expect_start(&format!("MG.PUT other v CONTEXT {all}"), "-BADCONTEXT ").await;
    client.expect_start("MG.PUT k v CONTEXT forged", "-BADCONTEXT ").await;
    client.expect_start("MG.PUT k v CONTEXT \"\\xff\"", "-BADCONTEXT ").await;
    client.expect_start("MG.CONTEXT forged", "-BADCONTEXT ").await;
    client.expect("MG.PUT k v CONTEXT", "-ERR syntax error\r\n").await;
    client.expect("MG.DEL k", "-ERR wrong number of arguments for 'mg.del' command\r\n").await;
    client.expect("MG.GET k ALL", "-ERR syntax error\r\n").await;
    client.expect("SET s v", "+OK\r\n").await;
    client
        .expect(
            "MG.GET s",
            "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        )
        .await;
}

#[tokio::test]
async fn carts_grow_only_sets_and_counters_have_their_own_commands() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.expect("MG.CART ADD c book 2", ":1\r\n").await;
    client.ask("MG.CART ADD c book 1").await;
    client.ask("MG.CART ADD c pen 5").await;
    client.expect("MG.CART ITEMS c", "*4\r\n$4\r\nbook\r\n:3\r\n$3\r\npen\r\n:5\r\n").await;
    client.ask("MG.CART SET c pen 1").await;
    client.expect("MG.CART REMOVE c book", ":1\r\n").await;
    client.expect("mg.cart items c", "*2\r\n$3\r\npen\r\n:1\r\n").await;
    client.expect("MG.CART ITEMS none", "*0\r\n").await;
    client.expect("MG.CART ADD c pen 0", "-ERR a quantity to add is at least 1\r\n").await;
    client.expect("MG.CART ADD c pen -1", "-ERR a quantity is not negative\r\n").await;
    client
        .expect("MG.CART ADD c pen", "-ERR wrong number of arguments for 'mg.cart|add' command\r\n")
        .await;
    client.expect_start("MG.CART EMPTY c", "-ERR unknown subcommand 'EMPTY'").await;

    client.expect("MG.GSET ADD g x y x", ":2\r\n").await;
    client.expect("MG.GSET MEMBERS g", "*2\r\n$1\r\nx\r\n$1\r\ny\r\n").await;
    client.expect("MG.GSET CONTAINS g x", ":1\r\n").await;
    client.expect("MG.GSET CONTAINS g z", ":0\r\n").await;
    client.expect("MG.GSET CARD g", ":2\r\n").await;

    client.expect("MG.COUNTER ADD n 5", ":5\r\n").await;
    client.expect("MG.COUNTER ADD n -2", ":3\r\n").await;
    client.expect("MG.COUNTER GET n", ":3\r\n").await;
    client.expect("MG.COUNTER RESET n", ":0\r\n").await;
    client.expect("MG.COUNTER GET none", ":0\r\n").await;
    client
        .expect(
            "MG.GSET ADD c x",
            "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
        )
        .await;
}

#[tokio::test]
async fn explain_shows_owners_dots_and_siblings() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.ask("MG.PUT k tea").await;
    client.ask("MG.PUT k milk").await;
    let text = client.ask("MG.EXPLAIN k").await;
    for line in [
        "key        \"k\" in bucket \"default\"\n",
        "type       bytes\n",
        "owners     memory (n=1)\n",
        "  bytes {memory:2}\n",
        "    \"tea\" memory:1 at ",
        "    \"milk\" memory:2 at ",
        "at memory (the same)\n",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    client.ask("HELLO 3").await;
    client.expect_start("MG.EXPLAIN none", "=").await;
    assert!(client.ask("MG.EXPLAIN k JSON").await.contains("\"siblings\":2"));
    assert!(client.ask("MG.EXPLAIN k svg").await.contains("<svg "));
    client.expect("MG.EXPLAIN k PNG", "-ERR syntax error\r\n").await;
    client.expect_start("MG.CUT a", "-ERR not supported here").await;
    client.expect_start("MG.HEAL a", "-ERR not supported here").await;
}

#[tokio::test]
async fn conflicts_are_listed_and_resolved() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for value in ["tea", "milk"] {
        client.ask(&format!("MG.PUT k {value}")).await;
    }
    client.ask("MG.PUT single x").await;
    let listed = "*6\r\n$4\r\nnode\r\n$6\r\nmemory\r\n$4\r\nkeys\r\n*1\r\n*8\r\n$6\r\nbucket\r\n$7\r\ndefault\r\n$3\r\nkey\r\n\
                  $1\r\nk\r\n$5\r\ntypes\r\n*1\r\n$5\r\nbytes\r\n$8\r\nsiblings\r\n:2\r\n$4\r\nnext\r\n$-1\r\n";
    client.expect("MG.CONFLICTS", listed).await;
    let cursor = |node| {
        let after = ConflictPosition("".into());
        conflict_cursor(&ConflictCursor { node: NodeId(node), after })
    };
    client.expect(&format!("mg.conflicts count 1 cursor {}", cursor(1)), listed).await;
    let refused = "-ERR the cursor is of node 0000000000000002, which is not this one\r\n";
    client.expect(&format!("MG.CONFLICTS CURSOR {}", cursor(2)), refused).await;
    for refused in ["COUNT 0", "COUNT 1001", "CURSOR !", "COUNT", "LIMIT 1"] {
        client.expect_start(&format!("MG.CONFLICTS {refused}"), "-ERR ").await;
    }
    client
        .expect(
            "MG.RESOLVE k KEEP bytes",
            "-NOCONFLICT the key holds bytes; nothing to resolve\r\n",
        )
        .await;
    client.expect_start("MG.RESOLVE k KEEP list", "-ERR no such type").await;
    client.expect("MG.RESOLVE k DROP lww", "-ERR syntax error\r\n").await;
    client.expect_start("MG.ID a:1 MG.RESOLVE k KEEP bytes", "-NOCONFLICT ").await;
}

#[tokio::test]
async fn quorum_sets_the_level_of_this_connection() {
    let server = Server::start().await;
    let (mut client, mut other) = (server.connect().await, server.connect().await);
    client.expect("MG.QUORUM 2 0", "+OK\r\n").await;
    client.expect_start("GET k", "-ERR r=2 is not possible in this bucket: n=1").await;
    client.expect_start("MGET k l", "-ERR r=2 is not possible in this bucket: n=1").await;
    client.expect_start("MG.GET k WITHDOTS", "-ERR r=2 is not possible").await;
    other.expect("GET k", "$-1\r\n").await;
    client.expect("MG.QUORUM 1 1", "+OK\r\n").await;
    client.expect("GET k", "$-1\r\n").await;
    client.expect("MG.QUORUM 6 0", "-ERR r and w are 0 to 5; 0 takes the bucket's own\r\n").await;
}

#[tokio::test]
async fn a_command_under_an_id_is_done_once() {
    let server = Server::start().await;
    let (mut client, mut other) = (server.connect().await, server.connect().await);
    client.expect("MG.ID c:1 INCRBY n 5", ":5\r\n").await;
    other.expect("mg.id c:1 incrby n 5", ":5\r\n").await;
    client.expect("MG.ID c:2 INCRBY n 5", ":10\r\n").await;
    client.expect("MG.ID d:1 INCRBY n 5", ":15\r\n").await;
    client.expect("INCRBY n 5", ":20\r\n").await;
    // Without a client of its own.
    client.expect("MG.ID 1 INCRBY n 5\r\nMG.ID 1 INCRBY n 5", ":25\r\n:25\r\n").await;
    client.expect("MG.ID a SADD s x y\r\nMG.ID a SADD s x y", ":2\r\n:0\r\n").await;
    client
        .expect("MG.ID a MG.CART ADD c pen 2\r\nMG.ID a MG.CART ADD c pen 2", ":1\r\n:0\r\n")
        .await;
    client.expect("MG.CART ITEMS c", "*2\r\n$3\r\npen\r\n:2\r\n").await;
    client.expect_start("MG.ID a MG.PUT raw v", "$").await;
    client.expect_start("MG.ID a MG.PUT raw v", "$").await;
    client.expect_start("MG.GET raw", "*4\r\n$8\r\nsiblings\r\n*1\r\n$1\r\nv\r\n").await;
    client.expect_start("MG.ID b MG.PUT raw w", "$").await;
    let shown = client.ask("MG.GET raw WITHDOTS").await;
    let dots: Vec<&str> = shown.lines().filter(|line| line.starts_with("named-")).collect();
    assert!(dots.len() == 2 && dots[0] != dots[1], "{shown}");
}

#[tokio::test]
async fn a_command_on_several_keys_uses_its_id_at_each() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.expect("MG.ID a MSET k 1 l 2", "+OK\r\n").await;
    client
        .expect(
            "INCR k\r\nMG.ID a MSET k 1 l 2\r\nMGET k l",
            ":2\r\n+OK\r\n*2\r\n$1\r\n2\r\n$1\r\n2\r\n",
        )
        .await;
    let partly = "-NOQUORUM 1 of 2 keys done, 0 may still be, 1 not; first error: IDREUSED ";
    client.expect_start("MG.ID a MSET m 3 k 3", partly).await;
    client.expect("GET m", "$1\r\n3\r\n").await;
    client.expect("MG.ID b DEL k l", ":2\r\n").await;
    client.expect("SET k new\r\nMG.ID b DEL k l\r\nGET k", "+OK\r\n:0\r\n$3\r\nnew\r\n").await;
    let twice = "-ERR a command under MG.ID names each key once: names are per key\r\n";
    client.expect("MG.ID c MSET k 1 k 2", twice).await;
    client.expect("GET k", "$3\r\nnew\r\n").await;
}

#[tokio::test]
async fn an_id_stands_before_one_command_of_a_transaction_too() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client
        .expect(
            "MULTI\r\nMG.ID c:1 INCR n\r\nINCR n\r\nMG.ID c:1 INCR n\r\nMG.ID c:1 GET n\r\nEXEC",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n*4\r\n:1\r\n:2\r\n:2\r\n\
             -ERR MG.ID is for commands that write; send this one without\r\n",
        )
        .await;
    // The name ends with its command, also where that was refused.
    client.expect("MG.ID c:9 INCRBY n x", "-ERR value is not an integer or out of range\r\n").await;
    client.expect("INCR n\r\nINCR n\r\nGET n", ":3\r\n:4\r\n$1\r\n4\r\n").await;
}

#[tokio::test]
async fn ids_that_make_no_sense_are_refused_and_nothing_is_written() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let reads = "-ERR MG.ID is for commands that write; send this one without\r\n";
    for command in [
        "GET k",
        "MGET k l",
        "PING",
        "MULTI",
        "EXEC",
        "QUIT",
        "MG.GET k WITHDOTS",
        "DBSIZE",
        "MG.CART ITEMS k",
        "MG.COUNTER GET k",
        "MG.QUORUM 1 1",
        "CLIENT ID",
    ] {
        client.expect(&format!("MG.ID c:1 {command}"), reads).await;
    }
    client
        .expect(
            "MG.ID c:1 MG.ID c:2 INCR k",
            "-ERR MG.ID cannot be nested: a command has one id\r\n",
        )
        .await;
    client.expect_start("MG.ID c:1 NOTHING k", "-ERR unknown command 'NOTHING'").await;
    client.expect("MG.ID c:1", "-ERR wrong number of arguments for 'mg.id' command\r\n").await;
    client.expect("MG.ID c:1 INCR", "-ERR wrong number of arguments for 'incr' command\r\n").await;
    client.expect_start("MG.ID c: INCR k", "-BADID an idempotency key of 0 bytes").await;
    client.expect_start("MG.ID \"\" INCR k", "-BADID an idempotency key of 0 bytes").await;
    let long = "x".repeat(256);
    client
        .expect_start(&format!("MG.ID c:{long} INCR k"), "-BADID an idempotency key of 256")
        .await;
    client.expect("EXISTS k", ":0\r\n").await;
    client.expect("MG.ID c:1 INCR k", ":1\r\n").await;
    client
        .expect(
            "MG.ID c:1 INCRBY k 2",
            "-IDREUSED this idempotency key was used with other arguments on this key; use a new \
             one\r\n",
        )
        .await;
    for id in 2..=256 {
        client.expect(&format!("MG.ID c:{id} INCR k"), &format!(":{id}\r\n")).await;
    }
    client
        .expect(
            "MG.ID c:257 INCR k",
            "-IDLIMIT the key remembers 256 idempotency keys and takes no more; send the operation \
             without one\r\n",
        )
        .await;
    client.expect("MG.ID c:7 INCR k\r\nINCR k", ":256\r\n:257\r\n").await;
}

#[tokio::test]
async fn buckets_are_created_changed_shown_and_dropped() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.expect("MG.BUCKET LIST", "*0\r\n").await;
    client
        .expect_start("MG.BUCKET CREATE carts r 1 raw lww", "*34\r\n$4\r\nname\r\n$5\r\ncarts\r\n")
        .await;
    client.expect_start("MG.BUCKET SET carts w 3", "*34\r\n").await;
    client.expect_start("MG.BUCKET LIST", "*1\r\n*30\r\n").await;
    client.expect_start("MG.BUCKET SHOW carts", "*30\r\n").await;
    client
        .expect(
            "MG.BUCKET SET carts r 4",
            "-BADBUCKET n=3, r=4, w=3: r and w must be from 1 to n, and n from 1 to 5\r\n",
        )
        .await;
    client
        .expect(
            "MG.BUCKET SET carts w",
            "-ERR wrong number of arguments for 'mg.bucket' command\r\n",
        )
        .await;
    client
        .expect(
            "MG.BUCKET CREATE carts",
            "-BADBUCKET bucket \"carts\" exists already; change its policy with set\r\n",
        )
        .await;
    client
        .expect_start(
            "MG.BUCKET SET other r 1",
            "-NOBUCKET bucket \"other\" has no policy of its own yet",
        )
        .await;
    client
        .expect_start("MG.BUCKET CREATE x quorum 1", "-BADBUCKET a policy has no field \"quorum\"")
        .await;
    client.expect_start("MG.BUCKET FLUSH x", "-ERR unknown subcommand 'FLUSH'").await;
    // The bucket of all keys of this protocol.
    client.expect("SET k v", "+OK\r\n").await;
    client.expect_start("MG.BUCKET DROP default", "*10\r\n").await;
    client
        .expect_start("GET k", "-NOBUCKET bucket \"default\" was dropped; create it again with")
        .await;
    client.expect_start("SET k v", "-NOBUCKET ").await;
    client.expect_start("DBSIZE", "-NOBUCKET ").await;
    client.expect_start("MG.BUCKET CREATE default raw lww", "*34\r\n").await;
    client.expect("GET k\r\nDBSIZE", "$-1\r\n:0\r\n").await;
    client.expect_start("MG.PUT k one", "$").await;
    client.expect_start("MG.PUT k two", "$").await;
    client.expect("GET k", "$3\r\ntwo\r\n").await;
    client.expect_start("MG.GET k", "*4\r\n$8\r\nsiblings\r\n*1\r\n$3\r\ntwo\r\n").await;
}
