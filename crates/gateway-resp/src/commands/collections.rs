//! What sets, hashes and our own collections have in common: sizes, and scans page by page.

use std::sync::Arc;

use bytes::Bytes;
use replication::Answer;
use values::{Scope, Tag};

use crate::codec::Args;
use crate::glob::Pattern;
use crate::plan::{Context, Planned, Refusal, integer, read, syntax_error};
use crate::reply::Reply;

/// Elements that a page of a scan looks at unless COUNT says otherwise, as in Redis.
const PAGE_DEFAULT: u32 = 10;
/// Most elements, or keys, that a page of a scan looks at.
const PAGE_MAX: i64 = 10_000;

/// Renders what a key holds of type `tag`, or the refusal of a key of another type.
pub(crate) fn typed(
    tag: Tag,
    render: impl FnOnce(Answer) -> Reply + Send + 'static,
) -> impl FnOnce(Answer) -> Reply + Send + 'static {
    move |answer| match answer.view.check_type(tag) {
        Ok(()) => render(answer),
        Err(_) => Reply::wrong_type(),
    }
}

/// The number of things that a write changed.
pub(crate) fn changed(answer: Answer) -> Reply {
    Reply::Integer(i64::try_from(answer.changed).unwrap_or(i64::MAX))
}

/// Answers the number of live elements of a collection.
pub(crate) fn size(cx: &mut Context<'_>, name: &[u8], tag: Tag) -> Planned {
    let render = move |answer: Answer| {
        let live = answer.view.collections.get(&tag).map_or(0, |summary| summary.live);
        Reply::Integer(i64::try_from(live).unwrap_or(i64::MAX))
    };
    cx.one(read(name, Scope::Headers)?, typed(tag, render))
}

/// Options of a scan.
#[derive(Debug)]
pub(crate) struct ScanOptions {
    pub(crate) pattern: Option<Pattern>,
    pub(crate) count: u32,
    /// The type of keys wanted, in lower case. SCAN only.
    pub(crate) kind: Option<String>,
}

impl ScanOptions {
    /// Reads the options `args`.
    pub(crate) fn parse(args: Args<'_>, allows_type: bool) -> Result<Self, Refusal> {
        let mut options = Self { pattern: None, count: PAGE_DEFAULT, kind: None };
        for at in (0..args.len()).step_by(2) {
            let (option, value) = (args.at(at), args.get(at + 1).ok_or_else(syntax_error)?);
            if option.eq_ignore_ascii_case(b"MATCH") {
                let pattern = Pattern::new(value).map_err(|error| Reply::error("ERR", error))?;
                options.pattern = Some(pattern);
            } else if option.eq_ignore_ascii_case(b"COUNT") {
                let count = integer(value)?;
                if count < 1 {
                    return Err(syntax_error());
                }
                options.count = count.min(PAGE_MAX) as u32;
            } else if allows_type && option.eq_ignore_ascii_case(b"TYPE") {
                options.kind = Some(String::from_utf8_lossy(value).to_ascii_lowercase());
            } else {
                return Err(syntax_error());
            }
        }
        Ok(options)
    }

    /// Whether `name` is wanted.
    pub(crate) fn matches(&self, name: &[u8]) -> bool {
        self.pattern.as_ref().is_none_or(|pattern| pattern.matches(name))
    }
}

/// Reads a cursor.
pub(crate) fn cursor(argument: &[u8]) -> Result<u64, Refusal> {
    std::str::from_utf8(argument)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Reply::Error("ERR invalid cursor".into()))
}

/// Answers a page of the scan of a collection: `key cursor [options]`. `elements` says what the
/// page shows of the elements that the options want.
pub(crate) fn scan(
    cx: &mut Context<'_>,
    args: Args<'_>,
    tag: Tag,
    options: ScanOptions,
    elements: impl FnOnce(&Answer, &ScanOptions) -> Vec<Reply> + Send + 'static,
) -> Planned {
    let name = Bytes::copy_from_slice(args.at(1));
    let after = cx.info.places().recall(&name, cursor(args.at(2))?);
    let after = after.map_err(|error| {
        Reply::error("ERR", format_args!("{error}; begin the scan anew, at this node"))
    })?;
    let info = Arc::clone(cx.info);
    let range = Scope::Range { tag, after, limit: options.count };
    let render = move |answer: Answer| {
        let page = elements(&answer, &options);
        let next = match answer.view.next {
            Some(last) => info.places().remember(name, last),
            None => 0,
        };
        Reply::Array(vec![Reply::text(next.to_string()), Reply::Array(page)])
    };
    cx.one(read(args.at(1), range)?, typed(tag, render))
}
