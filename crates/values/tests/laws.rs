//! The laws on which everything rests, over states that generated histories reach: three or four
//! replicas, every operation, deltas duplicated, reordered, delayed and missing. Every step of
//! every history is compared with a model that knows no dots (`support/model.rs`).
//!
//! `PROPTEST_CASES` sets the depth; the nightly run uses 20,000.

#[path = "support/history.rs"]
mod history;
#[path = "support/model.rs"]
mod model;
#[path = "support/replica.rs"]
mod replica;

use std::collections::{BTreeMap, BTreeSet};

use clock::CausalContext;
use history::{World, scopes, show_both, world};
use model::read;
use proptest::prelude::*;
use replica::show;
use values::{
    Blob, Delta, DotStore, Scope, State, Tag, Value, View, empty_collection, entry_row, insert_row,
    is_collection, join_row,
};

fn join(one: &Value, other: &Value) -> Value {
    let mut joined = one.clone();
    joined.merge(other);
    joined
}

fn applied<'a>(value: &Value, deltas: impl IntoIterator<Item = &'a Delta>) -> Value {
    let mut value = value.clone();
    deltas.into_iter().for_each(|delta| value.apply(delta));
    value
}

/// The dots that a delta which touches everything takes away from elements it does not name: what
/// it speaks of and does not itself hold live. This, not the delta's context, is what a clearing
/// recorded in a collection's header may remove from rows: the context of a clearing joined with a
/// later add covers the add as well.
fn cleared_by(delta: &State) -> CausalContext {
    match delta {
        State::Gset(delta) | State::Orset(delta) => delta.context.without(delta.store.dots()),
        State::Cart(delta) => delta.context.without(delta.store.dots()),
        State::Map(delta) => delta.context.without(delta.store.dots()),
        _ => CausalContext::default(),
    }
}

/// A key's collections as storage keeps them: a header with the context and what a clearing
/// removed, and one encoded row per element.
#[derive(Default)]
struct Rows {
    headers: BTreeMap<Tag, (CausalContext, CausalContext)>,
    rows: BTreeMap<(Tag, Blob), Vec<u8>>,
}

impl Rows {
    /// Joins row by row only what the delta names; a clearing is noted in the header.
    fn apply(&mut self, delta: &Delta) {
        for (&tag, state) in delta.value.0.iter().filter(|(tag, _)| is_collection(**tag)) {
            let (context, cleared) = self.headers.entry(tag).or_default();
            if delta.touches_everything(tag) {
                cleared.merge(&cleared_by(state));
            }
            for element in delta.named_elements(tag) {
                let place = (tag, element);
                let row = self.rows.get(&place).map(Vec::as_slice);
                let joined = join_row(tag, row, cleared, context, state, &place.1);
                let joined = joined.expect("a row that was just encoded");
                match joined.after {
                    Some(row) => drop(self.rows.insert(place, row)),
                    None => drop(self.rows.remove(&place)),
                }
            }
            context.merge(state.context());
        }
    }

    fn states(&self) -> BTreeMap<Tag, State> {
        let mut states = BTreeMap::new();
        for (&tag, (context, cleared)) in &self.headers {
            let mut state = empty_collection(tag, context.clone());
            for ((_, element), row) in self.rows.iter().filter(|((of, _), _)| *of == tag) {
                insert_row(&mut state, element.clone(), row, cleared)
                    .expect("a row that was just encoded");
            }
            states.insert(tag, state);
        }
        states
    }
}

/// Deltas in an order drawn from `seed`, some of them twice.
fn shuffled(world: &World, seed: u64) -> Vec<&Delta> {
    let mut word = seed | 1;
    let mut draw = |below: usize| {
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        (word % below as u64) as usize
    };
    let mut deltas: Vec<&Delta> = world.deltas.iter().map(|(delta, _)| delta).collect();
    for at in (1..deltas.len()).rev() {
        deltas.swap(at, draw(at + 1));
    }
    for _ in 0..deltas.len() / 3 {
        deltas.push(deltas[draw(deltas.len())]);
    }
    deltas
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merge_is_a_join(world in world()) {
        let states: Vec<_> = world.replicas.iter().map(|(replica, _)| &replica.value).collect();
        let [a, b, c] = [states[0], states[1], states[2]];
        prop_assert_eq!(join(a, b), join(b, a), "commutative");
        prop_assert_eq!(&join(&join(a, b), c), &join(a, &join(b, c)), "associative");
        prop_assert_eq!(&join(a, a), a, "idempotent");
        prop_assert_eq!(&join(&join(a, b), a), &join(a, b), "an upper bound");
    }

    #[test]
    fn applying_a_delta_is_merging_it_whole(world in world()) {
        for (replica, _) in &world.replicas {
            for (delta, _) in &world.deltas {
                prop_assert_eq!(
                    applied(&replica.value, [delta]), join(&replica.value, &delta.value)
                );
            }
        }
    }

    #[test]
    fn joined_deltas_do_what_each_of_them_does(world in world(), seed: u64) {
        let deltas = shuffled(&world, seed);
        for (replica, _) in &world.replicas {
            for few in deltas.chunks(3) {
                let mut joined = Delta::default();
                few.iter().for_each(|delta| joined.merge(delta));
                prop_assert_eq!(
                    applied(&replica.value, [&joined]), applied(&replica.value, few.iter().copied())
                );
            }
        }
    }

    #[test]
    fn replicas_that_got_everything_in_any_order_are_equal_and_show_what_the_model_says(
        world in world(), seed: u64,
    ) {
        let converged = world.converged();
        prop_assert_eq!(read(&converged), world.model.read(&world.knowledge()));
        for now_ms in (0..40_000).step_by(4_000) {
            let mut left = converged.clone();
            left.expire(now_ms);
            let known = world.model.at(&world.knowledge(), now_ms);
            prop_assert_eq!(read(&left), world.model.read(&known), "at {}", now_ms);
        }
        for (number, (replica, _)) in (0_u64..).zip(&world.replicas) {
            let deltas = shuffled(&world, seed.wrapping_add(number));
            let one_by_one = applied(&replica.value, deltas.iter().copied());
            prop_assert_eq!(&one_by_one, &converged);
            prop_assert_eq!(clock::encode(&one_by_one), clock::encode(&converged));
            let mut outbox = Delta::default();
            deltas.iter().for_each(|delta| outbox.merge(delta));
            prop_assert_eq!(&applied(&replica.value, [&outbox]), &converged);
            prop_assert_eq!(&applied(&Value::default(), deltas), &converged);
        }
        let whole = world.replicas.iter().map(|(replica, _)| Delta::whole(replica.value.clone()));
        prop_assert_eq!(applied(&Value::default(), &whole.collect::<Vec<_>>()), converged);
    }

    /// Whether replicas have removed what is due, and which of them, makes no difference, unless
    /// somebody takes a schedule back of whom they had not heard.
    #[test]
    fn what_is_due_is_removed_alike_whoever_removes_it_first(
        world in world(), now_ms in 0_u64..30_000,
    ) {
        let due = |value: &Value| -> Vec<_> {
            let due = value.schedules().filter(|(_, schedule)| schedule.deadline_ms <= now_ms);
            due.map(|(dot, _)| dot).collect()
        };
        let expired = |value: &Value| {
            let mut value = value.clone();
            value.expire(now_ms);
            value
        };
        let [a, b] = [0, 1].map(|at: usize| &world.replicas[at].0.value);
        let both = join(a, b);
        prop_assert_eq!(&expired(&expired(&both)), &expired(&both), "idempotent");
        prop_assert_eq!(&join(&both, &expired(&both)), &expired(&both), "a removal wins");
        let still_due = due(&both);
        if [a, b].iter().all(|value| due(value).iter().all(|dot| still_due.contains(dot))) {
            let all = expired(&both);
            prop_assert_eq!(&expired(&join(&expired(a), b)), &all);
            prop_assert_eq!(&expired(&join(a, &expired(b))), &all);
            prop_assert_eq!(&expired(&join(&expired(a), &expired(b))), &all);
        }
    }

    #[test]
    fn decoding_an_encoding_gives_back_the_value(world in world()) {
        for (replica, _) in &world.replicas {
            let bytes = clock::encode(&replica.value);
            prop_assert_eq!(&clock::decode::<Value>(&bytes).unwrap(), &replica.value);
        }
        for (delta, _) in &world.deltas {
            prop_assert_eq!(&clock::decode::<Delta>(&clock::encode(delta)).unwrap(), delta);
        }
    }

    #[test]
    fn joining_row_by_row_gives_what_applying_to_the_whole_gives(world in world(), seed: u64) {
        let deltas = shuffled(&world, seed);
        let (mut rows, mut value) = (Rows::default(), Value::default());
        for few in deltas.chunks(2) {
            // Alone, and joined as the outbox delivers them.
            let mut joined = few[0].clone();
            few[1..].iter().for_each(|delta| joined.merge(delta));
            for delta in [few[0], &joined] {
                rows.apply(delta);
                value.apply(delta);
                for (tag, state) in rows.states() {
                    let whole = value.state(tag).unwrap();
                    prop_assert_eq!(&state, whole);
                }
            }
        }
    }

    /// However small the messages in which it must travel.
    #[test]
    fn the_parts_of_a_delta_do_in_any_order_what_it_does(
        world in world(), bytes_max in 0_usize..600, seed: usize,
    ) {
        let mut deltas: Vec<Delta> = world.deltas.iter().map(|(delta, _)| delta.clone()).collect();
        for few in 2..5 {
            let mut joined = Delta::default();
            deltas.iter().step_by(few).for_each(|delta| joined.merge(delta));
            deltas.push(joined);
        }
        deltas.push(Delta::whole(world.converged()));
        for delta in deltas {
            let mut parts = delta.clone().split(bytes_max);
            for part in &parts {
                let bytes = clock::encode(part).len();
                prop_assert!(bytes <= bytes_max || is_one_thing(part), "{bytes}: {part:?}");
                prop_assert!(!part.is_empty() && claims_its_dots(&part.value), "{part:?}");
            }
            if !parts.is_empty() {
                let at = seed % parts.len();
                parts.rotate_left(at);
            }
            if seed % 2 == 1 {
                parts.reverse();
            }
            let values = parts.iter().map(|part| &part.value);
            let joined = values.fold(Value::default(), |joined, part| join(&joined, part));
            prop_assert_eq!(joined, join(&Value::default(), &delta.value));
            for (replica, _) in &world.replicas {
                let value = &replica.value;
                prop_assert_eq!(applied(value, &parts), applied(value, [&delta]));
                let [mut in_parts, mut at_once] = [(), ()].map(|()| {
                    let mut rows = Rows::default();
                    rows.apply(&Delta::whole(value.clone()));
                    rows
                });
                parts.iter().for_each(|part| in_parts.apply(part));
                at_once.apply(&delta);
                prop_assert_eq!(in_parts.states(), at_once.states());
            }
        }
    }

    /// What a coordinator answers from several replicas is what one that had merged them holds.
    #[test]
    fn a_merged_view_shows_within_its_scope_what_the_join_holds(world in world()) {
        let [a, b, c] = [0, 1, 2].map(|at: usize| &world.replicas[at].0.value);
        let joined = join(&join(a, b), c);
        for scope in scopes() {
            let mut merged = show_both(a, b, &scope);
            merged.merge(&show(c, &scope));
            let shown = entries_of(&merged, &None);
            prop_assert_eq!(shown, entries(&joined, &scope, &merged.next), "{:?}", scope);
            for tag in View::of(joined.clone()).live_tags() {
                prop_assert!(merged.is_live(tag), "{:?} hides {}", scope, tag);
            }
        }
    }

    /// Read repair: the stale replica gets what the others show, within the scope that was read,
    /// and learns nothing that their join does not say.
    #[test]
    fn repair_brings_a_stale_replica_up_to_the_view_and_no_further(world in world()) {
        let converged = world.converged();
        let [one, other] = [0, 1].map(|at: usize| &world.replicas[at].0.value);
        let both_ways = scopes().into_iter().flat_map(|scope| {
            [(one, other, scope.clone()), (other, one, scope)]
        });
        for (stale, fresh, scope) in both_ways {
            let merged = show_both(stale, fresh, &scope);
            let last = merged.told_last(&show(stale, &scope));
            let Some(delta) = merged.repair(&show(stale, &scope)) else {
                let stale = applied(stale, &last);
                prop_assert_eq!(entries(&stale, &scope, &merged.next),
                    entries(&join(&stale, fresh), &scope, &merged.next));
                continue;
            };
            let repaired = applied(&applied(stale, [&delta]), &last);
            prop_assert_eq!(entries(&repaired, &scope, &merged.next),
                entries(&join(stale, fresh), &scope, &merged.next), "{:?}", scope);
            prop_assert!(claims_its_dots(&repaired), "{:?}", scope);
            let both = join(stale, fresh);
            prop_assert_eq!(&join(&both, &repaired), &both, "{:?}", scope);
            let deltas = world.deltas.iter().map(|(delta, _)| delta);
            prop_assert_eq!(&applied(&repaired, deltas), &converged, "{:?}", scope);
            let rest = merged.repair(&show(&repaired, &scope));
            prop_assert!(
                rest.is_none_or(|rest| applied(&repaired, [&rest]) == repaired),
                "a repair is not needed twice"
            );
        }
    }

    /// A repair alone, of part of a key, which another must follow; also where the replica is read together with
    /// another one.
    #[test]
    fn a_repair_shows_nothing_that_had_ended(world in world()) {
        let [one, other, third] = [0, 1, 2].map(|at: usize| &world.replicas[at].0.value);
        for (stale, fresh) in [(one, other), (other, one)] {
            for scope in scopes() {
                let merged = show_both(stale, fresh, &scope);
                let delta = merged.repair(&show(stale, &scope)).unwrap_or_default();
                let repaired = applied(stale, [&delta]);
                for beside in [&Value::default(), third] {
                    let [stale, fresh, repaired] = [stale, fresh, &repaired].map(|it| join(it, beside));
                    let both = join(&stale, &fresh);
                    for now_ms in (0..40_000).step_by(4_000) {
                        let before = &elements_at(&stale, now_ms) | &elements_at(&both, now_ms);
                        let after = elements_at(&repaired, now_ms);
                        prop_assert!(after.is_subset(&before), "{:?} at {}", scope, now_ms);
                    }
                }
            }
        }
    }

    #[test]
    fn views_merge_alike_in_any_order(world in world()) {
        for scope in scopes() {
            let [a, b, c] = [0, 1, 2].map(|at: usize| show(&world.replicas[at].0.value, &scope));
            let (mut ab, mut ba) = (a.clone(), b.clone());
            ab.merge(&b);
            ba.merge(&a);
            prop_assert_eq!(&ab, &ba, "{:?}", scope);
            let mut abc = ab;
            abc.merge(&c);
            let mut bca = b;
            bca.merge(&c);
            bca.merge(&a);
            prop_assert_eq!(&abc.value, &bca.value, "{:?}", scope);
            prop_assert_eq!(&abc.next, &bca.next, "{:?}", scope);
        }
    }
}

/// Whether every live dot is in the context beside it, without which a join would duplicate it.
fn claims_its_dots(value: &Value) -> bool {
    value.0.values().all(|state| {
        let dots = match state {
            State::Gset(set) | State::Orset(set) => set.store.dots(),
            State::Cart(cart) => cart.store.dots(),
            State::Map(map) => map.store.dots(),
            _ => Vec::new(),
        };
        dots.into_iter().all(|dot| state.context().contains(dot))
    })
}

/// Whether a part of a delta is not to be cut further: one sibling, element or range of dots, or of
/// a type that is not cut at all.
fn is_one_thing(part: &Delta) -> bool {
    part.value.0.iter().all(|(&tag, state)| {
        let siblings = match state {
            State::Bytes(state) => state.store.0.len(),
            _ => 0,
        };
        match siblings + part.named_elements(tag).len() {
            0 => {
                let is_whole = matches!(tag, Tag::LWW | Tag::COUNTER | Tag::EXPIRY);
                state.context().ranges().count() <= 1 || is_whole
            }
            things => things == 1,
        }
    })
}

/// The elements of all collections that are seen at `now_ms`.
fn elements_at(value: &Value, now_ms: u64) -> BTreeSet<(Tag, Blob)> {
    let mut left = value.clone();
    left.expire(now_ms);
    let left = Delta::whole(left);
    let tags = value.0.keys().copied().filter(|&tag| is_collection(tag));
    tags.flat_map(|tag| left.named_elements(tag).into_iter().map(move |name| (tag, name))).collect()
}

/// What `value` holds within `scope` up to `next`, contexts of collections aside: those of a
/// repaired replica say only what it was shown.
fn entries(value: &Value, scope: &Scope, next: &Option<Blob>) -> Vec<(Tag, Vec<u8>)> {
    let all = match scope.clone() {
        Scope::Range { tag, after, .. } => Scope::Range { tag, after, limit: u32::MAX },
        scope => scope,
    };
    entries_of(&show(value, &all), next)
}

fn entries_of(view: &View, next: &Option<Blob>) -> Vec<(Tag, Vec<u8>)> {
    let mut entries = Vec::new();
    for (&tag, state) in &view.value.0 {
        if !is_collection(tag) {
            let alone = Value::from([(tag, state.clone())]);
            entries.push((tag, clock::encode(&alone)));
            continue;
        }
        let delta = Delta::of(tag, state.clone());
        for name in delta.named_elements(tag) {
            if next.as_ref().is_none_or(|next| name <= *next) {
                let row = entry_row(state, &name).expect("a view holds no bottom");
                entries.push((tag, clock::encode(&(name, row))));
            }
        }
    }
    entries
}
