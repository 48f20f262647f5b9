//! The server: INFO, CONFIG GET, TIME.

use std::fmt::{Display, Write as _};
use std::sync::Arc;

use wire::ClusterStatus;

use crate::codec::{Args, ParserLimits};
use crate::glob::Pattern;
use crate::memory::Memory;
use crate::plan::{Context, Planned, check_names, unknown_subcommand, wrong_arity};
use crate::reply::Reply;
use crate::server::{Counters, REDIS_VERSION, ServerInfo};

/// Sections of INFO, in order.
const SECTIONS: [&str; 9] = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "replication",
    "cluster",
    "keyspace",
    "merganser",
];

/// Most patterns of one CONFIG GET: far more than there are parameters. Each is compiled before
/// anyone else's command gets a turn.
const PATTERNS_MAX: usize = 64;

const INTO_A_STRING: &str = "a string takes any text";

pub(crate) fn info(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    check_names(&args.skip(1))?;
    let wanted: Vec<String> = args
        .skip(1)
        .iter()
        .map(|section| String::from_utf8_lossy(section).to_ascii_lowercase())
        .collect();
    let is_everything = wanted.is_empty()
        || wanted.iter().any(|s| ["all", "default", "everything"].contains(&s.as_str()));
    let info = Arc::clone(cx.info);
    cx.call(move |datastore| async move {
        // Without an answer INFO still tells what the gateway knows.
        let status = datastore.status().await.ok();
        let mut text = String::new();
        for section in SECTIONS {
            if is_everything || wanted.iter().any(|wanted| wanted == section) {
                if !text.is_empty() {
                    text.push_str("\r\n");
                }
                write_section(&mut text, section, &info, status.as_ref());
            }
        }
        Reply::Verbatim(text)
    })
}

fn write_section(
    text: &mut String,
    section: &str,
    info: &ServerInfo,
    status: Option<&ClusterStatus>,
) {
    let (initial, rest) = section.split_at(1);
    write!(text, "# {}{rest}\r\n", initial.to_ascii_uppercase()).expect(INTO_A_STRING);
    let mut line = |name: &str, value: &dyn Display| {
        write!(text, "{name}:{value}\r\n").expect(INTO_A_STRING);
    };
    match section {
        "server" => {
            line("redis_version", &REDIS_VERSION);
            line("server_name", &"merganser");
            line("merganser_version", &info.version);
            line("redis_mode", &"standalone");
            line("os", &std::env::consts::OS);
            line("arch_bits", &usize::BITS);
            line("process_id", &std::process::id());
            line("tcp_port", &info.port);
            line("uptime_in_seconds", &info.uptime().as_secs());
            line("uptime_in_days", &(info.uptime().as_secs() / 86_400));
        }
        "clients" => {
            line("connected_clients", &info.connected());
            // There is no command that waits for others.
            line("blocked_clients", &0);
        }
        "memory" => {
            if let Some(memory) = Memory::now() {
                line("used_memory", &memory.private);
                line("used_memory_rss", &memory.resident);
                line("used_memory_peak", &memory.resident_peak);
            }
            line("maxmemory", &0);
            line("maxmemory_policy", &"noeviction");
        }
        "persistence" => {
            line("loading", &0);
            line("aof_enabled", &1);
        }
        "stats" => {
            let counters = info.counters();
            line("total_connections_received", &Counters::read(&counters.connections));
            line("total_commands_processed", &Counters::read(&counters.commands));
            line("protocol_errors", &Counters::read(&counters.protocol_errors));
            line("http_refused", &Counters::read(&counters.http_refused));
        }
        "replication" => {
            // To a Redis client every node is a master: it takes writes.
            line("role", &"master");
            line("connected_slaves", &0);
        }
        "cluster" => line("cluster_enabled", &0),
        "keyspace" => {
            if let Some(status) = status.filter(|status| status.keys > 0) {
                line("db0", &format_args!("keys={},expires=0,avg_ttl=0", status.keys));
            }
        }
        _ => {
            line("node", &info.node);
            if let Some(status) = status {
                line("cluster", &status.cluster);
                line("partitions", &status.partitions);
                line("ring_version", &status.ring_version);
                let present = status.members.iter().filter(|member| member.state.is_present());
                line("members", &present.count());
                let connected = status.members.iter().filter(|member| member.connected).count();
                line("members_connected", &connected);
                let pending: u64 = status.members.iter().map(|member| member.pending).sum();
                line("hints_pending", &pending);
            }
        }
    }
}

pub(crate) fn config(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    if !args.at(1).eq_ignore_ascii_case(b"GET") {
        return Err(unknown_subcommand("CONFIG", args.at(1)));
    }
    if args.len() < 3 {
        return Err(wrong_arity("config|get"));
    }
    let patterns = args.skip(2);
    if patterns.len() > PATTERNS_MAX {
        let count = patterns.len();
        let text = format!("{count} patterns in one command, at most {PATTERNS_MAX} are allowed");
        return Err(Reply::error("ERR", text));
    }
    let ParserLimits { bulk_bytes, command_bytes, .. } = cx.info.limits;
    // What Redis clients and benchmarks ask for, answered as far as it applies.
    let parameters = [
        ("appendfsync", "always".to_owned()),
        ("appendonly", "yes".to_owned()),
        ("databases", "1".to_owned()),
        ("maxmemory", "0".to_owned()),
        ("maxmemory-policy", "noeviction".to_owned()),
        ("port", cx.info.port.to_string()),
        ("proto-max-bulk-len", bulk_bytes.min(command_bytes).to_string()),
        ("save", String::new()),
        ("timeout", "0".to_owned()),
    ];
    let mut is_wanted = vec![false; parameters.len()];
    for pattern in patterns.iter() {
        let pattern = Pattern::new(&pattern.to_ascii_lowercase())
            .map_err(|error| Reply::error("ERR", error))?;
        for (wanted, (name, _)) in is_wanted.iter_mut().zip(&parameters) {
            *wanted |= pattern.matches(name.as_bytes());
        }
    }
    let found = parameters
        .into_iter()
        .zip(is_wanted)
        .filter(|&(_, wanted)| wanted)
        .map(|((name, value), _)| (name.into(), Reply::text(value)))
        .collect();
    cx.reply(Reply::Map(found))
}

pub(crate) fn time(cx: &mut Context<'_>, _: Args<'_>) -> Planned {
    // When it is written: in a transaction that is the time of EXEC.
    cx.lazy(|| {
        let now = ServerInfo::wall_clock();
        Reply::Array(vec![
            Reply::text(now.as_secs().to_string()),
            Reply::text(now.subsec_micros().to_string()),
        ])
    })
}
