//! One replica's storage engine, pure over two seams. (Being written.)

mod command;
mod seam;

pub use command::{
    Answer, Command, ListPosition, Listed, OutboxPosition, Pending, StorageError, Ticket,
};
pub use seam::{Files, IndexRead, IndexWrite, ROW_KEY_MAX, RowChange, SeamError, Table};
