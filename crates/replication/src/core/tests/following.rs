//! Requests that wait for one before them, at a node that owns nothing of their key.

use super::tails::stranger;
use super::*;

/// Has the core take a call that comes after the one before it.
fn follow(core: &mut Core, id: u64, request: Request, effects: &mut Vec<Effect>) {
    let after = (id > 1).then(|| CallId(id - 1));
    // No test has more than four.
    let is_followed = id < 4;
    core.step(at(0), Event::Request { id: CallId(id), request, after, is_followed }, effects);
}

fn put(key: &Key, value: &'static str) -> Request {
    Request::update(key.clone(), Operation::Bytes(BytesOp::Put(value.into())))
}

/// To whom requests are passed on, and what they put.
fn forwards(effects: &[Effect]) -> Vec<(NodeId, String)> {
    let forwards = effects.iter().filter_map(|effect| match effect {
        Effect::Send { to, message } => match &message.body {
            Body::Forward(request) => {
                let action = format!("{:?}", request.action);
                let value = ["a", "b", "c"]
                    .into_iter()
                    .find(|value| action.contains(&format!("b\"{value}\"")));
                Some((*to, value.unwrap_or("?").to_owned()))
            }
            _ => None,
        },
        _ => None,
    });
    forwards.collect()
}

fn replies(effects: &[Effect]) -> Vec<(u64, &Result<Reply, RequestError>)> {
    let replies = effects.iter().filter_map(|effect| match effect {
        Effect::Reply { id, reply } => Some((id.0, reply)),
        _ => None,
    });
    replies.collect()
}

/// It would go to its key's next owner while the one before it is at the first, or end as unknown.
#[test]
fn a_lost_link_does_not_begin_or_end_what_waits_and_it_goes_where_somebody_is() {
    let (mut core, key) = stranger();
    let mut effects = Vec::new();
    for (id, value) in [(1, "a"), (2, "b"), (3, "c")] {
        follow(&mut core, id, put(&key, value), &mut effects);
    }
    let [(first, a)] = &forwards(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(a, "a");
    let other = (2..=5).map(NodeId).find(|node| node != first).unwrap();
    effects.clear();
    core.step(at(1), Event::LinkDown(other), &mut effects);
    core.step(at(600), Event::Tick, &mut effects);
    assert_eq!((forwards(&effects), replies(&effects)), (vec![], vec![]));
    // What was sent may be done, and nothing else was sent.
    core.step(at(601), Event::LinkDown(*first), &mut effects);
    let unknown = Err(RequestError::Unknown { acked: 0, needed: 2, disk: None });
    assert_eq!(replies(&effects), [(1, &unknown)]);
    let [(second, b)] = &forwards(&effects)[..] else { panic!("{effects:?}") };
    assert_eq!(b, "b");
    assert!(second != first && *second != other);
}

/// One that it is not sent for want of time was not done, and those behind it stay behind the first.
#[test]
fn what_waits_ends_in_time_and_what_is_behind_it_stays_behind_the_first() {
    let (mut core, key) = stranger();
    let mut effects = Vec::new();
    follow(&mut core, 1, put(&key, "a"), &mut effects);
    let hurried = Request { timeout_ms: Some(100), ..put(&key, "b") };
    follow(&mut core, 2, hurried, &mut effects);
    follow(&mut core, 3, put(&key, "c"), &mut effects);
    effects.clear();
    core.step(at(100), Event::Tick, &mut effects);
    assert_eq!(replies(&effects), [(2, &Err(RequestError::Overloaded))]);
    assert_eq!(forwards(&effects), []);
    let get = Request { timeout_ms: Some(50), ..Request::get(key, Scope::Whole) };
    follow(&mut core, 4, get, &mut effects);
    effects.clear();
    core.step(at(150), Event::Tick, &mut effects);
    assert_eq!(replies(&effects), [(4, &Err(RequestError::Timeout))]);
}

/// What fallbacks keep for others says nothing of what the owners hold.
#[test]
fn a_read_that_all_owners_refuse_does_not_show_that_nothing_is_there() {
    let (mut core, key) = stranger();
    let mut effects = Vec::new();
    let call = Call::Request(Request::get(key, Scope::Headers));
    core.step(at(0), Event::Call { id: CallId(1), call }, &mut effects);
    let mut answers = Vec::new();
    let mut left = effects;
    while !left.is_empty() {
        let mut next = Vec::new();
        for effect in left {
            match effect {
                Effect::Send { to, message } => {
                    let busy = Body::Shown(Err(StorageError::Busy));
                    let owns = core
                        .shared
                        .owners(core.shared.partition(&foreign(&message)), 3)
                        .contains(&to);
                    let body = if owns { busy } else { Body::Shown(Ok(View::default())) };
                    next.extend(received(&mut core, to.0, message.id, body));
                }
                Effect::Storage { ticket, .. } => {
                    next.extend(stored(&mut core, at(1), ticket, Answer::View(View::default())));
                }
                other => answers.push(other),
            }
        }
        left = next;
    }
    let busy = Err(RequestError::Storage(StorageError::Busy));
    assert_eq!(replies(&answers), [(1, &busy)]);
}

/// The key that a question is about.
fn foreign(message: &Message) -> Key {
    match &message.body {
        Body::Read { key, .. } | Body::Digest { key, .. } => key.clone(),
        other => panic!("{other:?}"),
    }
}
