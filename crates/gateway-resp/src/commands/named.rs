//! MG.ID: a writing command under a name (an idempotency key), done once however often it is sent.
//!
//! Names are per key: a command on several keys gives each the same one, and what of it was not
//! done by one try is done by the next.

use replication::RequestName;

use crate::codec::Args;
use crate::dispatch::check;
use crate::plan::{Context, Planned, unnamed};
use crate::reply::Reply;
use crate::table::Flag;

pub(crate) fn id(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let name = RequestName::parse(args.at(1));
    name.check().map_err(|error| Reply::failed(&error))?;
    let command = args.skip(2);
    let spec = check(&command)?;
    if spec.name == "MG.ID" {
        return Err(Reply::Error("ERR MG.ID cannot be nested: a command has one id".into()));
    }
    if !spec.has(Flag::Write) {
        return Err(unnamed());
    }
    cx.session.name = Some(name);
    let planned = (spec.run)(cx, command);
    cx.session.name = None;
    planned
}
