//! Strings: last-writer-wins registers with increments.

use bytes::Bytes;
use replication::{Answer, Request};
use values::{Operation, RegisterOp, Scope, State, Tag};

use super::expiry;
use crate::codec::Args;
use crate::plan::{Context, Planned, Refusal, integer, key, read, write, wrong_arity};
use crate::reply::Reply;

/// What a key's register shows. `Err` if the key is of another type only.
pub(crate) fn register(answer: &Answer) -> Result<Option<Bytes>, Refusal> {
    if let Some(State::Register(register)) = answer.view.value.state(Tag::LWW)
        && let Some(value) = register.read()
    {
        return Ok(Some(value));
    }
    answer.view.check_type(Tag::LWW).map(|()| None).map_err(|_| Reply::wrong_type())
}

pub(crate) fn get(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    cx.one(read(args.at(1), Scope::Headers)?, |answer| match register(&answer) {
        Ok(value) => value.map_or(Reply::Null, Reply::Bulk),
        Err(refusal) => refusal,
    })
}

pub(crate) fn strlen(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    cx.one(read(args.at(1), Scope::Headers)?, |answer| match register(&answer) {
        Ok(value) => Reply::Integer(value.map_or(0, |value| value.len()) as i64),
        Err(refusal) => refusal,
    })
}

fn setting(name: &[u8], value: &[u8]) -> Result<Request, Refusal> {
    let value = Bytes::copy_from_slice(value);
    write(name, Operation::Register(RegisterOp::Set { value, at: None, replace: true }))
}

pub(crate) fn set(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let lifetime = expiry::lifetime(args.skip(3))?;
    expiry::set_living(cx, (args.at(1), args.at(2)), lifetime, "set")
}

pub(crate) fn mget(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let requests = args.skip(1).iter().map(|name| read(name, Scope::Headers));
    // As in Redis, a key of another type is nothing here.
    let value = |answer| register(&answer).ok().flatten().map_or(Reply::Null, Reply::Bulk);
    cx.many(requests, value, Reply::Array)
}

pub(crate) fn mset(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let pairs = args.skip(1);
    if !pairs.len().is_multiple_of(2) {
        return Err(wrong_arity("mset"));
    }
    let requests =
        (0..pairs.len() / 2).map(|pair| setting(pairs.at(2 * pair), pairs.at(2 * pair + 1)));
    cx.many(requests, |_| Reply::Ok, |_| Reply::Ok)
}

fn increment(cx: &mut Context<'_>, name: &[u8], by: i64) -> Planned {
    let request = Request::update(key(name)?, Operation::Register(RegisterOp::Increment(by)));
    cx.one(request, |answer| match register(&answer) {
        Ok(Some(value)) => match std::str::from_utf8(&value).ok().and_then(|v| v.parse().ok()) {
            Some(sum) => Reply::Wide(sum),
            // A concurrent SET to something that is no integer, merged meanwhile, hides the sum.
            None => Reply::Error("ERR value is not an integer or out of range".into()),
        },
        // An increment by 0 of nothing, and a SET or DEL merged meanwhile.
        Ok(None) => Reply::Integer(0),
        Err(refusal) => refusal,
    })
}

pub(crate) fn incr(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    increment(cx, args.at(1), 1)
}

pub(crate) fn decr(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    increment(cx, args.at(1), -1)
}

pub(crate) fn incrby(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    increment(cx, args.at(1), integer(args.at(2))?)
}

pub(crate) fn decrby(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    match integer(args.at(2))?.checked_neg() {
        Some(by) => increment(cx, args.at(1), by),
        None => Err(Reply::Error("ERR decrement would overflow".into())),
    }
}
