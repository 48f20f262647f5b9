//! What must hold of a cluster once all is well again, whatever befell it: nothing acknowledged is lost,
//! no removed element is back, counters are exact, all replicas' trees are equal, no hints are left.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::load::History;
use super::process::{Spec, run, within};

/// Longest wait for a cluster to come to rest.
const PATIENCE: Duration = Duration::from_secs(180);

/// What a command of the command line says of itself as JSON, asked of a node, if it succeeds.
pub(crate) fn json(spec: &Spec, arguments: &[&str]) -> Option<Value> {
    let address = format!("127.0.0.1:{}", spec.peer);
    let arguments = [&["--node", &address, "--json"], arguments].concat();
    let output = run(&arguments);
    output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("it is JSON"))
}

/// A member as a node sees it.
pub(crate) fn member(spec: &Spec, name: &str) -> Option<Value> {
    let status = json(spec, &["status"])?;
    status["members"].as_array()?.iter().find(|member| member["name"] == name).cloned()
}

/// Waits until a node sees a member as it should be.
pub(crate) fn sees(spec: &Spec, name: &str, what: &str, is: impl Fn(&Value) -> bool) {
    within(PATIENCE, &format!("{} sees {name} {what}", spec.name), || {
        is(&member(spec, name)?).then_some(())
    });
}

/// Waits until nodes are connected to one another, nothing moves, and nothing waits for anybody.
pub(crate) fn rest(specs: &[Spec]) {
    for spec in specs {
        within(PATIENCE, &format!("{} is at rest", spec.name), || {
            let status = json(spec, &["status"])?;
            let moves = ["partitions_moving", "receiving", "driving", "departing"];
            let is_still = moves.iter().all(|name| status["handover"][*name] == 0);
            let members = status["members"].as_array()?;
            let named = |name: &str| members.iter().find(|member| member["name"] == name);
            let is_linked = specs
                .iter()
                .all(|other| named(&other.name).is_some_and(|it| it["connected"] == true));
            let has_delivered = members.iter().all(|member| member["pending"] == 0);
            (is_still && is_linked && has_delivered).then_some(())
        });
    }
}

/// Waits until a comparison of a node's replicas with all others finds nothing that differs.
fn trees_are_equal(spec: &Spec) {
    within(PATIENCE, &format!("the trees of {} are equal with all others", spec.name), || {
        let found = json(spec, &["repair"])?;
        let is_equal = found["equal"] == found["pairs"] && found["unreachable"] == 0;
        let is_same = found["keys_pulled"] == 0 && found["keys_pushed"] == 0;
        (is_equal && is_same).then_some(())
    });
}

/// Waits until the nodes `specs`, which are all there are, have come to rest, and asserts that they agree
/// and show what clients were told.
pub(crate) fn agree(specs: &[Spec], histories: &[&History]) {
    rest(specs);
    specs.iter().for_each(trees_are_equal);
    rest(specs);
    for spec in specs {
        for history in histories {
            // On a busy machine an owner may not answer a read in time, and others stand in that hold nothing.
            let mut fault = None;
            let begun = Instant::now();
            while begun.elapsed() < PATIENCE {
                fault = history.fault_shown_by(spec);
                if fault.is_none() {
                    break;
                }
            }
            assert_eq!(fault, None);
        }
    }
}
