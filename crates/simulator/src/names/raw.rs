//! Raw values among requests with names: puts of clients that present what they read, some of it long ago, while who wrote
//! before is sealed and forgotten.
//!
//! Every put writes another value, so that what is shown in the end says of each whether it is there, and who had seen it.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use clock::ContextToken;
use replication::{Call, CallId, NamedBy, Request, RequestName};
use values::{BytesOp, Key, Operation, Scope, Tag, View};

use crate::{Random, Sim, Told};

/// Keys, and clients that write them.
const KEYS: usize = 2;
const CLIENTS: usize = 3;

/// What a client read of a key.
#[derive(Clone, Debug, Default)]
struct Read {
    values: BTreeSet<Bytes>,
    context: Option<ContextToken>,
}

/// A put: what its client had read, and whether it is done.
#[derive(Debug)]
struct Put {
    key: usize,
    seen: BTreeSet<Bytes>,
    is_refused: bool,
    is_done: bool,
}

#[derive(Debug)]
enum Asked {
    Read { client: usize, key: usize },
    Put(Bytes),
}

/// The clients of raw values.
#[derive(Debug, Default)]
pub(super) struct Raw {
    reads: BTreeMap<(usize, usize), Read>,
    puts: BTreeMap<Bytes, Put>,
    under_way: Vec<(CallId, Asked)>,
}

fn key(number: usize) -> Key {
    Key::new("default", format!("raw{number}")).expect("short")
}

/// The keys.
pub(super) fn keys() -> impl Iterator<Item = Key> {
    (0..KEYS).map(key)
}

fn values(view: &View) -> BTreeSet<Bytes> {
    view.siblings().into_iter().map(|(_, sibling)| sibling.value.clone()).collect()
}

fn read_request(number: usize) -> Request {
    Request { want_context: true, ..Request::get(key(number), Scope::Whole) }
}

impl Raw {
    /// A client reads, or puts what nobody put before.
    pub(super) fn step(&mut self, sim: &mut Sim, random: &mut Random, number: usize) {
        let node = random.below(sim.nodes() as u64) as usize;
        let (client, of) =
            (random.below(CLIENTS as u64) as usize, random.below(KEYS as u64) as usize);
        let (request, asked) = if random.chance(400) {
            (read_request(of), Asked::Read { client, key: of })
        } else {
            let read = match random.chance(850) {
                true => self.reads.get(&(client, of)).cloned().unwrap_or_default(),
                false => Read::default(),
            };
            let name = random.chance(200).then(|| RequestName {
                by: NamedBy::Application,
                client: Bytes::from(format!("raw{client}")),
                id: Bytes::from(number.to_string()),
            });
            let value = Bytes::from(number.to_string());
            self.put(of, value, read, name)
        };
        let call = sim.call(node, Call::Request(request));
        self.under_way.push((call, asked));
    }

    fn put(
        &mut self,
        of: usize,
        value: Bytes,
        read: Read,
        name: Option<RequestName>,
    ) -> (Request, Asked) {
        let mut request = Request::update(key(of), Operation::Bytes(BytesOp::Put(value.clone())));
        (request.context, request.name) = (read.context, name);
        let put = Put { key: of, seen: read.values, is_refused: false, is_done: false };
        self.puts.insert(value.clone(), put);
        (request, Asked::Put(value))
    }

    /// Takes note of what was answered.
    pub(super) fn collect(&mut self, sim: &mut Sim) {
        for (call, asked) in std::mem::take(&mut self.under_way) {
            let Some(outcome) = sim.take_answer(call) else {
                self.under_way.push((call, asked));
                continue;
            };
            match (asked, Told::of(outcome)) {
                (Asked::Read { client, key }, Told::Done(answer)) => {
                    let context = answer.contexts.get(&Tag::BYTES).cloned();
                    let read = Read { values: values(&answer.view), context };
                    self.reads.insert((client, key), read);
                }
                (Asked::Put(value), told) => {
                    let put = self.puts.get_mut(&value).expect("it was noted");
                    put.is_done = matches!(told, Told::Done(_));
                    put.is_refused = matches!(told, Told::Refused(_));
                }
                (Asked::Read { .. }, _) => {}
            }
        }
    }

    /// Reads every key at an owner and puts one value more there.
    pub(super) fn write_all(&mut self, sim: &mut Sim, number: usize) -> Result<(), String> {
        for of in 0..KEYS {
            let owner = sim.owners(&key(of))[0];
            let wrong = |error| format!("raw_values_are_taken: {error}");
            let answer = sim.request(owner, read_request(of)).map_err(wrong)?;
            let context = answer.contexts.get(&Tag::BYTES).cloned();
            let read = Read { values: values(&answer.view), context };
            let value = Bytes::from(format!("last{number}-{of}"));
            let (request, _) = self.put(of, value.clone(), read, None);
            sim.request(owner, request).map_err(wrong)?;
            self.puts.get_mut(&value).expect("it was noted").is_done = true;
            sim.run_until_quiet();
        }
        Ok(())
    }

    /// What is shown is what was put and nobody had seen who put after it; all of that which was done.
    pub(super) fn judge(&self, finals: &BTreeMap<Key, View>) -> Result<(), String> {
        for of in 0..KEYS {
            let shown = values(&finals[&key(of)]);
            let wrong = |value: &Bytes, what: &str| {
                Err(format!("raw_values_stay_until_seen: {:?} {value:?}: {what}", key(of)))
            };
            let puts = || self.puts.iter().filter(|(_, put)| put.key == of && !put.is_refused);
            for value in &shown {
                if !puts().any(|(made, _)| made == value) {
                    return wrong(value, "nobody put it");
                }
                if puts().any(|(_, put)| put.is_done && put.seen.contains(value)) {
                    return wrong(value, "it is back");
                }
            }
            for (value, _) in puts().filter(|(_, put)| put.is_done) {
                if !shown.contains(value) && !puts().any(|(_, put)| put.seen.contains(value)) {
                    return wrong(value, "it is lost");
                }
            }
        }
        Ok(())
    }
}
