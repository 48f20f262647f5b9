use super::*;
use crate::{Checked, is_long};

/// Two owners, one of which loses its disk.
const LOSSES: Forgetful = Forgetful {
    members: 2,
    rounds: 1,
    losses: 1,
    reads: false,
    third: Third::Empty,
    hears: Hears::Apart,
    rules: BarrierRules::ALL,
};

/// Two owners and a third member, all of which know at once how far others are.
const HOLDERS: Forgetful = Forgetful { members: 3, losses: 0, hears: Hears::AtOnce, ..LOSSES };

const ALL: BarrierRules = BarrierRules::ALL;

fn assert_holds(name: &str, model: Forgetful) {
    let checked = Checked::of(model);
    println!("barrier, {name}: {}", checked.told());
    assert_eq!((&checked.wrong, &checked.unseen), (&None, &vec![]), "{}", checked.told());
}

fn assert_broken(rules: BarrierRules, model: Forgetful) {
    let checked = Checked::of(Forgetful { rules, ..model });
    println!("barrier without a rule: {rules:?}: {}", checked.told());
    assert!(checked.wrong.is_some(), "{rules:?}: {}", checked.told());
}

#[test]
fn nothing_forgotten_comes_back_where_disks_are_lost_or_old() {
    let wide = Forgetful { rounds: 2, reads: true, ..LOSSES };
    assert_holds("disks", if is_long() { wide } else { LOSSES });
}

#[test]
fn nothing_forgotten_comes_back_out_of_a_hint_or_a_former_owner() {
    for third in [Third::Empty, Third::KeepsHint, Third::FormerOwner] {
        // Reads make many states of few.
        let reads = is_long() || third == Third::Empty;
        assert_holds(&format!("{third:?}"), Forgetful { third, reads, ..HOLDERS });
        if is_long() {
            let late = Forgetful { third, hears: Hears::Acting, ..HOLDERS };
            assert_holds(&format!("{third:?}, heard of late"), late);
        }
    }
}

#[test]
fn each_rule_left_out_brings_it_back_to_two_owners() {
    for rules in [
        BarrierRules { equal: false, ..ALL },
        BarrierRules { ended: false, ..ALL },
        BarrierRules { emptied: false, ..ALL },
        BarrierRules { hidden: false, ..ALL },
        BarrierRules { older: false, ..ALL },
        BarrierRules { refused: false, ..ALL },
        BarrierRules { empty: false, ..ALL },
    ] {
        assert_broken(rules, LOSSES);
    }
    // A new life knows how far others were when it began, so that of what they sent before only repairs are left.
    let reads = Forgetful { reads: true, ..LOSSES };
    assert_broken(BarrierRules { lives: false, ..ALL }, reads);
}

#[test]
fn each_rule_left_out_brings_it_back_from_a_third() {
    let former = Forgetful { third: Third::FormerOwner, ..HOLDERS };
    let reads = Forgetful { third: Third::KeepsHint, reads: true, ..HOLDERS };
    assert_broken(BarrierRules { former: false, ..ALL }, former);
    assert_broken(BarrierRules { second: false, ..ALL }, HOLDERS);
    assert_broken(BarrierRules { third: false, ..ALL }, reads);
    assert_broken(BarrierRules { kept: false, ..ALL }, HOLDERS);
}
