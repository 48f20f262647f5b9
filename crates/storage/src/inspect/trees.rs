//! Hash trees for people.

use std::ops::ControlFlow;

use ring::{Partition, PartitionCount};

use crate::record::decode_leaf;
use crate::tree::Leaves;
use crate::{IndexRead, SeamError, Table, TreeNode};

/// One leaf of a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeafShown {
    /// The n of the buckets whose keys it counts.
    pub n: u8,
    /// In which partition.
    pub partition: Partition,
    /// Which of the partition's leaves, from 0.
    pub leaf: u32,
    /// What it says; `None` if its row is damaged.
    pub node: Option<TreeNode>,
}

/// Visits the leaves that are stored, in the order of the ring, until `visit` breaks.
pub fn show_tree(
    index: &impl IndexRead,
    partitions: PartitionCount,
    visit: &mut dyn FnMut(LeafShown) -> ControlFlow<()>,
) -> Result<(), SeamError> {
    let leaves = Leaves::of(partitions);
    let per_partition = u32::try_from(leaves.per_partition()).expect("a leaf has at most 19 bits");
    index.scan(Table::Tree, &[], &mut |row_key, record| {
        let Some((leaf, n)) = leaves.parse(row_key) else { return ControlFlow::Continue(()) };
        let node = decode_leaf(row_key, record).ok().map(|sum| sum.node());
        let partition = Partition(leaf / per_partition);
        visit(LeafShown { n, partition, leaf: leaf % per_partition, node })
    })
}
