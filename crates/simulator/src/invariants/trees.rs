//! Hash trees.

use std::collections::BTreeSet;

use storage::TreeCheck;
use values::Key;

use crate::Sim;

/// Every hash tree is what a full scan of its replica gives, whatever happened. Where all replicas
/// are `equal`, so are the trees of the owners of a key. (A dead row that is damaged waits for whoever
/// reads it: nobody does.)
pub fn invariant_trees_are_exact(
    sim: &mut Sim,
    keys: &BTreeSet<Key>,
    equal: bool,
) -> Result<(), String> {
    for node in 0..sim.nodes() {
        let is_wrong = |check: &TreeCheck| {
            let was_damaged = TreeCheck { damaged_keys: 0, ..check.clone() };
            !was_damaged.is_clean() || !sim.has_rotten_rows(node) && !check.is_clean()
        };
        if let Some(check) = sim.check_trees(node).filter(is_wrong) {
            return Err(format!("node {node}: {check:?}"));
        }
    }
    for key in keys.iter().filter(|_| equal) {
        let owners = sim.owners(key);
        let roots: Vec<_> =
            owners.into_iter().filter_map(|node| Some((node, sim.tree_root(node, key)?))).collect();
        let settled: Vec<_> = roots.iter().filter(|(_, root)| root.is_settled).collect();
        if settled.windows(2).any(|pair| pair[0].1 != pair[1].1) {
            return Err(format!("the trees of the owners of {key:?} differ: {roots:?}"));
        }
    }
    Ok(())
}
