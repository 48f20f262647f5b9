//! One replica's storage engine, pure over two seams. (Being written.)

mod seam;

pub use seam::{Files, IndexRead, IndexWrite, ROW_KEY_MAX, RowChange, SeamError, Table};
