//! A data directory that is older than the barrier is set aside: what is in it is moved to a directory
//! within, and the node starts empty. Who the members are it keeps, and its secret.
//!
//! ```text
//! begin-anew              says that it is to be done, and what the other directory is called
//! older-than-barrier-1/   what was there
//! .members                who the members are, until there is a stamp again: before, no other file may be
//! ```

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use storage::STAMP_FILE;
use storage_lmdb::LOCK_FILE;

use crate::data_directory::{SECRET, SECRET_DRAFT, replace_durably};
use crate::snapshot_file;

const MARK: &str = "begin-anew";
const MARK_DRAFT: &str = "begin-anew.new";
const KEPT: &str = ".members";
const PREFIX: &str = "older-than-barrier-";

/// Has what is in `dir` set aside when a node starts there next. Durable when it returns.
pub(crate) fn mark(dir: &Path) -> io::Result<()> {
    let free = |number: &u64| !dir.join(format!("{PREFIX}{number}")).exists();
    let number = (1..).find(free).expect("there are not so many directories");
    replace_durably(dir, MARK, 0o666, format!("{PREFIX}{number}").as_bytes())
}

/// The directory that `dir` is to be set aside to, if that is marked.
fn marked(dir: &Path) -> io::Result<Option<PathBuf>> {
    let name = match fs::read_to_string(dir.join(MARK)) {
        Ok(name) => name,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let is_ours = |number: &str| !number.is_empty() && number.bytes().all(|c| c.is_ascii_digit());
    if !name.strip_prefix(PREFIX).is_some_and(is_ours) {
        let text = format!("{MARK} is damaged: it does not name a directory {PREFIX}N");
        return Err(io::Error::new(ErrorKind::InvalidData, text));
    }
    Ok(Some(dir.join(&name)))
}

/// Where the stamp of what is to be set aside stands, if that is marked: in `dir`, or where a crash left
/// it on the way. `None` also if it had none.
pub(crate) fn stamped_if_marked(dir: &Path) -> io::Result<Option<PathBuf>> {
    let Some(aside) = marked(dir)? else { return Ok(None) };
    Ok([dir.to_owned(), aside].into_iter().find(|dir| dir.join(STAMP_FILE).exists()))
}

/// Sets aside what is in `dir`, which is locked, if that is marked. Returns where it is now. Done again
/// after a crash, it goes on.
pub(crate) fn set_aside_if_marked(dir: &Path) -> io::Result<Option<PathBuf>> {
    let Some(aside) = marked(dir)? else { return Ok(None) };
    fs::create_dir_all(&aside)?;
    for entry in fs::read_dir(dir)? {
        let name = entry?.file_name();
        let stays = name.to_str().is_some_and(|name| {
            [MARK, MARK_DRAFT, KEPT, LOCK_FILE, SECRET, SECRET_DRAFT].contains(&name)
                || name.starts_with(PREFIX)
        });
        if name == snapshot_file::FILE {
            fs::rename(dir.join(&name), dir.join(KEPT))?;
        } else if !stays {
            fs::rename(dir.join(&name), aside.join(&name))?;
        }
    }
    File::open(&aside)?.sync_all()?;
    File::open(dir)?.sync_all()?;
    fs::remove_file(dir.join(MARK))?;
    File::open(dir)?.sync_all()?;
    Ok(Some(aside))
}

/// Puts back what was kept of a directory that was set aside, once there is a stamp.
pub(crate) fn bring_back(dir: &Path) -> io::Result<()> {
    match fs::rename(dir.join(KEPT), dir.join(snapshot_file::FILE)) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        renamed => renamed.and_then(|()| File::open(dir)?.sync_all()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn names(dir: &Path) -> BTreeSet<String> {
        let names = fs::read_dir(dir).unwrap();
        names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn all_but_members_secret_and_lock_is_moved_however_often_it_is_interrupted() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path();
        assert_eq!(set_aside_if_marked(dir).unwrap(), None);
        let kept = ["members", ".secret", ".lock"];
        let moved = ["stamp", ".indexed", "log-0000000000000000"];
        for number in 1..=2 {
            kept.iter().chain(&moved).for_each(|name| fs::write(dir.join(name), name).unwrap());
            fs::create_dir_all(dir.join("index")).unwrap();
            mark(dir).unwrap();
            // A crash half way.
            let aside = dir.join(format!("{PREFIX}{number}"));
            fs::create_dir(&aside).unwrap();
            fs::rename(dir.join("stamp"), aside.join("stamp")).unwrap();
            assert_eq!(set_aside_if_marked(dir).unwrap(), Some(aside.clone()));
            let all = moved.iter().copied().chain(["index"]).map(str::to_owned);
            assert_eq!(names(&aside), all.collect());
            let all = names(dir);
            assert!(all.iter().all(|name| name.starts_with('.') || name.starts_with(PREFIX)));
            bring_back(dir).unwrap();
            bring_back(dir).unwrap();
        }
        let all = kept.iter().copied().chain(["older-than-barrier-1", "older-than-barrier-2"]);
        assert_eq!(names(dir), all.map(str::to_owned).collect());
        fs::write(dir.join(MARK), "../elsewhere").unwrap();
        let error = set_aside_if_marked(dir).unwrap_err().to_string();
        assert!(error.contains("begin-anew is damaged"), "{error}");
    }
}
