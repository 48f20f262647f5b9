//! What a bucket says of its keys, and the fields by which it is said.
//!
//! A field has a number, under which replicas keep it, a name for people, and a value in 64 bits. A
//! policy that one person asks for is refused where it contradicts itself; one that came about by a
//! merge is clamped ([`BucketPolicy::clamped`]), since a merge cannot be refused.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use storage::Durability;
use values::{Deadline, Lifetime, Limits, Tag};

/// Most owners of a key. A guess: more copies cost every write more than they save.
pub const OWNERS_MAX: u8 = 5;
/// Highest limit of siblings that a bucket may have.
const SIBLINGS_MAX: u64 = 10_000;

/// Whether a write is accepted when fewer than w owners can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Availability {
    /// Accepted on what is left, down to one node; the answer says how many copies there are.
    #[default]
    Always,
    /// Refused, before anything is written where that is known.
    Quorum,
}

/// What a raw write makes. It decides when a write is made, never how states merge.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RawValues {
    /// A value of type `bytes`: concurrent ones stay beside each other.
    #[default]
    Siblings,
    /// A register: of concurrent ones the last stays.
    Lww,
}

impl RawValues {
    /// The type that a raw write makes.
    pub const fn tag(self) -> Tag {
        match self {
            Self::Siblings => Tag::BYTES,
            Self::Lww => Tag::LWW,
        }
    }
}

/// A bucket's policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BucketPolicy {
    /// Owners of each key.
    pub n: u8,
    /// Replicas that must answer a read.
    pub r: u8,
    /// Owners on which a write must be durable.
    pub w: u8,
    /// What to do when w cannot be met.
    pub availability: Availability,
    /// What a raw write makes.
    pub raw: RawValues,
    /// When a write counts as durable.
    pub durability: Durability,
    /// Longest value, in bytes, where it is less than the node's own limit; 0 for that one alone.
    pub value_bytes_max: u32,
    /// Most siblings that a put may leave; 0 for the node's own limit.
    pub siblings_max: u32,
    /// Above so many siblings a put is reported; 0 for the node's own limit.
    pub siblings_soft: u32,
    /// How long what is written lives, in seconds after its write; 0 for without end.
    pub ttl: u32,
    /// Most elements, items or fields of a collection; 0 for the node's own limit.
    pub elements_max: u32,
}

impl Default for BucketPolicy {
    /// n=3, r=2, w=2 (Dynamo §6: the common configuration), always writeable, siblings, synced.
    fn default() -> Self {
        Self {
            n: 3,
            r: 2,
            w: 2,
            availability: Availability::Always,
            raw: RawValues::Siblings,
            durability: Durability::Sync,
            value_bytes_max: 0,
            siblings_max: 0,
            siblings_soft: 0,
            ttl: 0,
            elements_max: 0,
        }
    }
}

/// One thing that a policy says. The numbers are stored and sent: they never change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "u8", try_from = "u8")]
#[repr(u8)]
pub enum Field {
    /// [`BucketPolicy::n`].
    N = 1,
    /// [`BucketPolicy::r`].
    R = 2,
    /// [`BucketPolicy::w`].
    W = 3,
    /// [`BucketPolicy::availability`].
    Availability = 4,
    /// [`BucketPolicy::raw`].
    Raw = 5,
    /// [`BucketPolicy::durability`].
    Durability = 6,
    /// [`BucketPolicy::value_bytes_max`].
    ValueBytesMax = 7,
    /// [`BucketPolicy::siblings_max`].
    SiblingsMax = 8,
    /// [`BucketPolicy::siblings_soft`].
    SiblingsSoft = 9,
    /// [`BucketPolicy::ttl`].
    Ttl = 10,
    /// [`BucketPolicy::elements_max`].
    ElementsMax = 11,
}

impl Field {
    /// Every field, in the order in which they are shown.
    pub const ALL: [Self; 11] = [
        Self::N,
        Self::R,
        Self::W,
        Self::Availability,
        Self::Raw,
        Self::Durability,
        Self::ValueBytesMax,
        Self::SiblingsMax,
        Self::SiblingsSoft,
        Self::ElementsMax,
        Self::Ttl,
    ];

    /// Its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::N => "n",
            Self::R => "r",
            Self::W => "w",
            Self::Availability => "availability",
            Self::Raw => "raw",
            Self::Durability => "durability",
            Self::ValueBytesMax => "value_bytes_max",
            Self::SiblingsMax => "siblings_max",
            Self::SiblingsSoft => "siblings_soft",
            Self::Ttl => "ttl",
            Self::ElementsMax => "elements_max",
        }
    }

    /// The words that stand for the values 0, 1, …; none where values are numbers.
    const fn words(self) -> &'static [&'static str] {
        match self {
            Self::Availability => &["always", "quorum"],
            Self::Raw => &["siblings", "lww"],
            Self::Durability => &["sync", "interval", "none"],
            _ => &[],
        }
    }

    /// Which values it can have.
    const fn bounds(self) -> (u64, u64) {
        match self {
            Self::N | Self::R | Self::W => (1, OWNERS_MAX as u64),
            Self::Availability | Self::Raw | Self::Durability => (0, self.words().len() as u64 - 1),
            Self::ValueBytesMax | Self::ElementsMax | Self::Ttl => (0, u32::MAX as u64),
            Self::SiblingsMax | Self::SiblingsSoft => (0, SIBLINGS_MAX),
        }
    }

    /// A value as people write it.
    pub fn show(self, value: u64) -> String {
        let word = usize::try_from(value).ok().and_then(|place| self.words().get(place));
        word.map_or_else(|| value.to_string(), |word| (*word).to_owned())
    }

    /// The value that `text` stands for.
    fn read(self, text: &str) -> Result<u64, PolicyError> {
        let words = self.words();
        let (least, most) = self.bounds();
        let value = if words.is_empty() {
            // `parse` would take a plus sign.
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            text.parse().ok().filter(|value| digits && (least..=most).contains(value))
        } else {
            words.iter().position(|word| *word == text).map(|place| place as u64)
        };
        value.ok_or_else(|| self.wrong(text))
    }

    fn wrong(self, text: &str) -> PolicyError {
        let (least, most) = self.bounds();
        let possible = match self.words() {
            [] => format!("{least} to {most}"),
            words => words.join(" or "),
        };
        PolicyError(format!("{}={text} is not possible: use {possible}", self.name()))
    }
}

impl From<Field> for u8 {
    fn from(field: Field) -> Self {
        field as Self
    }
}

impl TryFrom<u8> for Field {
    type Error = PolicyError;

    fn try_from(number: u8) -> Result<Self, PolicyError> {
        let known = Self::ALL.into_iter().find(|&field| u8::from(field) == number);
        known.ok_or_else(|| PolicyError(format!("no policy field has the number {number}")))
    }
}

/// Why a policy is none. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{0}")]
pub struct PolicyError(pub String);

/// Some fields of a policy with their values.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyFields(BTreeMap<Field, u64>);

impl PolicyFields {
    /// Adds the field `name` with the value that `text` stands for.
    pub fn add(&mut self, name: &str, text: &str) -> Result<(), PolicyError> {
        let Some(field) = Field::ALL.into_iter().find(|field| field.name() == name) else {
            let names = Field::ALL.map(Field::name).join(", ");
            return Err(PolicyError(format!("a policy has no field {name:?}; it has {names}")));
        };
        let value = field.read(text)?;
        match self.0.insert(field, value) {
            Some(_) => Err(PolicyError(format!("{name} is given twice; give it once"))),
            None => Ok(()),
        }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Each field with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Field, u64)> + '_ {
        self.0.iter().map(|(&field, &value)| (field, value))
    }

    pub(crate) fn value(&self, field: Field) -> Option<u64> {
        self.0.get(&field).copied()
    }
}

impl BucketPolicy {
    /// The value of a field.
    pub fn value(&self, field: Field) -> u64 {
        match field {
            Field::N => self.n.into(),
            Field::R => self.r.into(),
            Field::W => self.w.into(),
            Field::Availability => self.availability as u64,
            Field::Raw => self.raw as u64,
            Field::Durability => self.durability as u64,
            Field::ValueBytesMax => self.value_bytes_max.into(),
            Field::SiblingsMax => self.siblings_max.into(),
            Field::SiblingsSoft => self.siblings_soft.into(),
            Field::Ttl => self.ttl.into(),
            Field::ElementsMax => self.elements_max.into(),
        }
    }

    /// Puts the nearest value that the field can have; a word that is unknown is left out. Returns
    /// whether it was possible as it is.
    fn put(&mut self, field: Field, value: u64) -> bool {
        let (least, most) = field.bounds();
        let is_possible = (least..=most).contains(&value);
        if !is_possible && !field.words().is_empty() {
            return false;
        }
        let value = value.clamp(least, most);
        let (small, number) = (value as u8, value as u32);
        match field {
            Field::N => self.n = small,
            Field::R => self.r = small,
            Field::W => self.w = small,
            Field::Availability if value == 0 => self.availability = Availability::Always,
            Field::Availability => self.availability = Availability::Quorum,
            Field::Raw if value == 0 => self.raw = RawValues::Siblings,
            Field::Raw => self.raw = RawValues::Lww,
            Field::Durability => {
                self.durability = match value {
                    0 => Durability::Sync,
                    1 => Durability::Interval,
                    _ => Durability::None,
                }
            }
            Field::ValueBytesMax => self.value_bytes_max = number,
            Field::SiblingsMax => self.siblings_max = number,
            Field::SiblingsSoft => self.siblings_soft = number,
            Field::Ttl => self.ttl = number,
            Field::ElementsMax => self.elements_max = number,
        }
        is_possible
    }

    /// This policy with `fields` in place of its own. Where n alone goes down, what is not said
    /// follows it.
    pub fn with(mut self, fields: &PolicyFields) -> Result<Self, PolicyError> {
        for (field, value) in fields.iter() {
            if !self.put(field, value) {
                return Err(field.wrong(&value.to_string()));
            }
        }
        if fields.value(Field::R).is_none() {
            self.r = self.r.min(self.n);
        }
        if fields.value(Field::W).is_none() {
            self.w = self.w.min(self.n);
        }
        self.check().map(|()| self)
    }

    /// Whether the policy contradicts itself.
    pub fn check(&self) -> Result<(), PolicyError> {
        let Self { n, r, w, .. } = *self;
        let fits = |quorum: u8| (1..=n).contains(&quorum);
        if (1..=OWNERS_MAX).contains(&n) && fits(r) && fits(w) {
            return Ok(());
        }
        let why = "r and w must be from 1 to n";
        Err(PolicyError(format!("n={n}, r={r}, w={w}: {why}, and n from 1 to {OWNERS_MAX}")))
    }

    /// This policy with `values` put in, by number of field, and what of them could not be taken as
    /// it is: a total function, the same at every replica.
    pub(crate) fn clamped(
        mut self,
        values: impl Iterator<Item = (u8, u64)>,
    ) -> (Self, Vec<String>) {
        let mut doubts = Vec::new();
        for (number, value) in values {
            // What a later version says stays in the table, and says nothing here.
            let Ok(field) = Field::try_from(number) else { continue };
            if !self.put(field, value) {
                let counts = field.show(self.value(field));
                doubts.push(format!("{}={value}: counts as {counts}", field.name()));
            }
        }
        for (name, quorum) in [("r", &mut self.r), ("w", &mut self.w)] {
            if *quorum > self.n {
                doubts.push(format!("{name}={quorum} with n={n}: counts as {n}", n = self.n));
                *quorum = self.n;
            }
        }
        (self, doubts)
    }

    /// What a write that asks for `asked` does to its key's time to live.
    pub fn lifetime(&self, asked: Lifetime) -> Lifetime {
        match asked {
            Lifetime::Usual if self.ttl > 0 => {
                Lifetime::Ends(Deadline::In(u64::from(self.ttl) * 1_000))
            }
            asked => asked,
        }
    }

    /// The bounds of what operations on the bucket's keys make, given the node's own.
    pub(crate) fn limits(&self, own: &Limits) -> Limits {
        let mut limits = own.clone();
        if self.value_bytes_max > 0 {
            let most = usize::try_from(self.value_bytes_max).unwrap_or(usize::MAX);
            limits.value_bytes = limits.value_bytes.min(most);
        }
        if self.siblings_max > 0 {
            limits.siblings = usize::try_from(self.siblings_max).unwrap_or(usize::MAX);
        }
        if self.siblings_soft > 0 {
            limits.siblings_soft = usize::try_from(self.siblings_soft).unwrap_or(usize::MAX);
        }
        limits.siblings_soft = limits.siblings_soft.min(limits.siblings);
        if self.elements_max > 0 {
            limits.elements = self.elements_max.into();
        }
        limits
    }
}

impl fmt::Display for BucketPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, field) in Field::ALL.into_iter().enumerate() {
            let space = if place == 0 { "" } else { " " };
            write!(f, "{space}{}={}", field.name(), field.show(self.value(field)))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
