//! The oracle of dots: knows every dot that was ever issued, and tells when one is issued twice.
//!
//! Invariant checked: a dot names one write, for ever (design.md, Dots). Riak lost acknowledged
//! writes for years for want of it (kv679).

use std::collections::{BTreeMap, BTreeSet};

use clock::{Dot, NodeId};
use values::{
    BytesOp, CartOp, CounterOp, Delta, GsetOp, Key, MapOp, Operation, OrsetOp, RegisterOp, Tag,
};

/// Every dot issued so far.
#[derive(Debug, Default)]
pub(crate) struct DotOracle {
    issued: BTreeMap<(Key, Tag), BTreeSet<Dot>>,
    violations: Vec<String>,
}

impl DotOracle {
    /// Takes note of the delta that `node` made for `operation`.
    pub(crate) fn prepared(
        &mut self,
        node: NodeId,
        key: &Key,
        operation: &Operation,
        delta: &Delta,
    ) {
        let tag = operation.minted_tag();
        let Some(state) = delta.value.state(tag) else { return };
        let issued = self.issued.entry((key.clone(), tag)).or_default();
        let mut fresh = 0;
        for (actor, first, last) in state.context().ranges() {
            if actor.replica == node {
                fresh += (first..=last)
                    .filter(|&counter| issued.insert(Dot::new(actor, counter)))
                    .count();
            }
        }
        if let Some(wanted) = minted(operation)
            && fresh != wanted
        {
            self.violations.push(format!(
                "{node:?} made {fresh} new dots where {operation:?} on {key:?} takes {wanted}"
            ));
        }
    }

    pub(crate) fn violations(&self) -> &[String] {
        &self.violations
    }
}

/// How many dots an operation takes; `None` where that depends on what it finds.
fn minted(operation: &Operation) -> Option<usize> {
    fn distinct<'a>(names: impl Iterator<Item = &'a values::Blob>) -> usize {
        names.collect::<BTreeSet<_>>().len()
    }
    match operation {
        Operation::Bytes(BytesOp::Put(_))
        | Operation::Register(RegisterOp::Increment(_))
        | Operation::Counter(CounterOp::Add(_))
        | Operation::Cart(CartOp::Add { .. })
        | Operation::Map(MapOp::Increment { .. }) => Some(1),
        Operation::Gset(GsetOp::Add(names)) | Operation::Orset(OrsetOp::Add(names)) => {
            Some(distinct(names.iter()))
        }
        Operation::Map(MapOp::Set(fields)) => Some(distinct(fields.iter().map(|(name, _)| name))),
        _ => None,
    }
}
