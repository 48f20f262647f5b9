//! What each command does.

mod cluster;
mod plan;
mod serve;
mod values;

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use client::{Bucket, Client, ConnectError, Datastore};
use replication::{Level, RequestError};

use crate::demo::{self, CartsOptions};
use crate::options::{Command, DemoCommand, Options, RingCommand};
use crate::output::Printer;

/// Runs the command; the exit code says what came of it (see `merganser --help`).
pub(crate) fn run(options: Options) -> Result<ExitCode> {
    match options.command {
        Command::Start(start) => serve::start(start),
        Command::Dev(dev) => serve::dev(dev),
        Command::Demo(DemoCommand::Carts { data, strategy, no_cut, shoppers, connect }) => {
            serve::log_to_stderr("error");
            let carts = CartsOptions { data, strategy, cut: !no_cut, shoppers, nodes: connect };
            runtime()?.block_on(demo::run_carts(carts))?;
            Ok(ExitCode::SUCCESS)
        }
        command => runtime()?.block_on(async {
            let printer = Printer { json: options.json };
            if let Command::Context { token } = command {
                return cluster::context(&printer, &options.node, token).await;
            }
            if let Command::Ring { command: Some(RingCommand::Plan(plan)), .. } = command {
                return plan::plan(&printer, &options.node, plan).await;
            }
            let datastore: Arc<dyn Datastore> = Arc::new(Client::connect(&options.node).await?);
            let bucket = bucket(&options.bucket, options.r, options.w, options.timeout, &datastore);
            match command {
                Command::Ring { key, .. } => {
                    cluster::ring(&printer, &*datastore, &options.bucket, key).await
                }
                Command::Status => cluster::status(&printer, &*datastore).await,
                Command::Explain { key } => {
                    cluster::explain(&printer, &*datastore, &options.bucket, key).await
                }
                Command::Links(links) => cluster::links(&printer, &*datastore, links).await,
                command => values::run(&printer, &bucket, command).await,
            }
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

/// The exit code for an error, as the help documents them.
pub(crate) fn exit_code(error: &anyhow::Error) -> ExitCode {
    if error.downcast_ref::<ConnectError>().is_some() {
        return ExitCode::from(3);
    }
    if error.downcast_ref::<plan::PlanError>().is_some() {
        return ExitCode::from(2);
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
            | RequestError::Key(_)
            | RequestError::Context(_),
        ) => 5,
        _ => 6,
    })
}
