//! The header of an LMDB data file, checked before LMDB believes it.
//!
//! LMDB 0.9 trusts both meta pages once their magic number and version match: a page size of
//! nonsense or a root beyond the end of the file makes it divide by zero or touch memory that is
//! not there. The layout is that of `MDB_page`, `MDB_meta` and `MDB_db` of LMDB 0.9 on 64-bit
//! systems (data version 1), in the byte order of the machine.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

/// Page header before the meta: page number, padding, flags, bounds.
const PAGE_HEADER: usize = 16;
/// `MDB_meta`: magic, version, address, map size, two tables of 48 bytes, last page, transaction.
const META: usize = 24 + 2 * TREE_BYTES + 16;
/// Bytes of an `MDB_db`.
const TREE_BYTES: usize = 48;
const MAGIC: u32 = 0xBEEF_C0DE;
const VERSION: u32 = 1;
/// `P_META` among the flags of a page.
const META_PAGE: u16 = 0x08;
/// Root of an empty table.
const NO_ROOT: u64 = u64::MAX;
/// `CURSOR_STACK`: no tree is deeper.
const DEPTH_MAX: u16 = 32;

/// What the newer of the two meta pages says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Bytes per page.
    pub(crate) page_size: u64,
    /// Number of the last page in use.
    pub(crate) last_page: u64,
    /// Number of the last committed transaction.
    pub(crate) transaction: u64,
    /// What the tree of free pages, and that of tables' names, say of themselves.
    pub(crate) free: [u8; TREE_BYTES],
    pub(crate) names: [u8; TREE_BYTES],
}

impl Header {
    /// Bytes that the pages in use take.
    pub(crate) const fn length(&self) -> u64 {
        self.page_size * (self.last_page + 1)
    }
}

/// Reads the header of the data file at `path`: `None` if there is no file or it is empty (then
/// LMDB makes a new one), an inner error that says what is wrong with it.
pub(crate) fn read(path: &Path) -> io::Result<Result<Option<Header>, String>> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Ok(None)),
        Err(error) => return Err(error),
    };
    let length = file.metadata()?.len();
    if length == 0 {
        return Ok(Ok(None));
    }
    let mut page = [0; PAGE_HEADER + META];
    let (free, names) = ([0; TREE_BYTES], [0; TREE_BYTES]);
    let mut headers = [Header { page_size: 0, last_page: 0, transaction: 0, free, names }; 2];
    for number in 0..2 {
        // The second is one page after the first; before that is read its size is 0.
        let offset = headers[0].page_size;
        if length < offset + page.len() as u64 {
            return Ok(Err(format!(
                "data.mdb ends after {length} bytes; if nothing was ever stored here, remove it"
            )));
        }
        file.seek(SeekFrom::Start(offset))?;
        file.read_exact(&mut page)?;
        match check(&page, number) {
            Ok(header) => headers[number] = header,
            Err(reason) => return Ok(Err(reason)),
        }
    }
    let [even, odd] = headers;
    let (newer, older) = if odd.transaction > even.transaction { (odd, even) } else { (even, odd) };
    // Transactions alternate between the two, and pages in use never become fewer.
    let agree = newer.page_size == older.page_size
        && newer.last_page >= older.last_page
        && newer.transaction - older.transaction <= 1
        && (newer.transaction == 0
            || (even.transaction.is_multiple_of(2) && !odd.transaction.is_multiple_of(2)));
    if !agree {
        return Ok(Err("the two headers of data.mdb do not follow each other".into()));
    }
    Ok(Ok(Some(newer)))
}

fn check(page: &[u8; PAGE_HEADER + META], number: usize) -> Result<Header, String> {
    let at16 = |at: usize| u16::from_ne_bytes([page[at], page[at + 1]]);
    let at32 =
        |at: usize| u32::from_ne_bytes(page[at..at + 4].try_into().expect("a slice of four bytes"));
    let at64 = |at: usize| {
        u64::from_ne_bytes(page[at..at + 8].try_into().expect("a slice of eight bytes"))
    };
    let meta = PAGE_HEADER;
    if at16(10) & META_PAGE == 0 || at32(meta) != MAGIC {
        return Err("data.mdb is not an LMDB file".into());
    }
    if at32(meta + 4) != VERSION {
        return Err(format!("data.mdb is of LMDB data version {}, not {VERSION}", at32(meta + 4)));
    }
    let wrong = |what: &str| Err(format!("header {number} of data.mdb has a wrong {what}"));
    let tables = [meta + 24, meta + 72];
    // The free list's table keeps the page size where others keep padding.
    let page_size = u64::from(at32(tables[0]));
    if !page_size.is_power_of_two() || !(512..=65_536).contains(&page_size) {
        return wrong("page size");
    }
    let last_page = at64(meta + 120);
    // No file has 2^63 bytes; below that the sums here and in LMDB cannot overflow.
    if last_page == 0 || last_page >= (1 << 63) / page_size {
        return wrong("last page");
    }
    for table in tables {
        let root = at64(table + 40);
        let depth = at16(table + 6);
        if root != NO_ROOT && !(2..=last_page).contains(&root) {
            return wrong("root");
        }
        if depth > DEPTH_MAX {
            return wrong("depth");
        }
    }
    let tree =
        |at: usize| page[at..at + TREE_BYTES].try_into().expect("a slice of that many bytes");
    let (free, names) = (tree(tables[0]), tree(tables[1]));
    Ok(Header { page_size, last_page, transaction: at64(meta + 128), free, names })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A data file of LMDB with one row, as bytes.
    fn genuine(dir: &Path) -> Vec<u8> {
        let env = lmdb::Environment::new().open(dir).unwrap();
        let table = env.open_db(None).unwrap();
        let mut txn = env.begin_rw_txn().unwrap();
        txn.put(table, b"k", b"v", lmdb::WriteFlags::empty()).unwrap();
        lmdb::Transaction::commit(txn).unwrap();
        drop(env);
        std::fs::read(dir.join("data.mdb")).unwrap()
    }

    fn read_bytes(dir: &Path, bytes: &[u8]) -> Result<Option<Header>, String> {
        let path = dir.join("copy.mdb");
        std::fs::write(&path, bytes).unwrap();
        read(&path).unwrap()
    }

    #[test]
    fn a_genuine_header_is_read_as_lmdb_wrote_it() {
        let temp = tempfile::tempdir().unwrap();
        let bytes = genuine(temp.path());
        let header = read_bytes(temp.path(), &bytes).unwrap().unwrap();
        assert_eq!(header.transaction, 1);
        assert_eq!(header.last_page, 2);
        assert_eq!(header.length(), bytes.len() as u64);
        assert_eq!(read_bytes(temp.path(), &[]), Ok(None));
        assert_eq!(read(&temp.path().join("absent")).unwrap(), Ok(None));
    }

    #[test]
    fn each_field_out_of_its_range_is_named() {
        let temp = tempfile::tempdir().unwrap();
        let bytes = genuine(temp.path());
        let refusal = |at: usize, with: &[u8]| {
            let mut bytes = bytes.clone();
            bytes[at..at + with.len()].copy_from_slice(with);
            read_bytes(temp.path(), &bytes).unwrap_err()
        };
        assert_eq!(refusal(16, b"SQLite"), "data.mdb is not an LMDB file");
        assert_eq!(refusal(10, &[0, 0]), "data.mdb is not an LMDB file");
        assert_eq!(refusal(20, &2_u32.to_ne_bytes()), "data.mdb is of LMDB data version 2, not 1");
        for size in [0_u32, 1, 256, 4_095, 1 << 17, 1 << 31] {
            let reason = refusal(40, &size.to_ne_bytes());
            assert_eq!(reason, "header 0 of data.mdb has a wrong page size");
        }
        let second = 4_096 + PAGE_HEADER;
        for page in [0, 1 << 51, u64::MAX] {
            let reason = refusal(second + 120, &page.to_ne_bytes());
            assert_eq!(reason, "header 1 of data.mdb has a wrong last page");
        }
        for table in [24, 72] {
            for root in [0, 1, 3, u64::MAX - 1] {
                let reason = refusal(second + table + 40, &root.to_ne_bytes());
                assert_eq!(reason, "header 1 of data.mdb has a wrong root");
            }
            let reason = refusal(second + table + 6, &33_u16.to_ne_bytes());
            assert_eq!(reason, "header 1 of data.mdb has a wrong depth");
        }
        // The genuine headers: transaction 0 with last page 1, then transaction 1 with page 2.
        for (at, with) in [(128, 2_u64), (128, 3), (120, 3)] {
            let reason = refusal(PAGE_HEADER + at, &with.to_ne_bytes());
            assert_eq!(reason, "the two headers of data.mdb do not follow each other");
        }
        for length in [1, 100, 4_096, 4_200] {
            let reason = read_bytes(temp.path(), &bytes[..length]).unwrap_err();
            assert!(reason.starts_with("data.mdb ends after"), "{reason}");
        }
    }
}
