//! Types that Redis lacks (carts, grow-only sets, counters), levels per connection, and looking
//! behind a key.

use bytes::Bytes;
use client::explained;
use replication::{Answer, Explanation, Level, OWNERS_MAX};
use values::{CartOp, CounterOp, GsetOp, Operation, Scope, State, Tag};

use super::collections::{self, changed, typed};
use crate::codec::Args;
use crate::plan::{
    Context, Planned, Refusal, blobs, check_arity, integer, key, read, syntax_error,
    unknown_subcommand, write,
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
    let is_strict = match (args.len(), args.at(3)) {
        (3, _) => false,
        (4, word) if word.eq_ignore_ascii_case(b"STRICT") => true,
        _ => return Err(syntax_error()),
    };
    let level = Level { r: replicas(args.at(1))?, w: replicas(args.at(2))?, n: None };
    (cx.session.level, cx.session.is_strict) = (level, is_strict);
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
    let show: fn(&Explanation) -> String = match (args.len(), &args.at(2).to_ascii_uppercase()[..])
    {
        (2, _) | (3, b"TEXT") => explained::text,
        (3, b"JSON") => |found: &Explanation| explained::json(found).to_string(),
        (3, b"SVG") => explained::svg,
        _ => return Err(syntax_error()),
    };
    cx.call(move |datastore| async move {
        let shown = match datastore.explain(key).await {
            Ok(found) => explained::aside(found, show).await,
            Err(error) => Err(error),
        };
        shown.map_or_else(Reply::failed_read, Reply::Verbatim)
    })
}
