//! Demonstrations on real input.

mod carts;
mod contents;
mod invoices;
mod oracle;
mod report;
mod strategy;

pub(crate) use carts::{CartsOptions, run as run_carts};
pub(crate) use strategy::StrategyName;
