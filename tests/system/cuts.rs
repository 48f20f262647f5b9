//! Nodes that cannot hear one another, both ways or one way only, and one that sleeps: clients go on
//! wherever a node answers, and once all is well all agree.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::agreement::{agree, json, rest, sees};
use super::load::{Ends, History, Load, further};
use super::process::{HASTY, Process, Spec, is_long, within};
use super::proxy::Network;

/// Nodes that do not wait long for one that is silent.
fn founders(directory: &std::path::Path, count: usize) -> Vec<Spec> {
    let mut specs = Spec::founders_and_others(directory, count, 0);
    specs.iter_mut().for_each(|spec| spec.settings += HASTY);
    specs
}

/// The same, which reach one another through proxies, running.
fn cluster(directory: &std::path::Path, count: usize) -> (Vec<Spec>, Network, Vec<Process>) {
    let specs = founders(directory, count);
    let network = Network::new(specs.iter().map(|spec| spec.name.clone()).collect());
    let specs = Spec::through(specs, &network);
    let nodes = specs.iter().map(Spec::start).collect();
    rest(&specs);
    (specs, network, nodes)
}

fn names(specs: &[Spec]) -> Vec<&str> {
    specs.iter().map(|spec| spec.name.as_str()).collect()
}

fn suspects(observers: &[Spec], others: &[Spec], suspected: bool) {
    for observer in observers {
        for other in others {
            let what = if suspected { "suspected" } else { "reachable" };
            sees(observer, &other.name, what, |member| member["suspected"] == suspected);
        }
    }
}

fn tell(history: &History) {
    println!(
        "{} done, {} tries elsewhere, the longest took {:?}",
        history.done(),
        history.elsewhere,
        history.longest
    );
    assert_eq!(history.failed, Vec::<String>::new());
}

#[test]
fn a_cluster_cut_in_two_until_each_side_takes_the_other_for_dead_meets_again_and_agrees() {
    let directory = tempfile::tempdir().unwrap();
    let (specs, network, _nodes) = cluster(directory.path(), 5);
    let (few, many) = specs.split_at(2);
    // Of what both find, each removes some while they do not hear each other.
    let mut before = Load::new("before", &specs, 0);
    before.go_on(200);
    let is_over = AtomicBool::new(false);
    let progress = [const { AtomicU32::new(0) }; 2];
    let histories = thread::scope(|scope| {
        let _ends = Ends(&is_over);
        let loads: Vec<_> = [few, many]
            .into_iter()
            .zip(0..)
            .map(|(side, at)| {
                let load = Load::new("both", side, 0).from(14_000 * at);
                let (is_over, progress) = (&is_over, &progress[at as usize]);
                scope.spawn(move || load.until(is_over, progress))
            })
            .collect();
        progress.iter().for_each(|progress| further(progress, 100));
        network.cut(&names(few), &names(many));
        suspects(few, many, true);
        suspects(many, few, true);
        // Some of it on both sides.
        for (side, share) in [(few, 3), (many, 5)] {
            before.go_to(side);
            assert_ne!(before.remove_where(|number| number % share == 0), 0);
        }
        progress.iter().for_each(|progress| further(progress, 100));
        network.heal();
        suspects(few, many, false);
        suspects(many, few, false);
        progress.iter().for_each(|progress| further(progress, 100));
        is_over.store(true, Ordering::Relaxed);
        loads.into_iter().map(|load| load.join().unwrap()).collect::<Vec<_>>()
    });
    histories.iter().for_each(tell);
    let before = before.end();
    agree(&specs, &[&before, &histories[0], &histories[1]]);
}

#[test]
fn one_of_three_that_is_cut_off_goes_on_alone_and_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let (specs, network, _nodes) = cluster(directory.path(), 3);
    let (one, two) = specs.split_at(1);
    let mut before = Load::new("before", &specs, 0);
    before.go_on(100);
    let mut loads = [Load::new("both", one, 0), Load::new("both", two, 0).from(14_000)];
    loads.iter_mut().for_each(|load| load.go_on(100));
    network.cut(&names(one), &names(two));
    loads.iter_mut().for_each(|load| load.go_on(200));
    for (side, share) in [(one, 3), (two, 5)] {
        before.go_to(side);
        assert_ne!(before.remove_where(|number| number % share == 0), 0);
    }
    network.heal();
    loads.iter_mut().for_each(|load| load.go_on(100));
    let histories = loads.map(Load::end);
    histories.iter().for_each(tell);
    agree(&specs, &[&before.end(), &histories[0], &histories[1]]);
}

#[test]
fn a_node_that_hears_others_and_is_not_heard_or_is_heard_and_hears_nothing_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (specs, network, _nodes) = cluster(directory.path(), 3);
    let (one, two) = specs.split_at(1);
    let is_over = AtomicBool::new(false);
    let progress = AtomicU32::new(0);
    let history = thread::scope(|scope| {
        let _ends = Ends(&is_over);
        let load = Load::new("load", &specs, 0);
        let load = scope.spawn(|| load.until(&is_over, &progress));
        for (from, to) in [(one, two), (two, one)] {
            further(&progress, 100);
            network.cut_one_way(&names(from), &names(to));
            // Neither half of a conversation is one: both sides find the other gone.
            suspects(two, one, true);
            further(&progress, 100);
            network.heal();
            suspects(two, one, false);
            suspects(one, two, false);
        }
        further(&progress, 100);
        is_over.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    tell(&history);
    agree(&specs, &[&history]);
}

#[test]
fn a_node_that_sleeps_and_wakes_as_if_no_time_had_passed_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let specs = founders(directory.path(), 3);
    let nodes: Vec<Process> = specs.iter().map(Spec::start).collect();
    rest(&specs);
    let is_over = AtomicBool::new(false);
    let progress = AtomicU32::new(0);
    let history = thread::scope(|scope| {
        let _ends = Ends(&is_over);
        // It asks the one that sleeps first.
        let load = Load::new("load", &specs, 0);
        let load = scope.spawn(|| load.until(&is_over, &progress));
        further(&progress, 100);
        nodes[0].signal("-STOP");
        let slept = Instant::now();
        suspects(&specs[1..], &specs[..1], true);
        further(&progress, 100);
        if is_long() {
            within(Duration::from_secs(90), "a minute has passed", || {
                (slept.elapsed() >= Duration::from_secs(60)).then_some(())
            });
        }
        nodes[0].signal("-CONT");
        suspects(&specs[1..], &specs[..1], false);
        further(&progress, 100);
        is_over.store(true, Ordering::Relaxed);
        load.join().unwrap()
    });
    tell(&history);
    agree(&specs, &[&history]);
}

/// Whether a node has said that a plan that was committed there lost, and was made again.
fn has_made_its_plan_again(spec: &Spec) -> bool {
    let log = std::fs::read_to_string(spec.data.with_extension("log")).expect("it was begun");
    log.contains("another plan was committed at the same time and won; this one was computed again")
}

#[test]
fn of_two_plans_committed_on_the_sides_of_a_cut_one_wins_everywhere_and_the_other_follows_it() {
    let directory = tempfile::tempdir().unwrap();
    let (specs, network, _nodes) = cluster(directory.path(), 5);
    let (few, many) = specs.split_at(2);
    let mut loads = [Load::new("both", few, 0), Load::new("both", many, 0).from(14_000)];
    loads.iter_mut().for_each(|load| load.go_on(100));
    network.cut(&names(few), &names(many));
    suspects(few, many, true);
    suspects(many, few, true);
    let committers = [&few[0], &many[0]];
    for (by, weight) in committers.into_iter().zip(["2", "3"]) {
        json(by, &["cluster", "weight", &by.name, weight]).expect("it is in reach");
        // Those beyond the cut cannot say that they have it.
        let report =
            json(by, &["--timeout", "1000", "cluster", "commit"]).expect("it is committed");
        assert_eq!((&report["version"], &report["changed"]), (&2.into(), &true.into()));
    }
    loads.iter_mut().for_each(|load| load.go_on(100));
    assert!(!committers.into_iter().any(has_made_its_plan_again));
    network.heal();
    loads.iter_mut().for_each(|load| load.go_on(100));
    for spec in &specs {
        within(Duration::from_secs(120), "the plan of both", || {
            let ring = json(spec, &["status"])?["ring_version"].as_u64()?;
            (ring == 3).then_some(())
        });
    }
    let histories = loads.map(Load::end);
    histories.iter().for_each(tell);
    agree(&specs, &[&histories[0], &histories[1]]);
    let told = committers.into_iter().filter(|spec| has_made_its_plan_again(spec)).count();
    assert_eq!(told, 1, "one of them lost");
    let rings: Vec<_> =
        specs.iter().map(|spec| json(spec, &["ring"]).expect("it answers")).collect();
    assert!(rings.iter().all(|ring| *ring == rings[0]), "{rings:?}");
    for (name, weight) in [("n1", 2), ("n3", 3)] {
        let members = rings[0]["members"].as_array().expect("a list");
        let member = members.iter().find(|member| member["name"] == name).expect("a member");
        assert_eq!(member["weight"], weight, "{name}");
    }
}
