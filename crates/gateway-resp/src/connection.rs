//! One connection: read, plan, execute, write, over and over.
//!
//! Each round takes the whole commands that were read (up to [`ROUND_MAX`]), hands their requests
//! to the datastore in slices, and writes the replies of each slice before the next is executed.
//! Nothing is read while replies are not written: a client that sends but does not receive fills
//! its own socket, not our memory, and is closed when its socket stays full.
//!
//! How long an answer is shows only when it is there. What a connection holds is therefore bounded
//! by how many requests of a slice are answered with what was there before them, be they reads or
//! writes: [`OPEN_FIRST`], and more only while answers stay small.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, BytesMut};
use client::Datastore;
use replication::{Action, Request, RequestError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout};
use values::Operation;

use crate::codec::{Parsed, Parser, ProtocolError};
use crate::dispatch::plan_command;
use crate::plan::{Gather, Outcome, Outcomes, Plan, Session, Step, is_read};
use crate::reply::{Output, Reply, of_read};
use crate::server::{Counters, ServerInfo};

/// Most commands, and about the most requests, of one round: a guess at where larger batches stop
/// paying.
const ROUND_MAX: usize = 1024;
/// Bytes of a plan that end its round: the longest command on the wire.
const PLAN_BYTES: usize = 16 << 20;
/// Requests with open answers ([`is_open`]) of a connection's first slice, and of the one after a slice
/// with large answers: 64 MiB if all are of the longest values.
const OPEN_FIRST: usize = 8;
/// Most of them in a slice, reached by doubling while answers stay small. How long the next ones are
/// is not known before, and a node lets no more than 256 MiB of answers to one batch through: beyond it
/// reads are refused, and writes that were done are answered as unknown. 24 of the longest values
/// (8 MiB) are 192 MiB, which leaves as much as a transaction queues (64 MiB) for the answers to other
/// writes between them.
const OPEN_MAX: usize = 24;
/// Bytes of the answers to a slice beyond which the next one begins small again; bytes of replies
/// beyond which they are sent.
const SLICE_BYTES: usize = 1 << 20;
/// How long a client may take to receive the last reply and to stop sending. A guess: a few round
/// trips across the world.
const LEAVE_LIMIT: Duration = Duration::from_secs(1);
/// Most bytes that are read, and forgotten, behind the last command: the longest command on the
/// wire, which may be what broke the protocol.
const LEAVE_BYTES_MAX: usize = 16 << 20;
/// Room made for each read.
const READ_BYTES: usize = 64 << 10;

/// What to send to a client for whom there is no connection left, in Redis's own words.
pub const CONNECTION_REFUSAL: &str = "-ERR max number of clients reached\r\n";

/// Serves one client until it leaves, breaks the protocol, or `shutdown` turns true. What was read
/// by then is answered first, so a client that does not receive holds its task up: whoever stops
/// the server drops the tasks that take too long. Errors are those of the socket.
pub async fn serve_connection(
    stream: TcpStream,
    datastore: Arc<dyn Datastore>,
    info: Arc<ServerInfo>,
    mut shutdown: watch::Receiver<bool>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let registration = info.register(stream.peer_addr().ok(), stream.local_addr().ok());
    let mut connection = Connection {
        stream,
        datastore,
        info: Arc::clone(&info),
        session: Session { id: registration.id, ..Session::default() },
        parser: Parser::new(info.limits),
        input: BytesMut::new(),
        output: Output::default(),
        unfinished_until: None,
        open_max: OPEN_FIRST,
    };
    connection.serve(&mut shutdown).await
}

struct Connection {
    stream: TcpStream,
    datastore: Arc<dyn Datastore>,
    info: Arc<ServerInfo>,
    session: Session,
    parser: Parser,
    input: BytesMut,
    output: Output,
    /// When the command that is read now must be whole.
    unfinished_until: Option<Instant>,
    /// Most requests with open answers of the next slice.
    open_max: usize,
}

impl Connection {
    async fn serve(&mut self, shutdown: &mut watch::Receiver<bool>) -> io::Result<()> {
        loop {
            let (plan, end) = self.plan_round();
            if !plan.steps.is_empty() {
                self.execute(plan).await?;
            }
            if let Round::Broken(error) = end {
                Counters::add(&self.info.counters().protocol_errors, 1);
                tracing::debug!(client = self.session.id, %error, "protocol error");
                if error == ProtocolError::Http {
                    self.warn_of_http();
                }
                self.output.write(&Reply::error("ERR Protocol error:", error));
                self.flush().await?;
                return self.take_leave().await;
            }
            if self.session.is_closing {
                return self.take_leave().await;
            }
            if let Round::Starved(needed) = end {
                if *shutdown.borrow() {
                    return Ok(());
                }
                self.make_room(needed);
                let patience = self.info.patience;
                self.unfinished_until = if self.input.is_empty() {
                    None
                } else {
                    self.unfinished_until.or_else(|| Instant::now().checked_add(patience))
                };
                tokio::select! {
                    read = self.stream.read_buf(&mut self.input) => {
                        if read? == 0 {
                            return Ok(());
                        }
                    }
                    () = wait_until(self.unfinished_until) => {
                        tracing::debug!(client = self.session.id, "an unfinished command is given up");
                        return Ok(());
                    }
                    // A sender that is gone asks for nothing more than one that says true.
                    _ = shutdown.wait_for(|&stop| stop) => return Ok(()),
                }
            }
        }
    }

    /// Whoever sees it in the log looks for a web page that attacks, or for a client that was given
    /// the wrong port.
    fn warn_of_http(&self) {
        let times = Counters::add(&self.info.counters().http_refused, 1);
        // Whoever connects must not be able to fill the log.
        if times.is_power_of_two() {
            let client = self.stream.peer_addr().ok();
            tracing::warn!(?client, times, "HTTP was sent to the port of the Redis protocol");
        }
    }

    /// Plans the whole commands that were read.
    fn plan_round(&mut self) -> (Plan, Round) {
        let mut plan = Plan::default();
        let mut taken = 0;
        let mut count = 0;
        let end = loop {
            let is_full = plan.bytes >= PLAN_BYTES
                || plan.steps.len() >= ROUND_MAX
                || plan.requests.len() >= ROUND_MAX;
            if is_full {
                break Round::Full;
            }
            match self.parser.parse(&self.input[taken..]) {
                Ok(Parsed::Incomplete(needed)) => break Round::Starved(needed),
                Err(error) => break Round::Broken(error),
                Ok(Parsed::Command(args, length)) => {
                    self.unfinished_until = None;
                    if !args.is_empty() {
                        count += 1;
                        let (steps, requests) = (plan.steps.len(), plan.requests.len());
                        plan_command(&mut self.session, &self.info, &mut plan, args);
                        plan.charge(&args, steps, requests);
                    }
                    taken += length;
                    if self.session.is_closing {
                        break Round::Full;
                    }
                }
            }
        };
        self.input.advance(taken);
        Counters::add(&self.info.counters().commands, count);
        (plan, end)
    }

    /// Makes room for what is needed next, in steps: memory follows what a client sends, not what
    /// it announces.
    fn make_room(&mut self, needed: usize) {
        if self.input.is_empty() && self.input.capacity() > 4 * READ_BYTES {
            self.input = BytesMut::new();
        }
        let step = READ_BYTES.max(self.input.len().min(needed));
        self.input.reserve(step);
    }

    /// Executes a round and sends its replies, in order.
    async fn execute(&mut self, plan: Plan) -> io::Result<()> {
        let mut steps = VecDeque::from(plan.steps);
        let mut work = Work { requests: plan.requests.into(), ..Work::default() };
        work.run = run_length(&steps);
        while let Some(step) = steps.pop_front() {
            match step {
                Step::Ready(reply) => self.output.write(&reply),
                Step::Shared(reply) => self.output.write(reply),
                Step::Lazy(render) => self.output.write(&render()),
                Step::Header(length) => self.output.array_header(length),
                Step::Switch(protocol, reply) => {
                    self.output.protocol = protocol;
                    self.output.write(&reply);
                }
                Step::One(render) => {
                    let outcome = self.next_outcome(&mut work).await?;
                    self.output.write(&render(outcome));
                }
                Step::Many(gather) => {
                    let reply = self.gather(gather, &mut work).await?;
                    self.output.write(&reply);
                }
                Step::Call(call) => {
                    let reply = call(Arc::clone(&self.datastore)).await;
                    self.output.write(&reply);
                    work.run = run_length(&steps);
                }
            }
            if self.output.bytes().len() > SLICE_BYTES {
                self.flush().await?;
            }
        }
        self.flush().await
    }

    /// The outcome of the next request; executes a slice if the last one is used up, after the
    /// replies from that one are sent if they are long.
    async fn next_outcome(&mut self, work: &mut Work) -> io::Result<Outcome> {
        if work.outcomes.is_empty() {
            let count = slice_length(&work.requests, work.run, self.open_max);
            let slice: Vec<Request> = if count == work.requests.len() {
                std::mem::take(&mut work.requests).into()
            } else {
                work.requests.drain(..count).collect()
            };
            work.run -= count;
            let is_read: Vec<bool> = slice.iter().map(is_read).collect();
            let mut outcomes = self.datastore.execute(slice).await;
            outcomes.resize_with(count, || Err(no_answer()));
            for (outcome, _) in outcomes.iter_mut().zip(is_read).filter(|&(_, is_read)| is_read) {
                if let Err(error) = outcome {
                    *error = of_read(error.clone());
                }
            }
            let bytes: usize = outcomes.iter().flatten().map(|answer| answer.view.weight()).sum();
            self.open_max = match bytes {
                large if large > SLICE_BYTES => OPEN_FIRST,
                _ => (self.open_max * 2).min(OPEN_MAX),
            };
            work.outcomes = outcomes.into();
        }
        Ok(work.outcomes.pop_front().unwrap_or_else(|| Err(no_answer())))
    }

    /// The reply from the answers to several requests.
    async fn gather(&mut self, gather: Gather, work: &mut Work) -> io::Result<Reply> {
        let mut outcomes = Outcomes::default();
        // All are taken, also behind one that failed: what stands there was asked too.
        for _ in 0..gather.count {
            outcomes.add(self.next_outcome(work).await?, &gather);
        }
        Ok(outcomes.reply(&gather))
    }

    /// Ends the connection behind the last reply. Closed with something of the client's unread, it
    /// would be reset, and that reply might be lost.
    async fn take_leave(&mut self) -> io::Result<()> {
        self.stream.shutdown().await?;
        self.input = BytesMut::with_capacity(READ_BYTES);
        let drained = async {
            let mut left = LEAVE_BYTES_MAX;
            while left > 0 {
                self.input.clear();
                match self.stream.read_buf(&mut self.input).await? {
                    0 => break,
                    count => left = left.saturating_sub(count),
                }
            }
            io::Result::Ok(())
        };
        // One that goes on sending was given its time to read.
        timeout(LEAVE_LIMIT, drained).await.unwrap_or(Ok(()))
    }

    /// Sends the replies so far. Fails when the client takes none of them for too long.
    async fn flush(&mut self) -> io::Result<()> {
        let mut rest = self.output.bytes();
        while !rest.is_empty() {
            let sent = timeout(self.info.patience, self.stream.write(rest)).await??;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            rest = &rest[sent..];
        }
        self.output.clear();
        Ok(())
    }
}

/// Ends at `deadline`; never without one.
async fn wait_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// Why a round ends.
enum Round {
    /// Enough, or the client said QUIT: there may be more commands.
    Full,
    /// So many more bytes are needed, at least.
    Starved(usize),
    /// What follows is not RESP.
    Broken(ProtocolError),
}

/// What of a round is still to be executed, and what was and is not answered yet.
#[derive(Default)]
struct Work {
    requests: VecDeque<Request>,
    /// How many of the requests come before the next step that breaks the batch.
    run: usize,
    outcomes: VecDeque<Outcome>,
}

/// How many requests come before the next step that breaks the batch.
fn run_length(steps: &VecDeque<Step>) -> usize {
    let run = steps.iter().take_while(|step| !matches!(step, Step::Call(_)));
    run.map(Step::request_count).sum()
}

/// Whether the answer shows what the key held before, which may be as long as any value. That to other
/// writes is about as long as what is written, so those are bounded by the round. (Not of a key in a
/// conflict of types: beside what is written it shows the raw value.)
const fn is_open(request: &Request) -> bool {
    match &request.action {
        Action::Get(_) => true,
        Action::Update(operation) => {
            matches!(operation, Operation::Expiry(_) | Operation::Resolve(_) | Operation::Bytes(_))
        }
    }
}

/// How many of the first `run` requests to execute together: at most `open_max` with open answers.
fn slice_length(requests: &VecDeque<Request>, run: usize, open_max: usize) -> usize {
    let mut open = 0;
    let fits = |request: &&Request| {
        open += usize::from(is_open(request));
        open <= open_max
    };
    requests.iter().take(run.min(ROUND_MAX)).take_while(fits).count()
}

fn no_answer() -> RequestError {
    RequestError::Disconnected("no answer came".into())
}
