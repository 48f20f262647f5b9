//! The command line of `bucket`.

use clap::Subcommand;

#[derive(Subcommand)]
pub(crate) enum BucketCommand {
    /// Create a bucket, or give one that was used without being created a policy of its own.
    ///
    /// What is not said is as in the node's default policy. A bucket that was dropped begins empty.
    #[command(after_help = BUCKET_FIELDS)]
    Create {
        /// Its name.
        name: String,
        /// What is said of it, as in r=1 w=3.
        #[arg(value_name = "FIELD=VALUE", value_parser = field)]
        fields: Vec<(String, String)>,
    },
    /// Change fields of its policy.
    #[command(after_help = BUCKET_FIELDS)]
    Set {
        /// Its name.
        name: String,
        /// What is said of it, as in r=1 w=3.
        #[arg(value_name = "FIELD=VALUE", value_parser = field, required = true)]
        fields: Vec<(String, String)>,
    },
    /// Show how it stands.
    Show {
        /// Its name.
        name: String,
    },
    /// Drop it with all that is in it.
    Drop {
        /// Its name.
        name: String,
    },
    /// List every bucket that was created or dropped.
    List,
}

const BUCKET_FIELDS: &str = "Fields:
  n                owners of each key, 1 to 5; not changed while the bucket holds data
  r, w             replicas that must answer a read, owners on which a write must be durable; 1 to n
  availability     always (accept writes on what is left) or quorum (refuse them)
  raw              what a raw write makes: siblings, or lww (the last writer wins)
  durability       sync, interval or none
  value_bytes_max  longest value; 0 for the node's own limit
  siblings_max     most siblings that a put may leave; 0 for the node's own limit
  siblings_soft    above so many siblings a put is reported; 0 for the node's own limit
  elements_max     most elements, items or fields of a collection; 0 for the node's own limit
  ttl              seconds that what is written lives; 0 for without end";

fn field(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("write FIELD=VALUE, as in r=1")?;
    Ok((name.to_owned(), value.to_owned()))
}
