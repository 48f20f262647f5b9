//! One loop's part of the node's index: only rows whose key lies in the loop's shards.
//!
//! All loops read one index; each engine counts, lists, sweeps and delivers what it finds there.
//! Seen through this, it finds what is its own.

use std::ops::ControlFlow;

use ring::Token;
use storage::{IndexRead, SeamError, Table, Visit, row_token};
use storage_lmdb::LmdbReader;

use crate::routing::LoopOwners;

/// A reader of the rows of one loop.
#[derive(Clone, Debug)]
pub(crate) struct ShardReader {
    reader: LmdbReader,
    owners: LoopOwners,
    loop_index: usize,
}

impl ShardReader {
    pub(crate) fn new(reader: LmdbReader, owners: LoopOwners, loop_index: usize) -> Self {
        Self { reader, owners, loop_index }
    }

    fn owns(&self, token: Token) -> bool {
        self.owners.of_shard(self.owners.shards().of_token(token)) == self.loop_index
    }
}

impl IndexRead for ShardReader {
    fn get(
        &self,
        table: Table,
        key: &[u8],
        look: &mut dyn FnMut(&[u8]),
    ) -> Result<bool, SeamError> {
        self.reader.get(table, key, look)
    }

    fn get_each(
        &self,
        keys: &[(Table, &[u8])],
        look: &mut dyn FnMut(usize, &[u8]),
    ) -> Result<(), SeamError> {
        self.reader.get_each(keys, look)
    }

    fn scan(&self, table: Table, from: &[u8], visit: Visit<'_>) -> Result<(), SeamError> {
        if self.owners.count() == 1 {
            return self.reader.scan(table, from, visit);
        }
        self.reader.scan(table, from, &mut |key, value| {
            // What is no row of a key is shown to the first loop, which knows what to make of it.
            let ours = match row_token(table, key) {
                Some(token) => self.owns(token),
                None => self.loop_index == 0,
            };
            if ours { visit(key, value) } else { ControlFlow::Continue(()) }
        })
    }
}
