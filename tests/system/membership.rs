//! Nodes that find one another, notice who is gone, and turn strangers away.

use serde_json::Value;

use super::process::{Spec, eventually, free_ports, run};

/// What a node says of the cluster, if it answers.
fn status(spec: &Spec) -> Option<Value> {
    let address = format!("127.0.0.1:{}", spec.peer);
    let output = run(&["--node", &address, "--json", "status"]);
    serde_json::from_slice(&output.stdout).ok()
}

/// A member as a node sees it, once it is as it should be.
fn sees(spec: &Spec, name: &str, what: &str, is: impl Fn(&Value) -> bool) -> Value {
    eventually(&format!("{} sees {name} {what}", spec.name), || {
        let status = status(spec)?;
        let members = status["members"].as_array()?;
        members.iter().find(|member| member["name"] == name && is(member)).cloned()
    })
}

fn is_connected(member: &Value) -> bool {
    member["connected"] == true
}

fn all_see_all(specs: &[&Spec]) {
    for spec in specs {
        for other in specs {
            sees(spec, &other.name, "connected", is_connected);
        }
    }
}

#[test]
fn three_nodes_started_in_the_wrong_order_find_one_another_and_serve() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::seeded(directory.path(), 3);
    let [first, second, third] = &specs[..] else { panic!("three") };
    let _third = third.start_lonely();
    // At first it only looks for its cluster.
    eventually("it refuses, since it waits for a seed", || {
        let set = redis::cmd("SET").arg("k").arg(1).query::<()>(&mut third.redis());
        set.unwrap_err().to_string().contains("waits for a seed").then_some(())
    });
    let _second = second.start_lonely();
    let _first = first.start();
    all_see_all(&[first, second, third]);
    for spec in &specs {
        let () = redis::cmd("SET").arg(&spec.name).arg(1).query(&mut spec.redis()).unwrap();
    }
    for spec in &specs {
        let all: Vec<Option<u32>> =
            redis::cmd("MGET").arg(&["n1", "n2", "n3"]).query(&mut spec.redis()).unwrap();
        assert_eq!(all, [Some(1); 3]);
    }
}

#[test]
fn a_killed_node_is_suspected_and_found_again_on_another_port_and_so_is_the_seed() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::seeded(directory.path(), 3);
    let [first, second, third] = &specs[..] else { panic!("three") };
    let seed = first.start();
    let _second = second.start();
    let killed = third.start();
    all_see_all(&[first, second, third]);
    killed.kill();
    for spec in [first, second] {
        sees(spec, "n3", "suspected", |member| member["suspected"] == true);
    }
    let moved = Spec { peer: free_ports(1)[0], ..third.clone() };
    let _third = moved.start();
    all_see_all(&[first, second, &moved]);
    let address = format!("127.0.0.1:{}", moved.peer);
    let found = sees(second, "n3", "reachable", |member| member["suspected"] == false);
    assert_eq!((&found["peer_address"], &found["generation"]), (&address.into(), &2.into()));

    seed.kill();
    sees(second, "n1", "suspected", |member| member["suspected"] == true);
    let _first = first.start();
    all_see_all(&[first, second, &moved]);
}

#[test]
fn a_node_of_another_cluster_is_turned_away_and_told_why() {
    let directory = tempfile::tempdir().unwrap();
    let specs = Spec::seeded(directory.path(), 2);
    let _first = specs[0].start();
    let mut command = specs[1].command();
    command.args(["--cluster", "geese"]);
    let _stranger = specs[1].start_lonely_as(command);
    let said = eventually("the stranger was refused", || {
        let waiting = status(&specs[1])?["waiting"].as_str()?.to_owned();
        waiting.contains("belongs to cluster").then_some(waiting)
    });
    assert!(said.contains("\"merganser\""), "{said}");
    let status = status(&specs[0]).unwrap();
    assert_eq!(status["members"].as_array().unwrap().len(), 1);
}
