//! How fast what was kept for a node is delivered to it.

use storage::{OutboxPosition, Pending};

use super::*;

fn page(first: u8) -> Answer {
    let pending = |at: u8| Pending {
        position: OutboxPosition(vec![at].into()),
        key: Key::new("default", vec![at]).unwrap(),
        delta: Delta::default(),
        version: at.into(),
    };
    Answer::Outbox(vec![pending(first), pending(first + 1)])
}

fn step(core: &mut Core, now: u64, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    core.step(at(now), event, &mut effects);
    effects
}

/// The ticket of the only listing of node 2's outbox among them, if there is one.
fn listing(effects: &[Effect]) -> Option<Ticket> {
    let mut lists = effects.iter().filter_map(|effect| match effect {
        Effect::Storage { ticket, command: Command::Outbox { owner: NodeId(2), .. } } => {
            Some(*ticket)
        }
        _ => None,
    });
    let first = lists.next();
    assert_eq!(lists.next(), None);
    first
}

/// Has node 2 acknowledge all that it was sent.
fn acknowledge(core: &mut Core, now: u64, sent: &[Effect]) -> Vec<Effect> {
    let mut effects = Vec::new();
    for effect in sent {
        let Effect::Send { to: NodeId(2), message } = effect else { panic!("{effect:?}") };
        let body = Body::Merged(Ok(None));
        let answer = Message { body, ..message.clone() };
        effects.extend(step(core, now, Event::Received { from: NodeId(2), message: answer }));
    }
    effects
}

#[test]
fn delivery_rests_for_as_long_as_a_page_took() {
    let mut core = core();
    step(&mut core, 0, Event::LinkDown(NodeId(2)));
    let ticket = listing(&step(&mut core, 10, Event::LinkUp(NodeId(2)))).unwrap();
    let sent = stored(&mut core, at(12), ticket, page(1));
    assert_eq!(sent.len(), 2);
    assert_eq!(listing(&acknowledge(&mut core, 17, &sent)), None);
    assert_eq!(listing(&step(&mut core, 23, Event::Tick)), None);
    let ticket = listing(&step(&mut core, 24, Event::Tick)).expect("after seven milliseconds");
    // One that takes long is followed by a tenth of a second at most.
    let sent = stored(&mut core, at(40), ticket, page(3));
    assert_eq!(listing(&acknowledge(&mut core, 424, &sent)), None);
    let ticket = listing(&step(&mut core, 524, Event::Tick)).expect("after 100 milliseconds");
    // And one that takes no time by none.
    let sent = stored(&mut core, at(524), ticket, page(5));
    assert!(listing(&acknowledge(&mut core, 524, &sent)).is_some());
}
