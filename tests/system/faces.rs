//! One cluster, every way in: what is written through one face and node is read through others.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Stdio;

use super::process::{Spec, merganser, run, settled};

fn stdout(arguments: &[&str]) -> String {
    let output = run(arguments);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    String::from_utf8(output.stdout).expect("it prints text")
}

pub(super) fn http(port: u16, method: &str, path: &str, body: &str) -> String {
    let length = body.len();
    say(
        port,
        &format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        ),
    )
}

/// What is answered to `bytes` until the connection ends.
fn say(port: u16, bytes: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    stream.write_all(bytes.as_bytes()).expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers text");
    answer
}

#[test]
fn every_face_of_every_node_shows_what_another_wrote() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::cluster(directory.path(), 3);
    let _nodes: Vec<_> = specs.iter().map(Spec::start).collect();
    settled(&specs);
    let address = |at: usize| format!("127.0.0.1:{}", specs[at].peer);

    let added: u64 = redis::cmd("SADD").arg("s").arg("a").query(&mut specs[0].redis()).unwrap();
    assert_eq!(added, 1);
    let members: Vec<String> =
        redis::cmd("SMEMBERS").arg("s").query(&mut specs[1].redis()).unwrap();
    assert_eq!(members, ["a"]);
    let shown = http(specs[2].http, "GET", "/v1/buckets/default/sets/s", "");
    assert!(shown.starts_with("HTTP/1.1 200"), "{shown}");
    assert!(shown.contains(r#"["a"]"#), "{shown}");
    assert_eq!(stdout(&["--node", &address(1), "set", "members", "s"]), "a\n");

    stdout(&["--node", &address(0), "cart", "add", "ada", "book", "2"]);
    stdout(&["--node", &address(1), "cart", "add", "ada", "book"]);
    let items = stdout(&["--node", &address(2), "--json", "cart", "items", "ada"]);
    assert_eq!(items, "[{\"item\":\"book\",\"quantity\":\"3\"}]\n");

    stdout(&["--node", &address(0), "put", "note", "tea"]);
    stdout(&["--node", &address(1), "put", "note", "milk"]);
    let siblings = stdout(&["--node", &address(2), "--json", "get", "note"]);
    let siblings: serde_json::Value = serde_json::from_str(&siblings).unwrap();
    assert_eq!(siblings["siblings"].as_array().map(Vec::len), Some(2));
    let context = siblings["context"].as_str().unwrap();
    assert_eq!(stdout(&["--node", &address(0), "context", context]), "{n1:1, n2:1}\n");
    stdout(&["--node", &address(2), "put", "note", "both", "--context", context]);
    let one = stdout(&["--node", &address(0), "--json", "get", "note"]);
    assert_eq!(
        serde_json::from_str::<serde_json::Value>(&one).unwrap()["siblings"],
        serde_json::json!(["both"])
    );
}

#[test]
fn a_write_under_one_name_is_done_once_through_whichever_face_and_node() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::cluster(directory.path(), 3);
    let _nodes: Vec<_> = specs.iter().map(Spec::start).collect();
    settled(&specs);
    let add = |at: usize, id: &str| {
        let address = format!("127.0.0.1:{}", specs[at].peer);
        stdout(&["--node", &address, "--id", id, "counter", "add", "k", "5"])
    };
    let first = add(0, "shop:1");
    assert!(first.starts_with("5 (") && !first.contains("repeated"), "{first}");
    let again = add(1, "shop:1");
    assert!(again.starts_with("5 (") && again.contains("; repeated: it had been"), "{again}");
    let named = |at: usize, id: &str| -> i64 {
        redis::cmd("MG.ID")
            .arg(id)
            .arg(&["MG.COUNTER", "ADD", "k", "5"])
            .query(&mut specs[at].redis())
            .unwrap()
    };
    assert_eq!(named(2, "shop:1"), 5);
    assert_eq!(named(2, "shop:2"), 10);
    let address = format!("127.0.0.1:{}", specs[0].peer);
    let id = ["--node", &address, "--json", "--id", "shop:2"];
    let repeated = stdout(&[&id[..], &["counter", "add", "k", "5"]].concat());
    let repeated: serde_json::Value = serde_json::from_str(&repeated).unwrap();
    assert_eq!(repeated["value"], "10");
    assert_eq!(repeated["acks"]["repeated"], true);
    let code = |arguments: &[&str]| run(&[&id[..], arguments].concat()).status.code();
    assert_eq!(code(&["counter", "add", "k", "6"]), Some(5));
    assert_eq!(code(&["counter", "get", "k"]), Some(2));
    assert_eq!(code(&["status"]), Some(2));
    stdout(&["--node", &address, "put", "raw", "v"]);
    assert_eq!(code(&["del", "raw"]), Some(0));
    let again = stdout(&[&id[..], &["del", "raw"]].concat());
    let again: serde_json::Value = serde_json::from_str(&again).unwrap();
    assert_eq!(again["acks"]["repeated"], true);
    assert_eq!(run(&["--id", "", "put", "k", "v"]).status.code(), Some(2));
}

#[test]
fn exit_codes_say_what_came_of_a_command() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::solo(&directory.path().join("data"));
    let _node = spec.start();
    let address = format!("127.0.0.1:{}", spec.peer);
    let code = |arguments: &[&str]| run(&[&["--node", &address], arguments].concat()).status.code();
    assert_eq!(code(&["get", "missing"]), Some(1));
    let of_missing: [&[&str]; 8] = [
        &["counter", "get", "no"],
        &["set", "members", "no"],
        &["set", "size", "no"],
        &["set", "contains", "no", "x"],
        &["gset", "members", "no"],
        &["cart", "items", "no"],
        &["map", "fields", "no"],
        &["register", "get", "no"],
    ];
    for arguments in of_missing {
        assert_eq!(code(arguments), Some(1), "{arguments:?}");
    }
    assert_eq!(code(&["counter", "add", "c"]), Some(0));
    // A counter whose sum is 0 is there.
    assert_eq!(code(&["counter", "add", "c", "-1"]), Some(0));
    assert_eq!(code(&["counter", "get", "c"]), Some(0));
    assert_eq!(code(&["set", "add", "c", "x"]), Some(5));
    assert_eq!(code(&["put", "k", "v", "--context", "forged"]), Some(5));
    assert_eq!(code(&["no", "such", "command"]), Some(2));
    let nobody = super::process::free_ports(1)[0];
    assert_eq!(run(&["--node", &format!("127.0.0.1:{nobody}"), "status"]).status.code(), Some(3));
}

#[test]
fn garbage_on_every_port_stops_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::solo(&directory.path().join("data"));
    let _node = spec.start();
    let mut garbage = vec![0xff_u8; 64 << 10];
    for (at, byte) in garbage.iter_mut().enumerate() {
        *byte = (at * 31 % 251) as u8;
    }
    for port in [spec.resp, spec.http, spec.peer] {
        for length in [1, 4, 5, 100, garbage.len()] {
            let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
            // The node may close the connection before all was written, or after.
            let _ = stream.write_all(&garbage[..length]);
            let _ = stream.shutdown(std::net::Shutdown::Write);
            let _ = stream.read_to_end(&mut Vec::new());
        }
    }
    let pong: String = redis::cmd("PING").query(&mut spec.redis()).unwrap();
    assert_eq!(pong, "PONG");
}

#[test]
fn a_bucket_made_through_one_face_is_seen_through_the_others_and_a_dropped_one_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::cluster(directory.path(), 3);
    let _nodes: Vec<_> = specs.iter().map(Spec::start).collect();
    settled(&specs);
    let address = |at: usize| format!("127.0.0.1:{}", specs[at].peer);
    let bucket = |at: usize, arguments: &[&str]| {
        let node = address(at);
        stdout(&[&["--node", &node, "bucket"], arguments].concat())
    };
    assert_eq!(bucket(0, &["list", "--json"]), "[]\n");
    let created = bucket(0, &["create", "carts", "w=3", "availability=quorum"]);
    assert!(
        created.starts_with("bucket carts: created, generation 0\nn=3 r=2 w=3 availability=quorum")
    );
    assert!(created.ends_with("\nknown to 3 of 3 members\n"), "{created}");
    let shown = http(specs[1].http, "GET", "/v1/buckets/carts", "");
    assert!(shown.contains(r#""w":3"#), "{shown}");
    let listed: Vec<redis::Value> =
        redis::cmd("MG.BUCKET").arg("LIST").query(&mut specs[2].redis()).unwrap();
    assert_eq!(listed.len(), 1);
    let node = address(1);
    let write = ["--node", &node, "--bucket", "carts", "counter", "add", "hits", "2"];
    assert_eq!(stdout(&write), "2 (3 of 3 owners have it)\n");

    let refused = |arguments: &[&str]| {
        let output = run(&[&["--node", &node], arguments].concat());
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, said) = refused(&["bucket", "set", "carts", "r=4"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("n=3, r=4, w=3: r and w must be from 1 to n"), "{said}");
    let (code, said) = refused(&["bucket", "set", "carts", "n=1"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("holds data, and n=3 of its keys cannot be changed yet"), "{said}");
    assert_eq!(bucket(2, &["drop", "carts"]), "bucket carts: dropped\nknown to 3 of 3 members\n");
    let (code, said) = refused(&["--bucket", "carts", "counter", "get", "hits"]);
    assert_eq!(code, Some(5), "{said}");
    assert!(said.contains("was dropped; create it again with `merganser bucket create`"), "{said}");
    bucket(0, &["create", "carts"]);
    let (code, said) = refused(&["--bucket", "carts", "get", "hits"]);
    assert_eq!(code, Some(1), "{said}");
}

#[test]
fn increments_say_how_many_owners_have_them() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::cluster(directory.path(), 3);
    let nodes: Vec<_> = specs.iter().map(Spec::start).collect();
    settled(&specs);
    let address = format!("127.0.0.1:{}", specs[0].peer);
    let on_one = |arguments: &[&str]| stdout(&[&["--node", &address], arguments].concat());
    assert_eq!(on_one(&["-w", "3", "counter", "add", "c"]), "1 (3 of 3 owners have it)\n");
    assert_eq!(on_one(&["-w", "3", "register", "incr", "r"]), "1 (3 of 3 owners have it)\n");
    let mut nodes = nodes.into_iter();
    let _first = nodes.next();
    nodes.for_each(|node| node.kill());
    let waits = "(1 of 3 owners have it, 2 will get it when they are back)\n";
    assert_eq!(on_one(&["-w", "3", "counter", "add", "c"]), format!("2 {waits}"));
    assert_eq!(on_one(&["-w", "3", "register", "incr", "r"]), format!("2 {waits}"));
    let json = on_one(&["-w", "3", "--json", "counter", "add", "c"]);
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["value"], "3");
    assert_eq!((&json["acks"]["acked"], &json["acks"]["needed"]), (&1.into(), &3.into()));
}

#[test]
fn a_reader_that_has_read_enough_ends_a_command_quietly() {
    for arguments in [&["ring", "plan", "--nodes", "3", "--join", "node4"][..], &["no-such"]] {
        let closed = || {
            let (reader, writer) = std::io::pipe().unwrap();
            drop(reader);
            writer
        };
        let code = |output, errors| {
            let mut command = merganser();
            command.args(arguments).stdout(output).stderr(errors).output().unwrap()
        };
        let output = code(Stdio::from(closed()), Stdio::piped());
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(!said.contains("panicked"), "{said}");
        let both = code(Stdio::from(closed()), Stdio::from(closed()));
        // 101 is that of a panic.
        assert_eq!(both.status.code(), output.status.code());
        assert_ne!(both.status.code(), Some(101));
    }
}

#[test]
fn an_output_that_cannot_be_written_is_an_error() {
    let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = merganser();
    command.args(["ring", "plan", "--nodes", "3", "--join", "node4"]);
    let output = command.stdout(full).output().unwrap();
    assert_eq!(output.status.code(), Some(6));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("merganser: the output cannot be written: No space left"), "{said}");
}

/// Far beyond what clocks differ by, it would win over every write to come.
#[test]
fn a_timestamp_from_the_future_is_refused_over_http_and_writes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::solo(&directory.path().join("data"));
    let _node = spec.start();
    let path = "/v1/buckets/default/registers/r";
    let refused = http(spec.http, "POST", path, r#"{"set":"x","timestamp_ms":281474976710655}"#);
    assert!(refused.starts_with("HTTP/1.1 422"), "{refused}");
    assert!(refused.contains("at most 60000 are allowed; nothing was written"), "{refused}");
    let missing = http(spec.http, "GET", path, "");
    assert!(missing.starts_with("HTTP/1.1 404"), "{missing}");
    assert!(missing.contains("\r\nmerganser-context: "), "{missing}");
}

#[test]
fn who_speaks_another_protocol_to_the_peer_port_is_told_where_it_is_spoken() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::solo(&directory.path().join("data"));
    let _node = spec.start();
    let told = format!(
        "-ERR this port is for Merganser's nodes and native clients; the Redis protocol is on \
         127.0.0.1:{}, HTTP on 127.0.0.1:{}\r\n",
        spec.resp, spec.http
    );
    // The connection ends with what the client has to say.
    for bytes in ["PING\r\n", "*1\r\n$4\r\nPING\r\n", "GET / HTTP/1.1\r\nHost: x\r\n\r\n"] {
        let mut stream = TcpStream::connect(("127.0.0.1", spec.peer)).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, told, "{bytes:?}");
    }
}

#[test]
fn with_few_open_files_every_client_is_served_or_told_why_not() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::solo(&directory.path().join("data"));
    let plain = spec.command();
    let mut limited = std::process::Command::new("sh");
    limited.args(["-c", "ulimit -n 128; exec \"$@\"", "sh"]);
    limited.arg(plain.get_program()).args(plain.get_args()).stdin(Stdio::null());
    let _node = spec.start_as(limited);
    let mut clients: Vec<TcpStream> =
        (0..200).map(|_| TcpStream::connect(("127.0.0.1", spec.resp)).unwrap()).collect();
    let mut served = 0;
    for client in &mut clients {
        client.set_read_timeout(Some(std::time::Duration::from_secs(30))).unwrap();
        // Whoever is not served may be told so before it says anything.
        let _ = client.write_all(b"PING\r\n");
        let mut answer = [0; 7];
        match client.read_exact(&mut answer) {
            Ok(()) if &answer == b"+PONG\r\n" => served += 1,
            Ok(()) => assert_eq!(&answer, b"-ERR ma"),
            // Too many to be told: closed, and not left to wait.
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
    }
    assert!((1..128).contains(&served), "{served} served");
    drop(clients);
    let pong: String = redis::cmd("PING").query(&mut spec.redis()).unwrap();
    assert_eq!(pong, "PONG");
}

#[test]
fn a_drawing_whose_reader_is_gone_is_no_error() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::solo(&directory.path().join("data"));
    let _node = spec.start();
    let node = format!("127.0.0.1:{}", spec.peer);
    stdout(&["--node", &node, "counter", "add", "c"]);
    let drawn = stdout(&["--node", &node, "explain", "c", "--svg", "-"]);
    assert!(drawn.starts_with("<svg") && drawn.ends_with("</svg>\n"), "{drawn}");
    let mut command = merganser();
    command.args(["--node", &node, "explain", "c", "--svg", "-"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
