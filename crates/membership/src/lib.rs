//! Membership: who belongs to the cluster, who of them can be reached, and how all come to know it.
//!
//! [`Gossip`] is one node's part: a pure state machine. [`Event`]s and the time go in,
//! [`Effect`]s come out, to be done in their order. The member [`Table`] is a join of what each node says
//! of itself and of what administrators end; it spreads by push-pull gossip once a second. Only
//! administrators and the members themselves change membership; silence changes [`Liveness`], and
//! that only in the eyes of whoever hears nothing.
//!
//! Sources: DeCandia et al., "Dynamo" (2007), §4.8; van Renesse, Dumitriu, Gough, Thomas, "Efficient
//! Reconciliation and Flow Control for Anti-Entropy Protocols" (2008), which Cassandra's gossip follows; Demers
//! et al., "Epidemic Algorithms for Replicated Database Maintenance" (1987); Hayashibara et al., "The
//! φ Accrual Failure Detector" (2004).
//!
//! The crate knows nothing of values or rings beyond weights and zones: what else is to reach every node
//! travels as named bytes ([`Values`]) that the shell knows how to merge.

mod config;
mod detector;
mod entry;
mod event;
mod gossip;
mod incarnation;
mod message;
mod peer;
mod random;
mod record;
mod schedule;
mod table;
mod values;
mod versions;

pub use config::{Config, InvalidConfig, Snapshot};
pub use detector::DetectorConfig;
pub use entry::{
    ADDRESS_BYTES_MAX, ADDRESSES_MAX, About, Entry, InvalidEntry, LABEL_BYTES_MAX, Load,
    NAME_BYTES_MAX, Phase, VERSION_MAX,
};
pub use event::{
    Command, CommandError, Destination, Effect, Ending, Event, Liveness, Member, MemberState,
    Report,
};
pub use gossip::Gossip;
pub use incarnation::{ClusterId, Incarnation};
pub use message::{
    Body, Delta, Digest, Fresh, Header, InvalidMessage, LINES_MAX, Line, Mark, Message,
    NEWS_BYTES_MAX, News, Open, Refusal, ValueLine,
};
pub use record::Record;
pub use table::{MEMBERS_MAX, RECORDS_MAX, Table};
pub use values::{
    MergeValue, VALUE_BYTES_MAX, VALUE_MERGED_BYTES_MAX, VALUES_MAX, Values, larger_value,
};
pub use versions::Versions;
