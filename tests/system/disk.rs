//! A disk that takes no more: writes are refused with the reason, reads go on, and once there is room
//! the node goes on by itself.
//!
//! A full one is a small file system. For one that cannot be written stands the limit on the length of files
//! (RLIMIT_FSIZE): any user may set it, and lift it while the node runs.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::Command;

use super::process::{Spec, eventually};
#[cfg(target_os = "linux")]
use super::{
    agreement::{agree, sees},
    load::Load,
    process::HASTY,
    small_disk::SmallDisk,
};

/// Status and body of a GET.
fn get(spec: &Spec, path: &str) -> (u16, String) {
    http(spec, "GET", path, "")
}

/// The same of a PUT of some bytes.
fn put(spec: &Spec, path: &str) -> (u16, String) {
    http(spec, "PUT", path, &"quack".repeat(2_000))
}

fn http(spec: &Spec, method: &str, path: &str, body: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", spec.http)).expect("it listens");
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: n\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
    )
    .expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a whole answer");
    let status = head.split(' ').nth(1).expect("a status line");
    (status.parse().expect("a status"), body.to_owned())
}

/// Sets so many more bytes under a key of that number.
fn set(redis: &mut redis::Connection, number: u32, bytes: usize) -> redis::RedisResult<()> {
    redis::cmd("SET").arg(format!("k{number}")).arg(vec![7_u8; bytes]).query(redis)
}

/// Sets values of so many bytes until one is refused; how many were not, and what the refusal says.
fn fill(redis: &mut redis::Connection, bytes: usize) -> (u32, String) {
    for number in 0..1_000 {
        if let Err(error) = set(redis, number, bytes) {
            return (number, error.to_string());
        }
    }
    panic!("nothing limits it")
}

fn assert_all_there(redis: &mut redis::Connection, written: u32, bytes: usize) {
    for number in 0..written {
        let found: Vec<u8> =
            redis::cmd("GET").arg(format!("k{number}")).query(redis).expect("it reads");
        assert_eq!(found.len(), bytes, "k{number}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn on_a_full_disk_writes_are_refused_reads_go_on_a_node_starts_and_goes_on_once_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::solo(&directory.path().join("data"));
    let Some(disk) = SmallDisk::mount(&spec.data, 16 << 20) else { return };
    // What the log is to have room for once more: after a kill it writes its last part again.
    disk.take(9 << 20);
    let start = || spec.start_as(disk.within(&spec.command()));
    let node = start();
    let (written, refusal) = fill(&mut spec.redis(), 100_000);
    assert!(written >= 10, "{written}");
    assert!(refusal.contains("the disk is full: free some space"), "{refusal}");
    disk.fill();
    // The first that an event loop has for the log finds that out; those after it are not begun.
    eventually("a write is not begun", || {
        let (status, reason) = put(&spec, "/v1/buckets/default/keys/k");
        assert!(reason.contains("the disk is full"), "{status} {reason}");
        (status == 507).then_some(())
    });
    assert_all_there(&mut spec.redis(), written, 100_000);
    assert_eq!(get(&spec, "/readyz").0, 200);
    node.kill();
    // More than once: what is written at a start has room again at the next.
    for _ in 0..3 {
        let node = start();
        assert_all_there(&mut spec.redis(), written, 100_000);
        let refusal = set(&mut spec.redis(), written, 10_000).unwrap_err().to_string();
        assert!(refusal.contains("the disk is full"), "{refusal}");
        assert_eq!(get(&spec, "/readyz").0, 200);
        node.kill();
    }
    let node = start();
    disk.free();
    eventually("it takes writes again by itself", || set(&mut spec.redis(), written, 100_000).ok());
    node.kill();
    let _node = start();
    assert_all_there(&mut spec.redis(), written + 1, 100_000);
}

#[cfg(target_os = "linux")]
#[test]
fn a_member_that_starts_on_a_full_disk_is_one_again_and_has_what_it_missed_once_there_is_room() {
    let directory = tempfile::tempdir().unwrap();
    let mut specs = Spec::founders_and_others(directory.path(), 3, 0);
    specs.iter_mut().for_each(|spec| spec.settings += HASTY);
    let Some(disk) = SmallDisk::mount(&specs[2].data, 8 << 20) else { return };
    let start = || specs[2].start_as(disk.within(&specs[2].command()));
    let _others = [specs[0].start(), specs[1].start()];
    let node = start();
    let mut load = Load::new("load", &specs[..2], 0);
    load.go_on(100);
    disk.fill();
    load.go_on(100);
    node.kill();
    let _node = start();
    for spec in &specs[..2] {
        sees(spec, "n3", "connected in its second start", |member| {
            member["connected"] == true && member["generation"] == 2
        });
    }
    load.go_on(100);
    let found: u32 = redis::cmd("GET").arg("load:k0").query(&mut specs[2].redis()).unwrap();
    assert_eq!(found, 0);
    disk.free();
    let history = load.end();
    assert_eq!(history.failed, Vec::<String>::new());
    agree(&specs, &[&history]);
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
    let (written, refusal) = fill(&mut redis, 100_000);
    assert!(written >= 10, "{written}");
    assert!(refusal.contains("ulimit -f"), "{refusal}");
    let (status, reason) = eventually("the node says so", || {
        Some(get(&spec, "/readyz")).filter(|(status, _)| *status != 200)
    });
    assert_eq!(status, 503);
    assert!(reason.contains("out-of-service") && reason.contains("ulimit -f"), "{reason}");
    assert_eq!(get(&spec, "/livez").0, 200);
    assert_all_there(&mut redis, written, 100_000);
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
    assert_all_there(&mut redis, written, 100_000);
    assert_eq!(redis::cmd("GET").arg("later").query(&mut redis), Ok("x".to_owned()));
}
