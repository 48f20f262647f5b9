//! Gossip in a whole cluster: who is suspected, and who is let in.

use replication::{AntiEntropyConfig, Request};
use simulator::{Sim, SimOptions};
use values::{CounterOp, Key, Operation};

fn cluster() -> Sim {
    let options = SimOptions {
        gossip: true,
        anti_entropy: AntiEntropyConfig { interval_ms: Some(3_000), bytes_per_second: 1 << 20 },
        ..SimOptions::default()
    };
    let mut sim = Sim::new(5, options);
    sim.advance(5_000);
    assert_eq!(sim.members_disagree(), None);
    sim
}

fn add() -> Operation {
    Operation::Counter(CounterOp::Add(1))
}

#[test]
fn a_paused_member_is_suspected_until_it_goes_on() {
    let mut sim = cluster();
    sim.advance(30_000);
    assert_eq!(sim.suspicions(), 0, "nothing was amiss");
    sim.pause(2);
    sim.advance(60_000);
    assert_eq!(sim.suspicions(), 2, "each of the others suspects it once");
    sim.resume(2);
    sim.advance(30_000);
    assert_eq!(sim.members_disagree(), None);
}

#[test]
fn a_node_that_starts_again_is_let_in_whatever_its_disk_remembers() {
    let mut sim = cluster();
    let key = Key::new("default", "a").unwrap();
    sim.update(0, &key, add()).unwrap();
    for is_wiped in [false, true] {
        sim.crash(1);
        if is_wiped {
            sim.wipe(1);
        }
        sim.advance(5_000);
        sim.restart(1);
        sim.advance(30_000);
        assert_eq!(sim.members_disagree(), None);
        let mut request = Request::update(key.clone(), add());
        request.level.w = Some(3);
        let answer = sim.request(1, request).unwrap();
        assert_eq!(answer.acks.answered, 3, "its messages are taken");
    }
}
