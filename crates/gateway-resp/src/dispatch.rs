//! From a command's arguments to its plan: looks the name up, checks the number of arguments, and
//! queues between MULTI and EXEC.

use std::sync::Arc;

use crate::codec::Args;
use crate::plan::{Context, Plan, Planned, Session, Step, wrong_arity};
use crate::reply::Reply;
use crate::server::ServerInfo;
use crate::table::{CommandSpec, Flag, find};

/// Plans one command. Always adds exactly one reply (EXEC: an array of them).
pub(crate) fn plan_command(
    session: &mut Session,
    info: &Arc<ServerInfo>,
    plan: &mut Plan,
    args: Args<'_>,
) {
    let refusal = match check(&args) {
        Ok(spec) if session.transaction.is_none() || spec.has(Flag::Immediate) => {
            (spec.run)(&mut Context { session, info, plan }, args)
        }
        Ok(spec) => queue(session, info, plan, spec, args),
        Err(refusal) => {
            if args.at(0).eq_ignore_ascii_case(b"EXEC") {
                // As in Redis: there is nothing to mend in it, so it ends the transaction.
                session.transaction = None;
                let text = "Transaction discarded because of: wrong number of arguments for \
                            'exec' command";
                Err(Reply::error("EXECABORT", text))
            } else {
                if let Some(transaction) = &mut session.transaction {
                    transaction.is_broken = true;
                }
                Err(refusal)
            }
        }
    };
    if let Err(refusal) = refusal {
        plan.steps.push(Step::Ready(refusal));
    }
}

fn check(args: &Args<'_>) -> Result<&'static CommandSpec, Reply> {
    let spec = find(args.at(0)).ok_or_else(|| unknown_command(args))?;
    if spec.admits(args.len()) {
        Ok(spec)
    } else {
        Err(wrong_arity(&spec.name.to_ascii_lowercase()))
    }
}

/// Most bytes of a name or of arguments that an error repeats, as in Redis.
const REPEATED_BYTES_MAX: usize = 128;

fn unknown_command(args: &Args<'_>) -> Reply {
    let cut = |bytes: &[u8]| {
        String::from_utf8_lossy(&bytes[..bytes.len().min(REPEATED_BYTES_MAX)]).into_owned()
    };
    let mut repeated = String::new();
    for argument in args.skip(1).iter() {
        if repeated.len() >= REPEATED_BYTES_MAX {
            break;
        }
        repeated.push_str(&format!("'{}' ", cut(argument)));
    }
    let name = cut(args.at(0));
    Reply::Error(format!("ERR unknown command '{name}', with args beginning with: {repeated}"))
}

/// Queues a command. What is wrong with its arguments beyond their number is answered at EXEC, in
/// its place.
fn queue(
    session: &mut Session,
    info: &Arc<ServerInfo>,
    plan: &mut Plan,
    spec: &CommandSpec,
    args: Args<'_>,
) -> Planned {
    let Some(mut transaction) = session.transaction.take() else {
        return Ok(());
    };
    let outcome = if spec.has(Flag::NoMulti) {
        Err(Reply::Error("ERR Command not allowed inside a transaction".into()))
    } else if !transaction.admits(&args) {
        Err(Reply::Error("ERR transaction is too long; send it in several".into()))
    } else {
        let queued = &mut transaction.plan;
        let (steps, requests) = (queued.steps.len(), queued.requests.len());
        if let Err(refusal) = (spec.run)(&mut Context { session, info, plan: queued }, args) {
            queued.steps.push(Step::Ready(refusal));
        }
        queued.charge(&args, steps, requests);
        plan.steps.push(Step::Ready(Reply::Simple("QUEUED")));
        Ok(())
    };
    transaction.is_broken |= outcome.is_err();
    session.transaction = Some(transaction);
    outcome
}
