//! Times to live: setting, reading and taking away the deadline of a key, in Redis's words.

use bytes::Bytes;
use replication::{Answer, Request, RequestError};
use values::{
    DEADLINE_MS_MAX, Deadline, ExpiryCondition, ExpiryOp, Lifetime, Operation, RegisterOp, Scope,
    UpdateError,
};

use super::collections::changed;
use super::strings::register;
use crate::codec::Args;
use crate::plan::{Context, Planned, Refusal, integer, read, syntax_error, write};
use crate::reply::Reply;

/// How a command writes a time.
#[derive(Clone, Copy)]
pub(crate) struct Unit {
    /// Milliseconds in one.
    ms: i64,
    /// Whether it counts from 1970, and not from now.
    is_absolute: bool,
}

const EX: Unit = Unit { ms: 1_000, is_absolute: false };
const PX: Unit = Unit { ms: 1, is_absolute: false };
const EXAT: Unit = Unit { ms: 1_000, is_absolute: true };
const PXAT: Unit = Unit { ms: 1, is_absolute: true };

impl Unit {
    /// The unit that an option of SET or GETEX names.
    fn of_option(option: &[u8]) -> Option<Self> {
        let units = [("EX", EX), ("PX", PX), ("EXAT", EXAT), ("PXAT", PXAT)];
        let named = units.iter().find(|(name, _)| option.eq_ignore_ascii_case(name.as_bytes()));
        named.map(|(_, unit)| *unit)
    }

    /// The deadline that `argument` says, which may be past.
    fn deadline(self, argument: &[u8], command: &str) -> Result<Deadline, Refusal> {
        let ms = integer(argument)?.checked_mul(self.ms).ok_or_else(|| invalid_time(command))?;
        Ok(match u64::try_from(ms) {
            Ok(ms) if self.is_absolute => Deadline::At(ms),
            Ok(ms) => Deadline::In(ms),
            Err(_) => Deadline::At(0),
        })
    }

    /// The same where nothing past is possible.
    fn positive(self, argument: &[u8], command: &str) -> Result<Deadline, Refusal> {
        match self.deadline(argument, command)? {
            Deadline::At(0) | Deadline::In(0) => Err(invalid_time(command)),
            deadline => Ok(deadline),
        }
    }
}

fn invalid_time(command: &str) -> Refusal {
    Reply::Error(format!("ERR invalid expire time in '{command}' command"))
}

/// What a write with a deadline is answered with where it failed.
fn failed(error: &RequestError, command: &str) -> Reply {
    match error {
        RequestError::Update(UpdateError::DeadlineTooFar) => invalid_time(command),
        other => Reply::failed(other),
    }
}

/// Options of SET that say how long the value lives.
pub(crate) fn lifetime(options: Args<'_>) -> Result<Lifetime, Refusal> {
    let mut lifetime = Lifetime::Usual;
    let mut at = 0;
    while at < options.len() {
        let option = options.at(at);
        let found = if option.eq_ignore_ascii_case(b"KEEPTTL") {
            Lifetime::Keep
        } else if let Some(unit) = Unit::of_option(option) {
            at += 1;
            if at == options.len() {
                return Err(syntax_error());
            }
            Lifetime::Ends(unit.positive(options.at(at), "set")?)
        } else {
            let later = ["NX", "XX", "GET"];
            return Err(match later.iter().find(|o| option.eq_ignore_ascii_case(o.as_bytes())) {
                Some(option) => {
                    Reply::Error(format!("ERR SET option {option} is not supported yet"))
                }
                None => syntax_error(),
            });
        };
        if lifetime != Lifetime::Usual {
            return Err(syntax_error());
        }
        lifetime = found;
        at += 1;
    }
    Ok(lifetime)
}

/// Sets a string that lives until a deadline, or as `lifetime` says.
pub(crate) fn set_living(
    cx: &mut Context<'_>,
    (name, value): (&[u8], &[u8]),
    lifetime: Lifetime,
    command: &'static str,
) -> Planned {
    let value = Bytes::copy_from_slice(value);
    let set = Operation::Register(RegisterOp::Set { value, at: None, replace: true });
    let request = Request { lifetime, ..write(name, set)? };
    cx.outcome(request, move |outcome| match outcome {
        Ok(_) => Reply::Ok,
        Err(error) => failed(&error, command),
    })
}

pub(crate) fn setex(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let lifetime = Lifetime::Ends(EX.positive(args.at(2), "setex")?);
    set_living(cx, (args.at(1), args.at(3)), lifetime, "setex")
}

pub(crate) fn psetex(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let lifetime = Lifetime::Ends(PX.positive(args.at(2), "psetex")?);
    set_living(cx, (args.at(1), args.at(3)), lifetime, "psetex")
}

/// The condition that the options of EXPIRE and its kin name.
fn condition(options: Args<'_>) -> Result<Option<ExpiryCondition>, Refusal> {
    let (mut none, mut some, mut later, mut earlier) = (false, false, false, false);
    for option in options.iter() {
        let flag = match option.to_ascii_uppercase().as_slice() {
            b"NX" => &mut none,
            b"XX" => &mut some,
            b"GT" => &mut later,
            b"LT" => &mut earlier,
            _ => {
                let shown = String::from_utf8_lossy(&option[..option.len().min(128)]);
                return Err(Reply::Error(format!("ERR Unsupported option {shown}")));
            }
        };
        *flag = true;
    }
    if none && (some || later || earlier) {
        let text = "ERR NX and XX, GT or LT options at the same time are not compatible";
        return Err(Reply::Error(text.into()));
    }
    if later && earlier {
        let text = "ERR GT and LT options at the same time are not compatible";
        return Err(Reply::Error(text.into()));
    }
    Ok(match (none, some, later, earlier) {
        (true, ..) => Some(ExpiryCondition::None),
        // Where a later deadline is set the key has one: XX says no more.
        (_, _, true, _) => Some(ExpiryCondition::Later),
        (_, true, _, true) => Some(ExpiryCondition::SomeEarlier),
        (.., true) => Some(ExpiryCondition::Earlier),
        (_, true, ..) => Some(ExpiryCondition::Some),
        _ => None,
    })
}

fn expire_by(cx: &mut Context<'_>, args: Args<'_>, unit: Unit, command: &'static str) -> Planned {
    let only_if = condition(args.skip(3))?;
    let deadline = unit.deadline(args.at(2), command)?;
    let request = write(args.at(1), Operation::Expiry(ExpiryOp::Set { deadline, only_if }))?;
    cx.outcome(request, move |outcome| match outcome {
        Ok(answer) => changed(answer),
        Err(error) => failed(&error, command),
    })
}

pub(crate) fn expire(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    expire_by(cx, args, EX, "expire")
}

pub(crate) fn pexpire(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    expire_by(cx, args, PX, "pexpire")
}

pub(crate) fn expireat(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    expire_by(cx, args, EXAT, "expireat")
}

pub(crate) fn pexpireat(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    expire_by(cx, args, PXAT, "pexpireat")
}

pub(crate) fn persist(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    cx.one(write(args.at(1), Operation::Expiry(ExpiryOp::Persist))?, changed)
}

/// Answers the key's deadline as `shown` writes it, -1 where it has none and -2 where it is not
/// there.
fn deadline_of(
    cx: &mut Context<'_>,
    args: Args<'_>,
    shown: fn(deadline_ms: u64, now_ms: u64) -> u64,
) -> Planned {
    cx.one(read(args.at(1), Scope::Headers)?, move |answer: Answer| {
        let now_ms = answer.time.millis();
        if answer.view.live_tags().is_empty() {
            return Reply::Integer(-2);
        }
        let Some(deadline_ms) = answer.view.deadline_ms(now_ms) else { return Reply::Integer(-1) };
        let shown = shown(deadline_ms.min(DEADLINE_MS_MAX), now_ms);
        Reply::Integer(i64::try_from(shown).unwrap_or(i64::MAX))
    })
}

/// As Redis rounds: to the nearest second.
const fn seconds(ms: u64) -> u64 {
    ms.saturating_add(500) / 1_000
}

pub(crate) fn ttl(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    deadline_of(cx, args, |deadline_ms, now_ms| seconds(deadline_ms.saturating_sub(now_ms)))
}

pub(crate) fn pttl(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    deadline_of(cx, args, u64::saturating_sub)
}

pub(crate) fn expiretime(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    deadline_of(cx, args, |deadline_ms, _| seconds(deadline_ms))
}

pub(crate) fn pexpiretime(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    deadline_of(cx, args, |deadline_ms, _| deadline_ms)
}

/// A read, and then a write of the time to live if the key holds a string: other clients' commands
/// may come between the two.
pub(crate) fn getex(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let op = match args.len() {
        2 => None,
        3 if args.at(2).eq_ignore_ascii_case(b"PERSIST") => Some(ExpiryOp::Persist),
        4 => {
            let unit = Unit::of_option(args.at(2)).ok_or_else(syntax_error)?;
            let deadline = unit.positive(args.at(3), "getex")?;
            Some(ExpiryOp::Set { deadline, only_if: None })
        }
        _ => return Err(syntax_error()),
    };
    let read = read(args.at(1), Scope::Headers)?;
    let Some(op) = op else {
        return cx.one(read, |answer| shown(&answer).unwrap_or_else(|refusal| refusal));
    };
    let level = cx.session.level;
    let write = Request { level, ..write(args.at(1), Operation::Expiry(op))? };
    cx.read_apart(read, |answer, datastore| async move {
        match shown(&answer) {
            Ok(Reply::Null) => Reply::Null,
            Ok(value) => match datastore.request(write).await {
                Ok(_) => value,
                Err(error) => failed(&error, "getex"),
            },
            Err(refusal) => refusal,
        }
    })
}

fn shown(answer: &Answer) -> Result<Reply, Refusal> {
    register(answer).map(|value| value.map_or(Reply::Null, Reply::Bulk))
}
