//! Commands that clients know and that we do not do: refused with the reason, never pretended.

use crate::codec::Args;
use crate::plan::{Context, Planned};
use crate::reply::Reply;

pub(crate) fn watch(_: &mut Context<'_>, _: Args<'_>) -> Planned {
    Err(Reply::Error(
        "ERR WATCH is not supported: transactions are not isolated from other replicas' writes; \
         use MG.GET and MG.PUT with the context of the get"
            .into(),
    ))
}

pub(crate) fn flush(_: &mut Context<'_>, _: Args<'_>) -> Planned {
    Err(Reply::Error(
        "ERR flushing is not supported: replicas that are not reachable now would bring keys back; \
         delete keys with DEL"
            .into(),
    ))
}
