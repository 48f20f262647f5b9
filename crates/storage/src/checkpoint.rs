//! Checkpoints: what brings the rows of a frozen memtable into the index.
//!
//! Shard by shard, each in one transaction with its position in the log and its census: so a
//! transaction stays small however much there is to bring, what is written of the index for a row
//! more is what its page costs, and a crash between two leaves each shard at a position that is
//! exact for its rows. Until the last is written the memtable shows the rows all the same.

use std::sync::Arc;

use crate::census::{Census, ShardCensus};
use crate::memtable::Generation;
use crate::record::{decode_shard, encode_shard};
use crate::{
    IndexRead, IndexWrite, RowChange, SeamError, Shard, ShardSet, Shards, Table, row_token,
};

/// Frozen rows, for the index's writer, and the position in the log whose state they are.
#[derive(Clone, Debug)]
pub struct Checkpoint {
    pub(crate) rows: Arc<Generation>,
    pub(crate) shards: ShardSet,
    /// None where damage was met, which may have been counted wrongly.
    pub(crate) census: Option<Arc<Census>>,
    pub(crate) position: u64,
}

impl Checkpoint {
    /// The position in the log up to which the index holds all of the engine's records, once this
    /// is written.
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// How many rows it brings.
    pub fn row_count(&self) -> usize {
        self.rows.len()
    }

    /// Writes it. `before_each` is called before each transaction, for whoever wants to pause.
    ///
    /// On an error some shards are written; writing it again writes them again, to the same effect.
    pub fn write(
        &self,
        writer: &mut impl IndexWrite,
        before_each: &mut dyn FnMut(),
    ) -> Result<(), SeamError> {
        let (positions, shards) = (self.positions(), self.shards.shards());
        // What each transaction writes.
        let mut parts: Vec<Vec<RowChange<'_>>> = shards.iter().map(|_| Vec::new()).collect();
        for table in Table::ALL {
            for (key, value) in self.rows.rows(table) {
                let shard = row_token(table, key).map_or(0, |token| shards.of_token(token).0);
                parts[usize::from(shard)].push(RowChange { table, key, value });
            }
        }
        // What has no rows to bring goes together: its positions only.
        let mut idle = Vec::new();
        for (shard, key, value) in &positions {
            let row = RowChange { table: Table::Shard, key, value: Some(value) };
            let part = &mut parts[usize::from(shard.0)];
            if part.is_empty() {
                idle.push(row);
            } else {
                part.push(row);
            }
        }
        parts.push(idle);
        for part in parts.iter().filter(|part| !part.is_empty()) {
            before_each();
            writer.commit(part)?;
        }
        Ok(())
    }

    /// The shards' own rows.
    fn positions(&self) -> Vec<(Shard, [u8; 2], Vec<u8>)> {
        let mut census = self.census.as_ref().map(|census| census.by_shard(self.shards.shards()));
        let row = |shard: Shard| {
            let key = shard_key(shard);
            let part: Option<ShardCensus> =
                census.as_mut().map(|census| std::mem::take(&mut census[usize::from(shard.0)]));
            (shard, key, encode_shard(&key, self.position, part.as_ref()))
        };
        self.shards.iter().map(row).collect()
    }
}

const fn shard_key(shard: Shard) -> [u8; 2] {
    shard.0.to_be_bytes()
}

/// What the index says of a shard: up to where in the log its rows go, and its census, if that is
/// known.
pub(crate) type ShardRead = (u64, Option<ShardCensus>);

/// What the index says of a shard, `None` if that is damaged; `None` if there is no checkpoint of it.
pub(crate) fn read_shard(
    reader: &impl IndexRead,
    shard: Shard,
) -> Result<Option<Option<ShardRead>>, SeamError> {
    let key = shard_key(shard);
    let mut found = None;
    reader.get(Table::Shard, &key, &mut |record| found = Some(decode_shard(&key, record).ok()))?;
    Ok(found)
}

/// Of each shard, in order, up to which position of the log the index holds its records; `None` of
/// one without a checkpoint, and of one where that is damaged: then all that the log has is done again.
/// For [`Log::open`](crate::Log::open).
pub fn shard_positions(
    reader: &impl IndexRead,
    shards: Shards,
) -> Result<Vec<Option<u64>>, SeamError> {
    let position = |shard| Ok(read_shard(reader, shard)?.flatten().map(|(position, _)| position));
    shards.iter().map(position).collect()
}
