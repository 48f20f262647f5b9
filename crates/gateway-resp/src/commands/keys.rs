//! Keys of any type: deleting, asking for the type, listing.

use std::sync::Arc;

use bytes::Bytes;
use client::Datastore;
use replication::{ScanCursor, ScanRequest};
use values::{Operation, Scope, Tag};

use super::collections::{self, LookedAt, ScanOptions, Scanned, changed};
use crate::codec::Args;
use crate::cursor::{number_of, scan_from};
use crate::plan::{BUCKET, Context, Planned, Refusal, read, write};
use crate::reply::Reply;

/// Most keys that may share the first bits of their places. Places are digests, so that many never
/// do by chance.
const SHARED_MAX: usize = 1_000_000;

/// A type as Redis calls it, or as we do where Redis has no such type.
pub(crate) const fn type_name(tag: Tag) -> &'static str {
    match tag {
        Tag::LWW => "string",
        Tag::ORSET => "set",
        Tag::MAP => "hash",
        other => other.name(),
    }
}

pub(crate) fn del(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    if args.len() == 2 {
        return cx.one(write(args.at(1), Operation::Delete(None))?, changed);
    }
    let requests = args.skip(1).iter().map(|name| write(name, Operation::Delete(None)));
    cx.many(requests, |answer| Reply::Flag(answer.changed > 0), count_true)
}

pub(crate) fn exists(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let requests = args.skip(1).iter().map(|name| read(name, Scope::Headers));
    cx.many(requests, |answer| Reply::Flag(!answer.view.live_tags().is_empty()), count_true)
}

fn count_true(flags: Vec<Reply>) -> Reply {
    Reply::Integer(flags.iter().filter(|&flag| *flag == Reply::Flag(true)).count() as i64)
}

pub(crate) fn type_of(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    cx.one(read(args.at(1), Scope::Headers)?, |answer| match answer.view.live_tags()[..] {
        [] => Reply::Simple("none"),
        [tag] => Reply::Simple(type_name(tag)),
        ref tags => {
            let names: Vec<_> = tags.iter().map(|&tag| type_name(tag)).collect();
            let text = "read each with its own commands, MG.EXPLAIN shows all";
            Reply::error("TYPECONFLICT", format_args!("key holds {}; {text}", names.join(" and ")))
        }
    })
}

pub(crate) fn dbsize(cx: &mut Context<'_>, _: Args<'_>) -> Planned {
    cx.call(|datastore| async move {
        match datastore.count(Bytes::from_static(BUCKET.as_bytes())).await {
            Ok(count) => Reply::Integer(i64::try_from(count).unwrap_or(i64::MAX)),
            Err(error) => Reply::failed_read(error),
        }
    })
}

pub(crate) fn scan(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let number = collections::cursor(args.at(1))?;
    let from = scan_from(number).map_err(|error| Reply::error("ERR", error))?;
    let options = ScanOptions::parse(args.skip(2), Scanned::Keys)?;
    cx.call(move |datastore| async move {
        match scan_page(datastore, number, from, options).await {
            Ok((next, page)) => {
                Reply::Array(vec![Reply::text(next.to_string()), Reply::Array(page)])
            }
            Err(refusal) => refusal,
        }
    })
}

/// Lists keys from `from` on, whose cursor is `number`, until there is a larger cursor to go on
/// with.
async fn scan_page(
    datastore: Arc<dyn Datastore>,
    number: u64,
    mut from: Option<ScanCursor>,
    options: ScanOptions,
) -> Result<(u64, Vec<Reply>), Refusal> {
    // What shares a cursor with the last key of the page before comes again: usually one key.
    let again = u32::from(number != 0);
    let filter = options.filter();
    let mut page = Vec::new();
    let (mut listed, mut looked_at) = (0, LookedAt::default());
    loop {
        let bucket = Bytes::from_static(BUCKET.as_bytes());
        let limit = options.count + again;
        let request = ScanRequest { bucket, cursor: from, limit };
        let found = datastore.scan(request).await.map_err(Reply::failed_read)?;
        if found.incomplete {
            // A listing that lacks keys must not look like one that is complete.
            let text = "some partitions cannot be reached now; the listing would lack keys";
            return Err(Reply::error("UNAVAILABLE", text));
        }
        listed += found.keys.len();
        for (key, tags) in found.keys {
            looked_at.add(key.key()).await;
            let is_kind = options.kind.as_ref().is_none_or(|kind| {
                tags.iter().any(|&tag| kind.eq_ignore_ascii_case(type_name(tag).as_bytes()))
            });
            if is_kind && filter.takes(key.key()) {
                page.push(key.key().clone().into());
            }
        }
        let Some(next) = found.next else {
            return Ok((0, page));
        };
        if next.partition >= 1 << 16 {
            return Err(Reply::error("ERR", "more than 65,536 partitions cannot be scanned"));
        }
        match number_of(&next) {
            Some(larger) if larger > number => return Ok((larger, page)),
            _ if listed > SHARED_MAX => {
                let text = format!("more than {SHARED_MAX} keys at one place of a scan");
                return Err(Reply::error("ERR", text));
            }
            _ => from = Some(next),
        }
    }
}
