//! A node that cannot start says why and what to do, and harms nothing.

use super::process::{Spec, free_ports};

/// What a start says when it fails.
fn complaint(spec: &Spec) -> String {
    let output = spec.command().output().expect("the binary starts");
    assert!(!output.status.success(), "it started all the same");
    String::from_utf8(output.stderr).expect("errors are text")
}

#[track_caller]
fn assert_says(complaint: &str, words: &[&str]) {
    for word in words {
        assert!(complaint.contains(word), "no {word:?} in {complaint:?}");
    }
    assert!(!complaint.contains("panicked"), "{complaint}");
}

#[test]
fn a_port_in_use_is_named() {
    let directory = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let mut spec = Spec::solo(&directory.path().join("data"));
    spec.resp = port;
    assert_says(&complaint(&spec), &[&port.to_string(), "in use"]);
}

#[test]
fn a_data_directory_in_use_of_another_node_or_cluster_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::solo(&directory.path().join("data"));
    let node = spec.start();
    let ports = free_ports(3);
    let second = Spec { resp: ports[0], http: ports[1], peer: ports[2], ..spec.clone() };
    assert_says(&complaint(&second), &["data", "use"]);
    assert_eq!(node.terminate("-TERM"), Some(0));

    let renamed = Spec { name: "other".into(), ..spec.clone() };
    assert_says(&complaint(&renamed), &["solo", "other"]);
    let output = spec.command().args(["--cluster", "elsewhere"]).output().unwrap();
    assert!(!output.status.success());
    assert_says(&String::from_utf8(output.stderr).unwrap(), &["elsewhere", "cluster"]);
    // Nothing of that has harmed it.
    assert_eq!(spec.start().terminate("-TERM"), Some(0));
}

#[test]
fn listening_beyond_loopback_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let spec = Spec::solo(&directory.path().join("data"));
    let output = spec.command().args(["--resp", "0.0.0.0:0"]).output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn several_members_without_a_secret_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let mut spec = Spec::cluster(directory.path(), 3).remove(0);
    spec.secret = None;
    assert_says(&complaint(&spec), &["secret"]);
}
