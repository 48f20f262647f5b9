//! What a member is again whose disk was lost, or is an old one: what the others remember of it.

use clock::NodeId;
use membership::{Command, Config, Ending, MemberState, Phase};
use ring::Weight;

use crate::double::{CLUSTER, Network, address};
use crate::{SEEDS, joins};

/// How a founder is started on an empty disk, as the first time.
fn founds(config: &mut Config) {
    config.bootstrap = Some(CLUSTER);
    config.seeds = (1..=3).map(address).collect();
}

fn wiped_and_founding(network: &mut Network, host: u64) {
    network.kill(host);
    network.wipe(host);
    network.start(host, founds);
    network.run_until_even(20_000);
}

fn weigh(network: &mut Network, host: u64, weight: u16) {
    let mut about = network.gossip(host).own().entry.about.clone();
    about.weight = Weight::new(weight).expect("in bounds");
    network.command(host, Command::Describe(about)).expect("it runs");
}

#[test]
fn a_node_whose_disk_was_wiped_takes_the_generation_after_the_one_remembered() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 4);
        for _ in 0..3 {
            network.kill(4);
            network.restart(4);
            network.run(3_000);
        }
        assert_eq!(network.member(1, 4).unwrap().incarnation.generation, 4);
        network.kill(4);
        network.wipe(4);
        joins(&mut network, 4, &[1]);
        network.run_until_even(20_000);
        let member = network.member(1, 4).unwrap();
        // It is what it was before: nothing but its disk was lost.
        assert_eq!((member.incarnation.generation, member.state), (5, MemberState::Up));
        assert_eq!(network.disk(4).unwrap().incarnation.generation, 5);
    }
}

#[test]
fn a_node_that_starts_from_an_old_backup_takes_the_generation_after_the_one_remembered() {
    let mut network = Network::founded(3, 3);
    network.copy_disk(3, 33);
    for _ in 0..3 {
        network.kill(3);
        network.restart(3);
        network.run(3_000);
    }
    network.kill(3);
    network.copy_disk(33, 3);
    network.restart(3);
    network.run_until_even(20_000);
    assert_eq!(network.member(1, 3).unwrap().incarnation.generation, 5);
}

#[test]
fn a_founder_that_was_leaving_goes_on_leaving_with_the_weight_it_was_given() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 4);
        network.kill(4);
        network.restart(4);
        network.run_until_even(10_000);
        weigh(&mut network, 4, 9);
        network.command(4, Command::Declare(Phase::Leaving)).unwrap();
        network.run_until_even(10_000);
        wiped_and_founding(&mut network, 4);
        let member = network.member(1, 4).unwrap();
        assert_eq!((member.incarnation.generation, member.state), (3, MemberState::Leaving));
        assert_eq!(member.about.weight.get(), 9);
    }
}

#[test]
fn a_member_that_joined_has_the_weight_it_was_given() {
    let mut network = Network::founded(1, 3);
    joins(&mut network, 4, &[1]);
    network.run_until_even(10_000);
    network.kill(4);
    network.restart(4);
    network.run_until_even(10_000);
    weigh(&mut network, 4, 9);
    network.run_until_even(10_000);
    network.kill(4);
    network.wipe(4);
    joins(&mut network, 4, &[1]);
    network.run_until_even(20_000);
    let member = network.member(1, 4).unwrap();
    assert_eq!((member.state, member.about.weight.get()), (MemberState::Joining, 9));
}

/// Founders begin in generation 1, which is over of one that left and came back.
#[test]
fn a_founder_that_left_and_joined_again_is_the_member_that_it_has_become() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 4);
        network.command(4, Command::Declare(Phase::Leaving)).unwrap();
        network.command(4, Command::Declare(Phase::Left)).unwrap();
        network.run_until_even(10_000);
        network.kill(4);
        network.restart(4);
        network.run_until_even(20_000);
        network.command(4, Command::Declare(Phase::Up)).unwrap();
        network.run_until_even(10_000);
        wiped_and_founding(&mut network, 4);
        assert_eq!(network.endings(4), Vec::<&Ending>::new(), "seed {seed}");
        let record = network.gossip(1).table().get(NodeId(4)).unwrap();
        assert_eq!((record.state(), record.entry.joined), (MemberState::Up, 2));
    }
}

#[test]
fn an_old_backup_undoes_no_leave() {
    let mut network = Network::founded(1, 3);
    network.copy_disk(3, 33);
    network.kill(3);
    network.restart(3);
    network.run_until_even(10_000);
    network.command(3, Command::Declare(Phase::Leaving)).unwrap();
    // Twice, so that the start from the backup is not taken for the next one.
    network.kill(3);
    network.restart(3);
    network.run_until_even(10_000);
    network.kill(3);
    network.copy_disk(33, 3);
    network.restart(3);
    network.run_until_even(20_000);
    let member = network.member(1, 3).unwrap();
    assert_eq!((member.incarnation.generation, member.state), (4, MemberState::Leaving));
}
