//! Read repair (Dynamo §5): replicas that answered a read stale are sent what they lack.

use clock::NodeId;
use values::{Delta, View};

/// Longest repair sent at once, encoded, where it can be cut: what is repaired in the background
/// must not hold up what a client waits for. A guess.
const REPAIR_BYTES_MAX: usize = 1 << 20;

/// What each owner lacks of `merged`, among those that showed something; a lot of it in parts.
pub(crate) fn repairs<'a>(
    merged: &View,
    shown: impl IntoIterator<Item = (NodeId, &'a View)>,
    owners: &[NodeId],
) -> Vec<(NodeId, Delta)> {
    shown
        .into_iter()
        .filter(|(node, _)| owners.contains(node))
        .filter_map(|(node, view)| Some((node, merged.repair(view)?)))
        .flat_map(|(node, delta)| {
            delta.split_repair(REPAIR_BYTES_MAX).into_iter().map(move |part| (node, part))
        })
        .collect()
}

#[cfg(test)]
mod tests {

    use clock::{Actor, CausalContext, Dot, NodeId};
    use values::{Blob, Causal, DotFun, DotMap, State, Tag, Value, View};

    use super::{REPAIR_BYTES_MAX, repairs};

    fn page(names: &[&'static str], next: Option<&'static str>) -> View {
        let all = ["a", "b", "c", "d"];
        let dot = |name: &str| {
            let at = all.iter().position(|known| *known == name).unwrap();
            Dot::new(Actor::new(NodeId(1), 7, 0), at as u64 + 1)
        };
        let context: CausalContext = all.iter().map(|name| dot(name)).collect();
        let store = names
            .iter()
            .map(|name| (Blob::from_static(name.as_bytes()), DotFun([(dot(name), ())].into())))
            .collect();
        let state = State::Orset(Causal { store: DotMap(store), context });
        let value = Value::from([(Tag::ORSET, state)]);
        View { value, next: next.map(Blob::from), ..View::default() }
    }

    #[test]
    fn a_page_that_ends_early_removes_nothing_beyond_its_end() {
        let (short, long) = (page(&["a", "b"], Some("b")), page(&["a", "b", "c"], Some("c")));
        let mut merged = short.clone();
        merged.merge(&long);
        let shown = [(NodeId(1), &short), (NodeId(2), &long)];
        assert_eq!(repairs(&merged, shown, &[NodeId(1), NodeId(2)]), []);
    }

    #[test]
    fn an_owner_that_lacks_an_element_is_sent_it_and_a_fallback_is_not() {
        let mut stale = page(&["a"], None);
        if let Some(State::Orset(set)) = stale.value.0.get_mut(&Tag::ORSET) {
            set.context = set.store.0.values().flat_map(|dots| dots.0.keys().copied()).collect();
        }
        let mut merged = page(&["a", "b"], None);
        merged.merge(&stale);
        let shown = [(NodeId(1), &stale), (NodeId(2), &stale)];
        let sent = repairs(&merged, shown, &[NodeId(2)]);
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].0, NodeId(2));
        assert_eq!(sent[0].1.named_elements(Tag::ORSET), [Blob::from("b")].into());
    }

    #[test]
    fn a_large_repair_is_sent_in_parts_that_bring_all_of_it() {
        let actor = Actor::new(NodeId(1), 7, 0);
        let long =
            |number: u64| Blob::from([vec![b'x'; 60_000], number.to_be_bytes().into()].concat());
        let store =
            (1..=50).map(|number| (long(number), DotFun([(Dot::new(actor, number), ())].into())));
        let context = (1..=50).map(|number| Dot::new(actor, number)).collect();
        let state = State::Orset(Causal { store: DotMap(store.collect()), context });
        let merged = View::of(Value::from([(Tag::ORSET, state)]));
        let nothing = View::default();
        let sent = repairs(&merged, [(NodeId(2), &nothing)], &[NodeId(2)]);
        assert_eq!(sent.len(), 3);
        let mut repaired = Value::default();
        for (_, part) in &sent {
            assert!(clock::encode(part).len() <= REPAIR_BYTES_MAX);
            repaired.apply(part);
        }
        assert_eq!(repaired, merged.value);
    }
}
