//! Times to live in Redis's words. Deadlines here are past, or far away: no test waits.

use crate::support::Server;

const INTEGER: &str = "-ERR value is not an integer or out of range\r\n";

#[tokio::test]
async fn a_key_has_the_deadline_that_was_set_last() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.expect("TTL k", ":-2\r\n").await;
    client.expect("EXPIRE k 100", ":0\r\n").await;
    client.expect("SET k v", "+OK\r\n").await;
    client.expect("TTL k", ":-1\r\n").await;
    client.expect("PERSIST k", ":0\r\n").await;
    client.expect("EXPIREAT k 4000000000", ":1\r\n").await;
    client.expect("EXPIRETIME k", ":4000000000\r\n").await;
    client.expect("PEXPIRETIME k", ":4000000000000\r\n").await;
    client.expect("PEXPIREAT k 4000000000001", ":1\r\n").await;
    client.expect("PEXPIRETIME k", ":4000000000001\r\n").await;
    client.expect("PERSIST k", ":1\r\n").await;
    client.expect("PTTL k", ":-1\r\n").await;
    client.expect("EXPIRE k 1000", ":1\r\n").await;
    client.expect("TTL k", ":1000\r\n").await;
    client.expect("GET k", "$1\r\nv\r\n").await;
}

#[tokio::test]
async fn what_is_set_anew_has_none_and_what_is_added_shares_the_keys() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.expect("SET k 1 PXAT 4000000000000", "+OK\r\n").await;
    client.expect("INCR k", ":2\r\n").await;
    client.expect("PEXPIRETIME k", ":4000000000000\r\n").await;
    client.expect("SET k 5 KEEPTTL", "+OK\r\n").await;
    client.expect("PEXPIRETIME k", ":4000000000000\r\n").await;
    client.expect("SET k 6", "+OK\r\n").await;
    client.expect("TTL k", ":-1\r\n").await;
    client.expect("SETEX k 500 v", "+OK\r\n").await;
    client.expect("TTL k", ":500\r\n").await;
    client.expect("PSETEX k 700000 v", "+OK\r\n").await;
    client.expect("TTL k", ":700\r\n").await;
    client.expect("GETEX k", "$1\r\nv\r\n").await;
    client.expect("TTL k", ":700\r\n").await;
    client.expect("GETEX k PERSIST", "$1\r\nv\r\n").await;
    client.expect("TTL k", ":-1\r\n").await;
    client.expect("GETEX k EX 300", "$1\r\nv\r\n").await;
    client.expect("TTL k", ":300\r\n").await;
    client.expect("GETEX none EX 300", "$-1\r\n").await;
    client.expect("DEL k", ":1\r\n").await;
    client.expect("SADD k a", ":1\r\n").await;
    client.expect("TTL k", ":-1\r\n").await;
    client.expect_start("GETEX k EX 300", "-WRONGTYPE").await;
    client.expect("TTL k", ":-1\r\n").await;
}

#[tokio::test]
async fn a_deadline_that_is_past_ends_the_key_at_once() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    for (make, past) in [
        ("SET k 5", "EXPIRE k 0"),
        ("SADD k a b", "EXPIRE k -1"),
        ("HINCRBY k f 3", "EXPIREAT k 1"),
        ("INCR k", "PEXPIRE k -9223372036854775808"),
    ] {
        client.ask(make).await;
        client.expect(past, ":1\r\n").await;
        client.expect("EXISTS k", ":0\r\n").await;
        client.expect("TTL k", ":-2\r\n").await;
        client.expect("TYPE k", "+none\r\n").await;
    }
    // What comes then begins anew, and lives.
    client.expect("INCR k", ":1\r\n").await;
    client.expect("TTL k", ":-1\r\n").await;
    client.expect("EXPIRE k -1", ":1\r\n").await;
    client.expect("HINCRBY k f 1", ":1\r\n").await;
    client.expect("HGETALL k", "*2\r\n$1\r\nf\r\n$1\r\n1\r\n").await;
}

#[tokio::test]
async fn conditions_are_those_of_redis() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.expect("SET k v", "+OK\r\n").await;
    client.expect("EXPIREAT k 4000000000 XX", ":0\r\n").await;
    client.expect("EXPIREAT k 4000000000 GT", ":0\r\n").await;
    client.expect("EXPIREAT k 4000000000 XX LT", ":0\r\n").await;
    client.expect("EXPIREAT k 4000000000 LT", ":1\r\n").await;
    client.expect("EXPIREAT k 4000000001 nx", ":0\r\n").await;
    client.expect("EXPIREAT k 4000000001 LT", ":0\r\n").await;
    client.expect("EXPIREAT k 4000000001 xx gt", ":1\r\n").await;
    client.expect("EXPIRETIME k", ":4000000001\r\n").await;
    let both = "-ERR NX and XX, GT or LT options at the same time are not compatible\r\n";
    client.expect("EXPIRE k 5 NX GT", both).await;
    let both = "-ERR GT and LT options at the same time are not compatible\r\n";
    client.expect("EXPIRE k 5 GT LT", both).await;
    client.expect("EXPIRE k 5 OR", "-ERR Unsupported option OR\r\n").await;
}

#[tokio::test]
async fn times_that_make_no_sense_are_refused_in_redis_words() {
    let server = Server::start().await;
    let mut client = server.connect().await;
    client.expect("SET k v", "+OK\r\n").await;
    let invalid = |command: &str| format!("-ERR invalid expire time in '{command}' command\r\n");
    for (line, command) in [
        ("EXPIRE k 9223372036854775807", "expire"),
        ("EXPIRE k 9223372036854775", "expire"),
        ("PEXPIRE k 9223372036854775807", "pexpire"),
        ("EXPIREAT k 9223372036854775807", "expireat"),
        ("SET k v EX 0", "set"),
        ("SET k v PX -5", "set"),
        ("SET k v EX 9223372036854775807", "set"),
        ("SETEX k 0 v", "setex"),
        ("PSETEX k -1 v", "psetex"),
        ("GETEX k EX 0", "getex"),
    ] {
        client.expect(line, &invalid(command)).await;
    }
    for line in ["EXPIRE k x", "SET k v EX 1.5", "SETEX k ten v", "GETEX k PX ''"] {
        client.expect(line, INTEGER).await;
    }
    for line in
        ["SET k v EX", "SET k v EX 1 PX 2", "SET k v KEEPTTL EX 1", "GETEX k EX", "GETEX k AT 5"]
    {
        client.expect(line, "-ERR syntax error\r\n").await;
    }
    client.expect("TTL k", ":-1\r\n").await;
}
