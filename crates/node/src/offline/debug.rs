//! `merganser debug`: what is on disk, line by line, for people.

use std::ops::ControlFlow;
use std::path::Path;

use ring::Partition;
use storage::{
    DirectoryStamp, Files, IndexRead, Log, LogRecovery, Logged, SeamError, Shards, StorageError,
    Table, TreeNode, UnchangedFiles, log_parts, record_shard, show_record, show_row, show_tree,
};

use super::OfflineError;
use super::source::{Directory, Opened, is_backup, open_backup};

/// A table of the index, to show one alone.
pub type DebugTable = Table;

/// What is shown.
#[derive(Clone, Debug, Default)]
pub struct DebugFilter {
    /// Rows of this table only.
    pub table: Option<DebugTable>,
    /// What is of this bucket only.
    pub bucket: Option<Vec<u8>>,
    /// What is of this key only.
    pub key: Option<Vec<u8>>,
    /// What is of this partition only.
    pub partition: Option<u32>,
}

impl DebugFilter {
    fn admits(&self, bucket: Option<&[u8]>, key: Option<&[u8]>, partition: Option<u32>) -> bool {
        let matches = |wanted: &Option<Vec<u8>>, found: Option<&[u8]>| {
            wanted.as_deref().is_none_or(|wanted| found == Some(wanted))
        };
        matches(&self.bucket, bucket)
            && matches(&self.key, key)
            && self.partition.is_none_or(|wanted| partition == Some(wanted))
    }
}

/// What takes the lines; breaking ends the listing.
type Lines<'a> = &'a mut dyn FnMut(String) -> ControlFlow<()>;

fn failed(dir: &Path) -> impl Fn(SeamError) -> OfflineError {
    |error| OfflineError::Storage { dir: dir.into(), source: StorageError::from(error) }
}

fn open(dir: &Path) -> Result<Opened, OfflineError> {
    Opened::open(dir, &mut |_, _| ())
}

/// Shows the rows of the index in `dir`, in the order in which they stand: table, partition, key.
pub fn debug_rows(dir: &Path, filter: &DebugFilter, lines: Lines<'_>) -> Result<(), OfflineError> {
    let opened = open(dir)?;
    for table in Table::ALL {
        if filter.table.is_some_and(|wanted| wanted != table) {
            continue;
        }
        let mut flow = ControlFlow::Continue(());
        let mut visit = |key: &[u8], record: &[u8]| {
            let row = show_row(table, key, record, opened.shards);
            let bucket = row.bucket.as_ref().map(|bucket| &bucket.name[..]);
            let partition = row.partition.map(|partition| partition.0);
            if filter.admits(bucket, row.key.as_deref(), partition) {
                let damage = row.damage.as_ref();
                let damage = damage.map_or_else(String::new, |what| format!("  DAMAGED: {what}"));
                let what = if table == Table::Header { &format!(" ({})", row.what) } else { "" };
                flow = lines(format!("{}{what}{damage}", row.place()));
            }
            flow
        };
        opened.source.scan(table, &[], &mut visit).map_err(failed(dir))?;
        if flow == ControlFlow::Break(()) {
            break;
        }
    }
    Ok(())
}

/// Shows the records of the log in `dir`, in the order in which they were written, with their
/// positions; those that the index has, too, as far as their segments are there. The index is not looked at, so it
/// may be damaged.
pub fn debug_log(dir: &Path, filter: &DebugFilter, lines: Lines<'_>) -> Result<(), OfflineError> {
    if is_backup(dir) {
        let (backup, shards, _lock) = open_backup(dir)?;
        return show_log(&backup.log(), backup.stamp(), shards, filter, lines).map_err(failed(dir));
    }
    let Directory { files, stamp, shards, _lock } = Directory::open(dir)?;
    show_log(&files, &stamp, shards, filter, lines).map_err(failed(dir))
}

fn show_log(
    files: &impl Files,
    stamp: &DirectoryStamp,
    shards: Shards,
    filter: &DebugFilter,
    lines: Lines<'_>,
) -> Result<(), SeamError> {
    let mut flow = ControlFlow::Continue(());
    let mut visit = |position: u64, logged: Logged<'_>| {
        // Told with the damage, at the end.
        let Some(record) = logged.record() else { return };
        if flow == ControlFlow::Break(()) {
            return;
        }
        let shown = show_record(record);
        let partition = shown.key.as_ref().map(|key| {
            let token = ring::Token(key.identifier());
            shards.partitions().partition(token).0
        });
        let bucket = shown.key.as_ref().map(|key| &key.bucket()[..]);
        if filter.admits(bucket, shown.key.as_ref().map(|key| &key.key()[..]), partition) {
            let shard = record_shard(record).map_or_else(String::new, |shard| shard.0.to_string());
            flow = lines(format!("{position:>12}  shard {shard:>2}  {}", shown.what));
        }
    };
    let found = read_log(files, stamp.directory, &mut visit)?;
    for damage in found.damage {
        // Whoever reads the first lines only has read enough.
        let _ = lines(format!(
            "DAMAGED: {} at byte {}: {}, {} bytes of records are lost",
            damage.segment, damage.offset, damage.what, damage.bytes
        ));
    }
    Ok(())
}

/// Reads what is kept of a log; that what stood before it was trimmed is no damage.
fn read_log(
    files: &impl Files,
    directory: u64,
    visit: &mut dyn FnMut(u64, Logged<'_>),
) -> Result<LogRecovery, SeamError> {
    let start = log_parts(files, 0, u64::MAX)?.first().map(|part| part.start);
    let log = Log::open(UnchangedFiles::new(files), directory, &[start], visit)?;
    Ok(log.1)
}

/// Shows the hash trees over keys in `dir`: of each partition with keys its root, by the n of their
/// buckets; of one partition its leaves.
pub fn debug_tree(dir: &Path, filter: &DebugFilter, lines: Lines<'_>) -> Result<(), OfflineError> {
    let opened = open(dir)?;
    let shown = |node: TreeNode| {
        let settled = if node.is_settled { "" } else { "  (some are not counted yet)" };
        format!("{:>8} keys  {:032x}{settled}", node.count, node.digest)
    };
    let mut roots = std::collections::BTreeMap::<(Partition, u8), TreeNode>::new();
    show_tree(&opened.source, opened.shards.partitions(), &mut |leaf| {
        let node = leaf.node.unwrap_or(TreeNode { is_settled: false, ..TreeNode::EMPTY });
        match filter.partition {
            None => {
                let root = roots.entry((leaf.partition, leaf.n)).or_insert(TreeNode::EMPTY);
                root.count += node.count;
                root.digest = root.digest.wrapping_add(node.digest);
                root.is_settled &= node.is_settled;
                ControlFlow::Continue(())
            }
            Some(wanted) if wanted == leaf.partition.0 => {
                let damage = if leaf.node.is_none() { "  DAMAGED" } else { "" };
                let Partition(partition) = leaf.partition;
                lines(format!(
                    "partition {partition}, n = {}, leaf {:>5}  {}{damage}",
                    leaf.n,
                    leaf.leaf,
                    shown(node)
                ))
            }
            Some(_) => ControlFlow::Continue(()),
        }
    })
    .map_err(failed(dir))?;
    for ((partition, n), node) in roots {
        let line = format!("partition {:>5}, n = {n}  {}", partition.0, shown(node));
        if lines(line) == ControlFlow::Break(()) {
            break;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
