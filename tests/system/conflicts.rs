//! Conflicts between real nodes that were apart: listed, explained, drawn, resolved, through every face.

use serde_json::{Value, json};

use super::process::{Spec, eventually, run, settled};

fn shown(spec: &Spec, arguments: &[&str]) -> Value {
    let address = format!("127.0.0.1:{}", spec.peer);
    let output = run(&[&["--node", &address, "--json"], arguments].concat());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{arguments:?}: {said}");
    serde_json::from_slice(&output.stdout).expect("it prints JSON")
}

#[test]
fn a_key_created_as_two_types_by_nodes_apart_is_listed_explained_and_resolved() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::cluster(directory.path(), 3);
    let first = specs[0].start();
    eventually("the first node answers", || {
        let address = format!("127.0.0.1:{}", specs[0].peer);
        run(&["--node", &address, "status"]).status.success().then_some(())
    });
    shown(&specs[0], &["set", "add", "both", "x"]);
    first.kill();
    let _third = specs[2].start();
    eventually("the third node answers", || {
        let address = format!("127.0.0.1:{}", specs[2].peer);
        run(&["--node", &address, "status"]).status.success().then_some(())
    });
    shown(&specs[2], &["counter", "add", "both", "5"]);
    let _others = [specs[0].start(), specs[1].start()];
    settled(&specs);

    let listed = |node: &str| {
        json!({
            "node": node,
            "keys": [{ "bucket": "default", "key": "both", "types": ["counter", "orset"], "siblings": 0 }],
            "next": null,
        })
    };
    for spec in &specs {
        eventually("the conflict is everywhere", || {
            (shown(spec, &["conflicts"]) == listed(&spec.name)).then_some(())
        });
    }
    let explained = shown(&specs[1], &["explain", "both"]);
    assert_eq!(explained["types"], json!(["counter", "orset"]));
    let picture = directory.path().join("both.svg");
    shown(&specs[1], &["explain", "both", "--svg", picture.to_str().unwrap()]);
    let picture = std::fs::read_to_string(picture).unwrap();
    assert!(picture.contains("in conflict, counter and orset"), "{picture}");

    let address = format!("127.0.0.1:{}", specs[1].peer);
    let refused = run(&["--node", &address, "resolve", "both", "--keep", "map"]);
    assert_eq!(refused.status.code(), Some(5));
    assert_eq!(
        run(&["--node", &address, "resolve", "both", "--keep", "list"]).status.code(),
        Some(2)
    );
    let resolved = shown(&specs[1], &["--id", "ops:1", "resolve", "both", "--keep", "orset"]);
    assert_eq!((&resolved["value"], &resolved["acks"]["repeated"]), (&json!(1), &json!(false)));
    let again: i64 = redis::cmd("MG.ID")
        .arg(&["ops:1", "MG.RESOLVE", "both", "KEEP", "orset"])
        .query(&mut specs[0].redis())
        .unwrap();
    assert_eq!(again, 0, "done before");
    for spec in &specs {
        eventually("the conflict is over everywhere", || {
            (shown(spec, &["conflicts"])["keys"] == json!([])).then_some(())
        });
    }
    let members: Vec<String> =
        redis::cmd("SMEMBERS").arg("both").query(&mut specs[2].redis()).unwrap();
    assert_eq!(members, ["x"]);
}
