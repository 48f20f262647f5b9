//! One record of the log for people.

use values::Key;

use super::rows::{delta_shown, key_shown};
use super::shown;
use crate::log_record::{self, RecordIn};
use crate::row_key::RowKey;
use crate::{Forgetting, Shard, record_shard};

/// What a record says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordShown {
    /// The shard whose rows it changes.
    pub shard: Option<Shard>,
    /// The key, if it is about one.
    pub key: Option<Key>,
    /// What was done.
    pub what: String,
}

/// Says what a record of the log is.
pub fn show_record(record: &[u8]) -> RecordShown {
    let shard = record_shard(record);
    let (key, what) = match log_record::decode(record) {
        None => (None, format!("{} bytes that are no record of this version", record.len())),
        Some(RecordIn::Merge(key, delta)) => {
            let what = format!("merge into {}: {}", key_shown(&key), delta_shown(&delta));
            (Some(key), what)
        }
        Some(RecordIn::Defer(owner, key, delta)) => {
            let what = format!("keep for {owner}, {}: {}", key_shown(&key), delta_shown(&delta));
            (Some(key), what)
        }
        Some(RecordIn::Delivered(..)) => (None, "a kept delta was delivered".into()),
        Some(RecordIn::Redirect(_, owners)) => {
            let owners: Vec<String> = owners.iter().map(ToString::to_string).collect();
            (None, format!("keep for {} what was kept for another", owners.join(", ")))
        }
        Some(RecordIn::Note(notes)) => {
            let names: Vec<String> = notes.iter().map(|(name, _)| shown(name)).collect();
            (None, format!("note {}", names.join(", ")))
        }
        Some(RecordIn::Enter(round)) => {
            (None, format!("round {} of the barrier was entered", round.number))
        }
        Some(RecordIn::Remnant(Forgetting::Hide, ..)) => (None, "a remnant was hidden".into()),
        Some(RecordIn::Remnant(Forgetting::Drop, ..)) => (None, "a remnant was dropped".into()),
        Some(RecordIn::Remnant(Forgetting::Show, ..)) => (None, "a remnant was shown again".into()),
        Some(RecordIn::Forget(row_key)) => {
            let (key, what) = key_of_row(&row_key);
            (key, format!("drop what was held of {what}"))
        }
        Some(RecordIn::Rebuild(row_key)) => {
            let (key, what) = key_of_row(&row_key);
            (key, format!("bring {what} back to what is whole of it"))
        }
        Some(RecordIn::LossMet(losses)) => {
            let places: Vec<_> =
                losses.iter().map(|(from, to)| format!("from position {from} to {to}")).collect();
            (None, format!("the replica went on without the records {}", places.join(", ")))
        }
        Some(RecordIn::Probe(bytes)) => {
            (None, format!("nothing: {} bytes to ask the disk", bytes.len()))
        }
    };
    RecordShown { shard, key, what }
}

/// The key with this header row, if that tells it, and what it is called.
fn key_of_row(row_key: &[u8]) -> (Option<Key>, String) {
    let key = RowKey::read(row_key).and_then(|at| at.short_key());
    let what = key.as_ref().map_or_else(|| "a key with a long name".into(), key_shown);
    (key, what)
}
