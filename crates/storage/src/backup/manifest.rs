//! The manifest: what a backup consists of. A text that people can read, with a checksum.

use std::fmt::Write as _;

use xxhash_rust::xxh3::Xxh3;

use super::BackupError;
use crate::stamp::STAMP_MAX;
use crate::{DIRECTORY_FORMAT, DirectoryStamp, Files, check_file_name, sealed_text};

/// The manifest's file: a directory that has one is a backup.
pub const MANIFEST: &str = "manifest";
/// Where it is written before it gets its name.
pub(super) const DRAFT: &str = "manifest.new";
/// What files of rows, copies of segments and copies of stamps are called, before their number.
pub(super) const ROWS: &str = "rows-";
pub(super) const LOG: &str = "log-";
pub(super) const STAMP: &str = "stamp-";
/// What a copy of what the node knows of its cluster is called, before its number.
pub(super) const MEMBERS: &str = "members-";

const FORMAT: u32 = 1;
/// Longest manifest that is read, and written. A real one names a few dozen files.
pub(super) const MANIFEST_MAX: usize = 1 << 20;
/// Bytes read at a time.
const READ_BYTES: usize = 1 << 20;

/// One file of a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BackupFile {
    /// Its name.
    pub name: String,
    /// Bytes.
    pub length: u64,
    /// Hash of its contents.
    pub(super) digest: u128,
}

/// What a backup consists of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// How many backups were taken into the directory, this one included.
    pub number: u64,
    /// When it was taken: milliseconds since 1970 by the node's clock.
    pub taken_ms: u64,
    /// The number of the data directory: see [`DirectoryStamp::directory`].
    pub directory: u64,
    /// Rows, all tables together.
    pub rows: u64,
    /// Where the log ended: everything before this position is in the backup.
    pub log_end: u64,
    /// Its files; those of rows from the oldest to the newest.
    pub files: Vec<BackupFile>,
}

impl Manifest {
    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.files.iter().map(|file| file.length).sum()
    }

    /// Files whose names begin with `kind`.
    pub(super) fn files_of(&self, kind: &str) -> impl Iterator<Item = &BackupFile> {
        self.files.iter().filter(move |file| file.name.starts_with(kind))
    }

    pub(super) fn text(&self) -> String {
        let Self { number, taken_ms, directory, rows, log_end, files } = self;
        let mut text = format!(
            "# A backup of one Merganser node: the files named here. Do not change them.\n\
             format = {FORMAT}\nnumber = {number}\ntaken_ms = {taken_ms}\n\
             directory = {directory}\nrows = {rows}\nlog_end = {log_end}\n"
        );
        for BackupFile { name, length, digest } in files {
            writeln!(text, "file = {name} {length} {digest:032x}").expect("a String takes it");
        }
        sealed_text::seal(&text)
    }

    fn parse(bytes: &[u8]) -> Result<Self, BackupError> {
        let damaged = |what: &str| BackupError::Damaged(format!("{MANIFEST}: {what}"));
        let body = sealed_text::open(bytes).map_err(damaged)?;
        let lines = || body.lines().filter_map(|line| line.split_once(" = "));
        let number = |name: &str| {
            let value = lines().find(|(field, _)| *field == name).map(|(_, value)| value);
            let value = value.and_then(|value| value.parse::<u64>().ok());
            value.ok_or_else(|| damaged(&format!("its {name} is no number")))
        };
        match number("format")? {
            found if found == u64::from(FORMAT) => (),
            found => {
                return Err(BackupError::OtherFormat(
                    u32::try_from(found).unwrap_or(u32::MAX),
                    FORMAT,
                ));
            }
        }
        let file = |value: &str| {
            let mut words = value.split(' ');
            let (name, length, digest) = (words.next()?, words.next()?, words.next()?);
            check_file_name(name).ok()?;
            let digest = u128::from_str_radix(digest, 16).ok()?;
            Some(BackupFile { name: name.into(), length: length.parse().ok()?, digest })
        };
        let files = lines().filter(|(field, _)| *field == "file");
        let files =
            files.map(|(_, value)| file(value).ok_or_else(|| damaged("a file is misnamed")));
        Ok(Self {
            number: number("number")?,
            taken_ms: number("taken_ms")?,
            directory: number("directory")?,
            rows: number("rows")?,
            log_end: number("log_end")?,
            files: files.collect::<Result<_, _>>()?,
        })
    }

    /// The manifest in `files`; `None` if there is none.
    pub(super) fn read(files: &impl Files) -> Result<Option<Self>, BackupError> {
        match files.length(MANIFEST).map_err(BackupError::files)? {
            None => Ok(None),
            Some(length) if length > MANIFEST_MAX as u64 => {
                Err(BackupError::Damaged(format!("{MANIFEST} has {length} bytes")))
            }
            Some(_) => {
                let bytes = files.read(MANIFEST, 0, MANIFEST_MAX).map_err(BackupError::files)?;
                Self::parse(&bytes).map(Some)
            }
        }
    }

    /// The stamp that was backed up.
    pub(super) fn stamp(&self, files: &impl Files) -> Result<DirectoryStamp, BackupError> {
        let file = self.files_of(STAMP).next();
        let file = file.ok_or_else(|| BackupError::Damaged("it has no stamp".into()))?;
        let bytes = files.read(&file.name, 0, STAMP_MAX).map_err(BackupError::files)?;
        let stamp = DirectoryStamp::parse(&bytes, DIRECTORY_FORMAT);
        let stamp =
            stamp.map_err(|error| BackupError::Damaged(format!("{}: {error}", file.name)))?;
        if stamp.directory != self.directory {
            return Err(BackupError::Damaged(format!("{} is of another backup", file.name)));
        }
        Ok(stamp)
    }
}

impl BackupFile {
    /// Reads the whole file and compares it with what was written; `passed` is told how many bytes
    /// were read, piece by piece.
    pub(super) fn check(
        &self,
        files: &impl Files,
        passed: &mut dyn FnMut(u64),
    ) -> Result<(), BackupError> {
        let damaged = |what: String| Err(BackupError::Damaged(format!("{}: {what}", self.name)));
        match files.length(&self.name).map_err(BackupError::files)? {
            None => return damaged("it is missing".into()),
            Some(length) if length != self.length => {
                return damaged(format!("it has {length} bytes, not {}", self.length));
            }
            Some(_) => (),
        }
        let (mut hash, mut at) = (Xxh3::new(), 0);
        while at < self.length {
            let bytes = files.read(&self.name, at, READ_BYTES).map_err(BackupError::files)?;
            if bytes.is_empty() {
                return damaged(format!("it ends at byte {at}"));
            }
            hash.update(&bytes);
            at += bytes.len() as u64;
            passed(bytes.len() as u64);
        }
        if hash.digest128() == self.digest {
            Ok(())
        } else {
            damaged("its contents are not what was written".into())
        }
    }
}

/// A file of a backup that is being written: what goes into it is counted and hashed.
pub(super) struct Draft<'a, F> {
    files: &'a mut F,
    name: String,
    length: u64,
    hash: Xxh3,
}

impl<'a, F: Files> Draft<'a, F> {
    /// Begins `name`, in place of what a backup that was not finished left there.
    pub(super) fn begin(files: &'a mut F, name: String) -> Result<Self, BackupError> {
        files.remove(&name).map_err(BackupError::files)?;
        files.append(&name, &[]).map_err(BackupError::files)?;
        Ok(Self { files, name, length: 0, hash: Xxh3::new() })
    }

    pub(super) const fn length(&self) -> u64 {
        self.length
    }

    pub(super) fn append(&mut self, bytes: &[u8]) -> Result<(), BackupError> {
        self.files.append(&self.name, bytes).map_err(BackupError::files)?;
        self.hash.update(bytes);
        self.length += bytes.len() as u64;
        Ok(())
    }

    /// Makes it durable.
    pub(super) fn finish(self) -> Result<BackupFile, BackupError> {
        self.files.sync(&self.name).map_err(BackupError::files)?;
        Ok(BackupFile { name: self.name, length: self.length, digest: self.hash.digest128() })
    }
}
