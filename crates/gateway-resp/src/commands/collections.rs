//! What sets, hashes and our own collections have in common: sizes, and scans page by page.

use std::sync::Arc;

use bytes::Bytes;
use replication::Answer;
use values::{Scope, Tag};

use crate::codec::Args;
use crate::glob::{Pattern, PatternText};
use crate::plan::{Context, Planned, Refusal, integer, read, syntax_error};
use crate::reply::Reply;

/// Elements that a page of a scan looks at unless COUNT says otherwise, as in Redis.
const PAGE_DEFAULT: u32 = 10;
/// Most elements, or keys, that a page of a scan looks at.
const PAGE_MAX: i64 = 10_000;

/// Bytes of names that a scan looks at before it lets others go on: the longest key.
const LOOKED_AT_BYTES: usize = 64 << 10;

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
    pattern: Option<PatternText>,
    pub(crate) count: u32,
    /// The type of keys wanted, in any case. SCAN only.
    pub(crate) kind: Option<Bytes>,
    /// Whether fields come without their values. HSCAN only.
    pub(crate) is_bare: bool,
}

/// What a scan lists: the options of some are not for others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scanned {
    Keys,
    Members,
    Fields,
}

/// Which names the MATCH of a scan wants.
pub(crate) struct Filter(Option<Pattern>);

impl Filter {
    /// Whether `name` is wanted.
    pub(crate) fn takes(&self, name: &[u8]) -> bool {
        self.0.as_ref().is_none_or(|pattern| pattern.matches(name))
    }
}

impl ScanOptions {
    /// Reads the options `args`.
    pub(crate) fn parse(args: Args<'_>, scanned: Scanned) -> Result<Self, Refusal> {
        let mut options = Self { pattern: None, count: PAGE_DEFAULT, kind: None, is_bare: false };
        let mut words = args.iter();
        while let Some(option) = words.next() {
            if scanned == Scanned::Fields && option.eq_ignore_ascii_case(b"NOVALUES") {
                options.is_bare = true;
                continue;
            }
            let value = words.next().ok_or_else(syntax_error)?;
            if option.eq_ignore_ascii_case(b"MATCH") {
                let text = PatternText::new(value).map_err(|error| Reply::error("ERR", error))?;
                options.pattern = Some(text);
            } else if option.eq_ignore_ascii_case(b"COUNT") {
                let count = integer(value)?;
                if count < 1 {
                    return Err(syntax_error());
                }
                options.count = count.min(PAGE_MAX) as u32;
            } else if scanned == Scanned::Keys && option.eq_ignore_ascii_case(b"TYPE") {
                options.kind = Some(Bytes::copy_from_slice(value));
            } else {
                return Err(syntax_error());
            }
        }
        Ok(options)
    }

    /// Compiles the pattern: for when the page is made, since scans may wait in a transaction.
    pub(crate) fn filter(&self) -> Filter {
        Filter(self.pattern.as_ref().map(PatternText::compile))
    }
}

/// Reads a cursor.
pub(crate) fn cursor(argument: &[u8]) -> Result<u64, Refusal> {
    std::str::from_utf8(argument)
        .ok()
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Reply::Error("ERR invalid cursor".into()))
}

/// What a page shows of one element: its name, of a field with its value.
type Element = (Bytes, Option<Bytes>);

/// Answers a page of the scan of a collection: `key cursor [options]`. `elements` says what the
/// page may show.
pub(crate) fn scan(
    cx: &mut Context<'_>,
    args: Args<'_>,
    tag: Tag,
    options: ScanOptions,
    elements: fn(&Answer) -> Vec<Element>,
) -> Planned {
    let name = Bytes::copy_from_slice(args.at(1));
    let after = cx.info.places().recall(&name, cursor(args.at(2))?);
    let after = after.map_err(|error| {
        Reply::error("ERR", format_args!("{error}; begin the scan anew, at this node"))
    })?;
    let info = Arc::clone(cx.info);
    // It stays here for as long as the call waits, also when the table has forgotten it.
    cx.plan.bytes += after.as_ref().map_or(0, Bytes::len);
    let range = Scope::Range { tag, after, limit: options.count };
    cx.read_apart(read(args.at(1), range)?, move |answer, _| async move {
        if answer.view.check_type(tag).is_err() {
            return Reply::wrong_type();
        }
        let (filter, mut looked_at) = (options.filter(), LookedAt::default());
        let mut page = Vec::new();
        for (element, value) in elements(&answer) {
            looked_at.add(&element).await;
            if filter.takes(&element) {
                page.push(element.into());
                page.extend(value.filter(|_| !options.is_bare).map(Reply::Bulk));
            }
        }
        let next = match answer.view.next {
            Some(last) => info.places().remember(name, last),
            None => 0,
        };
        Reply::Array(vec![Reply::text(next.to_string()), Reply::Array(page)])
    })
}

/// Bytes of names that a scan looked at since it last let others go on.
#[derive(Default)]
pub(crate) struct LookedAt(usize);

impl LookedAt {
    /// Counts a name that is looked at next, and lets others go on where it is time.
    pub(crate) async fn add(&mut self, name: &[u8]) {
        self.0 += name.len();
        if self.0 > LOOKED_AT_BYTES {
            self.0 = 0;
            tokio::task::yield_now().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::pin::pin;

    use client::{Datastore, MemoryDatastore};
    use values::{Operation, OrsetOp};

    use super::*;
    use crate::codec::{Parsed, Parser};
    use crate::dispatch::plan_command;
    use crate::plan::{Plan, Session, Step, write};
    use crate::server::ServerInfo;

    /// Its cursor is a number of some digits.
    #[test]
    fn the_place_at_which_a_scan_goes_on_counts_among_what_a_transaction_keeps() {
        let info = Arc::new(ServerInfo::new("test", "1.2.3", 0));
        let (mut session, mut plan) = (Session::default(), Plan::default());
        let number = info.places().remember("h".into(), Bytes::from(vec![b'f'; 60_000]));
        let mut given = |command: &str| {
            let mut parser = Parser::new(info.limits);
            let parsed = parser.parse(command.as_bytes());
            let Ok(Parsed::Command(args, _)) = parsed else { panic!("{parsed:?}") };
            plan_command(&mut session, &info, &mut plan, args);
            session.transaction.as_ref().map_or(0, |transaction| transaction.plan.bytes)
        };
        given("MULTI\r\n");
        let start = given("HSCAN h 0\r\n");
        let both = given(&format!("HSCAN h {number}\r\n"));
        assert!((60_000..61_000).contains(&(both - start)), "{start} {both}");
    }

    #[tokio::test]
    async fn a_page_of_long_members_is_looked_at_in_turns() {
        let datastore: Arc<dyn Datastore> = Arc::new(MemoryDatastore::new());
        let members = (0..40).map(|number| Bytes::from(format!("{number:04096}"))).collect();
        let add = write(b"s", Operation::Orset(OrsetOp::Add(members))).unwrap();
        datastore.request(add).await.unwrap();
        let info = Arc::new(ServerInfo::new("test", "1.2.3", 0));
        let (mut session, mut plan) = (Session::default(), Plan::default());
        let mut parser = Parser::new(info.limits);
        let parsed = parser.parse(b"SSCAN s 0 MATCH *1*2*x COUNT 100\r\n");
        let Ok(Parsed::Command(args, _)) = parsed else { panic!("{parsed:?}") };
        plan_command(&mut session, &info, &mut plan, args);
        let Some(Step::Call(call)) = plan.steps.pop() else { panic!("planned otherwise") };
        let (mut page, mut turns) = (pin!(call(datastore)), 0);
        let reply = poll_fn(|cx| {
            turns += 1;
            page.as_mut().poll(cx)
        })
        .await;
        assert_eq!(reply, Reply::Array(vec![Reply::text("0"), Reply::Array(Vec::new())]));
        // After each 64 KiB of names.
        assert_eq!(turns, 3);
    }
}
