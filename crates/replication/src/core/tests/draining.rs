//! A node that is about to stop: nothing is passed on to it any more, and what was is finished.

use super::*;

/// Five nodes, all in reach of this one, and a key of which it is no owner, with its owners.
fn stranger() -> (Core, Key, Vec<NodeId>) {
    let mut core = core();
    let members: Vec<Member> = (1..=5).map(|id| Member::new(NodeId(id))).collect();
    let ring = Ring::place(&members, PartitionCount::new(8).unwrap(), 3, None).unwrap().ring;
    own(&mut core, ring);
    for node in [4, 5] {
        core.step(at(0), Event::LinkUp(NodeId(node)), &mut Vec::new());
    }
    let mut keys = (0..).map(|number| Key::new("default", format!("{number}")).unwrap());
    let owners = |key: &Key| core.shared.owners(core.shared.partition(key), 3);
    let key = keys.find(|key| !owners(key).contains(&ME)).unwrap();
    let owners = owners(&key);
    (core, key, owners)
}

fn put(core: &mut Core, key: &Key) -> Vec<Effect> {
    let operation = Operation::Bytes(BytesOp::Put("x".into()));
    let call = Call::Request(Request::update(key.clone(), operation));
    let mut effects = Vec::new();
    core.step(at(0), Event::Call { id: CallId(1), call }, &mut effects);
    effects
}

/// The only message among the effects: to whom, under which id, saying what.
fn message(effects: &[Effect]) -> (NodeId, RequestId, &Body) {
    match effects {
        [Effect::Send { to, message }] => (*to, message.id, &message.body),
        other => panic!("{other:?}"),
    }
}

fn drain(core: &mut Core) -> Vec<(NodeId, RequestId, Body)> {
    let mut effects = Vec::new();
    core.step(at(0), Event::Drain, &mut effects);
    let sent = effects.into_iter().filter_map(|effect| match effect {
        Effect::Send { to, message } => Some((to, message.id, message.body)),
        // It looks what it keeps for whom.
        Effect::Storage { command: Command::Outbox { .. }, .. } => None,
        other => panic!("{other:?}"),
    });
    sent.collect()
}

#[test]
fn a_draining_node_refuses_what_is_passed_on_and_what_it_is_to_keep_and_is_a_replica_still() {
    let mut core = core();
    drain(&mut core);
    let id = |number| RequestId { core: 0, number };
    let forward = Body::Forward(Request::update(key(), Operation::Counter(CounterOp::Add(1))));
    let effects = received(&mut core, 2, id(1), forward);
    assert_eq!(message(&effects).2, &Body::Forwarded(Err(RequestError::Stopping)));
    let hint = |owner| Body::Hint { owner: NodeId(owner), key: key(), delta: Delta::default() };
    let effects = received(&mut core, 2, id(2), hint(3));
    assert_eq!(message(&effects).2, &Body::Hinted(Err(StorageError::Busy)));
    for (number, body) in [
        (3, hint(ME.0)),
        (4, Body::Merge { key: key(), delta: Delta::default(), show: None }),
        (5, Body::Read { key: key(), scope: Scope::Whole }),
    ] {
        let effects = received(&mut core, 2, id(number), body);
        assert!(matches!(effects[..], [Effect::Storage { .. }]), "{effects:?}");
    }
    assert_eq!(core.under_way(), 0);
}

#[test]
fn a_drain_is_known_once_every_core_of_every_node_in_reach_goes_by_it() {
    let mut core = core();
    assert!(!core.is_drain_known());
    let asked = drain(&mut core);
    let first = |(to, id, body): &(NodeId, RequestId, Body)| {
        assert_eq!(*body, Body::Draining { core: 0 });
        (to.0, *id)
    };
    let [(2, second), (3, third)] = asked.iter().map(first).collect::<Vec<_>>()[..] else {
        panic!("{asked:?}")
    };
    // The second node has three cores, the third one goes away.
    let effects = received(&mut core, 2, second, Body::DrainingKnown { cores: 3 });
    let more: Vec<(RequestId, &Body)> = effects
        .iter()
        .map(|effect| message(std::slice::from_ref(effect)))
        .map(|it| (it.1, it.2))
        .collect();
    let [(one, Body::Draining { core: 1 }), (two, Body::Draining { core: 2 })] = more[..] else {
        panic!("{more:?}")
    };
    core.step(at(1), Event::LinkDown(NodeId(3)), &mut Vec::new());
    received(&mut core, 3, third, Body::DrainingKnown { cores: 9 });
    for id in [one, two] {
        assert!(!core.is_drain_known());
        // What a further core answers has it ask no more.
        assert_eq!(received(&mut core, 2, id, Body::DrainingKnown { cores: 9 }), []);
    }
    assert!(core.is_drain_known());
    // One that comes back is told too; one that does not answer is not waited for.
    let mut effects = Vec::new();
    core.step(at(2), Event::LinkUp(NodeId(3)), &mut effects);
    assert!(!core.is_drain_known(), "{effects:?}");
    core.step(at(1_002), Event::Tick, &mut effects);
    assert!(core.is_drain_known());
}

#[test]
fn nothing_is_passed_on_to_a_node_that_drains_until_it_is_back() {
    let (mut core, key, owners) = stranger();
    let id = RequestId { core: 0, number: 1 };
    assert_eq!(message(&put(&mut core, &key)).0, owners[0]);
    let effects = received(&mut core, owners[0].0, id, Body::Draining { core: 0 });
    assert_eq!(message(&effects), (owners[0], id, &Body::DrainingKnown { cores: 1 }));
    assert_eq!(message(&put(&mut core, &key)).0, owners[1]);
    core.step(at(1), Event::LinkDown(owners[0]), &mut Vec::new());
    core.step(at(1), Event::LinkUp(owners[0]), &mut Vec::new());
    assert_eq!(message(&put(&mut core, &key)).0, owners[0]);
}

#[test]
fn what_a_draining_node_refused_is_passed_on_to_another_without_a_name_too() {
    let (mut core, key, owners) = stranger();
    let mut effects = put(&mut core, &key);
    let others = core.shared.preference_list(core.shared.partition(&key));
    let others: Vec<NodeId> = others.into_iter().filter(|node| *node != ME).collect();
    for &node in &others {
        let (to, id, body) = message(&effects);
        let Body::Forward(request) = body else { panic!("{body:?}") };
        assert_eq!((to, &request.name), (node, &None));
        effects = received(&mut core, node.0, id, Body::Forwarded(Err(RequestError::Stopping)));
    }
    assert_eq!(others[..3], owners);
    // Nobody is left, and nothing was done.
    assert_eq!(reply(&effects), Some(&Err(RequestError::Stopping)));
    assert_eq!(core.under_way(), 0);
    // What one may have done and another refused is of unknown outcome still.
    let effects = put(&mut core, &key);
    let (to, id, _) = message(&effects);
    let effects = received(&mut core, to.0, id, Body::Forwarded(Err(RequestError::Stopping)));
    let (to, ..) = message(&effects);
    let mut effects = Vec::new();
    core.step(at(1), Event::LinkDown(to), &mut effects);
    let unknown = RequestError::Unknown { acked: 0, needed: 2, disk: None };
    assert_eq!(reply(&effects), Some(&Err(unknown)));
}
