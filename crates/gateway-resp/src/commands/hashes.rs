//! Hashes: maps of registers with increments. A concurrent set of a field wins over its removal.

use bytes::Bytes;
use replication::{Answer, RequestError};
use values::{Field, MapOp, Operation, Scope, State, Tag, UpdateError};

use super::collections::{self, ScanOptions, Scanned, changed, typed};
use crate::codec::Args;
use crate::plan::{Context, Gathered, Planned, blobs, integer, read, write, wrong_arity};
use crate::reply::Reply;

/// The fields that an answer shows, with their values.
fn fields(answer: &Answer) -> impl Iterator<Item = (&Bytes, Bytes)> {
    let map = match answer.view.value.state(Tag::MAP) {
        Some(State::Map(map)) => Some(map),
        _ => None,
    };
    map.into_iter()
        .flat_map(|map| map.store.0.iter())
        .filter_map(|(name, field)| Some((name, field.read()?)))
}

fn value(answer: &Answer, name: &[u8]) -> Option<Bytes> {
    match answer.view.value.state(Tag::MAP) {
        Some(State::Map(map)) => map.store.0.get(name).and_then(Field::read),
        _ => None,
    }
}

fn scope_of(fields: &[Bytes]) -> Scope {
    Scope::Elements { tag: Tag::MAP, elements: fields.iter().cloned().collect() }
}

pub(crate) fn hset(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let pairs = args.skip(2);
    if !pairs.len().is_multiple_of(2) {
        return Err(wrong_arity("hset"));
    }
    let mut words = pairs.iter().map(Bytes::copy_from_slice);
    let mut fields = Vec::with_capacity(pairs.len() / 2);
    while let (Some(name), Some(value)) = (words.next(), words.next()) {
        fields.push((name, value));
    }
    cx.one(write(args.at(1), Operation::Map(MapOp::Set(fields)))?, changed)
}

pub(crate) fn hget(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let wanted = blobs(args.skip(2));
    let request = read(args.at(1), scope_of(&wanted))?;
    let render = move |answer: Answer| value(&answer, &wanted[0]).map_or(Reply::Null, Reply::Bulk);
    cx.one(request, typed(Tag::MAP, render))
}

pub(crate) fn hmget(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let wanted = blobs(args.skip(2));
    let request = read(args.at(1), scope_of(&wanted))?;
    let render = move |answer: Answer| {
        let mut gathered = Gathered::default();
        // A field named twice is shown twice, so what the answer holds bounds nothing.
        for name in &wanted {
            let shown = value(&answer, name).map_or(Reply::Null, Reply::Bulk);
            if let Err(refusal) = gathered.add(shown) {
                return refusal;
            }
        }
        Reply::Array(gathered.replies)
    };
    cx.one(request, typed(Tag::MAP, render))
}

pub(crate) fn hgetall(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let render = |answer: Answer| {
        let pairs = fields(&answer);
        Reply::Map(pairs.map(|(name, value)| (name.clone().into(), value.into())).collect())
    };
    cx.one(read(args.at(1), Scope::Whole)?, typed(Tag::MAP, render))
}

pub(crate) fn hkeys(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let render = |answer: Answer| {
        Reply::Array(fields(&answer).map(|(name, _)| name.clone().into()).collect())
    };
    cx.one(read(args.at(1), Scope::Whole)?, typed(Tag::MAP, render))
}

pub(crate) fn hvals(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let render =
        |answer: Answer| Reply::Array(fields(&answer).map(|(_, value)| value.into()).collect());
    cx.one(read(args.at(1), Scope::Whole)?, typed(Tag::MAP, render))
}

pub(crate) fn hdel(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    cx.one(write(args.at(1), Operation::Map(MapOp::Remove(blobs(args.skip(2)))))?, changed)
}

pub(crate) fn hexists(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let wanted = blobs(args.skip(2));
    let request = read(args.at(1), scope_of(&wanted))?;
    let render = move |answer: Answer| Reply::Flag(value(&answer, &wanted[0]).is_some());
    cx.one(request, typed(Tag::MAP, render))
}

pub(crate) fn hlen(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    collections::size(cx, args.at(1), Tag::MAP)
}

pub(crate) fn hincrby(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let field = Bytes::copy_from_slice(args.at(2));
    let by = integer(args.at(3))?;
    let not_an_integer = || Reply::Error("ERR hash value is not an integer".into());
    let request = write(args.at(1), Operation::Map(MapOp::Increment { field: field.clone(), by }))?;
    cx.outcome(request, move |outcome| match outcome {
        Ok(answer) => match value(&answer, &field) {
            Some(sum) => std::str::from_utf8(&sum)
                .ok()
                .and_then(|sum| sum.parse().ok())
                .map_or_else(not_an_integer, Reply::Wide),
            // A removal merged meanwhile.
            None => Reply::Integer(0),
        },
        Err(RequestError::Update(UpdateError::NotAnInteger)) => not_an_integer(),
        Err(error) => Reply::failed(&error),
    })
}

pub(crate) fn hscan(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let options = ScanOptions::parse(args.skip(3), Scanned::Fields)?;
    collections::scan(cx, args, Tag::MAP, options, |answer| {
        fields(answer).map(|(name, value)| (name.clone(), Some(value))).collect()
    })
}
