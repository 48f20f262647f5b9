//! The connection itself: greeting, protocol version, names.

use bytes::Bytes;

use crate::codec::Args;
use crate::plan::{
    Context, Planned, Refusal, Session, Step, check_arity, integer, unknown_subcommand,
};
use crate::reply::{Protocol, Reply};
use crate::server::{Client, REDIS_VERSION};

/// Longest name of a client or its library, in bytes.
const NAME_BYTES_MAX: usize = 1024;

pub(crate) fn ping(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    match args.len() {
        1 => cx.reply(Reply::Simple("PONG")),
        2 => cx.reply(Bytes::copy_from_slice(args.at(1))),
        _ => Err(crate::plan::wrong_arity("ping")),
    }
}

pub(crate) fn echo(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    cx.reply(Bytes::copy_from_slice(args.at(1)))
}

pub(crate) fn quit(cx: &mut Context<'_>, _: Args<'_>) -> Planned {
    cx.session.is_closing = true;
    cx.reply(Reply::Ok)
}

pub(crate) fn reset(cx: &mut Context<'_>, _: Args<'_>) -> Planned {
    *cx.session = Session { id: cx.session.id, ..Session::default() };
    with_client(cx, |client| {
        client.name = Bytes::new();
        client.protocol = Protocol::default();
    });
    cx.plan.steps.push(Step::Switch(Protocol::Resp2, Reply::Simple("RESET")));
    Ok(())
}

pub(crate) fn select(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    match integer(args.at(1))? {
        0 => cx.reply(Reply::Ok),
        _ => Err(Reply::Error("ERR DB index is out of range: there is database 0 only".into())),
    }
}

/// Answers as a Redis server without passwords.
pub(crate) fn auth(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    match args.len() {
        2 => Err(Reply::Error(
            "ERR AUTH <password> called without any password configured for the default user. \
             Are you sure your configuration is correct?"
                .into(),
        )),
        3 => {
            check_user(args.at(1))?;
            cx.reply(Reply::Ok)
        }
        _ => Err(Reply::Error("ERR syntax error".into())),
    }
}

/// The default user needs no password, and there is no other user.
fn check_user(user: &[u8]) -> Result<(), Refusal> {
    match user {
        b"default" => Ok(()),
        _ => Err(Reply::Error(
            "WRONGPASS invalid username-password pair or user is disabled.".into(),
        )),
    }
}

pub(crate) fn hello(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let protocol = match args.get(1) {
        None => cx.session.protocol,
        Some(version) => match integer(version) {
            Ok(2) => Protocol::Resp2,
            Ok(3) => Protocol::Resp3,
            Ok(_) => return Err(Reply::Error("NOPROTO unsupported protocol version".into())),
            Err(_) => {
                let text = "ERR Protocol version is not an integer or out of range";
                return Err(Reply::Error(text.into()));
            }
        },
    };
    let (mut at, mut name) = (2, None);
    while let Some(option) = args.get(at) {
        if option.eq_ignore_ascii_case(b"AUTH") && args.len() > at + 2 {
            check_user(args.at(at + 1))?;
            at += 3;
        } else if option.eq_ignore_ascii_case(b"SETNAME") && args.len() > at + 1 {
            name = Some(checked_name("Client names", args.at(at + 1))?);
            at += 2;
        } else {
            let option = String::from_utf8_lossy(&option[..option.len().min(128)]);
            return Err(Reply::Error(format!("ERR Syntax error in HELLO option '{option}'")));
        }
    }
    with_client(cx, |client| {
        client.protocol = protocol;
        if let Some(name) = name {
            client.name = name;
        }
    });
    cx.session.protocol = protocol;
    let fields = vec![
        ("server".into(), "redis".into()),
        ("version".into(), REDIS_VERSION.into()),
        ("proto".into(), Reply::Integer(protocol.number())),
        ("id".into(), Reply::Integer(cx.session.id as i64)),
        ("mode".into(), "standalone".into()),
        ("role".into(), "master".into()),
        ("modules".into(), Reply::Array(Vec::new())),
    ];
    cx.plan.steps.push(Step::Switch(protocol, Reply::Map(fields)));
    Ok(())
}

fn with_client(cx: &mut Context<'_>, change: impl FnOnce(&mut Client)) {
    if let Some(client) = cx.info.clients().get_mut(&cx.session.id) {
        change(client);
    }
}

fn checked_name(what: &str, name: &[u8]) -> Result<Bytes, Refusal> {
    if name.len() > NAME_BYTES_MAX || !name.iter().all(u8::is_ascii_graphic) {
        return Err(Reply::Error(format!(
            "ERR {what} cannot contain spaces, newlines or special characters."
        )));
    }
    Ok(Bytes::copy_from_slice(name))
}

pub(crate) fn client(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let id = cx.session.id;
    match &args.at(1).to_ascii_uppercase()[..] {
        b"SETNAME" => {
            check_arity(&args, "client|setname", 3, 3)?;
            let name = checked_name("Client names", args.at(2))?;
            with_client(cx, |client| client.name = name);
            cx.reply(Reply::Ok)
        }
        b"GETNAME" => {
            check_arity(&args, "client|getname", 2, 2)?;
            let name = cx.info.clients().get(&id).map(|client| client.name.clone());
            cx.reply(name.filter(|name| !name.is_empty()).map_or(Reply::Null, Reply::Bulk))
        }
        b"ID" => {
            check_arity(&args, "client|id", 2, 2)?;
            cx.reply(Reply::Integer(id as i64))
        }
        b"SETINFO" => {
            check_arity(&args, "client|setinfo", 4, 4)?;
            set_info(cx, args.at(2), args.at(3))
        }
        b"INFO" => {
            check_arity(&args, "client|info", 2, 2)?;
            let text = cx.info.clients().get(&id).map(|client| describe(id, client, "client|info"));
            cx.reply(Reply::Verbatim(text.unwrap_or_default()))
        }
        b"LIST" => {
            check_arity(&args, "client|list", 2, 2)?;
            let clients = cx.info.clients();
            let line = |(&of, client)| {
                // What others did last is not kept; Redis says so of one that did nothing yet.
                let command = if of == id { "client|list" } else { "NULL" };
                describe(of, client, command)
            };
            let text = clients.iter().map(line).collect();
            drop(clients);
            cx.reply(Reply::Verbatim(text))
        }
        b"NO-EVICT" | b"NO-TOUCH" => {
            let command = format!("client|{}", args.at(1).to_ascii_lowercase().escape_ascii());
            check_arity(&args, &command, 3, 3)?;
            match &args.at(2).to_ascii_uppercase()[..] {
                // Nothing is evicted here, and no time of use is kept.
                b"ON" | b"OFF" => cx.reply(Reply::Ok),
                _ => Err(crate::plan::syntax_error()),
            }
        }
        _ => Err(unknown_subcommand("CLIENT", args.at(1))),
    }
}

fn set_info(cx: &mut Context<'_>, attribute: &[u8], value: &[u8]) -> Planned {
    match &attribute.to_ascii_uppercase()[..] {
        b"LIB-NAME" => {
            let name = checked_name("lib-name", value)?;
            with_client(cx, |client| client.library_name = name);
        }
        b"LIB-VER" => {
            let version = checked_name("lib-ver", value)?;
            with_client(cx, |client| client.library_version = version);
        }
        _ => {
            let shown = String::from_utf8_lossy(&attribute[..attribute.len().min(128)]);
            return Err(Reply::Error(format!("ERR Unrecognized option '{shown}'")));
        }
    }
    cx.reply(Reply::Ok)
}

/// One line of CLIENT LIST, as Redis 7.2 writes it: libraries fail without the numbers that they
/// know of. What is not kept here is 0, and there is no file number.
fn describe(id: u64, client: &Client, command: &str) -> String {
    let address = |address: Option<std::net::SocketAddr>| {
        address.map(|address| address.to_string()).unwrap_or_default()
    };
    format!(
        "id={id} addr={} laddr={} name={} age={} idle=0 flags=N db=0 sub=0 psub=0 ssub=0 multi=-1 \
         qbuf=0 qbuf-free=0 argv-mem=0 multi-mem=0 rbs=0 rbp=0 obl=0 oll=0 omem=0 tot-mem=0 \
         events=r cmd={command} user=default redir=-1 resp={} lib-name={} lib-ver={}\n",
        address(client.address),
        address(client.local),
        client.name.escape_ascii(),
        client.since.elapsed().as_secs(),
        client.protocol.number(),
        client.library_name.escape_ascii(),
        client.library_version.escape_ascii(),
    )
}
