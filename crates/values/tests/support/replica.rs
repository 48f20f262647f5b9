//! A replica reduced to its value: shows scopes of it as a storage engine would, prepares
//! operations on its own view, and merges what comes in.

use std::collections::BTreeSet;

use clock::{Actor, CausalContext, NodeId, Round, Stamp};
use values::{
    Blob, CollectionSummary, Delta, DotStore, Lifetime, Limits, Mint, Operation, Prepared, Scope,
    State, Tag, UpdateError, Value, View, entry_row,
};

/// One replica of one key.
#[derive(Clone, Debug)]
pub(crate) struct Replica {
    /// Whom its dots name at present.
    pub(crate) actor: Actor,
    /// What it holds.
    pub(crate) value: Value,
    /// What its wall clock shows, in milliseconds.
    pub(crate) wall_ms: u64,
    /// In which round it is.
    pub(crate) round: Round,
}

impl Replica {
    /// Replica number `number`, empty. Node 0 is none: it stands for requests with a name.
    pub(crate) fn new(number: u64) -> Self {
        let actor = Actor::new(NodeId(number + 1), 7_000 + number, 0);
        Self { actor, value: Value::default(), wall_ms: 1_000, round: Round::default() }
    }

    /// What it shows of the key.
    pub(crate) fn show(&self, scope: &Scope) -> View {
        show(&self.value, scope)
    }

    /// Prepares `operation` on `view`, without merging the delta.
    pub(crate) fn prepare(
        &self,
        operation: &Operation,
        view: &View,
        observed: &CausalContext,
    ) -> Result<Prepared, UpdateError> {
        self.prepare_living((operation, Lifetime::Usual), view, observed)
    }

    /// The same, with what becomes of the key's time to live.
    pub(crate) fn prepare_living(
        &self,
        update: (&Operation, Lifetime),
        view: &View,
        observed: &CausalContext,
    ) -> Result<Prepared, UpdateError> {
        self.prepare_as(self.actor, update, (view, observed), &Limits::default())
    }

    /// The same, under an actor that may be a request's.
    pub(crate) fn prepare_as(
        &self,
        actor: Actor,
        (operation, lifetime): (&Operation, Lifetime),
        (view, observed): (&View, &CausalContext),
        limits: &Limits,
    ) -> Result<Prepared, UpdateError> {
        let stamp = Stamp::from_millis(self.wall_ms);
        let mint = Mint { actor, stamp, round: Some(self.round) };
        operation.prepare_living((lifetime, actor), (view, &[]), observed, mint, limits)
    }

    /// Goes on under another actor.
    #[allow(dead_code, reason = "one of the test files that share this one uses it")]
    pub(crate) fn draw_epoch(&mut self) {
        let Actor { replica: node, epoch } = self.actor;
        self.actor = Actor::new(node, epoch.process, epoch.number + 1);
    }

    /// Coordinates `operation` on its own view, for a client that presents `observed`.
    pub(crate) fn put(
        &mut self,
        operation: &Operation,
        observed: &CausalContext,
    ) -> Result<Prepared, UpdateError> {
        let prepared = self.prepare(operation, &self.show(&operation.scope()), observed)?;
        self.value.apply(&prepared.delta);
        Ok(prepared)
    }

    /// Coordinates `operation` on its own view and returns the delta.
    ///
    /// # Panics
    /// If the operation is refused.
    #[allow(dead_code, reason = "one of the two test files that share this one uses it")]
    pub(crate) fn update(&mut self, operation: &Operation) -> Delta {
        self.put(operation, &CausalContext::default()).expect("operation is accepted").delta
    }
}

/// The view of `value` within `scope`, with summaries of the whole collections.
pub(crate) fn show(value: &Value, scope: &Scope) -> View {
    let mut view = View::default();
    for (&tag, state) in &value.0 {
        let mut shown = state.clone();
        let (live, names) = match &mut shown {
            State::Gset(set) | State::Orset(set) => select(tag, &mut set.store.0, scope),
            State::Cart(cart) => select(tag, &mut cart.store.0, scope),
            State::Map(map) if *scope == Scope::Removal => {
                let live = map.store.0.values().filter(|field| field.is_live()).count();
                map.store.0.retain(|_, field| !field.tally.is_empty());
                (live as u64, (BTreeSet::new(), None))
            }
            State::Map(map) => select(tag, &mut map.store.0, scope),
            _ => {
                view.value.0.insert(tag, shown);
                continue;
            }
        };
        if let (_, Some(next)) = names {
            view.next = Some(next);
        }
        view.value.0.insert(tag, shown);
        view.collections
            .insert(tag, CollectionSummary { live, digest: digest(state), exact: true });
    }
    view
}

type Page = (BTreeSet<Blob>, Option<Blob>);

fn select<E: DotStore>(
    tag: Tag,
    store: &mut std::collections::BTreeMap<Blob, E>,
    scope: &Scope,
) -> (u64, Page) {
    let live = store.values().filter(|entry| entry.is_live()).count() as u64;
    let (names, next): Page = match scope {
        Scope::Whole => (store.keys().cloned().collect(), None),
        Scope::Elements { tag: wanted, elements } if *wanted == tag => (elements.clone(), None),
        Scope::Range { tag: wanted, after, limit } if *wanted == tag => {
            let mut rest = store.keys().filter(|name| after.as_ref().is_none_or(|a| *name > a));
            let names: BTreeSet<Blob> = rest.by_ref().take(*limit as usize).cloned().collect();
            let next = rest.next().and_then(|_| names.last().cloned());
            (names, next)
        }
        _ => Page::default(),
    };
    store.retain(|name, _| names.contains(name));
    (live, (names, next))
}

/// Stands in for the digest of a collection's rows: equal exactly for equal rows.
fn digest(state: &State) -> u128 {
    let names: Vec<Blob> = match state {
        State::Gset(set) | State::Orset(set) => set.store.0.keys().cloned().collect(),
        State::Cart(cart) => cart.store.0.keys().cloned().collect(),
        State::Map(map) => map.store.0.keys().cloned().collect(),
        _ => Vec::new(),
    };
    let rows: Vec<_> = names.iter().map(|name| (name, entry_row(state, name))).collect();
    clock::encode(&rows).iter().fold(0xcbf2_9ce4_8422_2325, |hash: u128, byte| {
        (hash ^ u128::from(*byte)).wrapping_mul(0x0100_0000_0000_0000_0000_013b)
    })
}
