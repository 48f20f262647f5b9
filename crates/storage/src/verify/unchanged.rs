//! Files that are read and never changed, whoever asks: what opening a log would mend is left as it is.

use crate::{Files, SeamError};

/// Reads go through, changes are passed over.
#[derive(Debug)]
pub struct UnchangedFiles<'a, F>(&'a F);

impl<'a, F: Files> UnchangedFiles<'a, F> {
    /// The same files, not to be changed.
    pub const fn new(files: &'a F) -> Self {
        Self(files)
    }
}

impl<F: Files> Files for UnchangedFiles<'_, F> {
    fn list(&self) -> Result<Vec<String>, SeamError> {
        self.0.list()
    }

    fn length(&self, name: &str) -> Result<Option<u64>, SeamError> {
        self.0.length(name)
    }

    fn read(&self, name: &str, offset: u64, length: usize) -> Result<Vec<u8>, SeamError> {
        self.0.read(name, offset, length)
    }

    fn append(&mut self, _: &str, _: &[u8]) -> Result<(), SeamError> {
        Ok(())
    }

    fn reserve(&mut self, _: &str, _: u64) -> Result<(), SeamError> {
        Ok(())
    }

    fn truncate(&mut self, _: &str, _: u64) -> Result<(), SeamError> {
        Ok(())
    }

    fn sync(&mut self, _: &str) -> Result<(), SeamError> {
        Ok(())
    }

    fn rename(&mut self, _: &str, _: &str) -> Result<(), SeamError> {
        Ok(())
    }

    fn remove(&mut self, _: &str) -> Result<(), SeamError> {
        Ok(())
    }

    fn sync_directory(&mut self) -> Result<(), SeamError> {
        Ok(())
    }
}
