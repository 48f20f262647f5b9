//! What happened in a run, line by line, for people.

use std::collections::BTreeSet;
use std::fmt;

use replication::{CallId, Message, RequestId};

use crate::Fault;

/// Longest line, in characters, unless all is to be shown.
const LINE_MAX: usize = 240;

/// One thing that happened. Nodes are numbered from 0.
#[derive(Clone, Debug)]
pub(crate) enum Line {
    Called { node: usize, call_id: CallId, call: String },
    Replied { node: usize, call: CallId, reply: String },
    Sent { from: usize, to: usize, message: Box<Message> },
    Arrived { from: usize, to: usize, message: Box<Message>, arrives: bool },
    Fault { fault: Fault, nodes: Vec<usize> },
    Cut { from: usize, to: usize },
    Mended { from: usize, to: usize },
    Clogged { from: usize, to: usize, for_ms: u64 },
    Healed,
    Slow { node: usize, by_ms: u64 },
    Jumped { node: usize, by_ms: i64 },
    Paused { node: usize },
    Resumed { node: usize },
    Down { node: usize },
    Up { node: usize },
    Disk { node: usize, what: &'static str },
    Judged { node: usize, peer: usize, suspected: bool },
}

/// What happened in a run, in order.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    lines: Vec<(u64, Line)>,
}

/// Which part of a trace is shown.
#[derive(Clone, Debug, Default)]
pub struct TraceFilter {
    /// From this time on, in virtual milliseconds,
    pub from_ms: u64,
    /// up to this one, excluded.
    pub until_ms: Option<u64>,
    /// Of calls and messages, those about the key with this name only.
    pub key: Option<String>,
    /// Whether long lines are shown whole.
    pub whole: bool,
}

impl Trace {
    pub(crate) fn push(&mut self, at_ms: u64, line: Line) {
        self.lines.push((at_ms, line));
    }

    /// The lines that a filter lets through. Those before its time are looked at all the same: an
    /// answer is about the key of its question.
    pub(crate) fn shown(&self, filter: &TraceFilter) -> Vec<&(u64, Line)> {
        let mut about = About::new(filter.key.as_deref());
        let lines = self.lines.iter().filter(|(_, line)| about.is(line));
        let lines: Vec<_> = lines.collect();
        let until_ms = filter.until_ms.unwrap_or(u64::MAX);
        let in_time = |at_ms: u64| filter.from_ms <= at_ms && at_ms < until_ms;
        lines.into_iter().filter(|(at_ms, _)| in_time(*at_ms)).collect()
    }

    /// The lines that a filter lets through, as text.
    pub fn text(&self, filter: &TraceFilter) -> String {
        let line = |(at_ms, line): &&(u64, Line)| {
            let text = format!("{at_ms:>8} ms  {line}");
            if filter.whole { format!("{text}\n") } else { format!("{}\n", short(&text)) }
        };
        self.shown(filter).iter().map(line).collect()
    }
}

/// Recognises what is about a key.
struct About {
    /// How a key of that name is written in what is looked at.
    name: Option<String>,
    calls: BTreeSet<CallId>,
    /// Exchanges, with the node that asked.
    exchanges: BTreeSet<(usize, RequestId)>,
}

impl About {
    fn new(key: Option<&str>) -> Self {
        let name = key.map(|key| format!("\"{key}\""));
        Self { name, calls: BTreeSet::new(), exchanges: BTreeSet::new() }
    }

    fn is(&mut self, line: &Line) -> bool {
        let Some(name) = &self.name else { return true };
        match line {
            Line::Called { call_id, call, .. } => {
                let is_it = call.contains(name.as_str());
                if is_it {
                    self.calls.insert(*call_id);
                }
                is_it
            }
            Line::Replied { call, .. } => self.calls.contains(call),
            Line::Sent { from, to, message } | Line::Arrived { from, to, message, .. } => {
                if !message.body.is_question() {
                    return self.exchanges.contains(&(*to, message.id));
                }
                let key = message.body.key().map(|key| format!("{:?}", key.key()));
                let is_it = key.is_some_and(|key| key.contains(name.as_str()));
                if is_it {
                    self.exchanges.insert((*from, message.id));
                }
                is_it
            }
            _ => true,
        }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Called { node, call_id, call } => {
                write!(f, "n{node} is called, {}: {}", call_id.0, call)
            }
            Self::Replied { node, call, reply } => {
                write!(f, "n{node} answers call {}: {}", call.0, reply)
            }
            Self::Sent { from, to, message } => {
                write!(f, "n{from} → n{to}  sends {}", said(message))
            }
            Self::Arrived { from, to, message, arrives: true } => {
                write!(f, "n{to} ← n{from}  gets {}", said(message))
            }
            Self::Arrived { from, to, message, arrives: false } => {
                write!(f, "n{to} ✗ n{from}  does not get {}", said(message))
            }
            Self::Fault { fault, nodes } => write!(f, "FAULT {fault:?} at {}", Names(nodes)),
            Self::Cut { from, to } => write!(f, "cut: n{from} → n{to}"),
            Self::Mended { from, to } => write!(f, "mended: n{from} → n{to}"),
            Self::Clogged { from, to, for_ms } => {
                write!(f, "clogged for {for_ms} ms: n{from} → n{to}")
            }
            Self::Healed => write!(f, "all ways are mended"),
            Self::Slow { node, by_ms: 0 } => write!(f, "n{node} is slow no longer"),
            Self::Slow { node, by_ms } => write!(f, "n{node} is slow, by up to {by_ms} ms"),
            Self::Jumped { node, by_ms } => write!(f, "n{node}'s clock jumps by {by_ms} ms"),
            Self::Paused { node } => write!(f, "n{node} is paused"),
            Self::Resumed { node } => write!(f, "n{node} goes on"),
            Self::Down { node } => write!(f, "n{node} is down"),
            Self::Up { node } => write!(f, "n{node} is up"),
            Self::Disk { node, what } => write!(f, "n{node}'s disk is {what}"),
            Self::Judged { node, peer, suspected: true } => write!(f, "n{node} suspects n{peer}"),
            Self::Judged { node, peer, suspected: false } => {
                write!(f, "n{node} suspects n{peer} no longer")
            }
        }
    }
}

struct Names<'a>(&'a [usize]);

impl fmt::Display for Names<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(|node| format!("n{node}")).collect();
        f.write_str(&names.join(", "))
    }
}

fn said(message: &Message) -> String {
    let (id, body) = (message.id.number, format!("{:?}", message.body));
    format!("{} #{id}: {body}", message.body.name())
}

fn short(text: &str) -> String {
    match text.char_indices().nth(LINE_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
