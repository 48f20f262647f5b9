//! Removals with a name that were done already.

use values::Causal;

use super::*;
use crate::RequestName;

/// What shows that `actor` did something to the set.
fn knowing(actor: Actor) -> View {
    let context = [Dot::new(actor, 1)].into_iter().collect();
    View::of([(Tag::ORSET, State::Orset(Causal { context, ..Causal::default() }))].into())
}

/// An owner shows what it has in memory, and its disk can refuse that.
#[test]
fn who_knows_a_removal_counts_once_it_shows_that_it_knows_it_durably() {
    for knows_still in [false, true] {
        let mut core = core();
        let operation = Operation::Orset(OrsetOp::Remove(vec!["x".into()]));
        let name = RequestName::parse(b"client:1");
        let actor = name.actor(&config().secret, &key(), &operation);
        let request = Request { name: Some(name), ..Request::update(key(), operation.clone()) };
        let mut effects = Vec::new();
        let event = Event::Call { id: CallId(1), call: Call::Request(request) };
        core.step(at(0), event, &mut effects);
        let [Effect::Send { to, message }] = &effects[..] else { panic!("{effects:?}") };
        assert_eq!(message.body, Body::Read { key: key(), scope: operation.scope() });

        let shown = Body::Shown(Ok(knowing(actor)));
        let effects = received(&mut core, to.0, message.id, shown);
        let [Effect::Storage { ticket, .. }] = effects[..] else { panic!("{effects:?}") };
        let repeated = Answer::Prepared {
            delta: Delta::default(),
            changed: 0,
            repeated: true,
            partial: true,
            is_here: true,
            minted: None,
            view: knowing(actor),
        };
        let effects = stored(&mut core, at(0), ticket, repeated);
        assert_eq!(reply(&stored(&mut core, at(1), ticket, Answer::Durable)), None);
        let [Effect::Send { to, message }] = &effects[..] else { panic!("{effects:?}") };
        let show = Some(operation.scope());
        assert_eq!(message.body, Body::Merge { key: key(), delta: Delta::default(), show });

        let shown = if knows_still { knowing(actor) } else { View::default() };
        let effects = received(&mut core, to.0, message.id, Body::Merged(Ok(Some(shown))));
        let Some(Ok(Reply::Answer(answer))) = reply(&effects) else { panic!("{effects:?}") };
        assert!(answer.repeated);
        assert_eq!(answer.acks.answered, 1 + u8::from(knows_still));
    }
}
