//! The gateway as its callers see it: over a replica in memory, over a datastore that answers from
//! a script, and over a real socket.
//!
//! (`cfg(test)` is always on here; it tells clippy that unwrapping is all right.)

#[cfg(test)]
mod admin;
#[cfg(test)]
mod batch;
#[cfg(test)]
mod buckets;
#[cfg(test)]
mod conflicts;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod once;
mod origin;
#[cfg(test)]
mod raw;
#[cfg(test)]
mod reference;
#[cfg(test)]
mod socket;
#[cfg(test)]
mod typed;
