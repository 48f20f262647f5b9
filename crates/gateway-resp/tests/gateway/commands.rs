//! Every command that Redis has too, over a real loopback socket: bytes in, bytes out.

use crate::support::Server;

#[tokio::test]
async fn the_connection_commands_answer_as_redis_does() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.expect("PING", "+PONG\r\n").await;
    client.expect("PING hi", "$2\r\nhi\r\n").await;
    client.expect("PING a b", "-ERR wrong number of arguments for 'ping' command\r\n").await;
    client.expect("ECHO 'a b'", "$3\r\na b\r\n").await;
    client.expect("echo", "-ERR wrong number of arguments for 'echo' command\r\n").await;
    client.expect("SELECT 0", "+OK\r\n").await;
    client.expect("SELECT 1", "-ERR DB index is out of range: there is database 0 only\r\n").await;
    client.expect("SELECT -1", "-ERR DB index is out of range: there is database 0 only\r\n").await;
    for none in ["x", "00", "\"\"", "+0"] {
        let error = "-ERR value is not an integer or out of range\r\n";
        client.expect(&format!("SELECT {none}"), error).await;
    }
    client.expect_start("AUTH secret", "-ERR AUTH <password> called without any password").await;
    client.expect("AUTH default any", "+OK\r\n").await;
    client
        .expect("AUTH me any", "-WRONGPASS invalid username-password pair or user is disabled.\r\n")
        .await;
    client.expect("CLIENT GETNAME", "$-1\r\n").await;
    client.expect("CLIENT SETNAME me", "+OK\r\n").await;
    client.expect("client getname", "$2\r\nme\r\n").await;
    client.expect("CLIENT ID", ":1\r\n").await;
    client.expect("CLIENT SETINFO lib-name redis-py", "+OK\r\n").await;
    client.expect("CLIENT SETINFO LIB-VER 8.1", "+OK\r\n").await;
    client.expect("CLIENT SETINFO color red", "-ERR Unrecognized option 'color'\r\n").await;
    client
        .expect(
            "CLIENT SETNAME 'a b'",
            "-ERR Client names cannot contain spaces, newlines or special characters.\r\n",
        )
        .await;
    let list = client.ask("CLIENT LIST").await;
    assert!(list.contains("id=1 addr=127.0.0.1:"), "{list}");
    assert!(list.contains("name=me"), "{list}");
    assert!(list.contains("lib-name=redis-py lib-ver=8.1\n"), "{list}");
    let info = client.ask("CLIENT INFO").await;
    assert!(info.ends_with(" lib-name=redis-py lib-ver=8.1\n\r\n"), "{info}");
    for line in [info.as_str(), list.as_str()] {
        let fields: Vec<(&str, &str)> =
            line.split_whitespace().filter_map(|field| field.split_once('=')).collect();
        let value = |name| fields.iter().find(|field| field.0 == name).map(|field| field.1);
        // What redis-py turns into numbers, and fails without.
        let numbers = "id age idle db sub psub multi qbuf qbuf-free obl argv-mem oll omem tot-mem";
        for name in numbers.split(' ') {
            let number: Option<i64> = value(name).and_then(|value| value.parse().ok());
            assert!(number.is_some(), "{name} in {line}");
        }
        assert_eq!((value("multi"), value("user")), (Some("-1"), Some("default")));
        assert_eq!((value("events"), value("resp")), (Some("r"), Some("2")));
    }
    assert!(info.contains(" cmd=client|info "), "{info}");
    client.expect_start("HELLO 3", "%").await;
    assert!(client.ask("CLIENT INFO").await.contains(" resp=3 "));
    let mut other = server.connect().await;
    assert!(other.ask("CLIENT LIST").await.contains(" resp=3 "));
    client.expect("CLIENT NO-EVICT ON", "+OK\r\n").await;
    client.expect("CLIENT NO-TOUCH sometimes", "-ERR syntax error\r\n").await;
    client.expect_start("CLIENT MAINT_NOTIFICATIONS ON", "-ERR unknown subcommand 'MAINT_").await;
    client
        .expect("CLIENT ID 1", "-ERR wrong number of arguments for 'client|id' command\r\n")
        .await;
    client.expect("RESET", "+RESET\r\n").await;
    client.expect("CLIENT GETNAME", "$-1\r\n").await;
    assert!(client.ask("CLIENT INFO").await.contains(" resp=2 "));
    client.expect("QUIT", "+OK\r\n").await;
    client.expect_end().await;
}

#[tokio::test]
async fn hello_chooses_the_protocol_of_what_follows() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.expect("SADD s a", ":1\r\n").await;
    client.expect("HSET h f v", ":1\r\n").await;
    // One pipeline: each reply in the protocol of its place.
    client
        .expect(
            "HGETALL h\r\nHELLO 3 AUTH default x SETNAME me\r\nHGETALL h\r\nSMEMBERS s\r\nGET none",
            "*2\r\n$1\r\nf\r\n$1\r\nv\r\n\
             %7\r\n$6\r\nserver\r\n$5\r\nredis\r\n$7\r\nversion\r\n$5\r\n7.2.4\r\n$5\r\nproto\r\n:3\r\n\
             $2\r\nid\r\n:1\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n$4\r\nrole\r\n$6\r\nmaster\r\n\
             $7\r\nmodules\r\n*0\r\n\
             %1\r\n$1\r\nf\r\n$1\r\nv\r\n\
             ~1\r\n$1\r\na\r\n\
             _\r\n",
        )
        .await;
    client.expect("CLIENT GETNAME", "$2\r\nme\r\n").await;
    client.expect_start("INFO server", "=").await;
    client.expect("HELLO 4", "-NOPROTO unsupported protocol version\r\n").await;
    client.expect("HELLO -1", "-NOPROTO unsupported protocol version\r\n").await;
    for none in ["x", "\"\"", "03"] {
        let error = "-ERR Protocol version is not an integer or out of range\r\n";
        client.expect(&format!("HELLO {none}"), error).await;
    }
    client
        .expect(
            "HELLO 2 AUTH me x",
            "-WRONGPASS invalid username-password pair or user is disabled.\r\n",
        )
        .await;
    client.expect("HELLO 2 COLOR", "-ERR Syntax error in HELLO option 'COLOR'\r\n").await;
    // A refused greeting changes nothing.
    client.expect("GET none", "_\r\n").await;
    client.expect_start("HELLO", "%7\r\n").await;
    client.expect_start("HELLO 2", "*14\r\n").await;
    client.expect("GET none", "$-1\r\n").await;
    client.expect_start("HELLO 3", "%7\r\n").await;
    client.expect("RESET", "+RESET\r\n").await;
    client.expect("GET none", "$-1\r\n").await;
}

#[tokio::test]
async fn strings_are_registers_with_increments() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.expect("GET k", "$-1\r\n").await;
    client.expect("SET k v", "+OK\r\n").await;
    client.expect("GET k", "$1\r\nv\r\n").await;
    client.expect("SET k '' KEEPTTL", "+OK\r\n").await;
    client.expect("GET k", "$0\r\n\r\n").await;
    client.expect("SET k v nx", "-ERR SET option NX is not supported yet\r\n").await;
    client.expect("SET k v what", "-ERR syntax error\r\n").await;
    client.expect("SET k", "-ERR wrong number of arguments for 'set' command\r\n").await;
    client.expect("MSET a 1 b 2 a 3", "+OK\r\n").await;
    client.expect("MSET a 1 b", "-ERR wrong number of arguments for 'mset' command\r\n").await;
    client.expect("SADD s x", ":1\r\n").await;
    client.expect("MGET a b none s", "*4\r\n$1\r\n3\r\n$1\r\n2\r\n$-1\r\n$-1\r\n").await;
    client.expect("INCR a", ":4\r\n").await;
    client.expect("DECR new", ":-1\r\n").await;
    client.expect("INCRBY a 10", ":14\r\n").await;
    client.expect("DECRBY a 4", ":10\r\n").await;
    client.expect("GET a", "$2\r\n10\r\n").await;
    client.expect("SET a 5", "+OK\r\n").await;
    client.expect("INCR a", ":6\r\n").await;
    let not_an_integer = "-ERR value is not an integer or out of range\r\n";
    for by in ["x", "1.5", "+1", "01", "-0", "9223372036854775808", "''"] {
        client.expect(&format!("INCRBY a {by}"), not_an_integer).await;
    }
    client.expect("INCR k", not_an_integer).await;
    client.expect("SET big 9223372036854775807", "+OK\r\n").await;
    client.expect("INCR big", "-ERR increment or decrement would overflow\r\n").await;
    client.expect("DECRBY a -9223372036854775808", "-ERR decrement would overflow\r\n").await;
    let wrong_type = "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n";
    client.expect("GET s", wrong_type).await;
    client.expect("STRLEN s", wrong_type).await;
    client.expect("STRLEN none", ":0\r\n").await;
    client.expect("STRLEN a", ":1\r\n").await;
    client.expect("SET k 'a b'\r\nSTRLEN k", "+OK\r\n:3\r\n").await;
    client.expect("INCR s", wrong_type).await;
    client.expect("SET s now-a-string", "+OK\r\n").await;
    client.expect("TYPE s", "+string\r\n").await;
}

#[tokio::test]
async fn sets_are_observed_remove_sets() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.expect("SADD s b a c a", ":3\r\n").await;
    client.expect("SADD s a", ":0\r\n").await;
    client.expect("SCARD s", ":3\r\n").await;
    client.expect("SMEMBERS s", "*3\r\n$1\r\na\r\n$1\r\nb\r\n$1\r\nc\r\n").await;
    client.expect("SISMEMBER s a", ":1\r\n").await;
    client.expect("SISMEMBER s x", ":0\r\n").await;
    client.expect("SMISMEMBER s a x a", "*3\r\n:1\r\n:0\r\n:1\r\n").await;
    client.expect("SREM s a x", ":1\r\n").await;
    client.expect("SCARD s", ":2\r\n").await;
    client.expect("SREM s b c", ":2\r\n").await;
    client.expect("EXISTS s", ":0\r\n").await;
    client.expect("SCARD none", ":0\r\n").await;
    client.expect("SMEMBERS none", "*0\r\n").await;
    client.expect("SISMEMBER none x", ":0\r\n").await;
    client.expect("SET k v", "+OK\r\n").await;
    for command in ["SADD k a", "SREM k a", "SMEMBERS k", "SISMEMBER k a", "SCARD k", "SSCAN k 0"] {
        client
            .expect(
                command,
                "-WRONGTYPE Operation against a key holding the wrong kind of value\r\n",
            )
            .await;
    }
}

#[tokio::test]
async fn hashes_are_maps_of_registers() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.expect("HSET h a 1 b 2 a 3", ":2\r\n").await;
    client.expect("HSET h a 4", ":0\r\n").await;
    client.expect("HSET h a", "-ERR wrong number of arguments for 'hset' command\r\n").await;
    client.expect("HSET h a 1 b", "-ERR wrong number of arguments for 'hset' command\r\n").await;
    client.expect("HGET h a", "$1\r\n4\r\n").await;
    client.expect("HGET h x", "$-1\r\n").await;
    client.expect("HMGET h b x", "*2\r\n$1\r\n2\r\n$-1\r\n").await;
    client.expect("HGETALL h", "*4\r\n$1\r\na\r\n$1\r\n4\r\n$1\r\nb\r\n$1\r\n2\r\n").await;
    client.expect("HKEYS h", "*2\r\n$1\r\na\r\n$1\r\nb\r\n").await;
    client.expect("HVALS h", "*2\r\n$1\r\n4\r\n$1\r\n2\r\n").await;
    client.expect("HLEN h", ":2\r\n").await;
    client.expect("HEXISTS h a", ":1\r\n").await;
    client.expect("HEXISTS h x", ":0\r\n").await;
    client.expect("HINCRBY h a 6", ":10\r\n").await;
    client.expect("HINCRBY h new -1", ":-1\r\n").await;
    client.expect("HINCRBY h a x", "-ERR value is not an integer or out of range\r\n").await;
    client.expect("HSET h word w", ":1\r\n").await;
    client.expect("HINCRBY h word 1", "-ERR hash value is not an integer\r\n").await;
    client.expect("HSCAN h 0 MATCH w*", "*2\r\n$1\r\n0\r\n*2\r\n$4\r\nword\r\n$1\r\nw\r\n").await;
    client.expect("HSCAN h 0 MATCH w* NOVALUES", "*2\r\n$1\r\n0\r\n*1\r\n$4\r\nword\r\n").await;
    for options in ["NOVALUES MATCH w*", "COUNT 9 novalues MATCH w*"] {
        client
            .expect(&format!("HSCAN h 0 {options}"), "*2\r\n$1\r\n0\r\n*1\r\n$4\r\nword\r\n")
            .await;
    }
    client.expect("HSCAN h 0 NOVALUES MATCH", "-ERR syntax error\r\n").await;
    client.expect("SSCAN s 0 NOVALUES", "-ERR syntax error\r\n").await;
    client.expect("HDEL h a x", ":1\r\n").await;
    client.expect("HDEL h b new word", ":3\r\n").await;
    client.expect("EXISTS h", ":0\r\n").await;
    client.expect("HGETALL h", "*0\r\n").await;
}

#[tokio::test]
async fn keys_are_deleted_counted_and_typed() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.expect("MSET a 1 b 2 c 3", "+OK\r\n").await;
    client.expect("EXISTS a b none a", ":3\r\n").await;
    client.expect("DBSIZE", ":3\r\n").await;
    client.expect("DEL a a none", ":1\r\n").await;
    client.expect("UNLINK b c", ":2\r\n").await;
    client.expect("DEL b", ":0\r\n").await;
    client.expect("DBSIZE", ":0\r\n").await;
    client.expect("TYPE a", "+none\r\n").await;
    for (command, kind) in [
        ("SET k1 v", "string"),
        ("SADD k2 v", "set"),
        ("HSET k3 f v", "hash"),
        ("MG.PUT k4 v", "bytes"),
        ("MG.GSET ADD k5 v", "gset"),
        ("MG.COUNTER ADD k6 1", "counter"),
        ("MG.CART ADD k7 book 1", "cart"),
    ] {
        client.ask(command).await;
        let key = command.split(' ').find(|word| word.starts_with('k')).unwrap();
        client.expect(&format!("TYPE {key}"), &format!("+{kind}\r\n")).await;
        client.expect(&format!("DEL {key}"), ":1\r\n").await;
    }
    client.expect_start("FLUSHALL", "-ERR flushing is not supported").await;
    client.expect_start("FLUSHDB ASYNC", "-ERR flushing is not supported").await;
}

#[tokio::test]
async fn scans_list_every_key_and_element_page_by_page() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for first in b'a'..=b'z' {
        let key = char::from(first);
        client.ask(&format!("SET {key}{key}{key}{key}{key}{key} {key}")).await;
        client.ask(&format!("SADD s {key}")).await;
    }
    let (mut cursor, mut found, mut pages) = ("0".to_owned(), Vec::new(), 0);
    loop {
        let reply = client.ask(&format!("SCAN {cursor} COUNT 5")).await;
        let words: Vec<&str> = reply.lines().filter(|l| !l.starts_with(['*', '$'])).collect();
        cursor = words[0].to_owned();
        found.extend(words[1..].iter().map(ToString::to_string));
        pages += 1;
        if cursor == "0" {
            break;
        }
    }
    // The key at which a page ends comes again; the set is the 27th key.
    found.sort();
    found.dedup();
    assert_eq!(found.len(), 27);
    assert_eq!(pages, 6);
    client.expect("SCAN 0 COUNT 1000 TYPE set", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\ns\r\n").await;
    client.expect("SCAN 0 COUNT 1000 MATCH c*", "*2\r\n$1\r\n0\r\n*1\r\n$6\r\ncccccc\r\n").await;

    // A cursor of one connection works on another.
    let page = client.ask("SSCAN s 0 COUNT 24").await;
    let cursor = page.lines().nth(2).unwrap().to_owned();
    let mut other = server.connect().await;
    other
        .expect(&format!("SSCAN s {cursor}"), "*2\r\n$1\r\n0\r\n*2\r\n$1\r\ny\r\n$1\r\nz\r\n")
        .await;
    other.expect("SSCAN s 77", "-ERR invalid cursor; begin the scan anew, at this node\r\n").await;
    other.expect("SCAN 9007199254740992", "-ERR invalid cursor\r\n").await;
    other.expect("SCAN x", "-ERR invalid cursor\r\n").await;
    other.expect("SCAN 0 COUNT 0", "-ERR syntax error\r\n").await;
    other.expect("SCAN 0 COUNT", "-ERR syntax error\r\n").await;
    other.expect("SCAN 0 COUNT x", "-ERR value is not an integer or out of range\r\n").await;
    other.expect("SSCAN s 0 TYPE set", "-ERR syntax error\r\n").await;
}

#[tokio::test]
async fn transactions_queue_and_answer_in_one_array() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.expect("EXEC", "-ERR EXEC without MULTI\r\n").await;
    client.expect("DISCARD", "-ERR DISCARD without MULTI\r\n").await;
    client
        .expect(
            "MULTI\r\nSET a 1\r\nINCR a\r\nDBSIZE\r\nINCR s x\r\nEXEC\r\nPING",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n\
             -ERR wrong number of arguments for 'incr' command\r\n\
             -EXECABORT Transaction discarded because of previous errors.\r\n+PONG\r\n",
        )
        .await;
    client.expect("EXISTS a", ":0\r\n").await;
    client
        .expect(
            "MULTI\r\nMSET a 1 b 2\r\nINCR a\r\nDBSIZE\r\nINCRBY a x\r\nMGET a b\r\nEXEC\r\nGET a",
            "+OK\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n+QUEUED\r\n\
             *5\r\n+OK\r\n:2\r\n:2\r\n-ERR value is not an integer or out of range\r\n\
             *2\r\n$1\r\n2\r\n$1\r\n2\r\n$1\r\n2\r\n",
        )
        .await;
    client.expect("MULTI\r\nEXEC", "+OK\r\n*0\r\n").await;
    client
        .expect(
            "MULTI\r\nMULTI\r\nSET a 9\r\nDISCARD\r\nGET a",
            "+OK\r\n-ERR MULTI calls can not be nested\r\n+QUEUED\r\n+OK\r\n$1\r\n2\r\n",
        )
        .await;
    client
        .expect(
            "MULTI\r\nNOPE\r\nEXEC",
            "+OK\r\n-ERR unknown command 'NOPE', with args beginning with: \r\n\
             -EXECABORT Transaction discarded because of previous errors.\r\n",
        )
        .await;
    client
        .expect(
            "MULTI\r\nHELLO 3\r\nEXEC",
            "+OK\r\n-ERR Command not allowed inside a transaction\r\n\
             -EXECABORT Transaction discarded because of previous errors.\r\n",
        )
        .await;
    client.expect_start("WATCH a", "-ERR WATCH is not supported").await;
    client.expect("UNWATCH", "+OK\r\n").await;
    client
        .expect(
            "MULTI\r\nSET a 9\r\nEXEC x\r\nEXEC\r\nGET a",
            "+OK\r\n+QUEUED\r\n-EXECABORT Transaction discarded because of: wrong number of \
             arguments for 'exec' command\r\n-ERR EXEC without MULTI\r\n$1\r\n2\r\n",
        )
        .await;
    client.expect("MULTI\r\nRESET\r\nEXEC", "+OK\r\n+RESET\r\n-ERR EXEC without MULTI\r\n").await;
}

/// The microseconds since 1970 that the last reply of TIME in `replies` says.
fn microseconds(replies: &str) -> u128 {
    let words: Vec<&str> = replies.lines().collect();
    let [.., seconds, _, micros] = words[..] else { panic!("{replies:?}") };
    seconds.parse::<u128>().unwrap() * 1_000_000 + micros.parse::<u128>().unwrap()
}

#[tokio::test]
async fn time_in_a_transaction_is_that_of_exec() {
    let server = Server::start().await;
    let (mut client, mut other) = (server.connect().await, server.connect().await);
    client.expect_alone("MULTI\r\nTIME", "+OK\r\n+QUEUED\r\n").await;
    let queued = microseconds(&other.ask("TIME").await);
    let later = loop {
        let now = microseconds(&other.ask("TIME").await);
        if now > queued {
            break now;
        }
    };
    let executed = microseconds(&client.ask("EXEC").await);
    assert!(executed >= later, "{executed} is before {later}");
}

#[tokio::test]
async fn the_server_describes_itself() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let info = client.ask("INFO").await;
    for field in [
        "# Server\r\nredis_version:7.2.4\r\n",
        "merganser_version:1.2.3\r\n",
        "arch_bits:64\r\n",
        "blocked_clients:0\r\n",
        "\r\n# Memory\r\nused_memory:",
        "\r\nmaxmemory:0\r\n",
        "loading:0\r\n",
        "role:master\r\n",
        "cluster_enabled:0\r\n",
        "\r\n# Merganser\r\nnode:test\r\n",
    ] {
        assert!(info.contains(field), "{field} is not in {info}");
    }
    assert!(!client.ask("INFO replication").await.contains("redis_version"));
    client
        .expect(
            "CONFIG GET save appendonly",
            "*4\r\n$10\r\nappendonly\r\n$3\r\nyes\r\n$4\r\nsave\r\n$0\r\n\r\n",
        )
        .await;
    // No argument is longer than a command may be.
    let longest = "*2\r\n$18\r\nproto-max-bulk-len\r\n$8\r\n16777216\r\n";
    client.expect("CONFIG GET proto-max-bulk-len", longest).await;
    client.expect("CONFIG GET nothing*", "*0\r\n").await;
    client.expect_start("CONFIG SET save x", "-ERR unknown subcommand 'SET'").await;
    client.expect_start("TIME", "*2\r\n$10\r\n").await;
    let count: usize = client.ask("COMMAND COUNT").await.trim()[1..].parse().unwrap();
    client.expect_start("COMMAND", &format!("*{count}\r\n*10\r\n$4\r\nauth\r\n:-2\r\n")).await;
    client.expect_start("COMMAND LIST", &format!("*{count}\r\n$4\r\nauth\r\n")).await;
    client.expect_start("COMMAND DOCS", &format!("*{}\r\n$4\r\nauth\r\n*8\r\n", 2 * count)).await;
    client.expect_start("COMMAND DOCS get nope", "*2\r\n$3\r\nget\r\n").await;
    client
        .expect_start(
            "COMMAND INFO get nope",
            "*2\r\n*10\r\n$3\r\nget\r\n:2\r\n*2\r\n+readonly\r\n+fast\r\n:1\r\n:1\r\n:1\r\n",
        )
        .await;
    client
        .expect(
            "FOO a 'b c'",
            "-ERR unknown command 'FOO', with args beginning with: 'a' 'b c' \r\n",
        )
        .await;
}

#[tokio::test]
async fn patterns_and_lists_of_names_that_are_too_long_are_refused() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    let long = "x".repeat(1025);
    let refused = "-ERR pattern of 1025 bytes, at most 1024 are allowed\r\n";
    client.expect(&format!("SCAN 0 MATCH {long}"), refused).await;
    client.expect(&format!("HSCAN h 0 MATCH {long}"), refused).await;
    client.expect(&format!("CONFIG GET {long}"), refused).await;
    client.expect(&format!("SCAN 0 MATCH {}", &long[1..]), "*2\r\n$1\r\n0\r\n*0\r\n").await;
    let refused = "-ERR 1025 names in one command, at most 1024 are allowed\r\n";
    for command in ["COMMAND INFO", "COMMAND DOCS", "INFO"] {
        client.expect(&format!("{command}{}", " x".repeat(1025)), refused).await;
    }
    let refused = "-ERR 65 patterns in one command, at most 64 are allowed\r\n";
    client.expect(&format!("CONFIG GET{}", " x".repeat(65)), refused).await;
    client.expect(&format!("CONFIG GET{}", " x".repeat(64)), "*0\r\n").await;
    client.expect(&format!("COMMAND DOCS{}", " x".repeat(1024)), "*0\r\n").await;
}
