//! One connection: read, plan, execute, write, over and over.
//!
//! Each round takes the whole commands that were read (up to [`ROUND_MAX`]), hands their requests
//! to the datastore in as few batches as their order allows, and writes all replies at once.
//! Nothing is read while replies are not written: a client that sends but does not receive fills
//! its own socket, not our memory.

use std::collections::VecDeque;
use std::io;
use std::sync::Arc;

use bytes::{Buf, BytesMut};
use client::Datastore;
use replication::{Request, RequestError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;

use crate::codec::{Parsed, Parser, ProtocolError};
use crate::dispatch::plan_command;
use crate::plan::{Outcome, Plan, Session, Step};
use crate::reply::{Output, Reply};
use crate::server::{Counters, ServerInfo};

/// Most commands, and about the most requests, of one round: a guess at where larger batches stop
/// paying.
const ROUND_MAX: usize = 1024;
/// Commands of a connection's first round. Later rounds double while replies stay small, so a
/// batch of large values is met with few requests under way.
const ROUND_FIRST: usize = 64;
/// Fewest commands to which large replies shrink a round.
const ROUND_MIN: usize = 8;
/// Replies beyond which they are sent before the rest of the round is executed, and the next round
/// is made smaller.
const OUTPUT_BYTES: usize = 1 << 20;
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
        round_max: ROUND_FIRST,
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
    /// Most commands of the next round.
    round_max: usize,
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
                self.output.write(&Reply::error("ERR Protocol error:", error));
                return self.flush().await;
            }
            if self.session.is_closing {
                return Ok(());
            }
            if let Round::Starved(needed) = end {
                if *shutdown.borrow() {
                    return Ok(());
                }
                self.make_room(needed);
                tokio::select! {
                    read = self.stream.read_buf(&mut self.input) => {
                        if read? == 0 {
                            return Ok(());
                        }
                    }
                    // A sender that is gone asks for nothing more than one that says true.
                    _ = shutdown.wait_for(|&stop| stop) => return Ok(()),
                }
            }
        }
    }

    /// Plans the whole commands that were read.
    fn plan_round(&mut self) -> (Plan, Round) {
        let mut plan = Plan::default();
        let mut taken = 0;
        let mut count = 0;
        let end = loop {
            if plan.steps.len() >= self.round_max || plan.requests.len() >= self.round_max {
                break Round::Full;
            }
            match self.parser.parse(&self.input[taken..]) {
                Ok(Parsed::Incomplete(needed)) => break Round::Starved(needed),
                Err(error) => break Round::Broken(error),
                Ok(Parsed::Command(args, length)) => {
                    if !args.is_empty() {
                        count += 1;
                        plan_command(&mut self.session, &self.info, &mut plan, args);
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
        let mut requests = VecDeque::from(plan.requests);
        let mut steps = VecDeque::from(plan.steps);
        let mut sent = 0;
        while !steps.is_empty() {
            let run = steps.iter().take_while(|step| !matches!(step, Step::Call(_)));
            let count = run.map(Step::request_count).sum();
            let mut outcomes = ask(&*self.datastore, &mut requests, count).await.into_iter();
            while let Some(step) = steps.pop_front() {
                match step {
                    Step::Ready(reply) => self.output.write(&reply),
                    Step::Header(length) => self.output.array_header(length),
                    Step::Switch(protocol, reply) => {
                        self.output.protocol = protocol;
                        self.output.write(&reply);
                    }
                    Step::One(render) => {
                        let outcome = outcomes.next().unwrap_or_else(|| Err(no_answer()));
                        self.output.write(&render(outcome));
                    }
                    Step::Many(count, render) => {
                        let answers: Result<Vec<_>, _> =
                            // All are taken, also behind one that failed.
                            outcomes.by_ref().take(count).collect::<Vec<_>>().into_iter().collect();
                        let reply = match answers {
                            Ok(answers) if answers.len() == count => render(answers),
                            Ok(_) => Reply::failed(&no_answer()),
                            Err(error) => Reply::failed(&error),
                        };
                        self.output.write(&reply);
                    }
                    Step::Call(call) => {
                        let reply = call(Arc::clone(&self.datastore)).await;
                        self.output.write(&reply);
                        break;
                    }
                }
                if self.output.bytes().len() > OUTPUT_BYTES {
                    sent += self.output.bytes().len();
                    self.flush().await?;
                }
            }
        }
        sent += self.output.bytes().len();
        self.round_max = match sent {
            large if large > OUTPUT_BYTES => (self.round_max / 2).max(ROUND_MIN),
            _ => (self.round_max * 2).min(ROUND_MAX),
        };
        self.flush().await
    }

    async fn flush(&mut self) -> io::Result<()> {
        self.stream.write_all(self.output.bytes()).await?;
        self.output.clear();
        Ok(())
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

/// Executes the first `count` of `requests`.
async fn ask(
    datastore: &dyn Datastore,
    requests: &mut VecDeque<Request>,
    count: usize,
) -> Vec<Outcome> {
    if count == 0 {
        return Vec::new();
    }
    let batch: Vec<Request> = if count == requests.len() {
        std::mem::take(requests).into()
    } else {
        requests.drain(..count).collect()
    };
    datastore.execute(batch).await
}

fn no_answer() -> RequestError {
    RequestError::Disconnected("no answer came".into())
}
