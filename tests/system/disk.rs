//! A disk that takes no more: writes are refused with the reason, reads go on, and once there is room
//! the node goes on by itself.
//!
//! The limit on the length of files (RLIMIT_FSIZE) stands for the disk: any user may set it, and lift it
//! while the node runs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use super::process::{Spec, eventually};

/// Status and body of a GET.
fn get(spec: &Spec, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", spec.http)).expect("it listens");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\n\r\n")
        .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    let status = head.split(' ').nth(1).expect("a status line");
    (status.parse().expect("a status"), body.to_owned())
}

#[test]
fn a_disk_that_takes_no_more_takes_the_node_out_of_service_until_it_does_again() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::solo(&directory.path().join("data"));
    let plain = spec.command();
    let mut limited = Command::new("sh");
    // What the signal would end is to get an error instead.
    limited.args(["-c", "trap '' XFSZ; exec prlimit --fsize=3000000: \"$@\"", "sh"]);
    limited.arg(plain.get_program()).args(plain.get_args()).env_remove("MERGANSER_NODE");
    let node = spec.start_as(limited);
    let mut redis = spec.redis();
    let mut written = 0_u32;
    let refusal = loop {
        let value = vec![7_u8; 100_000];
        let set: Result<(), _> =
            redis::cmd("SET").arg(format!("k{written}")).arg(value).query(&mut redis);
        match set {
            Ok(()) => written += 1,
            Err(error) => break error.to_string(),
        }
        assert!(written < 1_000, "nothing limits it");
    };
    assert!(written >= 10, "{written}");
    assert!(refusal.contains("ulimit -f"), "{refusal}");
    let (status, reason) = eventually("the node says so", || {
        Some(get(&spec, "/readyz")).filter(|(status, _)| *status != 200)
    });
    assert_eq!(status, 503);
    assert!(reason.contains("out-of-service") && reason.contains("ulimit -f"), "{reason}");
    assert_eq!(get(&spec, "/livez").0, 200);
    let read = |redis: &mut redis::Connection, at: u32| {
        redis::cmd("GET").arg(format!("k{at}")).query::<Vec<u8>>(redis).unwrap().len()
    };
    for at in 0..written {
        assert_eq!(read(&mut redis, at), 100_000, "k{at}");
    }
    let lifted = Command::new("prlimit")
        .args(["--pid", &node.id().to_string(), "--fsize=unlimited:"])
        .status()
        .unwrap();
    assert!(lifted.success());
    eventually("the node is in service again by itself", || {
        (get(&spec, "/readyz").0 == 200).then_some(())
    });
    let () = redis::cmd("SET").arg("later").arg("x").query(&mut redis).unwrap();
    node.kill();
    let _node = spec.start();
    let mut redis = spec.redis();
    for at in 0..written {
        assert_eq!(read(&mut redis, at), 100_000, "k{at}");
    }
    assert_eq!(redis::cmd("GET").arg("later").query(&mut redis), Ok("x".to_owned()));
}
