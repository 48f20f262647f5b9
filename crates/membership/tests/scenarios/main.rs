//! Scenarios on a network that loses, repeats, reorders, delays and cuts. Seeds vary who speaks to
//! whom and what is lost; each claim holds for all of them.

mod double;
mod expected;
mod lost_disks;

use bytes::Bytes;
use clock::NodeId;
use double::{CLUSTER, Faults, Network, Outcome, address};
use membership::{
    About, Body, ClusterId, Command, CommandError, Config, Destination, Effect, Ending, Event,
    Gossip, Incarnation, Liveness, Load, MemberState, Phase, Refusal, Report,
};

const SEEDS: u64 = 20;
const BAD: Faults =
    Faults { delay_min_ms: 1, delay_max_ms: 900, loss: 200, duplication: 200, lateness_ms: 500 };

fn joins(network: &mut Network, host: u64, seeds: &[u64]) {
    let seeds: Vec<String> = seeds.iter().map(|&seed| address(seed)).collect();
    network.start(host, |config| config.seeds = seeds);
}

#[test]
fn a_newcomer_that_knows_one_seed_comes_to_know_all_and_all_it() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 5);
        joins(&mut network, 6, &[2]);
        network.run_until_even(10_000);
        assert_eq!(network.gossip(6).table().len(), 6);
        assert_eq!(network.state(1, 6), Some(MemberState::Joining));
        assert_eq!(network.state(6, 6), Some(MemberState::Joining));
        assert_eq!(network.gossip(6).cluster_ids().first(), Some(&CLUSTER));
        network.command(6, Command::Declare(Phase::Up)).unwrap();
        network.run_until_even(10_000);
        assert_eq!(network.state(1, 6), Some(MemberState::Up));
    }
}

#[test]
fn through_loss_repetition_and_reordering_all_come_to_know_the_same() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 8);
        network.faults = BAD;
        joins(&mut network, 9, &[1, 2, 3]);
        for host in 1..=8 {
            let load = Load { stored_bytes: host, requests_per_second: 1 };
            network.command(host, Command::Busy(load)).unwrap();
            let (name, bytes) = ("v".to_owned(), Bytes::from(vec![host as u8]));
            network.command(host, Command::Publish { name, bytes }).unwrap();
            network.run(300);
        }
        network.run_until_even(60_000);
        assert_eq!(network.gossip(9).table().len(), 9);
        assert_eq!(network.member(9, 3).unwrap().load.stored_bytes, 3);
        assert_eq!(network.gossip(9).values().get("v").unwrap().as_ref(), [8]);
    }
}

#[test]
fn without_a_seed_in_reach_a_node_waits_says_so_and_finds_one_later() {
    let mut network = Network::new(1);
    joins(&mut network, 2, &[1]);
    network.run(60_000);
    let reports = network.reports(2);
    // After 0, 1, 2, 4, 8, 16 seconds and then every 30, give or take a quarter.
    assert!((4..=7).contains(&reports.len()), "{reports:?}");
    assert!(matches!(reports[0], Report::NoSeed { attempts: 1, .. }));
    assert!(network.gossip(2).cluster_ids().is_empty());
    assert!(network.disk(2).unwrap().ids.is_empty());
    network.start(1, |config| config.bootstrap = Some(CLUSTER));
    network.run(40_000);
    assert!(network.is_even());
    assert!(network.reports(2).contains(&&Report::Found(CLUSTER)));
    assert!(network.disk(2).unwrap().ids.contains(&CLUSTER));
}

#[test]
fn two_nodes_without_a_cluster_do_not_make_one() {
    let mut network = Network::new(1);
    joins(&mut network, 1, &[2]);
    joins(&mut network, 2, &[1]);
    network.run(60_000);
    assert!(network.gossip(1).cluster_ids().is_empty());
    assert_eq!(network.gossip(1).table().len(), 1);
    let node = NodeId(2);
    let refused = Report::RefusedBy { node, refusal: Refusal::NotYet };
    assert!(network.reports(1).contains(&&refused));
}

#[test]
fn a_dead_node_is_suspected_and_stays_a_member() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 5);
        network.run(30_000);
        network.forget_outcomes();
        let died_ms = network.now_ms;
        network.kill(5);
        network.run(10_000);
        for host in 1..=4 {
            let suspected = (NodeId(5), Liveness::Suspected);
            let [(at_ms, ref outcome)] = network.outcomes(host)[..] else {
                panic!("seed {seed}: {:?}", network.outcomes(host))
            };
            assert_eq!(*outcome, Outcome::Liveness(suspected.0, suspected.1));
            assert!(at_ms - died_ms < 10_000);
            assert_eq!(network.state(host, 5), Some(MemberState::Up));
        }
        network.restart(5);
        network.run(10_000);
        assert!(network.is_even());
        for host in 1..=4 {
            assert_eq!(network.liveness(host, 5), Some(Liveness::Reachable));
        }
    }
}

/// Long after a death a newcomer learns of it with the record: it does not take the dead for living.
#[test]
fn a_newcomer_does_not_take_the_long_dead_for_living() {
    let mut network = Network::founded(1, 3);
    network.kill(3);
    network.run(600_000);
    joins(&mut network, 4, &[1]);
    network.run(3_000);
    assert_eq!(network.liveness(4, 3), Some(Liveness::Suspected));
    assert_eq!(network.liveness(4, 2), Some(Liveness::Reachable));
}

/// A start is told from the one before by the generation on disk. Each process's clock begins anew here, far
/// behind where the one before it was.
#[test]
fn a_restart_is_heard_at_once_whatever_its_clock_shows() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 4);
        network.run(100_000);
        network.kill(2);
        network.run(1_000);
        network.restart(2);
        network.run_until_even(10_000);
        assert_eq!(network.member(1, 2).unwrap().incarnation.generation, 2);
        assert_eq!(network.state(1, 2), Some(MemberState::Up));
        assert_eq!(network.reports(2), Vec::<&Report>::new());
    }
}

#[test]
fn a_cut_in_two_heals_by_itself_and_through_seeds() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 6);
        let (left, right) = ([1, 2, 3, 7], [4, 5, 6, 8]);
        network.cut(&left, &right);
        network.run(60_000);
        assert_eq!(network.liveness(1, 4), Some(Liveness::Suspected));
        assert_eq!(network.liveness(4, 1), Some(Liveness::Suspected));
        // Each side grows, changes and removes on its own.
        joins(&mut network, 7, &[2]);
        joins(&mut network, 8, &[5]);
        network.run(10_000);
        network.command(7, Command::Declare(Phase::Up)).unwrap();
        network.kill(3);
        network.run(20_000);
        network.command(1, Command::Remove(NodeId(3))).unwrap();
        network.run(20_000);
        assert_eq!(network.state(1, 8), None);
        network.heal();
        network.run_until_even(20_000);
        network.run(10_000);
        assert_eq!(network.state(4, 7), Some(MemberState::Up));
        assert_eq!(network.state(2, 8), Some(MemberState::Joining));
        assert_eq!(network.state(6, 3), Some(MemberState::Removed));
        for (a, b) in [(1, 4), (4, 1), (7, 8), (8, 7)] {
            assert_eq!(network.liveness(a, b), Some(Liveness::Reachable));
        }
    }
}

#[test]
fn a_removed_node_that_comes_back_is_told_and_joins_as_a_new_member_after_its_next_start() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 4);
        network.cut(&[4], &[1, 2, 3]);
        network.run(30_000);
        network.command(1, Command::Remove(NodeId(4))).unwrap();
        // It goes on saying things of itself, which are newer than the removal.
        for number in 1..20 {
            let load = Load { stored_bytes: number, requests_per_second: 0 };
            network.command(4, Command::Busy(load)).unwrap();
            network.run(1_000);
        }
        network.command(4, Command::Declare(Phase::Leaving)).unwrap();
        network.heal();
        network.run(20_000);
        assert_eq!(network.endings(4), [&Ending::Removed], "seed {seed}");
        for host in 1..=3 {
            assert_eq!(network.state(host, 4), Some(MemberState::Removed));
        }
        assert_eq!(network.command(4, Command::Busy(Load::default())), Err(CommandError::Ended));
        // An administrator starts it again on purpose.
        network.restart(4);
        network.run_until_even(40_000);
        assert_eq!(network.state(1, 4), Some(MemberState::Joining));
        let record = network.gossip(1).table().get(NodeId(4)).unwrap();
        assert_eq!((record.ended, record.entry.joined), (1, record.entry.incarnation.generation));
    }
}

/// Removed on one side while it restarts on the other: the later start goes on with the same
/// membership, which is over.
#[test]
fn a_removal_wins_over_a_restart_that_it_did_not_know() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 5);
        network.kill(5);
        network.run(30_000);
        network.cut(&[1, 2], &[3, 4, 5]);
        network.command(1, Command::Remove(NodeId(5))).unwrap();
        network.restart(5);
        network.run(30_000);
        assert_eq!(network.state(3, 5), Some(MemberState::Up));
        assert_eq!(network.state(2, 5), Some(MemberState::Removed));
        network.heal();
        network.run(40_000);
        assert_eq!(network.endings(5), [&Ending::Removed], "seed {seed}");
        for host in 1..=4 {
            assert_eq!(network.state(host, 5), Some(MemberState::Removed));
        }
    }
}

#[test]
fn a_node_that_left_is_gone_until_it_joins_as_a_new_member() {
    let mut network = Network::founded(5, 4);
    network.copy_disk(4, 44);
    network.command(4, Command::Declare(Phase::Leaving)).unwrap();
    network.run(5_000);
    assert_eq!(network.state(1, 4), Some(MemberState::Leaving));
    network.command(4, Command::Declare(Phase::Left)).unwrap();
    network.run_until_even(10_000);
    assert_eq!(network.state(1, 4), Some(MemberState::Left));
    let refused = network.command(4, Command::Declare(Phase::Up));
    assert_eq!(refused, Err(CommandError::Phase { from: Phase::Left, to: Phase::Up }));
    network.kill(4);
    network.run(30_000);
    assert_eq!(network.state(1, 4), Some(MemberState::Left));
    network.restart(4);
    network.run_until_even(20_000);
    let joined = network.gossip(1).table().get(NodeId(4)).unwrap().clone();
    assert_eq!((joined.state(), joined.entry.joined), (MemberState::Joining, 2));
    // A backup of before it left says that it is up; that membership is over.
    network.kill(4);
    network.copy_disk(44, 4);
    network.run(30_000);
    network.command(1, Command::Remove(NodeId(4))).unwrap();
    network.restart(4);
    network.run(20_000);
    assert_eq!(network.endings(4), [&Ending::Removed]);
    assert_eq!(network.state(1, 4), Some(MemberState::Removed));
}

#[test]
fn one_that_joins_leaves_step_by_step_as_any_other() {
    let mut network = Network::founded(1, 2);
    joins(&mut network, 3, &[1]);
    network.run_until_even(10_000);
    let refused = network.command(3, Command::Declare(Phase::Left));
    let from = Phase::Joining;
    assert_eq!(refused, Err(CommandError::Phase { from, to: Phase::Left }));
    for (phase, state) in [(Phase::Leaving, MemberState::Leaving), (Phase::Left, MemberState::Left)]
    {
        network.command(3, Command::Declare(phase)).unwrap();
        network.run_until_even(10_000);
        assert_eq!(network.state(1, 3), Some(state));
    }
}

#[test]
fn only_the_unreachable_are_removed() {
    let mut network = Network::founded(1, 3);
    let remove = |network: &mut Network, node| network.command(1, Command::Remove(NodeId(node)));
    assert_eq!(remove(&mut network, 2), Err(CommandError::Reachable(NodeId(2))));
    assert_eq!(remove(&mut network, 1), Err(CommandError::Own));
    network.kill(2);
    network.run(20_000);
    assert_eq!(remove(&mut network, 2), Ok(()));
    assert_eq!(remove(&mut network, 2), Ok(()), "again");
    assert_eq!(network.disk(1).unwrap().table.get(NodeId(2)).unwrap().ended, 1);
}

#[test]
fn a_member_without_a_record_is_removed_by_its_id() {
    let mut network = Network::founded(1, 3);
    network.kill(1);
    network.restart(1);
    let too_soon = network.command(1, Command::Remove(NodeId(9)));
    assert_eq!(too_soon, Err(CommandError::Unheard(NodeId(9))));
    network.run(20_000);
    network.command(1, Command::Remove(NodeId(9))).unwrap();
    network.run_until_even(20_000);
    assert_eq!(network.state(3, 9), Some(MemberState::Removed));
    // What it says of itself counts for more: its name, and that it begins anew.
    network.start(9, |config| config.seeds = vec![address(1)]);
    network.run_until_even(60_000);
    let member = network.member(1, 9).unwrap();
    assert_eq!((member.state, member.incarnation.generation), (MemberState::Joining, 2));
    assert_eq!(member.about.name, "node9");
}

#[test]
fn nodes_of_another_cluster_are_refused_with_a_reason() {
    let mut network = Network::founded(1, 2);
    network.start(9, |config| {
        config.cluster = "geese".into();
        config.seeds = vec![address(1)];
    });
    network.run(30_000);
    assert_eq!(network.gossip(1).table().len(), 2);
    assert_eq!(network.gossip(9).table().len(), 1);
    let (node, refusal) = (NodeId(1), Refusal::OtherName("ducks".into()));
    assert!(network.reports(9).contains(&&Report::RefusedBy { node, refusal: refusal.clone() }));
    let (node, address) = (NodeId(9), address(9));
    assert_eq!(network.reports(1), [&Report::Refused { node, address, refusal }]);
}

#[test]
fn two_clusters_bootstrapped_apart_refuse_each_other_until_they_are_merged() {
    for seed in 0..SEEDS {
        let mut network = Network::new(seed);
        let other = ClusterId(8);
        network.start(1, |config| config.bootstrap = Some(CLUSTER));
        joins(&mut network, 2, &[1]);
        network.start(3, |config| {
            config.bootstrap = Some(other);
            config.seeds = vec![address(1)];
        });
        joins(&mut network, 4, &[3]);
        network.run(30_000);
        assert_eq!(network.gossip(1).table().len(), 2);
        assert_eq!(network.gossip(3).table().len(), 2);
        let (node, refusal) = (NodeId(1), Refusal::OtherCluster([CLUSTER].into()));
        let refused = Report::RefusedBy { node, refusal };
        assert!(network.reports(3).contains(&&refused), "seed {seed}");
        let said = network.reports(1).iter().any(|report| {
            matches!(report, Report::Refused { node, refusal: Refusal::OtherCluster(_), .. }
                if *node == NodeId(3))
        });
        assert!(said, "both sides say so");
        network.command(1, Command::MergeCluster(other)).unwrap();
        network.run_until_even(60_000);
        assert_eq!(network.gossip(4).table().len(), 4);
        assert_eq!(*network.gossip(4).cluster_ids(), [CLUSTER, other].into());
    }
}

#[test]
fn a_cloned_disk_is_refused_while_the_node_is_alive() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 4);
        network.copy_disk(4, 9);
        let seeds = (1..=3).map(address).collect();
        network.start_as(9, 4, |config| config.seeds = seeds);
        network.run(60_000);
        // Nobody took the clone's word, and the node itself goes on.
        assert!(network.endings(4).is_empty(), "seed {seed}");
        for host in 1..=3 {
            let member = network.member(host, 4).unwrap();
            assert_eq!(member.incarnation.generation, 1, "seed {seed}");
            assert_eq!(member.about.peer_address(), address(4));
        }
        let (node, refusal) = (NodeId(1), Refusal::AliveElsewhere(address(4)));
        assert!(network.reports(9).contains(&&Report::RefusedBy { node, refusal }));
        // Once it is gone, the other may take its place.
        network.kill(4);
        network.run(60_000);
        assert_eq!(network.member(1, 4).unwrap().about.peer_address(), address(9));
    }
}

/// Two processes at one address, as behind a virtual address that moved: no refusal can tell them
/// apart, but the one whose place was taken finds its own nonce in the other's entry.
#[test]
fn a_process_whose_place_was_taken_while_it_lived_stops_and_says_so() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 4);
        network.copy_disk(4, 9);
        network.start_as(9, 4, |config| {
            config.seeds = (1..=3).map(address).collect();
            config.about = About::new("node4", address(4));
        });
        network.run(60_000);
        let [Ending::Superseded { by, .. }] = network.endings(4)[..] else {
            panic!("seed {seed}: {:?}", network.outcomes(4))
        };
        assert_eq!(network.member(1, 4).unwrap().incarnation, *by);
    }
}

/// Two nodes that were both given one name, on empty disks, at the same time: one of them stops.
#[test]
fn of_two_nodes_with_one_name_one_stops() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 3);
        for host in [8, 9] {
            network.start_as(host, 7, |config| {
                config.seeds = vec![address(host - 7)];
                config.about = About::new("node7", "host8:7380");
            });
        }
        network.run(120_000);
        let ended = network.endings(8).len() + network.endings(9).len();
        assert_eq!(ended, 1, "seed {seed}");
        assert_eq!(network.state(1, 7), Some(MemberState::Joining));
    }
}

/// A hears B through others, but what B sends A is lost: its requests time out, and only A suspects
/// B.
#[test]
fn of_a_one_way_cut_time_outs_tell_the_side_that_hears_nothing() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 5);
        network.run(30_000);
        network.cut_one_way(2, 1);
        network.forget_outcomes();
        for _ in 0..30 {
            network.step(1, Event::TimedOut(NodeId(2)));
            network.run(500);
        }
        assert_eq!(network.liveness(1, 2), Some(Liveness::Suspected), "seed {seed}");
        for host in 2..=5 {
            assert_eq!(network.outcomes(host), [], "seed {seed}");
        }
        assert!(
            network
                .outcomes(1)
                .iter()
                .all(|(_, outcome)| { matches!(outcome, Outcome::Liveness(NodeId(2), _)) })
        );
        network.heal();
        network.run(20_000);
        assert_eq!(network.liveness(1, 2), Some(Liveness::Reachable), "seed {seed}");
    }
}

/// Stopped for a minute and resumed, as by SIGSTOP: it thinks that no time has passed.
#[test]
fn a_node_that_was_paused_comes_back_by_itself_and_suspects_nobody() {
    for seed in 0..SEEDS {
        let mut network = Network::founded(seed, 4);
        network.run(30_000);
        network.forget_outcomes();
        network.pause(4);
        network.run(60_000);
        assert_eq!(network.liveness(1, 4), Some(Liveness::Suspected), "seed {seed}");
        network.resume(4);
        network.run(10_000);
        for host in [1, 2, 3] {
            assert_eq!(network.liveness(host, 4), Some(Liveness::Reachable), "seed {seed}");
        }
        assert_eq!(network.outcomes(4), [], "seed {seed}");
        assert!(network.is_even());
    }
}

#[test]
fn a_generation_is_on_disk_before_anybody_hears_of_it() {
    let mut network = Network::founded(1, 3);
    for _ in 0..5 {
        network.kill(3);
        network.restart(3);
        network.run(2_000);
        let known = network.member(1, 3).unwrap().incarnation;
        assert_eq!(network.disk(3).unwrap().incarnation, known);
    }
}

#[test]
fn the_same_seed_gives_the_same_history() {
    let history = |seed| {
        let mut network = Network::founded(seed, 6);
        network.faults = BAD;
        network.run(60_000);
        (1..=6).map(|host| network.outcomes(host).to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(history(1), history(1));
    assert_ne!(history(1), history(2));
}

#[test]
fn values_published_apart_merge_everywhere() {
    let mut network = Network::new(4);
    // The union of sets of bytes.
    let union = |_: &str, a: &[u8], b: &[u8]| {
        let both: std::collections::BTreeSet<u8> = a.iter().chain(b).copied().collect();
        both.into_iter().collect()
    };
    for host in 1..=4 {
        network.start(host, |config| {
            config.bootstrap = Some(CLUSTER);
            config.seeds = vec![address(1), address(2)];
            config.merge_value = union;
        });
    }
    network.cut(&[1, 2], &[3, 4]);
    let publish = |network: &mut Network, host, name: &str, byte| {
        let (name, bytes) = (name.to_owned(), Bytes::from(vec![byte]));
        network.command(host, Command::Publish { name, bytes }).unwrap();
    };
    publish(&mut network, 1, "ring", 1);
    publish(&mut network, 2, "ring", 2);
    publish(&mut network, 3, "ring", 3);
    publish(&mut network, 4, "policy", 4);
    network.run(30_000);
    network.heal();
    network.run_until_even(30_000);
    assert_eq!(network.gossip(4).values().get("ring").unwrap().as_ref(), [1, 2, 3]);
    assert_eq!(network.gossip(1).values().get("policy").unwrap().as_ref(), [4]);
    assert_eq!(network.disk(1).unwrap().values, *network.gossip(4).values());
}

/// The small form of `examples/spread.rs`: 1 to 100 ms of delay, 1 % of loss, timers up to a fifth late.
const ORDINARY: Faults =
    Faults { delay_min_ms: 1, delay_max_ms: 100, loss: 10, duplication: 0, lateness_ms: 200 };

#[test]
fn a_change_is_known_to_all_within_twice_log2_n_rounds() {
    for nodes in [10, 50] {
        let mut network = Network::founded(1, nodes);
        network.faults = ORDINARY;
        network.encoded = false;
        network.run(20_000);
        let mut slow = 0;
        for change in 0..100 {
            let host = 1 + network.random.below(nodes);
            let load = Load { stored_bytes: change, requests_per_second: 1 };
            network.command(host, Command::Busy(load)).unwrap();
            let rounds = network.run_until_even(30_000) as f64 / 1_000.0;
            slow += u32::from(rounds > 2.0 * (nodes as f64).log2());
        }
        assert!(slow <= 1, "{slow} of 100 changes took longer among {nodes}");
    }
}

/// A small form of what `examples/spread.rs` measures up to 1,000 nodes.
#[test]
fn a_dead_node_is_suspected_by_all_of_many_within_ten_seconds() {
    let mut network = Network::founded(1, 60);
    network.faults = ORDINARY;
    network.encoded = false;
    network.run(60_000);
    network.forget_outcomes();
    network.kill(7);
    network.run(10_000);
    for host in (1..=60).filter(|&host| host != 7) {
        let said: Vec<&Outcome> = network.outcomes(host).iter().map(|(_, it)| it).collect();
        assert_eq!(said, [&Outcome::Liveness(NodeId(7), Liveness::Suspected)], "host {host}");
    }
}

#[test]
fn a_start_that_is_news_is_asked_at_once_when_it_is_met_and_no_other() {
    let mut network = Network::founded(1, 3);
    network.run(20_000);
    let known = network.member(1, 3).unwrap().incarnation;
    let config = Config::new(NodeId(1), "ducks", About::new("node1", address(1)), 9);
    let mut gossip = Gossip::new(config, network.disk(1), 0).unwrap();
    gossip.step(0, Event::Tick { random: 1 }, &mut Vec::new());
    let mut opened = |node, incarnation| {
        let mut effects = Vec::new();
        gossip.step(1, Event::Met { node: NodeId(node), incarnation }, &mut effects);
        effects.into_iter().any(|effect| match effect {
            Effect::Send { to, message } => {
                assert_eq!(to, Destination::Node(NodeId(node)));
                matches!(message.body, Body::Open(_))
            }
            other => panic!("{other:?}"),
        })
    };
    let next = Incarnation { generation: known.generation + 1, nonce: 5 };
    assert!(!opened(3, known));
    assert!(opened(3, next));
    assert!(opened(4, known));
    assert!(!opened(1, next));
}

#[test]
fn in_an_hour_of_jitter_and_loss_nobody_is_suspected_who_lives() {
    let mut network = Network::founded(1, 10);
    network.faults = ORDINARY;
    network.encoded = false;
    network.run(20_000);
    network.forget_outcomes();
    network.run(3_600_000);
    for host in 1..=10 {
        assert_eq!(network.outcomes(host), []);
    }
    let died_ms = network.now_ms;
    network.kill(7);
    network.run(10_000);
    for host in (1..=10).filter(|&host| host != 7) {
        let [(at_ms, ref outcome)] = network.outcomes(host)[..] else {
            panic!("{:?}", network.outcomes(host))
        };
        assert_eq!(*outcome, Outcome::Liveness(NodeId(7), Liveness::Suspected));
        assert!(at_ms - died_ms <= 10_000);
    }
}

/// Its former peers still know it, and speak to it.
#[test]
fn a_node_that_left_its_cluster_for_another_takes_no_other_one() {
    for seed in 0..SEEDS {
        let mut network = Network::new(seed);
        let other = ClusterId(8);
        network.start(1, |config| config.bootstrap = Some(CLUSTER));
        network.start(3, |config| config.bootstrap = Some(other));
        network.start(2, |config| {
            // The first that answers is of the cluster that it left.
            config.seeds = vec![address(1), address(3)];
            config.left = [CLUSTER].into();
        });
        network.run(120_000);
        assert_eq!(*network.gossip(2).cluster_ids(), [other].into(), "seed {seed}");
        assert_eq!(network.gossip(3).table().len(), 2);
    }
}

/// It began anew with its way to the other one: those that it left remember a later start of it, and that it
/// was up there.
#[test]
fn what_a_node_was_in_the_cluster_that_it_left_it_is_not_in_the_other_one() {
    for seed in 0..SEEDS {
        let mut network = Network::new(seed);
        let other = ClusterId(8);
        network.start(1, |config| config.bootstrap = Some(CLUSTER));
        network.start(3, |config| config.bootstrap = Some(other));
        network.start(2, |config| config.seeds = vec![address(1)]);
        network.run(60_000);
        network.command(2, Command::Declare(Phase::Up)).unwrap();
        network.run(10_000);
        network.kill(2);
        network.restart(2);
        network.run(10_000);
        assert_eq!(network.state(1, 2), Some(MemberState::Up), "seed {seed}");
        network.kill(2);
        network.wipe(2);
        network.start(2, |config| {
            config.seeds = vec![address(1), address(3)];
            config.left = [CLUSTER].into();
        });
        network.run(120_000);
        assert_eq!(*network.gossip(2).cluster_ids(), [other].into(), "seed {seed}");
        assert_eq!(network.state(3, 2), Some(MemberState::Joining), "seed {seed}");
    }
}
