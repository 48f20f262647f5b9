//! What each durability promises at a crash, and how far acknowledgements run ahead of the index.

use proptest::prelude::*;

use super::*;

#[derive(Clone, Debug)]
enum Step {
    Add(Durability),
    /// The batch that waits goes into the log, with a sync if anybody asked for one.
    Log,
    /// A second is over.
    Interval,
    Checkpoint,
}

fn step() -> impl Strategy<Value = Step> {
    let durability =
        prop_oneof![Just(Durability::Sync), Just(Durability::Interval), Just(Durability::None)];
    prop_oneof![
        6 => durability.prop_map(Step::Add),
        4 => Just(Step::Log),
        1 => Just(Step::Interval),
        1 => Just(Step::Checkpoint),
    ]
}

/// Elements are added to one set, numbered in the order in which they are given.
#[derive(Default)]
struct Promised {
    given: u64,
    /// Numbers acknowledged as `sync`; as `interval`.
    synced: u64,
    appended: u64,
    /// Everything up to here was appended when a sync of the interval succeeded.
    interval: u64,
    in_log: u64,
}

proptest! {
    /// After the loss of power: everything acknowledged as `sync`, everything that an interval's sync
    /// covered. After the end of the process: everything acknowledged but as `none`. In either case
    /// what is there is what was given first, without a gap.
    #[test]
    fn a_crash_takes_an_unsynced_tail_and_nothing_before_it(
        steps in prop::collection::vec(step(), 1..60), is_power_lost in any::<bool>(), seed in any::<u64>(),
    ) {
        let disk = SimDisk::new();
        let mut one = Stepped::open(&disk, config(1, 1));
        let mut promised = Promised::default();
        let mut durabilities = BTreeMap::new();
        for step in &steps {
            match step {
                Step::Add(durability) => {
                    promised.given += 1;
                    let number = promised.given;
                    durabilities.insert(number, *durability);
                    let mut command = update(&key("s"), add(&[&number.to_string()]));
                    if let Command::Update { durability: given, .. } = &mut command {
                        *given = *durability;
                    }
                    one.give(number, command);
                }
                Step::Log => {
                    if one.take() {
                        one.commit();
                        promised.in_log = promised.given;
                    }
                }
                Step::Interval => {
                    one.log.sync().unwrap();
                    promised.interval = promised.in_log;
                }
                Step::Checkpoint if one.engine.is_settled() && one.engine.freeze(0) => {
                    let checkpoint = one.engine.take_checkpoint().expect("all of it is in the log");
                    one.write(&checkpoint);
                }
                Step::Checkpoint => {}
            }
            for (number, answer) in one.answered() {
                match (&answer, durabilities[&number]) {
                    (Answer::Durable, Durability::Sync) => promised.synced = number,
                    (Answer::Durable, Durability::Interval) => promised.appended = number,
                    (Answer::Durable, Durability::None) | (Answer::Prepared { .. }, _) => {}
                    _ => prop_assert!(false, "{answer:?}"),
                }
            }
        }
        drop(one);
        if is_power_lost {
            let mut state = seed;
            disk.crash(&mut |bound| {
                state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9).wrapping_add(seed | 1);
                (state >> 33) % bound
            });
        } else {
            disk.files.process_ended();
        }
        let mut two = MemoryEngine::open(disk, config(1, 2)).unwrap();
        let left = elements(&whole(&mut two, &key("s"))).len() as u64;
        let first: BTreeSet<_> = (1..=left).map(|number| blob(&number.to_string())).collect();
        prop_assert_eq!(elements(&whole(&mut two, &key("s"))), first, "no gap");
        let Promised { given, synced, appended, interval, .. } = promised;
        let least = if is_power_lost { synced.max(interval) } else { synced.max(appended) };
        prop_assert!((least..=given).contains(&left), "{left} of {given}, at least {least}");
        prop_assert!(check(&two).is_clean());
    }
}

/// With half of what may be pending in memory and a checkpoint under way, no batch is taken: so the
/// acknowledgements wait, and with them their clients, until the index has caught up.
#[test]
fn acknowledgements_wait_while_the_index_is_half_of_the_bound_behind() {
    let bound = 64 << 10;
    let limits = EngineConfig { pending_bytes_max: bound, ..config(1, 1) };
    let mut one = Stepped::open(&SimDisk::new(), limits);
    let mut ticket = 0;
    let mut write = |one: &mut Stepped| {
        ticket += 1;
        one.give(ticket, update(&key(&ticket.to_string()), put(&"x".repeat(1_000))));
    };
    write(&mut one);
    assert!(one.take());
    one.commit();
    assert!(one.engine.freeze(0));
    let checkpoint = one.engine.take_checkpoint().expect("all of it is in the log");
    // Below the half nobody waits for the checkpoint.
    while one.engine.pending_bytes() <= bound / 2 {
        one.answered();
        write(&mut one);
        if one.engine.pending_bytes() <= bound / 2 {
            assert!(one.take());
            one.commit();
            assert!(one.answered().iter().any(|(_, answer)| *answer == Answer::Durable));
        }
    }
    assert!(!one.take(), "beyond it they do");
    assert!(one.answered().iter().all(|(_, answer)| *answer != Answer::Durable));
    assert!(one.engine.pending_bytes() < bound, "and nothing is refused yet");
    one.write(&checkpoint);
    assert!(one.take());
    one.commit();
    assert!(one.answered().iter().any(|(_, answer)| *answer == Answer::Durable));
}
