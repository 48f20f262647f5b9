//! Listings and counts while an owner does not answer: it holds up a page once at most.

use storage::ListPosition;

use super::*;
use crate::ScanPage;

/// Answers what is asked in `effects` but of those `quiet`: with an empty list, after which more follows where
/// `more` says so. Returns what comes of it, and who was asked.
fn answer(
    core: &mut Core,
    effects: Vec<Effect>,
    quiet: NodeId,
    more: bool,
) -> (Vec<Effect>, Vec<NodeId>) {
    // In the first partition.
    let place = ListPosition(Bytes::from(vec![0; 17]));
    let listing = Listing { keys: Vec::new(), next: more.then_some(place) };
    let (mut next, mut asked) = (Vec::new(), Vec::new());
    for effect in effects {
        let event = match effect {
            Effect::Storage { ticket, command: Command::List { .. } } => {
                Event::Storage { ticket, answer: Answer::Listed(listing.clone()) }
            }
            Effect::Send { to, message } => {
                asked.push(to);
                if to == quiet {
                    continue;
                }
                let body = Body::Listed { listing: Ok(listing.clone()), foreign: Vec::new() };
                Event::Received { from: to, message: Message { body, ..message } }
            }
            other => panic!("{other:?}"),
        };
        core.step(at(1), event, &mut next);
    }
    (next, asked)
}

fn scan(core: &mut Core) -> Vec<Effect> {
    let scan = ScanRequest { bucket: "default".into(), cursor: None, limit: 10 };
    let mut effects = Vec::new();
    core.step(at(0), Event::Call { id: CallId(1), call: Call::Scan(scan) }, &mut effects);
    effects
}

fn page(effects: &[Effect]) -> Option<&ScanPage> {
    match reply(effects)? {
        Ok(Reply::Page(page)) => Some(page),
        other => panic!("{other:?}"),
    }
}

fn suspect(core: &mut Core, node: u64) {
    let event = Event::Suspected { node: NodeId(node), suspected: true };
    core.step(at(0), event, &mut Vec::new());
}

#[test]
fn a_silent_owner_is_waited_for_only_where_the_others_do_not_suffice() {
    let mut core = core();
    let asked = scan(&mut core);
    let (effects, asked) = answer(&mut core, asked, NodeId(3), false);
    assert_eq!((page(&effects), asked), (None, vec![NodeId(2), NodeId(3)]));

    let mut core = self::core();
    suspect(&mut core, 3);
    let asked = scan(&mut core);
    let (effects, asked) = answer(&mut core, asked, NodeId(3), false);
    assert_eq!(asked, [NodeId(2), NodeId(3)]);
    assert!(!page(&effects).unwrap().incomplete, "two of three have answered");

    let mut core = self::core();
    suspect(&mut core, 2);
    core.step(at(0), Event::LinkDown(NodeId(3)), &mut Vec::new());
    let asked = scan(&mut core);
    let (effects, asked) = answer(&mut core, asked, NodeId(2), false);
    assert_eq!((page(&effects), asked), (None, vec![NodeId(2)]));
}

#[test]
fn an_owner_that_let_one_range_wait_is_asked_for_no_other() {
    let mut core = core();
    let asked = scan(&mut core);
    let (waiting, _) = answer(&mut core, asked, NodeId(3), true);
    assert!(waiting.is_empty(), "{waiting:?}");
    let mut next = Vec::new();
    core.step(at(core.next_timeout().unwrap()), Event::Tick, &mut next);
    let (effects, asked) = answer(&mut core, next, NodeId(3), false);
    assert_eq!(asked, [NodeId(2)]);
    assert!(!page(&effects).unwrap().incomplete);
}

#[test]
fn a_silent_owner_counts_nothing_where_another_can() {
    let asked_with = |silent: Option<NodeId>| -> Vec<NodeId> {
        let (mut core, _) = owned::core_of_five();
        let mut effects = Vec::new();
        for node in [4, 5] {
            core.step(at(0), Event::LinkUp(NodeId(node)), &mut effects);
        }
        silent.into_iter().for_each(|node| suspect(&mut core, node.0));
        effects.clear();
        let call = Call::Count { bucket: "default".into() };
        core.step(at(0), Event::Call { id: CallId(1), call }, &mut effects);
        let asked = effects.iter().filter_map(|effect| match effect {
            Effect::Send { to, .. } => Some(*to),
            _ => None,
        });
        asked.collect()
    };
    let first = asked_with(None)[0];
    let others = asked_with(Some(first));
    assert!(!others.is_empty() && !others.contains(&first), "{first} and {others:?}");
}
