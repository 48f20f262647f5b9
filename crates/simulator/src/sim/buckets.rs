//! The buckets of a simulated cluster: the default one and, if the options say so, a second one with
//! a policy of its own.

use std::collections::BTreeSet;

use bytes::Bytes;
use replication::{BucketCall, BucketPolicy, BucketReply, Field, PolicyFields};
use values::Key;

use super::Sim;
use crate::{DiskFaults, NetworkFaults};

/// Founders have met after so many milliseconds.
const MEETING_MS: u64 = 5_000;

/// The name of the second bucket.
pub(crate) const SECOND: &str = "second";

impl Sim {
    /// The policy of the default bucket, and of all others that were not created.
    pub const fn policy(&self) -> BucketPolicy {
        self.options.policy
    }

    /// The policy of a key's bucket.
    pub fn policy_of(&self, key: &Key) -> BucketPolicy {
        let second = self.options.second.filter(|_| key.bucket() == SECOND.as_bytes());
        second.unwrap_or(self.options.policy)
    }

    /// The n of all buckets, each once.
    pub(super) fn classes(&self) -> BTreeSet<u8> {
        let second = self.options.second.map(|policy| policy.n);
        [self.options.policy.n].into_iter().chain(second).collect()
    }

    /// Lets members meet, and creates the second bucket, if there is to be one, before anything fails.
    ///
    /// # Panics
    /// If not all members know of it then.
    pub fn begin(&mut self) {
        let (network, disk) = (self.network.faults, self.options.disk);
        (self.network.faults, self.options.disk) =
            (NetworkFaults::default(), DiskFaults::default());
        if self.options.gossip || self.options.second.is_some() {
            self.advance(MEETING_MS);
        }
        if let Some(policy) = self.options.second {
            for ring in 0..self.rings.len() {
                let name = Bytes::from_static(SECOND.as_bytes());
                let call = BucketCall::Create { name, fields: fields(policy) };
                match self.buckets(self.founders(ring).start, call) {
                    Ok(BucketReply::Changed { known, members, .. }) => assert_eq!(known, members),
                    other => panic!("a bucket is not created while nothing fails: {other:?}"),
                }
            }
        }
        (self.network.faults, self.options.disk) = (network, disk);
    }
}

/// What is said of the second bucket.
fn fields(policy: BucketPolicy) -> PolicyFields {
    let mut fields = PolicyFields::default();
    for field in Field::ALL {
        let text = field.show(policy.value(field));
        fields.add(field.name(), &text).expect("what it shows can be read");
    }
    fields
}
