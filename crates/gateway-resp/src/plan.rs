//! Plans: what a run of commands asks of the datastore, and how each is answered.
//!
//! Commands are not executed one by one. Each is translated into requests and a way to render
//! their answers; what stands side by side in a pipeline goes to the datastore as one batch, and
//! the replies are written in the order of the commands.

use std::collections::BTreeSet;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use bytes::Bytes;
use client::Datastore;
use replication::{Acks, Action, Answer, Level, Request, RequestError, RequestName};
use values::{Key, Operation, Scope};

use crate::codec::Args;
use crate::reply::{Protocol, Reply, is_unknown};
use crate::server::ServerInfo;

/// The bucket of every key of the Redis protocol.
pub(crate) const BUCKET: &str = values::DEFAULT_BUCKET;

/// Most requests that one command may become: keys of MGET, pairs of MSET.
pub(crate) const REQUESTS_MAX: usize = 65_536;
/// Most names of commands, sections or parameters that one command may ask about: far more than
/// there are.
const NAMES_MAX: usize = 1024;
/// Most commands, and requests, that a transaction may queue.
pub(crate) const QUEUED_MAX: usize = 65_536;
/// Most bytes that the plan of a transaction may take.
const QUEUED_BYTES_MAX: usize = 64 << 20;

/// What an argument takes in a plan beyond its bytes: a handle, its place in a collection, and what
/// the allocator adds. An estimate, rather too high.
const ARGUMENT_BYTES: usize = 64;

pub(crate) type Outcome = Result<Answer, RequestError>;
type RenderOne = Box<dyn FnOnce(Outcome) -> Reply + Send>;
type Render = Box<dyn FnOnce() -> Reply + Send>;
type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;
type Call = Box<dyn FnOnce(Arc<dyn Datastore>) -> BoxFuture<Reply> + Send>;

/// How one reply comes about. (A box around a function that captures nothing allocates nothing.)
pub(crate) enum Step {
    /// It is known already.
    Ready(Reply),
    /// It is always the same.
    Shared(&'static Reply),
    /// It follows from what is at hand, but is too large to be kept until it is written.
    Lazy(Render),
    /// From the answer to the next request.
    One(RenderOne),
    /// From the answers to the next requests.
    Many(Gather),
    /// From asking the datastore something else: breaks the batch.
    Call(Call),
    /// Not a reply of its own: the array of the next replies.
    Header(usize),
    /// Known, and written like all after it in another protocol.
    Switch(Protocol, Reply),
}

impl Step {
    /// How many requests the reply rests on.
    pub(crate) const fn request_count(&self) -> usize {
        match self {
            Self::One(_) => 1,
            Self::Many(gather) => gather.count,
            Self::Ready(_)
            | Self::Shared(_)
            | Self::Lazy(_)
            | Self::Call(_)
            | Self::Header(_)
            | Self::Switch(..) => 0,
        }
    }
}

/// How one reply comes about from several answers. Answers are reduced one by one, so that they
/// need not be held together.
pub(crate) struct Gather {
    /// How many answers.
    pub(crate) count: usize,
    /// Whether they are to writes, which may be done in part.
    pub(crate) is_write: bool,
    /// Whether one that too few replicas answered is refused.
    pub(crate) is_strict: bool,
    /// What is kept of each.
    pub(crate) each: fn(Answer) -> Reply,
    /// The reply from what was kept.
    pub(crate) finish: fn(Vec<Reply>) -> Reply,
}

/// Most bytes of values that one command may gather into one reply (MGET, HMGET): four of the
/// longest. A reply that fails halfway must not have begun, so these are held together.
const GATHERED_BYTES_MAX: usize = 32 << 20;

/// What was gathered for one reply.
#[derive(Default)]
pub(crate) struct Gathered {
    pub(crate) replies: Vec<Reply>,
    bytes: usize,
}

impl Gathered {
    /// Adds a reply, unless the values become too long together.
    pub(crate) fn add(&mut self, reply: Reply) -> Result<(), Refusal> {
        if let Reply::Bulk(value) = &reply {
            self.bytes += value.len();
        }
        if self.bytes > GATHERED_BYTES_MAX {
            let text = "values of more than 32 MiB in one reply; ask for fewer at a time";
            return Err(Reply::error("ERR", text));
        }
        self.replies.push(reply);
        Ok(())
    }
}

/// What became of the requests of one reply.
#[derive(Default)]
pub(crate) struct Outcomes {
    gathered: Gathered,
    /// Requests that were done.
    done: usize,
    /// Requests of which nobody knows whether they were.
    unknown: usize,
    /// The first error.
    failure: Option<Refusal>,
}

impl Outcomes {
    /// Takes in the outcome of one request.
    pub(crate) fn add(&mut self, outcome: Outcome, gather: &Gather) {
        let refusal = match if gather.is_strict { met(outcome) } else { outcome } {
            Ok(answer) => {
                self.done += 1;
                if self.failure.is_some() {
                    return;
                }
                self.gathered.add((gather.each)(answer)).err()
            }
            Err(error) => {
                self.unknown += usize::from(is_unknown(&error));
                Some(Reply::failed(&error))
            }
        };
        if let Some(refusal) = refusal {
            self.failure.get_or_insert(refusal);
            self.gathered = Gathered::default();
        }
    }

    /// The reply. Of a write, the word of the first error says what became of one key only: who goes
    /// by it must not take for not done what was, or may be, done at others.
    pub(crate) fn reply(self, gather: &Gather) -> Reply {
        let Gather { count, is_write, finish, .. } = *gather;
        match self.failure {
            None => finish(self.gathered.replies),
            Some(Reply::Error(first))
                if is_write && self.done + self.unknown > 0 && self.unknown < count =>
            {
                let (done, unknown) = (self.done, self.unknown);
                let failed = count.saturating_sub(done + unknown);
                let text = format!(
                    "{done} of {count} keys done, {unknown} may still be, {failed} not; first error: \
                     {first}"
                );
                Reply::error("NOQUORUM", text)
            }
            Some(refusal) => refusal,
        }
    }
}

/// Commands translated but not executed.
#[derive(Default)]
pub(crate) struct Plan {
    pub(crate) requests: Vec<Request>,
    pub(crate) steps: Vec<Step>,
    /// About how many bytes it takes.
    pub(crate) bytes: usize,
}

impl Plan {
    /// Counts what a command of these arguments added behind the first `steps` and `requests`.
    pub(crate) fn charge(&mut self, args: &Args<'_>, steps: usize, requests: usize) {
        let added = self.steps.get(steps..).unwrap_or_default();
        let replies: usize = added
            .iter()
            .map(|step| match step {
                Step::Ready(reply) | Step::Switch(_, reply) => reply.weight(),
                _ => 0,
            })
            .sum();
        self.bytes += argument_bytes(args)
            + replies
            + size_of_val(added)
            + size_of_val(self.requests.get(requests..).unwrap_or_default());
    }
}

/// About how many bytes a copy of the arguments takes.
fn argument_bytes(args: &Args<'_>) -> usize {
    args.iter().map(|argument| argument.len() + ARGUMENT_BYTES).sum()
}

/// Commands between MULTI and EXEC.
#[derive(Default)]
pub(crate) struct Transaction {
    pub(crate) plan: Plan,
    /// Whether a command was refused, so that EXEC must be.
    pub(crate) is_broken: bool,
}

impl Transaction {
    /// Whether a command of these arguments still fits.
    pub(crate) fn admits(&self, args: &Args<'_>) -> bool {
        self.plan.bytes + argument_bytes(args) <= QUEUED_BYTES_MAX
            && self.plan.steps.len() < QUEUED_MAX
            && self.plan.requests.len() < QUEUED_MAX
    }
}

/// What a connection remembers between commands.
#[derive(Default)]
pub(crate) struct Session {
    pub(crate) id: u64,
    /// Replicas that each request involves.
    pub(crate) level: Level,
    /// Whether a read that fewer replicas answered is refused.
    pub(crate) is_strict: bool,
    /// The protocol after the commands planned so far.
    pub(crate) protocol: Protocol,
    pub(crate) transaction: Option<Transaction>,
    /// What MG.ID calls the command that is being planned.
    pub(crate) name: Option<RequestName>,
    /// Whether the connection ends after the replies planned so far.
    pub(crate) is_closing: bool,
}

/// What a command works with.
pub(crate) struct Context<'a> {
    pub(crate) session: &'a mut Session,
    pub(crate) info: &'a Arc<ServerInfo>,
    pub(crate) plan: &'a mut Plan,
}

/// Why a command is answered with an error and nothing is asked of the datastore.
pub(crate) type Refusal = Reply;
/// What a command's handler returns.
pub(crate) type Planned = Result<(), Refusal>;

impl Context<'_> {
    /// A command's request with what the connection and MG.ID add to it.
    fn dressed(&self, mut request: Request) -> Result<Request, Refusal> {
        request.level = self.session.level;
        if self.session.name.is_some() {
            if is_read(&request) {
                return Err(unnamed());
            }
            request.name.clone_from(&self.session.name);
        }
        Ok(request)
    }

    /// The same for one of several requests, which no node would refuse for its size.
    fn checked(&self, request: Request) -> Result<Request, Refusal> {
        if let Action::Update(operation) = &request.action {
            let size = operation.check_size(&self.info.value_limits);
            size.map_err(|error| Reply::failed(&error.into()))?;
        }
        self.dressed(request)
    }

    /// Answers at once.
    pub(crate) fn reply(&mut self, reply: impl Into<Reply>) -> Planned {
        self.plan.steps.push(Step::Ready(reply.into()));
        Ok(())
    }

    /// Answers at once what is always the same.
    pub(crate) fn shared(&mut self, reply: &'static Reply) -> Planned {
        self.plan.steps.push(Step::Shared(reply));
        Ok(())
    }

    /// Answers from what is at hand when the reply is written.
    pub(crate) fn lazy(&mut self, render: impl FnOnce() -> Reply + Send + 'static) -> Planned {
        self.plan.steps.push(Step::Lazy(Box::new(render)));
        Ok(())
    }

    /// Asks one thing of one key; an error is answered as such.
    pub(crate) fn one(
        &mut self,
        request: Request,
        render: impl FnOnce(Answer) -> Reply + Send + 'static,
    ) -> Planned {
        self.outcome(request, move |outcome| match outcome {
            Ok(answer) => render(answer),
            Err(error) => Reply::failed(&error),
        })
    }

    /// Asks one thing of one key, and renders an error too.
    pub(crate) fn outcome(
        &mut self,
        request: Request,
        render: impl FnOnce(Outcome) -> Reply + Send + 'static,
    ) -> Planned {
        let request = self.dressed(request)?;
        let is_strict = self.session.is_strict && is_read(&request);
        self.plan.requests.push(request);
        let render = move |outcome| render(if is_strict { met(outcome) } else { outcome });
        self.plan.steps.push(Step::One(Box::new(render)));
        Ok(())
    }

    /// Asks several things, all reads or all writes. `each` says what is kept of an answer, `finish`
    /// what is replied from all; where one fails, its error is. A write that can be seen to be too long
    /// keeps all from being done.
    pub(crate) fn many(
        &mut self,
        requests: impl ExactSizeIterator<Item = Result<Request, Refusal>>,
        each: fn(Answer) -> Reply,
        finish: fn(Vec<Reply>) -> Reply,
    ) -> Planned {
        let count = requests.len();
        if count > REQUESTS_MAX {
            let text = format!("{count} keys in one command, at most {REQUESTS_MAX} are allowed");
            return Err(Reply::error("ERR", text));
        }
        let before = self.plan.requests.len();
        for request in requests {
            match request.and_then(|request| self.checked(request)) {
                Ok(request) => self.plan.requests.push(request),
                Err(refusal) => {
                    self.plan.requests.truncate(before);
                    return Err(refusal);
                }
            }
        }
        if self.session.name.is_some() {
            let keys: BTreeSet<&Key> =
                self.plan.requests[before..].iter().map(|request| &request.key).collect();
            if keys.len() < count {
                self.plan.requests.truncate(before);
                let text = "ERR a command under MG.ID names each key once: names are per key";
                return Err(Reply::Error(text.into()));
            }
        }
        let is_write = !self.plan.requests[before..].iter().all(is_read);
        let is_strict = self.session.is_strict && !is_write;
        self.plan.steps.push(Step::Many(Gather { count, is_write, is_strict, each, finish }));
        Ok(())
    }

    /// Reads a key outside the batch, and renders its answer at leisure; an error is answered as such.
    pub(crate) fn read_apart<F>(
        &mut self,
        request: Request,
        render: impl FnOnce(Answer, Arc<dyn Datastore>) -> F + Send + 'static,
    ) -> Planned
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        let is_strict = self.session.is_strict;
        let request = Request { level: self.session.level, ..request };
        self.call(move |datastore| async move {
            let outcome = datastore.request(request).await;
            match if is_strict { met(outcome) } else { outcome } {
                Ok(answer) => render(answer, datastore).await,
                Err(error) => Reply::failed_read(error),
            }
        })
    }

    /// Asks the datastore something else than requests, after all that was planned before.
    pub(crate) fn call<F>(
        &mut self,
        call: impl FnOnce(Arc<dyn Datastore>) -> F + Send + 'static,
    ) -> Planned
    where
        F: Future<Output = Reply> + Send + 'static,
    {
        if self.session.name.is_some() {
            return Err(unnamed());
        }
        self.plan.steps.push(Step::Call(Box::new(move |datastore| Box::pin(call(datastore)))));
        Ok(())
    }
}

/// What a read is answered with where it is to rest on as many replicas as it asked for.
fn met(outcome: Outcome) -> Outcome {
    match outcome {
        Ok(Answer { acks: Acks { answered, needed, .. }, .. }) if answered < needed => {
            Err(RequestError::Unreachable(format!(
                "{answered} of {needed} replicas answered, which is too few under MG.QUORUM … STRICT"
            )))
        }
        outcome => outcome,
    }
}

/// Whether the request only reads.
pub(crate) const fn is_read(request: &Request) -> bool {
    matches!(request.action, Action::Get(_))
}

/// The key that an argument names.
pub(crate) fn key(name: &[u8]) -> Result<Key, Refusal> {
    Key::new(Bytes::from_static(BUCKET.as_bytes()), Bytes::copy_from_slice(name))
        .map_err(|error| Reply::error("ERR", error))
}

/// A read of part of the key that an argument names.
pub(crate) fn read(name: &[u8], scope: Scope) -> Result<Request, Refusal> {
    Ok(Request::get(key(name)?, scope))
}

/// A write to the key that an argument names.
pub(crate) fn write(name: &[u8], operation: Operation) -> Result<Request, Refusal> {
    Ok(Request::update(key(name)?, operation))
}

/// A copy of each argument.
pub(crate) fn blobs(args: Args<'_>) -> Vec<Bytes> {
    args.iter().map(Bytes::copy_from_slice).collect()
}

/// An argument that must be a 64-bit decimal integer, written as Redis writes it.
pub(crate) fn integer(argument: &[u8]) -> Result<i64, Refusal> {
    // No plus sign, no leading zeros, no minus zero.
    let is_canonical = matches!(argument, b"0" | [b'-', b'1'..=b'9', ..] | [b'1'..=b'9', ..]);
    std::str::from_utf8(argument)
        .ok()
        .filter(|_| is_canonical)
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| Reply::Error("ERR value is not an integer or out of range".into()))
}

/// Checks that a command asks about no more names than it may.
pub(crate) fn check_names(names: &Args<'_>) -> Result<(), Refusal> {
    match names.len() {
        0..=NAMES_MAX => Ok(()),
        count => {
            let text = format!("{count} names in one command, at most {NAMES_MAX} are allowed");
            Err(Reply::error("ERR", text))
        }
    }
}

/// The refusal of a name for what does not write.
pub(crate) fn unnamed() -> Refusal {
    Reply::Error("ERR MG.ID is for commands that write; send this one without".into())
}

/// The refusal of arguments that make no sense together.
pub(crate) fn syntax_error() -> Refusal {
    Reply::Error("ERR syntax error".into())
}

/// The refusal of a wrong number of arguments. `command` is in lower case, a subcommand behind
/// `|`.
pub(crate) fn wrong_arity(command: &str) -> Refusal {
    Reply::Error(format!("ERR wrong number of arguments for '{command}' command"))
}

/// The refusal of a subcommand that does not exist.
pub(crate) fn unknown_subcommand(command: &str, subcommand: &[u8]) -> Refusal {
    let shown = String::from_utf8_lossy(&subcommand[..subcommand.len().min(128)]);
    Reply::Error(format!("ERR unknown subcommand '{shown}'. Try COMMAND DOCS {command}."))
}

/// Checks that a subcommand got between `least` and `most` arguments, counted with both names.
pub(crate) fn check_arity(
    args: &Args<'_>,
    command: &str,
    least: usize,
    most: usize,
) -> Result<(), Refusal> {
    if (least..=most).contains(&args.len()) { Ok(()) } else { Err(wrong_arity(command)) }
}
