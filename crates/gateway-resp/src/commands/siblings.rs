//! Raw values with siblings: MG.GET, MG.PUT, MG.DEL, and the contexts that tie them together
//! (Dynamo §4.4).

use std::collections::BTreeMap;

use bytes::Bytes;
use client::Datastore;
use clock::{ContextToken, Dot, NodeId};
use replication::{Answer, Request, summarize};
use values::{BytesOp, Operation, Scope, Sibling};

use crate::codec::Args;
use crate::plan::{Context, Planned, Refusal, read, syntax_error, write};
use crate::reply::Reply;

/// Names of nodes, where they are known.
type Names = BTreeMap<NodeId, String>;

/// The names of all members; none if the cluster cannot be asked.
async fn member_names(datastore: &dyn Datastore) -> Names {
    let status = datastore.status().await;
    let members = status.map(|status| status.members).unwrap_or_default();
    members.into_iter().map(|member| (member.node, member.name)).collect()
}

fn token(argument: &[u8]) -> Result<ContextToken, Refusal> {
    match std::str::from_utf8(argument) {
        Ok(text) => Ok(ContextToken::from(text.to_owned())),
        Err(_) => Err(Reply::error(
            "BADCONTEXT",
            "malformed context token; present the token of a get of this key unchanged",
        )),
    }
}

/// The token of `CONTEXT token` at `at`, if the arguments go on there.
fn option(args: &Args<'_>, at: usize) -> Result<Option<ContextToken>, Refusal> {
    match (args.len() - at, args.at(at)) {
        (0, _) => Ok(None),
        (2, word) if word.eq_ignore_ascii_case(b"CONTEXT") => token(args.at(at + 1)).map(Some),
        _ => Err(syntax_error()),
    }
}

fn new_context(answer: &Answer) -> Reply {
    let token = answer.contexts.get(&answer.raw_tag());
    token.map_or(Reply::Null, |token| Reply::text(token.as_str()))
}

fn found(answer: &Answer, sibling: impl Fn(Dot, &Sibling) -> Reply) -> Reply {
    let Ok(values) = answer.raw_values() else { return Reply::wrong_type() };
    let siblings = values.iter().map(|(dot, value)| sibling(*dot, value)).collect();
    Reply::Map(vec![
        ("siblings".into(), Reply::Array(siblings)),
        ("context".into(), new_context(answer)),
    ])
}

pub(crate) fn get(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let with_dots = match (args.len(), args.at(2)) {
        (2, _) => false,
        (3, word) if word.eq_ignore_ascii_case(b"WITHDOTS") => true,
        _ => return Err(syntax_error()),
    };
    let request = Request { want_context: true, ..read(args.at(1), Scope::Headers)? };
    if !with_dots {
        return cx.one(request, |answer| found(&answer, |_, value| value.value.clone().into()));
    }
    cx.read_apart(request, |answer, datastore| async move {
        let names = member_names(&*datastore).await;
        found(&answer, |dot, value| {
            Reply::Map(vec![
                ("value".into(), value.value.clone().into()),
                ("dot".into(), Reply::text(dot.shown(&names))),
                ("time_ms".into(), Reply::Wide(value.stamp.millis().into())),
            ])
        })
    })
}

pub(crate) fn put(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let context = option(&args, 3)?;
    let put = Operation::Bytes(BytesOp::Put(Bytes::copy_from_slice(args.at(2))));
    let request = Request { context, want_context: true, ..write(args.at(1), put)? };
    cx.one(request, |answer| new_context(&answer))
}

pub(crate) fn del(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let context = option(&args, 2)?;
    let request = Request {
        context,
        want_context: true,
        ..write(args.at(1), Operation::Bytes(BytesOp::Delete))?
    };
    cx.one(request, |answer| new_context(&answer))
}

pub(crate) fn context(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let claims = token(args.at(1))?.peek().map_err(|error| Reply::error("BADCONTEXT", error))?;
    cx.call(move |datastore| async move {
        let names = member_names(&*datastore).await;
        Reply::Verbatim(format!("{} at {}", summarize(&claims.context, &names), claims.time))
    })
}
