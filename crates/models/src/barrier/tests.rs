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

fn assert_holds(name: &str, model: Forgetful) {
    let checked = Checked::of(model);
    println!("barrier, {name}: {}", checked.told());
    assert_eq!((&checked.wrong, &checked.unseen), (&None, &vec![]), "{}", checked.told());
}

fn assert_broken(model: Forgetful) {
    let rules = model.rules;
    let checked = Checked::of(model);
    println!("barrier without a rule: {rules:?}: {}", checked.told());
    assert!(checked.wrong.is_some(), "{rules:?}: {}", checked.told());
}

#[test]
fn nothing_forgotten_comes_back_where_disks_are_lost_or_old() {
    let wide = Forgetful { rounds: 2, reads: true, ..LOSSES };
    assert_holds("disks", if is_long() { wide } else { LOSSES });
}

#[test]
fn each_rule_left_out_brings_it_back_to_two_owners() {
    let all = BarrierRules::ALL;
    for rules in [
        BarrierRules { equal: false, ..all },
        BarrierRules { ended: false, ..all },
        BarrierRules { emptied: false, ..all },
        BarrierRules { hidden: false, ..all },
        BarrierRules { older: false, ..all },
        BarrierRules { refused: false, ..all },
        BarrierRules { lives: false, ..all },
        BarrierRules { empty: false, ..all },
    ] {
        assert_broken(Forgetful { rules, ..LOSSES });
    }
}
