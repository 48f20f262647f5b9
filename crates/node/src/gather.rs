//! Listings, of keys and of conflicts, and counts concern all of a node's shards: every loop is asked for its part, and the
//! parts are put together here. A node with one loop needs none of this.

use std::collections::BTreeMap;

use storage::{Answer, Command, ConflictPage, Conflicted, Listed, Listing, Ticket};

/// Whether a command concerns more than one key's loop.
pub(crate) const fn concerns_all_loops(command: &Command) -> bool {
    matches!(command, Command::List { .. } | Command::Count { .. } | Command::Conflicts { .. })
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
        let limit = match command {
            Command::List { limit, .. } | Command::Conflicts { limit, .. } => *limit,
            _ => usize::MAX,
        };
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
            let parts = [(one.keys, one.next), (other.keys, other.next)];
            let (keys, next) = join_pages(parts, limit, |listed: &Listed| listed.position.clone());
            Answer::Listed(Listing { keys, next })
        }
        (Answer::Conflicts(one), Answer::Conflicts(other)) => {
            let parts = [(one.keys, one.next), (other.keys, other.next)];
            let (keys, next) =
                join_pages(parts, limit, |listed: &Conflicted| listed.position.clone());
            Answer::Conflicts(ConflictPage { keys, next })
        }
        (failed @ Answer::Failed(_), _) | (_, failed) => failed,
    }
}

/// Two pages as one. Positions are in one order, whichever loop they come from; beyond the shorter
/// part its loop has not looked.
fn join_pages<T, P: Ord + Clone>(
    parts: [(Vec<T>, Option<P>); 2],
    limit: usize,
    position: impl Fn(&T) -> P,
) -> (Vec<T>, Option<P>) {
    let [(mut keys, one), (others, other)] = parts;
    let mut next = one.into_iter().chain(other).min();
    keys.extend(others);
    keys.retain(|listed| next.as_ref().is_none_or(|next| position(listed) <= *next));
    keys.sort_by_key(&position);
    if keys.len() > limit {
        keys.truncate(limit);
        next = keys.last().map(position);
    }
    (keys, next)
}

#[cfg(test)]
mod tests {
    use super::*;
    use ring::Partition;
    use storage::ConflictPosition;
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
    fn lists_of_conflicts_are_put_together_like_other_listings() {
        let conflicts = |names: &[&'static str], next: Option<&'static str>| {
            let position =
                |name: &'static str| ConflictPosition(bytes::Bytes::from_static(name.as_bytes()));
            let one = |&name: &&'static str| Conflicted {
                position: position(name),
                key: Key::new("b", name).unwrap(),
                tags: vec![Tag::BYTES],
                siblings: 2,
            };
            let keys = names.iter().map(one).collect();
            Answer::Conflicts(ConflictPage { keys, next: next.map(position) })
        };
        let mut gatherings = Gatherings::default();
        let command = Command::Conflicts { after: None, limit: 2 };
        assert!(concerns_all_loops(&command));
        gatherings.begin(TICKET, &command, 2);
        assert_eq!(gatherings.add(TICKET, conflicts(&["b", "d"], Some("d"))), None);
        let whole = conflicts(&["a", "b"], Some("b"));
        assert_eq!(gatherings.add(TICKET, conflicts(&["a", "c"], None)), Some(whole));
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
