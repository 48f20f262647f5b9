//! Nodes of another ring that come over one by one: who is not here yet is waited for.

use clock::NodeId;
use membership::{About, ClusterId, Command, Liveness, MemberState};

use crate::SEEDS;
use crate::double::{Network, address};

/// Nodes 4 and 5 have left this one.
const LEFT: ClusterId = ClusterId(8);

fn comes_over(network: &mut Network, host: u64, fellow: u64) {
    network.start(host, |config| {
        config.seeds = vec![address(1)];
        config.left = [LEFT].into();
        let about = About::new(format!("node{fellow}"), address(fellow));
        config.fellows = [(NodeId(fellow), about)].into();
    });
}

#[test]
fn who_is_to_come_over_is_expected_everywhere_until_it_is_there() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 3);
        comes_over(&mut network, 4, 5);
        // Whom it expects it does not take for somebody that it reaches: it asks its seed at once.
        let took_ms = network.run_until_even(20_000);
        assert!(took_ms < 5_000, "seed {seed}: {took_ms} ms");
        for host in 1..=4 {
            assert_eq!(network.state(host, 5), Some(MemberState::Expected), "seed {seed}");
        }
        // That outlives the start of who said it, and is on its disk.
        network.kill(4);
        assert!(network.disk(4).unwrap().table.get(NodeId(5)).is_some());
        network.start(4, |config| config.seeds = vec![address(1)]);
        assert_eq!(network.state(4, 5), Some(MemberState::Expected));
        network.run_until_even(20_000);
        comes_over(&mut network, 5, 4);
        network.run_until_even(30_000);
        for host in 1..=5 {
            assert_eq!(network.state(host, 5), Some(MemberState::Joining), "seed {seed}");
            // What the second says of the first is older than what that said of itself.
            assert_eq!(network.state(host, 4), Some(MemberState::Joining), "seed {seed}");
        }
    }
}

#[test]
fn who_never_comes_can_be_removed_once_it_is_silent_and_is_a_new_member_should_it_come() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 3);
        comes_over(&mut network, 4, 5);
        network.run_until_even(20_000);
        network.run(120_000);
        assert_eq!(network.liveness(1, 5), Some(Liveness::Suspected), "seed {seed}");
        network.command(1, Command::Remove(NodeId(5))).unwrap();
        network.run_until_even(20_000);
        assert_eq!(network.state(4, 5), Some(MemberState::Removed));
        comes_over(&mut network, 5, 4);
        network.run_until_even(60_000);
        let member = network.member(1, 5).unwrap();
        assert_eq!((member.state, member.incarnation.generation), (MemberState::Joining, 2));
    }
}
