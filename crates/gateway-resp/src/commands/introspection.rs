//! COMMAND: the table of commands as clients read it.
//!
//! A few bytes of request ask for many of reply, so replies about the whole table are made once and
//! shared, and those about some commands are made when they are written.

use std::sync::LazyLock;

use crate::codec::Args;
use crate::plan::{Context, Planned, check_arity, check_names, unknown_subcommand};
use crate::reply::Reply;
use crate::table::{COMMANDS, CommandSpec, find};

static ALL_INFO: LazyLock<Reply> =
    LazyLock::new(|| Reply::Array(COMMANDS.iter().map(info).collect()));
static ALL_NAMES: LazyLock<Reply> =
    LazyLock::new(|| Reply::Array(COMMANDS.iter().map(name).collect()));
static ALL_DOCS: LazyLock<Reply> =
    LazyLock::new(|| Reply::Map(COMMANDS.iter().map(docs).collect()));

pub(crate) fn command(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let names = args.skip(2);
    match &args.at(1).to_ascii_uppercase()[..] {
        b"" => cx.shared(&ALL_INFO),
        b"COUNT" => {
            check_arity(&args, "command|count", 2, 2)?;
            cx.reply(Reply::Integer(COMMANDS.len() as i64))
        }
        b"LIST" => {
            check_arity(&args, "command|list", 2, 2)?;
            cx.shared(&ALL_NAMES)
        }
        b"INFO" if names.is_empty() => cx.shared(&ALL_INFO),
        b"INFO" => {
            check_names(&names)?;
            let found: Vec<Option<&CommandSpec>> = names.iter().map(find).collect();
            let render = |spec: Option<_>| spec.map_or(Reply::Null, info);
            cx.lazy(move || Reply::Array(found.into_iter().map(render).collect()))
        }
        b"DOCS" if names.is_empty() => cx.shared(&ALL_DOCS),
        b"DOCS" => {
            check_names(&names)?;
            let mut found: Vec<&CommandSpec> = names.iter().filter_map(find).collect();
            found.sort_by_key(|spec| spec.name);
            found.dedup_by_key(|spec| spec.name);
            cx.lazy(move || Reply::Map(found.into_iter().map(docs).collect()))
        }
        _ => Err(unknown_subcommand("COMMAND", args.at(1))),
    }
}

fn name(spec: &CommandSpec) -> Reply {
    Reply::text(spec.name.to_ascii_lowercase())
}

/// As Redis 7: name, arity, flags, first key, last key, step, ACL categories, tips, key
/// specifications, subcommands.
fn info(spec: &CommandSpec) -> Reply {
    let (first, last, step) = spec.keys;
    let flags = spec.flags.iter().filter_map(|flag| flag.name()).map(Reply::Simple);
    Reply::Array(vec![
        name(spec),
        Reply::Integer(spec.arity.into()),
        Reply::Set(flags.collect()),
        Reply::Integer(first.into()),
        Reply::Integer(last.into()),
        Reply::Integer(step.into()),
        Reply::Set(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
        Reply::Array(Vec::new()),
    ])
}

fn docs(spec: &CommandSpec) -> (Reply, Reply) {
    let mut fields = vec![
        ("summary".into(), spec.summary.into()),
        ("since".into(), "0.1.0".into()),
        ("group".into(), spec.group.name().into()),
    ];
    if !spec.syntax.is_empty() {
        // One argument that stands for the whole syntax: hints need no more.
        let argument = vec![
            ("name".into(), spec.syntax.into()),
            ("type".into(), "string".into()),
            ("display_text".into(), spec.syntax.into()),
        ];
        fields.push(("arguments".into(), Reply::Array(vec![Reply::Map(argument)])));
    }
    (name(spec), Reply::Map(fields))
}
