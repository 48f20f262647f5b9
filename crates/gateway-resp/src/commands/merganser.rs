//! Types that Redis lacks (carts, grow-only sets, counters), levels per connection, and looking
//! behind a key.

use bytes::Bytes;
use clock::{Dot, NodeId};
use replication::{Answer, Explanation, Level, OWNERS_MAX, ReplicaView, summarize};
use values::{CartOp, CounterOp, GsetOp, Operation, Scope, State, Tag, View};

use super::collections::{self, changed, typed};
use super::siblings::{Names, show_dot};
use crate::codec::Args;
use crate::plan::{
    Context, Planned, Refusal, blobs, check_arity, integer, key, read, unknown_subcommand, write,
};
use crate::reply::Reply;

fn quantity(argument: &[u8]) -> Result<u64, Refusal> {
    u64::try_from(integer(argument)?)
        .map_err(|_| Reply::Error("ERR a quantity is not negative".into()))
}

pub(crate) fn cart(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let item = || Bytes::copy_from_slice(args.at(3));
    let operation = match &args.at(1).to_ascii_uppercase()[..] {
        b"ADD" => {
            check_arity(&args, "mg.cart|add", 5, 5)?;
            CartOp::Add { item: item(), quantity: quantity(args.at(4))? }
        }
        b"REMOVE" => {
            check_arity(&args, "mg.cart|remove", 4, 4)?;
            CartOp::Remove(item())
        }
        b"SET" => {
            check_arity(&args, "mg.cart|set", 5, 5)?;
            CartOp::SetQuantity { item: item(), quantity: quantity(args.at(4))? }
        }
        b"ITEMS" => {
            check_arity(&args, "mg.cart|items", 3, 3)?;
            return cx.one(read(args.at(2), Scope::Whole)?, typed(Tag::CART, cart_items));
        }
        _ => return Err(unknown_subcommand("MG.CART", args.at(1))),
    };
    cx.one(write(args.at(2), Operation::Cart(operation))?, changed)
}

fn cart_items(answer: Answer) -> Reply {
    let Some(State::Cart(cart)) = answer.view.value.state(Tag::CART) else {
        return Reply::Map(Vec::new());
    };
    let items = cart.store.0.iter().map(|(item, adds)| {
        let sum: u128 = adds.0.values().copied().map(u128::from).sum();
        (item.clone().into(), Reply::Wide(i128::try_from(sum).unwrap_or(i128::MAX)))
    });
    Reply::Map(items.collect())
}

pub(crate) fn gset(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    match &args.at(1).to_ascii_uppercase()[..] {
        b"ADD" => {
            check_arity(&args, "mg.gset|add", 4, usize::MAX)?;
            cx.one(write(args.at(2), Operation::Gset(GsetOp::Add(blobs(args.skip(3)))))?, changed)
        }
        b"MEMBERS" => {
            check_arity(&args, "mg.gset|members", 3, 3)?;
            let render = |answer: Answer| match answer.view.value.state(Tag::GSET) {
                Some(State::Gset(set)) => {
                    Reply::Set(set.store.0.keys().cloned().map(Reply::Bulk).collect())
                }
                _ => Reply::Set(Vec::new()),
            };
            cx.one(read(args.at(2), Scope::Whole)?, typed(Tag::GSET, render))
        }
        b"CONTAINS" => {
            check_arity(&args, "mg.gset|contains", 4, 4)?;
            let element = Bytes::copy_from_slice(args.at(3));
            let elements = [element.clone()].into();
            let scope = Scope::Elements { tag: Tag::GSET, elements };
            let render = move |answer: Answer| match answer.view.value.state(Tag::GSET) {
                Some(State::Gset(set)) => Reply::Flag(set.store.0.contains_key(&element)),
                _ => Reply::Flag(false),
            };
            cx.one(read(args.at(2), scope)?, typed(Tag::GSET, render))
        }
        b"CARD" => {
            check_arity(&args, "mg.gset|card", 3, 3)?;
            collections::size(cx, args.at(2), Tag::GSET)
        }
        _ => Err(unknown_subcommand("MG.GSET", args.at(1))),
    }
}

pub(crate) fn counter(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let operation = match &args.at(1).to_ascii_uppercase()[..] {
        b"ADD" => {
            check_arity(&args, "mg.counter|add", 4, 4)?;
            CounterOp::Add(integer(args.at(3))?)
        }
        b"RESET" => {
            check_arity(&args, "mg.counter|reset", 3, 3)?;
            CounterOp::Reset
        }
        b"GET" => {
            check_arity(&args, "mg.counter|get", 3, 3)?;
            return cx.one(read(args.at(2), Scope::Headers)?, typed(Tag::COUNTER, total));
        }
        _ => return Err(unknown_subcommand("MG.COUNTER", args.at(1))),
    };
    cx.one(write(args.at(2), Operation::Counter(operation))?, total)
}

fn total(answer: Answer) -> Reply {
    match answer.view.value.state(Tag::COUNTER) {
        Some(State::Counter(counter)) => Reply::Wide(counter.tally.value()),
        _ => Reply::Integer(0),
    }
}

pub(crate) fn quorum(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let replicas = |argument| match u8::try_from(integer(argument)?) {
        Ok(0) => Ok(None),
        Ok(count @ ..=OWNERS_MAX) => Ok(Some(count)),
        _ => {
            let text = format!("r and w are 0 to {OWNERS_MAX}; 0 takes the bucket's own");
            Err(Reply::error("ERR", text))
        }
    };
    let level = Level { r: replicas(args.at(1))?, w: replicas(args.at(2))?, n: None };
    cx.session.level = level;
    cx.reply(Reply::Ok)
}

pub(crate) fn cut(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    links(cx, args, true)
}

pub(crate) fn heal(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    links(cx, args, false)
}

fn links(cx: &mut Context<'_>, args: Args<'_>, cut: bool) -> Planned {
    let member = String::from_utf8_lossy(args.at(1)).into_owned();
    cx.call(move |datastore| async move {
        match datastore.cut_links(&member, cut).await {
            Ok(()) => Reply::Ok,
            Err(error) => Reply::failed(&error),
        }
    })
}

pub(crate) fn explain(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let key = key(args.at(1))?;
    cx.call(|datastore| async move {
        match datastore.explain(key).await {
            Ok(explanation) => Reply::Verbatim(explain_text(&explanation)),
            Err(error) => Reply::failed_read(error),
        }
    })
}

/// Most siblings or elements that an explanation shows of each type.
const SHOWN_MAX: usize = 10;
/// Most bytes that an explanation shows of each value.
const SHOWN_BYTES_MAX: usize = 60;

fn explain_text(explanation: &Explanation) -> String {
    let Explanation { key, partition, names, preference_list, n, replicas, merged } = explanation;
    let name = |node: &NodeId| names.get(node).cloned().unwrap_or_else(|| format!("{node:?}"));
    let list = |nodes: &[NodeId]| nodes.iter().map(name).collect::<Vec<_>>().join(", ");
    let (owners, fallbacks) = preference_list.split_at(preference_list.len().min(usize::from(*n)));
    let mut lines = vec![
        format!("key        {} in bucket {}", shown(key.key()), shown(key.bucket())),
        format!("type       {}", type_names(merged)),
        format!("partition  {partition}"),
        format!("owners     {} (n={n})", list(owners)),
    ];
    if !fallbacks.is_empty() {
        lines.push(format!("fallbacks  {}", list(fallbacks)));
    }
    if merged.live_tags().len() > 1 {
        lines.push(
            "conflict   created with several types at once; each is readable as its own".into(),
        );
    }
    lines.push("merged".into());
    lines.extend(describe_view(merged, names));
    for ReplicaView { node, view, pending_for } in replicas {
        // Values, not views: those carry digests of rows, which a merged one has not.
        let agrees = view.as_ref().is_ok_and(|view| view.value == merged.value);
        lines.push(format!("at {}{}", name(node), if agrees { " (the same)" } else { "" }));
        match view {
            Ok(_) if agrees => {}
            Ok(view) => lines.extend(describe_view(view, names)),
            Err(reason) => lines.push(format!("  {reason}")),
        }
        if !pending_for.is_empty() {
            lines.push(format!("  holds what is still to reach {}", list(pending_for)));
        }
    }
    lines.push(String::new());
    lines.join("\n")
}

fn type_names(view: &View) -> String {
    match &view.live_tags()[..] {
        [] => "none".into(),
        tags => tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
    }
}

/// The states of a view, a few lines for each type.
fn describe_view(view: &View, names: &Names) -> Vec<String> {
    let mut lines = Vec::new();
    for (&tag, state) in &view.value.0 {
        let clock = summarize(state.context(), names);
        lines.push(format!("  {tag} {clock}"));
        let mut entries = describe_state(state, names);
        let count = entries.len();
        entries.truncate(SHOWN_MAX);
        lines.extend(entries.into_iter().map(|entry| format!("    {entry}")));
        if count > SHOWN_MAX {
            lines.push(format!("    and {} more", count - SHOWN_MAX));
        }
    }
    if lines.is_empty() {
        lines.push("  nothing".into());
    }
    lines
}

fn describe_state(state: &State, names: &Names) -> Vec<String> {
    let dots = |dots: &mut dyn Iterator<Item = Dot>| {
        dots.map(|dot| show_dot(dot, names)).collect::<Vec<_>>().join(" ")
    };
    match state {
        State::Bytes(state) => state
            .store
            .0
            .iter()
            .map(|(&dot, sibling)| {
                format!("{}: {} at {}", show_dot(dot, names), shown(&sibling.value), sibling.stamp)
            })
            .collect(),
        State::Register(register) => {
            let base = register.base.iter().map(|base| {
                let value = base.value.as_ref().map_or("deleted".into(), |value| shown(value));
                format!("{}: {value} at {}", show_dot(base.dot, names), base.stamp)
            });
            let tally = &register.tally;
            let sum = tally
                .is_live()
                .then(|| format!("{}: {:+}", dots(&mut tally.live_dots()), tally.value()));
            base.chain(sum).collect()
        }
        State::Counter(counter) => {
            let parts = counter.tally.entries().filter(|(_, entry)| entry.is_live());
            parts
                .map(|(actor, entry)| {
                    let dot = Dot::new(actor, entry.upto());
                    format!("{}: {:+}", show_dot(dot, names), entry.value())
                })
                .collect()
        }
        State::Gset(set) | State::Orset(set) => set
            .store
            .0
            .iter()
            .map(|(element, adds)| {
                format!("{} {}", shown(element), dots(&mut adds.0.keys().copied()))
            })
            .collect(),
        State::Cart(cart) => cart
            .store
            .0
            .iter()
            .map(|(item, adds)| {
                let adds: Vec<String> = adds
                    .0
                    .iter()
                    .map(|(&dot, quantity)| format!("{}: +{quantity}", show_dot(dot, names)))
                    .collect();
                format!("{} {}", shown(item), adds.join(" "))
            })
            .collect(),
        State::Map(map) => map
            .store
            .0
            .iter()
            .filter_map(|(name, field)| {
                let value = field.read()?;
                let mut writes = field.writes.0.keys().copied().chain(field.tally.live_dots());
                Some(format!("{} = {} {}", shown(name), shown(&value), dots(&mut writes)))
            })
            .collect(),
        State::Opaque(encodings) => {
            vec![format!("{} encodings of a type that this build does not know", encodings.len())]
        }
    }
}

/// Bytes for people: quoted, escaped, cut short.
fn shown(bytes: &[u8]) -> String {
    let cut = &bytes[..bytes.len().min(SHOWN_BYTES_MAX)];
    let more = if cut.len() < bytes.len() {
        format!("… ({} bytes)", bytes.len())
    } else {
        String::new()
    };
    match std::str::from_utf8(bytes) {
        Ok(text) if more.is_empty() => format!("{text:?}"),
        _ => format!("\"{}\"{more}", cut.escape_ascii()),
    }
}

#[cfg(test)]
mod tests {
    use clock::{Actor, CausalContext, Stamp};
    use values::{CartOp, Key, Limits, Mint, Operation, Value};

    use super::*;

    #[test]
    fn replicas_that_show_what_is_merged_are_the_same_whatever_their_digests() {
        let mint = Mint { actor: Actor::new(NodeId(1), 0, 0), stamp: Stamp::from_millis(1) };
        let add = Operation::Cart(CartOp::Add { item: "tea".into(), quantity: 2 });
        let (seen, limits) = (CausalContext::default(), Limits::default());
        let delta = add.prepare(&View::default(), &seen, mint, &limits).unwrap().delta;
        let mut value = Value::default();
        value.apply(&delta);
        let merged = View::of(value);
        let mut view = merged.clone();
        view.collections.values_mut().for_each(|summary| summary.digest = 7);
        let explanation = Explanation {
            key: Key::new("default", "ada").unwrap(),
            partition: 3,
            names: [(NodeId(1), "a".to_owned()), (NodeId(2), "b".to_owned())].into(),
            preference_list: vec![NodeId(1), NodeId(2)],
            n: 2,
            replicas: vec![
                ReplicaView { node: NodeId(1), view: Ok(view), pending_for: Vec::new() },
                ReplicaView { node: NodeId(2), view: Ok(View::default()), pending_for: Vec::new() },
            ],
            merged,
        };
        assert_eq!(
            explain_text(&explanation),
            "key        \"ada\" in bucket \"default\"\ntype       cart\npartition  3\n\
             owners     a, b (n=2)\nmerged\n  cart {a:1}\n    \"tea\" a:1: +2\n\
             at a (the same)\nat b\n  nothing\n"
        );
    }
}
