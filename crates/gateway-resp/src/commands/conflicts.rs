//! Keys in conflict: MG.CONFLICTS lists them, MG.RESOLVE ends a conflict of types.

use client::{conflict_cursor, parse_conflict_cursor};
use replication::ConflictsRequest;
use storage::Conflicted;
use values::{Operation, Tag};

use super::collections::changed;
use crate::codec::Args;
use crate::plan::{Context, Planned, integer, syntax_error, write};
use crate::reply::Reply;

/// Keys of a page where the command does not say, and at most.
const PAGE: u32 = 100;
const PAGE_MAX: u32 = 1_000;

pub(crate) fn resolve(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    if !args.at(2).eq_ignore_ascii_case(b"KEEP") {
        return Err(syntax_error());
    }
    let name = String::from_utf8_lossy(args.at(3));
    let keep: Tag = name.parse().map_err(|error| Reply::error("ERR", error))?;
    cx.one(write(args.at(1), Operation::Resolve(keep))?, changed)
}

pub(crate) fn list(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let mut request = ConflictsRequest { cursor: None, limit: PAGE };
    let mut at = 1;
    while at < args.len() {
        if at + 1 == args.len() {
            return Err(syntax_error());
        }
        let value = args.at(at + 1);
        match &args.at(at).to_ascii_uppercase()[..] {
            b"COUNT" => {
                let count = u32::try_from(integer(value)?).ok();
                request.limit = count
                    .filter(|count| (1..=PAGE_MAX).contains(count))
                    .ok_or_else(|| Reply::Error(format!("ERR COUNT is 1 to {PAGE_MAX}")))?;
            }
            b"CURSOR" => {
                let cursor = parse_conflict_cursor(value);
                request.cursor = Some(cursor.map_err(|error| Reply::error("ERR", error))?);
            }
            _ => return Err(syntax_error()),
        }
        at += 2;
    }
    cx.call(move |datastore| async move {
        match datastore.conflicts(request).await {
            Ok(page) => {
                let next = page.next.as_ref().map(conflict_cursor);
                Reply::Map(vec![
                    ("node".into(), Reply::text(page.node)),
                    ("keys".into(), Reply::Array(page.keys.iter().map(one).collect())),
                    ("next".into(), next.map_or(Reply::Null, Reply::text)),
                ])
            }
            Err(error) => Reply::failed_read(error),
        }
    })
}

fn one(listed: &Conflicted) -> Reply {
    let types = listed.tags.iter().map(|tag| Reply::text(tag.to_string()));
    Reply::Map(vec![
        ("bucket".into(), listed.key.bucket().clone().into()),
        ("key".into(), listed.key.key().clone().into()),
        ("types".into(), Reply::Array(types.collect())),
        ("siblings".into(), Reply::Integer(listed.siblings.into())),
    ])
}
