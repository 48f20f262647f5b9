//! Transactions: MULTI queues commands, EXEC hands them to the datastore as one batch.
//!
//! A batch, not an isolated unit: other clients' commands may come in between, and each command
//! stands or falls by its own quorum. What Redis promises and no replica set without a lock can
//! keep is refused (WATCH), never pretended.

use crate::codec::Args;
use crate::plan::{Context, Planned, Step, Transaction};
use crate::reply::Reply;

pub(crate) fn multi(cx: &mut Context<'_>, _: Args<'_>) -> Planned {
    if cx.session.transaction.is_some() {
        return Err(Reply::Error("ERR MULTI calls can not be nested".into()));
    }
    cx.session.transaction = Some(Transaction::default());
    cx.reply(Reply::Ok)
}

pub(crate) fn exec(cx: &mut Context<'_>, _: Args<'_>) -> Planned {
    let Some(transaction) = cx.session.transaction.take() else {
        return Err(Reply::Error("ERR EXEC without MULTI".into()));
    };
    if transaction.is_broken {
        let text = "EXECABORT Transaction discarded because of previous errors.";
        return Err(Reply::Error(text.into()));
    }
    let queued = transaction.plan;
    cx.plan.steps.push(Step::Header(queued.steps.len()));
    cx.plan.requests.extend(queued.requests);
    cx.plan.steps.extend(queued.steps);
    Ok(())
}

pub(crate) fn discard(cx: &mut Context<'_>, _: Args<'_>) -> Planned {
    match cx.session.transaction.take() {
        Some(_) => cx.reply(Reply::Ok),
        None => Err(Reply::Error("ERR DISCARD without MULTI".into())),
    }
}

pub(crate) fn unwatch(cx: &mut Context<'_>, _: Args<'_>) -> Planned {
    cx.reply(Reply::Ok)
}
