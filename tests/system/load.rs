//! A client that knows several nodes, and the record of what it was told: each request is tried at one
//! node after the other until one does it.
//!
//! Whatever may be done twice by that is named, or counts once by itself: registers and members of sets
//! are written once each, increments have names, and only members that were added and registers that were set
//! by the first try are removed: a try before may still be done, after the removal.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use redis::{Cmd, Connection, FromRedisValue, RedisResult};

use super::process::{Spec, eventually};

/// How long a request is tried.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long one node is waited for.
const ANSWER: Duration = Duration::from_secs(6);
/// Increments of one counter: a key remembers 256 names of one client.
const PER_COUNTER: u32 = 200;
/// Sets.
const SETS: u32 = 7;

/// What a client was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// What its keys begin with.
    name: String,
    /// Numbers of registers that were set.
    set: Vec<u32>,
    /// Of them those that one try set.
    set_at_once: BTreeSet<u32>,
    /// Members that were added, and of them those that one try added.
    added: BTreeSet<u32>,
    added_at_once: BTreeSet<u32>,
    removed: BTreeSet<u32>,
    /// Registers that were deleted.
    deleted: BTreeSet<u32>,
    /// Members and registers of which it is unknown whether they were removed.
    doubtful: BTreeSet<u32>,
    /// Numbers of increments that were done.
    increments: BTreeSet<u32>,
    /// What was not done at any node in time.
    pub(crate) failed: Vec<String>,
    /// Tries that a node turned away or did not answer.
    pub(crate) elsewhere: u32,
    /// The longest that a request took.
    pub(crate) longest: Duration,
}

/// A client.
pub(crate) struct Load {
    specs: Vec<Spec>,
    connections: Vec<Option<Connection>>,
    /// The node that is asked first.
    at: usize,
    next: u32,
    history: History,
}

/// Ends clients that go on until they are told, also where a test fails: whoever waits for them waits for ever
/// otherwise.
pub(crate) struct Ends<'a>(pub(crate) &'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Waits until a client has done so many requests more.
pub(crate) fn further(progress: &AtomicU32, count: u32) {
    let from = progress.load(Ordering::Relaxed);
    eventually("the client gets on", || {
        (progress.load(Ordering::Relaxed) >= from + count).then_some(())
    });
}

/// What came of a request.
enum Outcome<T> {
    /// It was done; how many tries before may have done it too.
    Done(T, u32),
    Failed,
}

impl Load {
    /// A client whose keys begin with `name`, of the nodes `specs`, which asks the one at `at` first.
    pub(crate) fn new(name: &str, specs: &[Spec], at: usize) -> Self {
        Self {
            specs: specs.to_vec(),
            connections: specs.iter().map(|_| None).collect(),
            at,
            next: 0,
            history: History { name: name.to_owned(), ..History::default() },
        }
    }

    /// The same client, which numbers what it writes from `number` on, a multiple of 1,400: several with one
    /// name and numbers of their own write to the same sets.
    pub(crate) fn from(mut self, number: u32) -> Self {
        self.next = number;
        self
    }

    /// Goes to these nodes from now on.
    pub(crate) fn go_to(&mut self, specs: &[Spec]) {
        self.specs = specs.to_vec();
        self.connections = specs.iter().map(|_| None).collect();
        self.at = 0;
    }

    /// Removes those of its members and registers whose numbers are chosen; how many were seen, and are gone.
    pub(crate) fn remove_where(&mut self, is_chosen: impl Fn(u32) -> bool) -> usize {
        let History { added_at_once, set_at_once, .. } = &self.history;
        let written = added_at_once.union(set_at_once).copied();
        let chosen: Vec<u32> = written.filter(|&number| is_chosen(number)).collect();
        let done = self.history.done();
        for number in chosen {
            self.remove(number);
        }
        self.history.done() - done
    }

    /// Makes `count` requests.
    pub(crate) fn go_on(&mut self, count: u32) {
        for _ in 0..count {
            self.step();
        }
    }

    /// Makes requests until told to end; `progress` counts them.
    pub(crate) fn until(mut self, is_over: &AtomicBool, progress: &AtomicU32) -> History {
        while !is_over.load(Ordering::Relaxed) {
            self.step();
            progress.fetch_add(1, Ordering::Relaxed);
        }
        self.end()
    }

    /// What it was told.
    pub(crate) fn end(self) -> History {
        self.history
    }

    fn key(&self, kind: &str, which: u32) -> String {
        format!("{}:{kind}{which}", self.history.name)
    }

    fn step(&mut self) {
        let number = self.next;
        self.next += 1;
        match number % 4 {
            0 => {
                let mut set = redis::cmd("SET");
                set.arg(self.key("k", number)).arg(number);
                if let Outcome::Done((), doubts) = self.request(&set) {
                    self.history.set.push(number);
                    if doubts == 0 {
                        self.history.set_at_once.insert(number);
                    }
                }
            }
            1 => {
                let mut add = redis::cmd("SADD");
                add.arg(self.key("s", number % SETS)).arg(number);
                if let Outcome::Done::<u32>(_, doubts) = self.request(&add) {
                    self.history.added.insert(number);
                    if doubts == 0 {
                        self.history.added_at_once.insert(number);
                    }
                }
            }
            2 => {
                let counter = self.key("c", number / PER_COUNTER);
                let id = format!("{}:{number}", self.history.name);
                let mut increment = redis::cmd("MG.ID");
                increment.arg(id).arg("INCR").arg(counter);
                if let Outcome::Done::<i64>(..) = self.request(&increment) {
                    self.history.increments.insert(number);
                }
            }
            _ => {
                // Every other member and register, some time after it was written.
                let (member, register) = (number.saturating_sub(42), number.saturating_sub(43));
                if member % 8 == 1 && self.history.added_at_once.contains(&member) {
                    self.remove(member);
                } else if register % 8 == 4 && self.history.set_at_once.contains(&register) {
                    self.remove(register);
                }
            }
        }
    }

    /// Removes the member or the register of this number.
    fn remove(&mut self, number: u32) {
        let is_member = number % 4 == 1;
        let command = if is_member {
            redis::cmd("SREM").arg(self.key("s", number % SETS)).arg(number).to_owned()
        } else {
            redis::cmd("DEL").arg(self.key("k", number)).to_owned()
        };
        match self.request(&command) {
            Outcome::Done(1_u32, _) if is_member => drop(self.history.removed.insert(number)),
            Outcome::Done(1_u32, _) => drop(self.history.deleted.insert(number)),
            // What was not seen was not removed, unless by a try before.
            Outcome::Done(_, 0) => {}
            Outcome::Done(..) | Outcome::Failed => drop(self.history.doubtful.insert(number)),
        }
    }

    /// Tries one node after the other, until one does it.
    fn request<T: FromRedisValue>(&mut self, command: &Cmd) -> Outcome<T> {
        let begun = Instant::now();
        let mut doubts = 0;
        let mut said = Vec::new();
        while begun.elapsed() < PATIENCE {
            let answer: RedisResult<T> = match self.connection() {
                Some(connection) => command.query(connection),
                None => {
                    self.elsewhere();
                    std::thread::yield_now();
                    continue;
                }
            };
            match answer {
                Ok(value) => {
                    self.history.longest = self.history.longest.max(begun.elapsed());
                    return Outcome::Done(value, doubts);
                }
                Err(error) => {
                    let is_turned_away = ["LOADING", "UNAVAILABLE", "OVERLOADED"]
                        .contains(&error.code().unwrap_or(""))
                        || error.kind()
                            == redis::ErrorKind::Server(redis::ServerErrorKind::BusyLoading);
                    doubts += u32::from(!is_turned_away);
                    if error.is_io_error() {
                        self.connections[self.at] = None;
                    }
                    said.push(format!("{}: {error}", self.specs[self.at].name));
                    self.elsewhere();
                }
            }
        }
        said.truncate(5);
        self.history.failed.push(format!("{command:?}: {said:?}"));
        Outcome::Failed
    }

    fn elsewhere(&mut self) {
        self.at = (self.at + 1) % self.specs.len();
        self.history.elsewhere += 1;
    }

    fn connection(&mut self) -> Option<&mut Connection> {
        if self.connections[self.at].is_none() {
            let address = format!("redis://127.0.0.1:{}/", self.specs[self.at].resp);
            let client = redis::Client::open(address).expect("it is a URL");
            let connection = client.get_connection_with_timeout(ANSWER).ok()?;
            connection.set_read_timeout(Some(ANSWER)).expect("it is not zero");
            self.connections[self.at] = Some(connection);
        }
        self.connections[self.at].as_mut()
    }
}

impl History {
    /// How many requests were done.
    pub(crate) fn done(&self) -> usize {
        let removals = self.removed.len() + self.deleted.len();
        self.set.len() + self.added.len() + removals + self.increments.len()
    }

    /// What a node does not show of what was acknowledged, shows though it was removed, or counts wrongly, if
    /// anything.
    pub(crate) fn fault_shown_by(&self, spec: &Spec) -> Option<String> {
        let (name, at) = (&self.name, &spec.name);
        let mut redis = spec.redis();
        for some in self.set.chunks(500) {
            let keys: Vec<String> = some.iter().map(|number| format!("{name}:k{number}")).collect();
            let found: Vec<Option<u32>> =
                redis::cmd("MGET").arg(&keys).query(&mut redis).expect("it reads");
            let wrong = some.iter().zip(&found).filter(|&(number, found)| {
                let expected = (!self.deleted.contains(number)).then_some(*number);
                *found != expected && !self.doubtful.contains(number)
            });
            let wrong: Vec<_> = wrong.collect();
            if !wrong.is_empty() {
                return Some(format!(
                    "{at} shows registers {name}:k, and what they hold: {wrong:?}"
                ));
            }
        }
        for set in 0..SETS {
            let members: BTreeSet<u32> = redis::cmd("SMEMBERS")
                .arg(format!("{name}:s{set}"))
                .query(&mut redis)
                .expect("it reads");
            let of_set = |number: &&u32| *number % SETS == set;
            let stays =
                |number: &&u32| !self.removed.contains(number) && !self.doubtful.contains(number);
            let lost: Vec<_> = self.added.iter().filter(of_set).filter(stays).collect();
            let lost: Vec<_> =
                lost.into_iter().filter(|number| !members.contains(number)).collect();
            if !lost.is_empty() {
                return Some(format!("{at} lost {lost:?} of {name}:s{set}"));
            }
            let back: Vec<_> =
                self.removed.iter().filter(|number| members.contains(number)).collect();
            if !back.is_empty() {
                return Some(format!("{at} has {back:?} back in {name}:s{set}"));
            }
        }
        let counters: BTreeSet<u32> =
            self.increments.iter().map(|number| number / PER_COUNTER).collect();
        for counter in counters {
            let key = format!("{name}:c{counter}");
            let found: Option<usize> =
                redis::cmd("GET").arg(&key).query(&mut redis).expect("it reads");
            let of_counter = counter * PER_COUNTER..(counter + 1) * PER_COUNTER;
            let expected = self.increments.range(of_counter).count();
            // An increment that failed may have been done.
            let most = expected + self.failed.len();
            let found = found.unwrap_or(0);
            if !(expected..=most).contains(&found) {
                return Some(format!("{at} counts {found} in {key}, not {expected}"));
            }
        }
        None
    }
}
