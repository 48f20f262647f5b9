//! What random clients do: every operation of every type, on few names, so that adds, removals and
//! adds again of the same thing meet.

use clock::Stamp;
use replication::{Action, Request};
use values::{
    Blob, BytesOp, CartOp, CounterOp, Deadline, ExpiryCondition, ExpiryOp, GsetOp, Key, Lifetime,
    MapOp, Operation, OrsetOp, RegisterOp, Tag,
};

use crate::Random;

/// How much there is of a collection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    /// Names that clients choose from.
    pub(crate) names: u64,
    /// How long names and values are at least, in bytes.
    pub(crate) bytes: usize,
}

impl Sizes {
    fn long(self, text: String) -> Blob {
        let bytes = self.bytes;
        format!("{text:-<bytes$}").into()
    }

    fn name(self, random: &mut Random) -> Blob {
        self.long(format!("i{}", random.below(self.names)))
    }

    /// One name or a few.
    fn names(self, random: &mut Random) -> Vec<Blob> {
        (0..random.between(1, self.names.div_ceil(2))).map(|_| self.name(random)).collect()
    }
}

/// One kind of key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Siblings,
    Register,
    Gset,
    Counter,
    Orset,
    Cart,
    Map,
    /// Operations of every type on one key.
    Mixed,
}

const TYPES: [Kind; 7] =
    [Kind::Siblings, Kind::Register, Kind::Gset, Kind::Counter, Kind::Orset, Kind::Cart, Kind::Map];

impl Kind {
    /// Some kind; carts, which most is promised of, twice as often.
    pub(crate) fn some(random: &mut Random) -> Self {
        match random.below(9) {
            7 => Self::Cart,
            8 => Self::Mixed,
            at => TYPES[at as usize],
        }
    }

    pub(crate) fn key(self, bucket: &'static str, number: usize) -> Key {
        Key::new(bucket, format!("{self:?}{number}")).expect("within the bounds")
    }

    const fn tag(self) -> Option<Tag> {
        match self {
            Self::Siblings => Some(Tag::BYTES),
            Self::Register => Some(Tag::LWW),
            Self::Gset => Some(Tag::GSET),
            Self::Counter => Some(Tag::COUNTER),
            Self::Orset => Some(Tag::ORSET),
            Self::Cart => Some(Tag::CART),
            Self::Map => Some(Tag::MAP),
            Self::Mixed => None,
        }
    }

    /// What a client does to such a key. `number` is one that no other operation of the run has,
    /// `now_ms` what a right wall clock shows.
    pub(crate) fn operation(
        self,
        random: &mut Random,
        number: u64,
        now_ms: u64,
        sizes: Sizes,
    ) -> Operation {
        match random.below(100) {
            0..6 => return Operation::Delete(self.tag()),
            6..9 => return Operation::Delete(None),
            // Redis's SET, over whatever the key holds.
            9..11 => return set(random, number, None, true),
            _ => {}
        }
        let dice = random.below(100);
        let signed = random.between(1, 9) as i64 * if random.chance(700) { 1 } else { -1 };
        match self {
            Self::Siblings => Operation::Bytes(match dice {
                0..20 => BytesOp::Delete,
                20..30 => BytesOp::Put(sizes.name(random)),
                _ => BytesOp::Put(sizes.long(format!("v{number}"))),
            }),
            Self::Register if dice < 50 => Operation::Register(RegisterOp::Increment(signed)),
            Self::Register => {
                let at = (dice < 55).then(|| {
                    Stamp::from_millis((now_ms + random.below(40_000)).saturating_sub(20_000))
                });
                set(random, number, at, dice > 95)
            }
            Self::Gset => Operation::Gset(GsetOp::Add(sizes.names(random))),
            Self::Counter if dice < 25 => Operation::Counter(CounterOp::Reset),
            Self::Counter => Operation::Counter(CounterOp::Add(signed)),
            Self::Orset if dice < 45 => Operation::Orset(OrsetOp::Remove(sizes.names(random))),
            Self::Orset => Operation::Orset(OrsetOp::Add(sizes.names(random))),
            Self::Cart => {
                let item = sizes.name(random);
                Operation::Cart(match dice {
                    0..25 => CartOp::Remove(item),
                    25..45 => CartOp::SetQuantity { item, quantity: random.below(5) },
                    _ => CartOp::Add { item, quantity: random.between(1, 9) },
                })
            }
            Self::Map => Operation::Map(match dice {
                0..30 => MapOp::Remove(sizes.names(random)),
                30..65 => MapOp::Increment { field: sizes.name(random), by: signed },
                _ => {
                    let names = sizes.names(random).into_iter();
                    MapOp::Set(names.map(|name| (name, number.to_string().into())).collect())
                }
            }),
            Self::Mixed if dice < 15 => set(random, number, None, true),
            Self::Mixed if dice < 30 => Operation::Resolve(*random.pick(&Tag::KNOWN)),
            Self::Mixed => random.pick(&TYPES).operation(random, number, now_ms, sizes),
        }
    }
}

/// Longest life that a key is given, in milliseconds, where nothing else is said.
pub(crate) const LIFE_MAX_MS: u64 = 3_000;

/// Makes a write one of the key's time to live, or has it set that too.
pub(super) fn living(random: &mut Random, now_ms: u64, life_max_ms: u64, request: &mut Request) {
    let life_ms = random.below(life_max_ms);
    let deadline =
        if random.chance(800) { Deadline::In(life_ms) } else { Deadline::At(now_ms + life_ms) };
    match random.below(10) {
        0..5 => {
            let only_if = *random.pick(&[
                None,
                None,
                None,
                Some(ExpiryCondition::None),
                Some(ExpiryCondition::Some),
                Some(ExpiryCondition::Later),
                Some(ExpiryCondition::Earlier),
            ]);
            let op = ExpiryOp::Set { deadline, only_if };
            request.action = Action::Update(Operation::Expiry(op));
        }
        5 => request.action = Action::Update(Operation::Expiry(ExpiryOp::Persist)),
        6 => request.lifetime = Lifetime::Keep,
        _ => request.lifetime = Lifetime::Ends(deadline),
    }
}

/// Takes a set or an increment to the ends of what it may say, or beyond.
pub(super) fn to_extremes(random: &mut Random, now_ms: u64, operation: &mut Operation) {
    match operation {
        Operation::Register(RegisterOp::Set { at, .. }) => {
            // Within the bound by most clocks; beyond it; and far beyond, by centuries.
            let ahead_ms = *random.pick(&[50_000, 70_000, 600_000, 30 * now_ms]);
            *at = Some(Stamp::from_millis(now_ms + ahead_ms));
        }
        Operation::Register(RegisterOp::Increment(by))
        | Operation::Counter(CounterOp::Add(by))
        | Operation::Map(MapOp::Increment { by, .. }) => {
            *by = *random.pick(&[i64::MAX, i64::MAX / 2, i64::MIN / 2, i64::MIN]);
        }
        _ => {}
    }
}

fn set(random: &mut Random, number: u64, at: Option<Stamp>, replace: bool) -> Operation {
    // Most are numbers, so that increments go on from them.
    let is_word = random.chance(100);
    let value = if is_word { format!("word{number}") } else { number.to_string() };
    Operation::Register(RegisterOp::Set { value: value.into(), at, replace })
}
