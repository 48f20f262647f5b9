//! Comparing what checkpoints counted with what is there.

use super::{Fault, FaultKind, Verifying};
use crate::census::Census;
use crate::checkpoint::read_shard;
use crate::memtable::Memtable;
use crate::{IndexRead, Shards, StorageError};

/// Counts everything, and compares it with the census of each shard that has one. Returns how many
/// live keys there are.
pub fn check_census(
    index: &impl IndexRead,
    shards: Shards,
    verifying: &mut impl Verifying,
) -> Result<u64, StorageError> {
    let counted = Census::of(&Memtable::new(index), shards)?;
    for (shard, counted) in shards.iter().zip(counted.by_shard(shards)) {
        let Some((_, Some(stored))) = read_shard(index, shard)?.flatten() else { continue };
        if stored != counted {
            let place = format!("shard {}", shard.0);
            let what = "its census is not what its rows count to".into();
            verifying.fault(Fault { kind: FaultKind::Count, place, what });
        }
    }
    Ok(counted.live_keys())
}
