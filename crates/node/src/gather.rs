//! Listings and counts concern all of a node's shards: every loop is asked for its part, and the
//! parts are put together here. A node with one loop needs none of this.

use std::collections::BTreeMap;

use storage::{Answer, Command, Listed, Listing, Ticket};

/// Whether a command concerns more than one key's loop.
pub(crate) const fn concerns_all_loops(command: &Command) -> bool {
    matches!(command, Command::List { .. } | Command::Count { .. })
}

/// Answers being put together.
#[derive(Debug, Default)]
pub(crate) struct Gatherings {
    under_way: BTreeMap<Ticket, Gathering>,
}

#[derive(Debug)]
struct Gathering {
    missing: usize,
    limit: usize,
    /// What came so far, put together.
    sum: Option<Answer>,
}

impl Gatherings {
    /// Begins to gather the answers of `parts` loops to `command`.
    pub(crate) fn begin(&mut self, ticket: Ticket, command: &Command, parts: usize) {
        let limit = if let Command::List { limit, .. } = command { *limit } else { usize::MAX };
        self.under_way.insert(ticket, Gathering { missing: parts, limit, sum: None });
    }

    /// Takes one loop's answer; returns the whole one with the last.
    pub(crate) fn add(&mut self, ticket: Ticket, part: Answer) -> Option<Answer> {
        let gathering = self.under_way.get_mut(&ticket)?;
        gathering.missing -= 1;
        let sum = match gathering.sum.take() {
            None => part,
            Some(sum) => join(sum, part, gathering.limit),
        };
        if gathering.missing > 0 {
            gathering.sum = Some(sum);
            return None;
        }
        self.under_way.remove(&ticket);
        Some(sum)
    }
}

/// Two parts as one. A failed part fails the whole: to leave keys out in silence would be wrong.
fn join(one: Answer, other: Answer, limit: usize) -> Answer {
    match (one, other) {
        (Answer::Count(one), Answer::Count(other)) => Answer::Count(one + other),
        (Answer::Listed(one), Answer::Listed(other)) => {
            // Positions are in the order of the ring, whichever loop they come from. Beyond the
            // shorter part its loop has not looked.
            let mut next = one.next.into_iter().chain(other.next).min();
            let mut keys: Vec<Listed> = one.keys.into_iter().chain(other.keys).collect();
            keys.retain(|listed| next.as_ref().is_none_or(|next| listed.position <= *next));
            keys.sort_by(|a, b| a.position.cmp(&b.position));
            if keys.len() > limit {
                keys.truncate(limit);
                next = keys.last().map(|last| last.position.clone());
            }
            Answer::Listed(Listing { keys, next })
        }
        (failed @ Answer::Failed(_), _) | (_, failed) => failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::Partition;
    use storage::{ListPosition, StorageError};
    use values::{BucketId, Key, Tag};

    const TICKET: Ticket = Ticket(4);

    fn list(limit: usize) -> Command {
        let (first, last) = (Partition(0), Partition(9));
        Command::List { first, last, bucket: BucketId::first("b"), after: None, limit }
    }

    fn listed(names: &[&'static str], next: Option<&'static str>) -> Answer {
        let position = |name: &'static str| ListPosition(name.into());
        let one = |name: &&'static str| Listed {
            position: position(name),
            key: Key::new("b", *name).unwrap(),
            tags: vec![Tag::LWW],
        };
        let keys = names.iter().map(one).collect();
        Answer::Listed(Listing { keys, next: next.map(position) })
    }

    #[test]
    fn listings_are_put_in_order_and_cut_at_the_limit() {
        let mut gatherings = Gatherings::default();
        gatherings.begin(TICKET, &list(3), 3);
        assert_eq!(gatherings.add(TICKET, listed(&["b", "e"], None)), None);
        assert_eq!(gatherings.add(TICKET, listed(&["c"], None)), None);
        let whole = listed(&["a", "b", "c"], Some("c"));
        assert_eq!(gatherings.add(TICKET, listed(&["a", "f"], None)), Some(whole));
        assert_eq!(gatherings.add(TICKET, listed(&[], None)), None);
    }

    #[test]
    fn a_listing_ends_where_its_shortest_part_does() {
        let mut gatherings = Gatherings::default();
        gatherings.begin(TICKET, &list(9), 3);
        assert_eq!(gatherings.add(TICKET, listed(&["b", "e"], Some("e"))), None);
        // It looked as far as d and found one key.
        assert_eq!(gatherings.add(TICKET, listed(&["c"], Some("d"))), None);
        let whole = listed(&["a", "b", "c"], Some("d"));
        assert_eq!(gatherings.add(TICKET, listed(&["a", "f"], None)), Some(whole));
    }

    #[test]
    fn a_part_that_failed_fails_the_whole() {
        let mut gatherings = Gatherings::default();
        gatherings.begin(TICKET, &list(3), 2);
        let failed = Answer::Failed(StorageError::Full);
        assert_eq!(gatherings.add(TICKET, failed.clone()), None);
        assert_eq!(gatherings.add(TICKET, listed(&["a"], None)), Some(failed));
    }
}
