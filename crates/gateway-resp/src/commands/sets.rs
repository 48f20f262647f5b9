//! Sets: observed-remove sets. A concurrent add wins over a remove.

use bytes::Bytes;
use replication::Answer;
use values::{Operation, OrsetOp, Scope, State, Tag};

use super::collections::{self, ScanOptions, Scanned, changed, typed};
use crate::codec::Args;
use crate::plan::{Context, Planned, blobs, read, write};
use crate::reply::Reply;

/// The elements that an answer shows.
fn elements(answer: &Answer) -> impl Iterator<Item = &Bytes> {
    let set = match answer.view.value.state(Tag::ORSET) {
        Some(State::Orset(set)) => Some(set),
        _ => None,
    };
    set.into_iter().flat_map(|set| set.store.0.keys())
}

fn contains(answer: &Answer, element: &[u8]) -> bool {
    match answer.view.value.state(Tag::ORSET) {
        Some(State::Orset(set)) => set.store.0.contains_key(element),
        _ => false,
    }
}

fn scope_of(elements: &[Bytes]) -> Scope {
    Scope::Elements { tag: Tag::ORSET, elements: elements.iter().cloned().collect() }
}

pub(crate) fn sadd(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    cx.one(write(args.at(1), Operation::Orset(OrsetOp::Add(blobs(args.skip(2)))))?, changed)
}

pub(crate) fn srem(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    cx.one(write(args.at(1), Operation::Orset(OrsetOp::Remove(blobs(args.skip(2)))))?, changed)
}

pub(crate) fn smembers(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let render = |answer: Answer| Reply::Set(elements(&answer).cloned().map(Reply::Bulk).collect());
    cx.one(read(args.at(1), Scope::Whole)?, typed(Tag::ORSET, render))
}

pub(crate) fn sismember(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let wanted = blobs(args.skip(2));
    let request = read(args.at(1), scope_of(&wanted))?;
    let render = move |answer: Answer| Reply::Flag(contains(&answer, &wanted[0]));
    cx.one(request, typed(Tag::ORSET, render))
}

pub(crate) fn smismember(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let wanted = blobs(args.skip(2));
    let request = read(args.at(1), scope_of(&wanted))?;
    let render = move |answer: Answer| {
        Reply::Array(wanted.iter().map(|name| Reply::Flag(contains(&answer, name))).collect())
    };
    cx.one(request, typed(Tag::ORSET, render))
}

pub(crate) fn scard(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    collections::size(cx, args.at(1), Tag::ORSET)
}

pub(crate) fn sscan(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let options = ScanOptions::parse(args.skip(3), Scanned::Members)?;
    collections::scan(cx, args, Tag::ORSET, options, |answer| {
        elements(answer).map(|name| (name.clone(), None)).collect()
    })
}
