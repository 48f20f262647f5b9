//! Removals with a name that were done already.

use values::Causal;

use super::*;
use crate::RequestName;

/// What shows that `actor` did something to the set.
fn knowing(actor: Actor) -> Value {
    let context = [Dot::new(actor, 1)].into_iter().collect();
    [(Tag::ORSET, State::Orset(Causal { context, ..Causal::default() }))].into()
}

/// An owner shows what it has in memory, and its disk can refuse that.
#[test]
fn who_knows_a_removal_is_told_and_counts_once_it_shows_that_it_knows_it_durably() {
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

        let view = View::of(knowing(actor));
        let delta = Delta { value: knowing(actor), ..Delta::default() };
        let effects = received(&mut core, to.0, message.id, Body::Shown(Ok(view.clone())));
        let [Effect::Storage { ticket, .. }] = effects[..] else { panic!("{effects:?}") };
        let repeated = Answer::Prepared {
            delta: delta.clone(),
            changed: 0,
            repeated: true,
            partial: true,
            is_here: true,
            minted: None,
            view: view.clone(),
        };
        let mut effects = stored(&mut core, at(0), ticket, repeated);
        assert_eq!(reply(&stored(&mut core, at(1), ticket, Answer::Durable)), None);
        let [Effect::Send { to, message }] = &effects[..] else { panic!("{effects:?}") };
        let show = Some(operation.scope());
        assert_eq!(message.body, Body::Merge { key: key(), delta: Delta::default(), show });

        let shown = if knows_still { view } else { View::default() };
        effects = received(&mut core, to.0, message.id, Body::Merged(Ok(Some(shown))));
        if knows_still {
            assert_eq!(reply(&effects), None);
            let [Effect::Send { to, message }] = &effects[..] else { panic!("{effects:?}") };
            assert_eq!(message.body, Body::Merge { key: key(), delta, show: None });
            effects = received(&mut core, to.0, message.id, Body::Merged(Ok(None)));
        }
        let Some(Ok(Reply::Answer(answer))) = reply(&effects) else { panic!("{effects:?}") };
        assert!(answer.repeated);
        assert_eq!(answer.acks.answered, 1 + u8::from(knows_still));
    }
}
