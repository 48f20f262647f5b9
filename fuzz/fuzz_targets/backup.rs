//! The texts of a backup and of a data directory, whole by their checksums: manifests and stamps; and
//! the files that a manifest names.

#![no_main]

use libfuzzer_sys::fuzz_target;
use merganser_fuzz::{bounded, parts};
use storage::{Backup, DirectoryStamp, Files, SimFiles, check_or_write};
use xxhash_rust::xxh3::xxh3_64;

fuzz_target!(|input: &[u8]| {
    let [manifest, stamp, rows, name] = parts::<4>(input);
    for is_sealed in [false, true] {
        bounded(input.len(), || {
            check_backup(manifest, stamp, rows, name, is_sealed);
            check_stamp(stamp, is_sealed);
        });
    }
});

/// The text with its checksum, as it is written.
fn sealed(text: &[u8], is_sealed: bool) -> Vec<u8> {
    if !is_sealed {
        return text.to_vec();
    }
    let checksum = format!("checksum = \"{:016x}\"\n", xxh3_64(text));
    [text, checksum.as_bytes()].concat()
}

fn check_backup(manifest: &[u8], stamp: &[u8], rows: &[u8], name: &[u8], is_sealed: bool) {
    let mut files = SimFiles::new();
    let manifest = sealed(manifest, is_sealed);
    files.append("manifest", &manifest).expect("a disk without faults");
    files.append("stamp-1", &sealed(stamp, is_sealed)).expect("a disk without faults");
    if let Some(name) = str::from_utf8(name).ok().filter(|name| name.starts_with("rows-")) {
        let _ = files.append(name, rows);
    }
    let Ok(backup) = Backup::open(files.clone()) else { return };
    let again = Backup::open(files).expect("it was opened before");
    assert_eq!(again.manifest(), backup.manifest());
    assert!(backup.manifest().files.len() <= manifest.len());
    let _ = (backup.check(&mut |_| ()), backup.members(), backup.log().list());
}

fn check_stamp(stamp: &[u8], is_sealed: bool) {
    let mut files = SimFiles::new();
    files.append("stamp", &sealed(stamp, is_sealed)).expect("a disk without faults");
    let Ok(read) = DirectoryStamp::read(&files) else { return };
    if let Ok(stands) = check_or_write(&mut files, &read) {
        assert_eq!(stands, read);
    }
    let mut empty = SimFiles::new();
    if check_or_write(&mut empty, &read).is_ok() {
        assert_eq!(DirectoryStamp::read(&empty), Ok(read));
    }
}
