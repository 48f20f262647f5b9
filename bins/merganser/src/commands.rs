//! What each command does.

mod buckets;
mod cluster;
mod drain;
mod explain;
mod maintenance;
mod offline;
mod plan;
mod repair;
mod serve;
mod values;

pub(crate) use serve::stop_signal;

use std::process::ExitCode;
use std::sync::Arc;

use ::values::{Tag, UpdateError, WrongType};
use anyhow::{Context as _, Result};
use client::{Bucket, Client, ConnectError, Datastore, InvalidConflictCursor};
use node::{ConfigError, DevError};
use replication::{Level, RequestError};

use crate::demo::{self, CartsOptions};
use crate::options::{Command, DemoCommand, Options, RingCommand};
use crate::output::{Printer, complain};

/// Runs the command; the exit code says what came of it (see `merganser --help`).
pub(crate) fn run(options: Options) -> Result<ExitCode> {
    if options.id.is_some() && !options.command.is_write() {
        complain("error: --id is for commands that write a value; leave it out");
        return Ok(ExitCode::from(2));
    }
    if options.ttl.is_some() && !options.command.is_write() {
        complain("error: --ttl is for commands that write a value; leave it out");
        return Ok(ExitCode::from(2));
    }
    if options.json && options.command.prints_drawing() {
        complain(
            "error: --json and --svg - print two things at once; draw into a file: --svg FILE",
        );
        return Ok(ExitCode::from(2));
    }
    match options.command {
        Command::Start(start) => serve::start(start),
        Command::Dev(dev) => serve::dev(dev),
        Command::Demo(DemoCommand::Carts { data, strategy, no_cut, shoppers, connect }) => {
            serve::log_to_stderr("error");
            let carts = CartsOptions {
                data,
                strategy,
                cut: !no_cut,
                shoppers: shoppers.into(),
                nodes: connect,
            };
            runtime()?.block_on(demo::run_carts(carts))?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Restore(restore) => {
            serve::log_to_stderr("warn");
            let printer = Printer::new(options.json);
            printer.finish(maintenance::restore(&printer, &restore)?)
        }
        Command::Verify(verify) => {
            serve::log_to_stderr("error");
            let printer = Printer::new(options.json);
            printer.finish(offline::verify(&printer, &verify)?)
        }
        Command::Debug(debug) => {
            serve::log_to_stderr("error");
            offline::debug(debug, options.bucket)
        }
        command => runtime()?.block_on(async {
            let printer = Printer::new(options.json);
            if let Command::Backup(backup) = command {
                return printer.finish(maintenance::backup(&printer, &options.node, backup).await?);
            }
            if let Command::Context { token } = command {
                return printer.finish(cluster::context(&printer, &options.node, token).await?);
            }
            if let Command::Ring { command: Some(RingCommand::Plan(plan)), .. } = command {
                return printer.finish(plan::plan(&printer, &options.node, plan).await?);
            }
            // A name of its own for each run of a command would only use up what its key remembers:
            // --id gives one that is worth it.
            let client = Client::connect(&options.node).await?.without_names();
            let datastore: Arc<dyn Datastore> = Arc::new(client);
            let name = options.bucket.as_deref().unwrap_or(::values::DEFAULT_BUCKET);
            let bucket = bucket(name, options.r, options.w, options.timeout, &datastore);
            let bucket = match options.id {
                Some(id) => bucket.named(id),
                None => bucket,
            };
            let bucket = bucket.living(options.ttl.unwrap_or_default());
            let code = match command {
                Command::Ring { key, .. } => cluster::ring(&printer, &*datastore, name, key).await,
                Command::Bucket(command) => buckets::run(&printer, &*datastore, command).await,
                Command::Cluster(command) => cluster::cluster(&printer, &*datastore, command).await,
                Command::Drain(drain) => drain::drain(&printer, &*datastore, drain).await,
                Command::Status => cluster::status(&printer, &*datastore).await,
                Command::Explain { key, svg } => {
                    explain::explain(&printer, &*datastore, name, key, svg).await
                }
                Command::Conflicts { count, cursor } => {
                    explain::conflicts(&printer, &*datastore, count, cursor).await
                }
                Command::Repair { bucket, first, last } => {
                    repair::repair(&printer, &*datastore, bucket, first, last).await
                }
                Command::Comparisons { count } => {
                    repair::comparisons(&printer, &*datastore, count).await
                }
                Command::Links(links) => cluster::links(&printer, &*datastore, links).await,
                command => values::run(&printer, &bucket, command).await,
            };
            printer.finish(code?)
        }),
    }
}

fn bucket(
    name: &str,
    r: Option<u8>,
    w: Option<u8>,
    timeout: Option<u32>,
    datastore: &Arc<dyn Datastore>,
) -> Bucket {
    let bucket = Bucket::new(datastore.clone(), name.to_owned()).at(Level { r, w, n: None });
    match timeout {
        Some(timeout) => bucket.within(timeout),
        None => bucket,
    }
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start the runtime")
}

/// An error for people: with its causes, as far as it does not name them itself, and with what to
/// do next where only the command line knows that.
pub(crate) fn describe(error: &anyhow::Error) -> String {
    if let Some(RequestError::Update(UpdateError::WrongType(wrong))) = error.downcast_ref() {
        return describe_wrong_type(wrong);
    }
    let mut text = String::new();
    for cause in error.chain() {
        let cause = cause.to_string();
        let cause = cause.trim_end();
        if text.contains(cause) {
            continue;
        }
        if !text.is_empty() {
            text.push_str(": ");
        }
        text.push_str(cause);
    }
    text
}

fn describe_wrong_type(wrong: &WrongType) -> String {
    // The type for people, and the command that reads it.
    let words = |tag: &Tag| match *tag {
        Tag::BYTES => ("raw value".to_owned(), "get".to_owned()),
        Tag::LWW => ("register".into(), "register".into()),
        Tag::ORSET => ("set".into(), "set".into()),
        other => (other.to_string(), other.to_string()),
    };
    let (live, commands): (Vec<_>, Vec<_>) = wrong.live.iter().map(words).unzip();
    format!(
        "the key holds a {}, and this command is for a {}: use `merganser {}`; `merganser explain` \
         shows all that a key holds",
        live.join(" and a "),
        words(&wrong.wanted).0,
        commands.join("` or `merganser "),
    )
}

/// The exit code for an error, as the help documents them.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.downcast_ref::<ConnectError>().is_some() {
        return ExitCode::from(3);
    }
    let asked_wrongly = error.downcast_ref::<ConfigError>().is_some()
        || matches!(error.downcast_ref(), Some(DevError::Ports { .. } | DevError::Config(_)));
    let plans_wrongly = error.downcast_ref::<plan::PlanError>().is_some();
    if asked_wrongly || plans_wrongly {
        return ExitCode::from(2);
    }
    if error.downcast_ref::<InvalidConflictCursor>().is_some() {
        return ExitCode::from(5);
    }
    ExitCode::from(match error.downcast_ref::<RequestError>() {
        Some(
            RequestError::Unavailable { .. }
            | RequestError::Timeout
            | RequestError::Overloaded
            | RequestError::Stopping
            | RequestError::Unreachable(_),
        ) => 3,
        Some(RequestError::Unknown { .. } | RequestError::Disconnected(_)) => 4,
        Some(
            RequestError::Update(_)
            | RequestError::Level { .. }
            | RequestError::TimeLimit
            | RequestError::Name { .. }
            | RequestError::Bucket(_)
            | RequestError::Key(_)
            | RequestError::Cursor(_)
            | RequestError::Context(_),
        ) => 5,
        _ => 6,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use node::Settings;

    #[test]
    fn a_cause_that_an_error_names_itself_is_not_said_twice() {
        let error = Settings::from_file("/nowhere.toml".as_ref()).unwrap_err();
        let error = anyhow::Error::from(error);
        assert_eq!(
            describe(&error),
            "configuration /nowhere.toml: No such file or directory (os error 2)"
        );
        let error = error.context("cannot start");
        assert_eq!(
            describe(&error),
            "cannot start: configuration /nowhere.toml: No such file or directory (os error 2)"
        );
    }

    #[test]
    fn a_drawing_is_not_printed_where_json_is_asked_for() {
        let ended = |arguments: &[&str]| {
            use clap::Parser as _;
            // Nobody listens there.
            let node = ["merganser", "--node", "127.0.0.1:1", "explain", "k"];
            run(Options::parse_from(node.iter().chain(arguments)))
        };
        assert_eq!(ended(&["--json", "--svg", "-"]).unwrap(), ExitCode::from(2));
        for allowed in [["--svg", "-"].as_slice(), &["--json", "--svg", "file"]] {
            assert_eq!(exit_code(&ended(allowed).unwrap_err()), ExitCode::from(3));
        }
    }

    #[test]
    fn a_wrong_type_names_the_command_for_the_right_one() {
        let wrong = WrongType { wanted: Tag::ORSET, live: vec![Tag::BYTES, Tag::LWW] };
        let error = RequestError::Update(wrong.into()).into();
        assert_eq!(
            describe(&error),
            "the key holds a raw value and a register, and this command is for a set: use \
             `merganser get` or `merganser register`; `merganser explain` shows all that a key holds"
        );
        assert_eq!(exit_code(&error), ExitCode::from(5));
    }

    #[tokio::test]
    async fn a_key_and_a_cursor_that_cannot_be_end_with_the_exit_code_of_bad_values() {
        let (printer, memory) = (Printer::new(true), client::MemoryDatastore::new());
        let long = || "k".repeat(::values::KEY_BYTES_MAX + 1);
        for failed in [
            explain::explain(&printer, &memory, "b", long(), None).await,
            cluster::ring(&printer, &memory, "b", Some(long())).await,
            explain::conflicts(&printer, &memory, 1, Some("no cursor!".into())).await,
        ] {
            assert_eq!(exit_code(&failed.unwrap_err()), ExitCode::from(5));
        }
    }

    #[test]
    fn what_was_asked_wrongly_ends_with_the_exit_code_of_wrong_usage() {
        let missing = Settings::default().resolve().unwrap_err();
        assert_eq!(exit_code(&missing.into()), ExitCode::from(2));
        let ports = DevError::Ports { nodes: 3, port_base: 65_530 };
        assert_eq!(exit_code(&ports.into()), ExitCode::from(2));
    }
}
