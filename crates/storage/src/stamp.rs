//! The stamp of a data directory: to which cluster and node its contents belong, and by which
//! layout they are written.
//!
//! Invariant: the stamp is the first thing written to a directory and never changes; a directory
//! whose stamp does not match in every field is not touched. A small text that people can read,
//! whose last line is a checksum of the lines before it; that line is the same in every format.

use std::collections::BTreeMap;

use clock::NodeId;

use crate::sealed_text;
use crate::seam::{Files, SeamError};

/// What is to be said to whoever may have to start without the data that a directory held.
pub const STARTING_EMPTY: &str = "start with an empty directory (the other owners bring back what \
                                  they hold: wait until `merganser status` says that all \
                                  partitions were found equal before another node is touched; in a \
                                  cluster of one nothing comes back)";

/// Name of the file that holds the stamp.
pub const STAMP_FILE: &str = "stamp";

/// Where a stamp is written before it gets its name.
pub(crate) const DRAFT_FILE: &str = "stamp.new";

/// The format of data directories that this version writes and reads.
pub const DIRECTORY_FORMAT: u32 = 15;

/// Longest stamp that is read, in bytes; a real one has a few hundred.
pub(crate) const STAMP_MAX: usize = 4_096;

/// Longest name of a cluster or node, in bytes.
const NAME_MAX: usize = 255;

const TITLE: &str = "# The data directory of one Merganser node. Written once: do not change it.\n";

/// What a data directory was made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DirectoryStamp {
    /// Version of the layout of everything in the directory: [`DIRECTORY_FORMAT`].
    pub format: u32,
    /// Name of the cluster.
    pub cluster: String,
    /// The node whose replica this is.
    pub node: NodeId,
    /// The node's name, for people; `node` decides.
    pub node_name: String,
    /// Partitions of the ring, Q.
    pub partitions: u32,
    /// Shards into which this node's storage is divided.
    pub shards: u32,
    /// Which directory of this node it is: 64 random bits of the start that made it. What the log
    /// holds carries them, so that files of another directory are not taken for its own.
    pub directory: u64,
}

/// Why a data directory is not used. In every case nothing in it was changed, except that on
/// [`Disk`](StampError::Disk) the stamp may or may not have been written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StampError {
    /// The directory belongs to another cluster.
    #[error(
        "the data directory belongs to cluster {found:?}, this node is of cluster {wanted:?}: \
         start with the cluster's own name, or with another data directory"
    )]
    OtherCluster {
        /// The cluster of the stamp.
        found: String,
        /// The cluster of this start.
        wanted: String,
    },
    /// The directory belongs to another node of the cluster.
    #[error(
        "the data directory belongs to node {found:?}, this is node {wanted:?}: \
         give each node a data directory of its own"
    )]
    OtherNode {
        /// The node of the stamp: its name, or its id where the names agree.
        found: String,
        /// The node of this start.
        wanted: String,
    },
    /// The directory was written by a version with another layout.
    #[error(
        "the data directory has format {found}, this version of merganser reads format {wanted}: \
         run the version that wrote it, or {STARTING_EMPTY}"
    )]
    OtherFormat {
        /// The format of the stamp.
        found: u32,
        /// The format this version reads.
        wanted: u32,
    },
    /// The ring of the cluster has another number of partitions.
    #[error(
        "the data directory was made for {found} partitions, this start asks for {wanted}: \
         the number of partitions never changes in the life of a cluster, start with {found}"
    )]
    OtherPartitions {
        /// The number of the stamp.
        found: u32,
        /// The number of this start.
        wanted: u32,
    },
    /// The storage is divided into another number of shards.
    #[error(
        "the data directory is divided into {found} storage shards, this start asks for {wanted}: \
         start with {found} (the number is independent of the number of cores)"
    )]
    OtherShards {
        /// The number of the stamp.
        found: u32,
        /// The number of this start.
        wanted: u32,
    },
    /// The stamp cannot be read.
    #[error(
        "the stamp of the data directory is damaged ({0}): restore the file `stamp` from a \
         backup, or {STARTING_EMPTY}"
    )]
    Damaged(String),
    /// There are files but no stamp among them.
    #[error(
        "the data directory holds {0:?} but no stamp: it is not Merganser's, or its stamp was \
         lost; choose an empty directory, or restore the file `stamp` from a backup"
    )]
    Unstamped(String),
    /// There is no stamp.
    #[error(
        "there is no stamp: this is no data directory of Merganser's, or the file `stamp` was lost \
         (restore it from a backup)"
    )]
    Missing,
    /// A name that a stamp cannot hold.
    #[error(
        "{0:?} cannot name a cluster or a node: use 1 to {NAME_MAX} bytes without quotes, \
         backslashes or control characters"
    )]
    BadName(String),
    /// The disk failed.
    #[error("the stamp of the data directory: {0}")]
    Disk(#[from] SeamError),
}

/// Checks that the directory is stamped as `wanted`, and stamps an empty one. To be called before
/// anything else is read from or written to the directory; returns the stamp that stands.
///
/// A node's name may change where its id did not; the name on disk stays the first one. So does
/// [`directory`](DirectoryStamp::directory), which is not compared.
pub fn check_or_write(
    files: &mut impl Files,
    wanted: &DirectoryStamp,
) -> Result<DirectoryStamp, StampError> {
    for name in [&wanted.cluster, &wanted.node_name] {
        if !is_name(name) {
            return Err(StampError::BadName(name.clone()));
        }
    }
    let Some(length) = files.length(STAMP_FILE)? else {
        // A draft is what a crash leaves of a start that did not get as far as its stamp.
        if let Some(other) = files.list()?.into_iter().find(|name| name != DRAFT_FILE) {
            return Err(StampError::Unstamped(other));
        }
        files.remove(DRAFT_FILE)?;
        files.append(DRAFT_FILE, wanted.text().as_bytes())?;
        files.sync(DRAFT_FILE)?;
        files.rename(DRAFT_FILE, STAMP_FILE)?;
        files.sync_directory()?;
        return Ok(wanted.clone());
    };
    if length > STAMP_MAX as u64 {
        return Err(StampError::Damaged(format!("it has {length} bytes")));
    }
    let found = DirectoryStamp::parse(&files.read(STAMP_FILE, 0, STAMP_MAX)?, wanted.format)?;
    found.matches(wanted)?;
    // A start that crashed between renaming and syncing has left this to us.
    files.sync_directory()?;
    Ok(found)
}

fn is_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len())
        && !name.contains(|c: char| c.is_control() || c == '"' || c == '\\')
}

impl DirectoryStamp {
    fn matches(&self, wanted: &Self) -> Result<(), StampError> {
        if self.cluster != wanted.cluster {
            let (found, wanted) = (self.cluster.clone(), wanted.cluster.clone());
            return Err(StampError::OtherCluster { found, wanted });
        }
        if self.node != wanted.node {
            let (found, wanted) = if self.node_name == wanted.node_name {
                (self.node.to_string(), wanted.node.to_string())
            } else {
                (self.node_name.clone(), wanted.node_name.clone())
            };
            return Err(StampError::OtherNode { found, wanted });
        }
        if self.partitions != wanted.partitions {
            let (found, wanted) = (self.partitions, wanted.partitions);
            return Err(StampError::OtherPartitions { found, wanted });
        }
        if self.shards != wanted.shards {
            let (found, wanted) = (self.shards, wanted.shards);
            return Err(StampError::OtherShards { found, wanted });
        }
        Ok(())
    }

    pub(crate) fn text(&self) -> String {
        let Self { format, cluster, node, node_name, partitions, shards, directory } = self;
        let text = format!(
            "{TITLE}format = {format}\ncluster = \"{cluster}\"\nnode = \"{node_name}\"\n\
             node_id = \"{node}\"\npartitions = {partitions}\nshards = {shards}\n\
             directory = \"{directory:016x}\"\n"
        );
        sealed_text::seal(&text)
    }

    /// The stamp of a directory that stands, whoever's it is: for tools that look at one.
    pub fn read(files: &impl Files) -> Result<Self, StampError> {
        match files.length(STAMP_FILE)? {
            None => Err(StampError::Missing),
            Some(length) if length > STAMP_MAX as u64 => {
                Err(StampError::Damaged(format!("it has {length} bytes")))
            }
            Some(_) => Self::parse(&files.read(STAMP_FILE, 0, STAMP_MAX)?, DIRECTORY_FORMAT),
        }
    }

    /// Reads a stamp whose format is `format`; of any other it reads only the format.
    pub(crate) fn parse(bytes: &[u8], format: u32) -> Result<Self, StampError> {
        let damaged = |what: &str| StampError::Damaged(what.into());
        let body = sealed_text::open(bytes).map_err(damaged)?;
        let fields: BTreeMap<&str, &str> = body
            .lines()
            .filter(|line| !line.starts_with('#'))
            .filter_map(|line| line.split_once(" = "))
            .collect();
        let field = |name: &str| {
            fields.get(name).copied().ok_or_else(|| damaged(&format!("it has no {name}")))
        };
        let number = |name: &str| {
            field(name)?.parse::<u32>().map_err(|_| damaged(&format!("its {name} is no number")))
        };
        let quoted = |name: &str| {
            field(name)?
                .strip_prefix('"')
                .and_then(|value| value.strip_suffix('"'))
                .ok_or_else(|| damaged(&format!("its {name} is not quoted")))
        };
        let found = number("format")?;
        if found != format {
            return Err(StampError::OtherFormat { found, wanted: format });
        }
        let id = |name: &str| {
            u64::from_str_radix(quoted(name)?, 16)
                .map_err(|_| damaged(&format!("its {name} is no number")))
        };
        Ok(Self {
            format,
            cluster: quoted("cluster")?.into(),
            node: NodeId(id("node_id")?),
            node_name: quoted("node")?.into(),
            partitions: number("partitions")?,
            shards: number("shards")?,
            directory: id("directory")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::seam::SimFiles;

    fn stamp() -> DirectoryStamp {
        DirectoryStamp {
            format: DIRECTORY_FORMAT,
            cluster: "shop".into(),
            node: NodeId(0x1f),
            node_name: "n1".into(),
            partitions: 4_096,
            shards: 8,
            directory: 0xd1,
        }
    }

    fn stamped() -> SimFiles {
        let mut files = SimFiles::new();
        assert_eq!(check_or_write(&mut files, &stamp()), Ok(stamp()));
        files
    }

    fn refusal(wanted: DirectoryStamp) -> String {
        let mut files = stamped();
        let before = files.read(STAMP_FILE, 0, STAMP_MAX).unwrap();
        let error = check_or_write(&mut files, &wanted).unwrap_err();
        assert_eq!(files.read(STAMP_FILE, 0, STAMP_MAX).unwrap(), before, "nothing is touched");
        error.to_string()
    }

    /// The stored format: a change here is a change of `DIRECTORY_FORMAT`.
    #[test]
    fn a_stamp_is_a_text_that_people_can_read() {
        let text = stamped().read(STAMP_FILE, 0, STAMP_MAX).unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "# The data directory of one Merganser node. Written once: do not change it.\n\
             format = 15\n\
             cluster = \"shop\"\n\
             node = \"n1\"\n\
             node_id = \"000000000000001f\"\n\
             partitions = 4096\n\
             shards = 8\n\
             directory = \"00000000000000d1\"\n\
             checksum = \"0f864a2efc5dd0f9\"\n"
        );
    }

    #[test]
    fn a_matching_stamp_is_accepted_at_every_start_and_written_once() {
        let mut files = stamped();
        files.crash(&mut |_| 0);
        files.full(true);
        assert_eq!(check_or_write(&mut files, &stamp()), Ok(stamp()));
        let renamed = DirectoryStamp { node_name: "renamed".into(), ..stamp() };
        assert_eq!(check_or_write(&mut files, &renamed), Ok(stamp()));
        let drawn_anew = DirectoryStamp { directory: 0xd2, ..stamp() };
        assert_eq!(check_or_write(&mut files, &drawn_anew), Ok(stamp()));
        assert_eq!(files.list().unwrap(), [STAMP_FILE]);
    }

    #[test]
    fn each_mismatch_says_what_differs_and_what_to_do() {
        let other = DirectoryStamp { cluster: "prod".into(), ..stamp() };
        assert_eq!(
            refusal(other),
            "the data directory belongs to cluster \"shop\", this node is of cluster \"prod\": \
             start with the cluster's own name, or with another data directory"
        );
        let other = DirectoryStamp { node: NodeId(2), node_name: "n2".into(), ..stamp() };
        assert_eq!(
            refusal(other),
            "the data directory belongs to node \"n1\", this is node \"n2\": \
             give each node a data directory of its own"
        );
        let other = DirectoryStamp { node: NodeId(2), ..stamp() };
        assert!(refusal(other).contains("node \"000000000000001f\", this is node \"0000"));
        let format = DIRECTORY_FORMAT + 1;
        let other = DirectoryStamp { format, ..stamp() };
        // An empty replica takes a while to be filled: whoever starts one must know.
        assert_eq!(
            refusal(other),
            format!(
                "the data directory has format {DIRECTORY_FORMAT}, this version of merganser reads \
                 format {format}: run the version that wrote it, or start with an empty directory \
                 (the other owners bring back what they hold: wait until `merganser status` says \
                 that all partitions were found equal before another node is touched; in a cluster \
                 of one nothing comes back)"
            )
        );
        let other = DirectoryStamp { partitions: 64, ..stamp() };
        assert!(refusal(other).contains("made for 4096 partitions, this start asks for 64"));
        let other = DirectoryStamp { shards: 2, ..stamp() };
        assert!(refusal(other).contains("into 8 storage shards, this start asks for 2"));
    }

    #[test]
    fn every_changed_byte_and_every_cut_is_noticed() {
        let length = stamp().text().len();
        for at in 0..length {
            let mut files = stamped();
            assert!(files.corrupt(STAMP_FILE, at));
            let error = check_or_write(&mut files, &stamp()).unwrap_err();
            assert!(matches!(error, StampError::Damaged(_)), "byte {at}: {error}");

            let mut files = stamped();
            files.truncate(STAMP_FILE, at as u64).unwrap();
            let error = check_or_write(&mut files, &stamp()).unwrap_err();
            assert!(matches!(error, StampError::Damaged(_)), "cut at {at}: {error}");
        }
        let mut files = stamped();
        files.append(STAMP_FILE, &[b'x'; STAMP_MAX]).unwrap();
        let error = check_or_write(&mut files, &stamp()).unwrap_err();
        assert!(error.to_string().contains("it has 4"), "{error}");
    }

    #[test]
    fn a_crash_while_stamping_leaves_the_whole_stamp_or_an_empty_directory() {
        for seed in 0..200_u64 {
            let mut state = seed;
            let mut random = move |bound: u64| {
                // SplitMix64's multiplier; only variety matters.
                state = state.wrapping_mul(0xBF58_476D_1CE4_E5B9).wrapping_add(seed | 1);
                (state >> 33) % bound
            };
            let mut files = SimFiles::new();
            files.fail_next_sync();
            check_or_write(&mut files, &stamp()).unwrap_err();
            files.crash(&mut random);
            assert_eq!(check_or_write(&mut files, &stamp()), Ok(stamp()), "seed {seed}");
            files.crash(&mut random);
            assert_eq!(check_or_write(&mut files, &stamp()), Ok(stamp()), "seed {seed}");
        }
    }

    #[test]
    fn a_foreign_directory_and_a_bad_name_are_refused_before_anything_is_written() {
        let mut files = SimFiles::new();
        files.append("holiday.jpg", b"...").unwrap();
        let error = check_or_write(&mut files, &stamp()).unwrap_err();
        assert_eq!(error, StampError::Unstamped("holiday.jpg".into()));
        assert_eq!(files.list().unwrap(), ["holiday.jpg"]);

        for name in ["", "two\nlines", "quo\"te", "back\\slash", &"x".repeat(256)] {
            let mut files = SimFiles::new();
            let wanted = DirectoryStamp { cluster: name.into(), ..stamp() };
            let error = check_or_write(&mut files, &wanted).unwrap_err();
            assert_eq!(error, StampError::BadName(name.into()));
            assert!(files.list().unwrap().is_empty());
        }
    }

    #[test]
    fn a_full_or_read_only_disk_is_named_as_such() {
        let mut files = SimFiles::new();
        files.full(true);
        let error = check_or_write(&mut files, &stamp()).unwrap_err();
        assert_eq!(error, StampError::Disk(SeamError::Full));
        files.full(false);
        files.read_only(true);
        let error = check_or_write(&mut files, &stamp()).unwrap_err();
        assert!(matches!(error, StampError::Disk(SeamError::ReadOnly(_))));
    }
}
