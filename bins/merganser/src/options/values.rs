//! The command lines of what reads and writes values.

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum RegisterCommand {
    /// Read it.
    Get {
        /// The key.
        key: String,
    },
    /// Set it.
    Set {
        /// The key.
        key: String,
        /// The value.
        value: String,
    },
    /// Add to an integer.
    Incr {
        /// The key.
        key: String,
        /// By how much.
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    /// Delete it as observed.
    Del {
        /// The key.
        key: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum CounterCommand {
    /// Read it.
    Get {
        /// The key.
        key: String,
    },
    /// Add to it; negative takes away.
    Add {
        /// The key.
        key: String,
        /// By how much.
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    /// Take away exactly what is observed.
    Reset {
        /// The key.
        key: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum SetCommand {
    #[command(flatten)]
    Elements(ElementsCommand),
    /// Remove elements as observed.
    Remove {
        /// The key.
        key: String,
        /// The elements.
        #[arg(required = true)]
        elements: Vec<String>,
    },
}

/// What sets of both kinds can do.
#[derive(Subcommand)]
pub(crate) enum ElementsCommand {
    /// Add elements.
    Add {
        /// The key.
        key: String,
        /// The elements.
        #[arg(required = true)]
        elements: Vec<String>,
    },
    /// List all elements.
    Members {
        /// The key.
        key: String,
    },
    /// Say whether an element is in it (exit code 1 if not).
    Contains {
        /// The key.
        key: String,
        /// The element.
        element: String,
    },
    /// Count the elements.
    Size {
        /// The key.
        key: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum CartCommand {
    /// Add an item.
    Add {
        /// The key.
        key: String,
        /// The item.
        item: String,
        /// How many.
        #[arg(default_value_t = 1)]
        quantity: u64,
    },
    /// Remove an item as observed.
    Remove {
        /// The key.
        key: String,
        /// The item.
        item: String,
    },
    /// Set the quantity of an item.
    Set {
        /// The key.
        key: String,
        /// The item.
        item: String,
        /// How many there are to be.
        quantity: u64,
    },
    /// List items with quantities.
    Items {
        /// The key.
        key: String,
    },
}

#[derive(Subcommand)]
pub(crate) enum MapCommand {
    /// Set a field.
    Set {
        /// The key.
        key: String,
        /// The field.
        field: String,
        /// The value.
        value: String,
    },
    /// Add to an integer field.
    Incr {
        /// The key.
        key: String,
        /// The field.
        field: String,
        /// By how much.
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    /// Remove fields as observed.
    Remove {
        /// The key.
        key: String,
        /// The fields.
        #[arg(required = true)]
        fields: Vec<String>,
    },
    /// Read one field.
    Get {
        /// The key.
        key: String,
        /// The field.
        field: String,
    },
    /// List all fields.
    Fields {
        /// The key.
        key: String,
    },
}
