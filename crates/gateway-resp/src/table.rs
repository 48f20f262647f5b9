//! The table of commands. Dispatch, COMMAND and the reference page all follow it.

use crate::codec::Args;
use crate::commands::{
    buckets, conflicts, connection, expiry, hashes, introspection, keys, merganser, named, refused,
    server, sets, siblings, strings, transaction,
};
use crate::plan::{Context, Planned};

/// What COMMAND says of a command, and how a transaction treats it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flag {
    /// Changes data.
    Write,
    /// Reads data.
    Readonly,
    /// Takes constant time.
    Fast,
    /// For administrators.
    Admin,
    /// Changes the connection, so it cannot be queued by MULTI.
    NoMulti,
    /// Acts at once between MULTI and EXEC.
    Immediate,
}

impl Flag {
    /// The flag's name in COMMAND.
    pub(crate) const fn name(self) -> Option<&'static str> {
        match self {
            Self::Write => Some("write"),
            Self::Readonly => Some("readonly"),
            Self::Fast => Some("fast"),
            Self::Admin => Some("admin"),
            Self::NoMulti => Some("no_multi"),
            Self::Immediate => None,
        }
    }
}

/// Which kind of thing a command works on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Group {
    Connection,
    Server,
    String,
    Set,
    Hash,
    Generic,
    Transactions,
    Merganser,
}

impl Group {
    /// The group's name in COMMAND DOCS.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Server => "server",
            Self::String => "string",
            Self::Set => "set",
            Self::Hash => "hash",
            Self::Generic => "generic",
            Self::Transactions => "transactions",
            Self::Merganser => "merganser",
        }
    }
}

/// One command.
pub(crate) struct CommandSpec {
    /// Its name, in capitals.
    pub(crate) name: &'static str,
    /// Number of arguments with the name; negative: at least so many.
    pub(crate) arity: i32,
    pub(crate) flags: &'static [Flag],
    /// Which arguments are keys: first, last (negative from the end), step; zeros for none.
    pub(crate) keys: (i32, i32, i32),
    pub(crate) group: Group,
    /// Its arguments, as the reference page writes them.
    pub(crate) syntax: &'static str,
    /// What it does, in a sentence.
    pub(crate) summary: &'static str,
    pub(crate) run: fn(&mut Context<'_>, Args<'_>) -> Planned,
}

impl CommandSpec {
    /// Whether the command has the flag.
    pub(crate) fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    /// Whether so many arguments, the name included, are right.
    pub(crate) const fn admits(&self, count: usize) -> bool {
        let wanted = self.arity.unsigned_abs() as usize;
        if self.arity < 0 { count >= wanted } else { count == wanted }
    }
}

/// The command that `name` names in any case.
pub(crate) fn find(name: &[u8]) -> Option<&'static CommandSpec> {
    let mut capitals = [0; NAME_BYTES_MAX];
    let capitals = capitals.get_mut(..name.len())?;
    capitals.copy_from_slice(name);
    capitals.make_ascii_uppercase();
    let found = COMMANDS.binary_search_by(|spec| spec.name.as_bytes().cmp(capitals)).ok()?;
    Some(&COMMANDS[found])
}

/// Longest name of a command.
const NAME_BYTES_MAX: usize = 16;

const NONE: (i32, i32, i32) = (0, 0, 0);
const ONE: (i32, i32, i32) = (1, 1, 1);
const ALL: (i32, i32, i32) = (1, -1, 1);
const PAIRS: (i32, i32, i32) = (1, -1, 2);
const SECOND: (i32, i32, i32) = (2, 2, 1);

macro_rules! commands {
    ($($name:literal $arity:literal [$($flag:ident)*] $keys:ident $group:ident $syntax:literal
        $summary:literal => $run:path;)*) => {
        /// Every command, in order of name.
        pub(crate) const COMMANDS: &[CommandSpec] = &[$(CommandSpec {
            name: $name,
            arity: $arity,
            flags: &[$(Flag::$flag),*],
            keys: $keys,
            group: Group::$group,
            syntax: $syntax,
            summary: $summary,
            run: $run,
        }),*];
    };
}

commands! {
    "AUTH" -2 [Fast NoMulti] NONE Connection "[username] password"
        "Answers as a Redis server without passwords." => connection::auth;
    "CLIENT" -2 [NoMulti] NONE Connection
        "ID | INFO | LIST | GETNAME | SETNAME name | SETINFO attribute value | NO-EVICT ON|OFF | NO-TOUCH ON|OFF"
        "Names this connection, and lists all connections to this node." => connection::client;
    "COMMAND" -1 [] NONE Server "[COUNT | DOCS [name ...] | INFO [name ...] | LIST]"
        "Describes the commands of this table." => introspection::command;
    "CONFIG" -2 [Admin] NONE Server "GET pattern [pattern ...]"
        "Answers configuration parameters that Redis clients ask for." => server::config;
    "DBSIZE" 1 [Readonly] NONE Server ""
        "Counts the live keys of the bucket, in the whole cluster." => keys::dbsize;
    "DECR" 2 [Write Fast] ONE String "key"
        "Takes 1 from an integer string; a missing key counts as 0." => strings::decr;
    "DECRBY" 3 [Write Fast] ONE String "key decrement"
        "Takes from an integer string; a missing key counts as 0." => strings::decrby;
    "DEL" -2 [Write] ALL Generic "key [key ...]"
        "Removes what was observed of keys, whatever their type." => keys::del;
    "DISCARD" 1 [Fast Immediate] NONE Transactions ""
        "Forgets the queued commands." => transaction::discard;
    "ECHO" 2 [Fast] NONE Connection "message"
        "Answers the message." => connection::echo;
    "EXEC" 1 [Immediate] NONE Transactions ""
        "Does the queued commands as one batch, without isolation." => transaction::exec;
    "EXISTS" -2 [Readonly Fast] ALL Generic "key [key ...]"
        "Counts the keys that exist; one named twice counts twice." => keys::exists;
    "EXPIRE" -3 [Write Fast] ONE Generic "key seconds [NX|XX|GT|LT]"
        "Has all that was observed of a key end so many seconds from now." => expiry::expire;
    "EXPIREAT" -3 [Write Fast] ONE Generic "key unix-time-seconds [NX|XX|GT|LT]"
        "Has all that was observed of a key end at a time." => expiry::expireat;
    "EXPIRETIME" 2 [Readonly Fast] ONE Generic "key"
        "Answers when a key ends, in seconds since 1970; -1 for never, -2 for no such key." => expiry::expiretime;
    "FLUSHALL" -1 [Write Admin] NONE Server "[ASYNC | SYNC]"
        "Refused: unreachable replicas would bring keys back." => refused::flush;
    "FLUSHDB" -1 [Write Admin] NONE Server "[ASYNC | SYNC]"
        "Refused: unreachable replicas would bring keys back." => refused::flush;
    "GET" 2 [Readonly Fast] ONE String "key"
        "Answers the value of a string." => strings::get;
    "GETEX" -2 [Write Fast] ONE String
        "key [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | PERSIST]"
        "Answers the value of a string, and then sets when it ends." => expiry::getex;
    "HDEL" -3 [Write Fast] ONE Hash "key field [field ...]"
        "Removes what was observed of fields." => hashes::hdel;
    "HELLO" -1 [Fast NoMulti] NONE Connection "[protover [AUTH username password] [SETNAME clientname]]"
        "Greets, and chooses RESP2 or RESP3." => connection::hello;
    "HEXISTS" 3 [Readonly Fast] ONE Hash "key field"
        "Answers whether a field exists." => hashes::hexists;
    "HGET" 3 [Readonly Fast] ONE Hash "key field"
        "Answers the value of a field." => hashes::hget;
    "HGETALL" 2 [Readonly] ONE Hash "key"
        "Answers all fields with their values." => hashes::hgetall;
    "HINCRBY" 4 [Write Fast] ONE Hash "key field increment"
        "Adds to an integer field; a missing field counts as 0." => hashes::hincrby;
    "HKEYS" 2 [Readonly] ONE Hash "key"
        "Answers all fields." => hashes::hkeys;
    "HLEN" 2 [Readonly Fast] ONE Hash "key"
        "Counts the fields." => hashes::hlen;
    "HMGET" -3 [Readonly Fast] ONE Hash "key field [field ...]"
        "Answers the values of fields." => hashes::hmget;
    "HSCAN" -3 [Readonly] ONE Hash "key cursor [MATCH pattern] [COUNT count] [NOVALUES]"
        "Answers a page of the fields with their values." => hashes::hscan;
    "HSET" -4 [Write Fast] ONE Hash "key field value [field value ...]"
        "Sets fields; answers how many are new." => hashes::hset;
    "HVALS" 2 [Readonly] ONE Hash "key"
        "Answers the values of all fields." => hashes::hvals;
    "INCR" 2 [Write Fast] ONE String "key"
        "Adds 1 to an integer string; a missing key counts as 0." => strings::incr;
    "INCRBY" 3 [Write Fast] ONE String "key increment"
        "Adds to an integer string; a missing key counts as 0." => strings::incrby;
    "INFO" -1 [] NONE Server "[section ...]"
        "Describes the server: redis_version for Redis clients, merganser_version for people." => server::info;
    "MG.BUCKET" -2 [Admin] NONE Merganser
        "CREATE bucket [field value ...] | SET bucket field value [field value ...] | SHOW bucket | DROP bucket | LIST"
        "Works on buckets and their policies; DROP takes all that is in a bucket with it." => buckets::bucket;
    "MG.CART" -3 [Write] SECOND Merganser
        "ADD key item quantity | REMOVE key item | SET key item quantity | ITEMS key"
        "Works on a shopping cart: concurrent additions add up, a removal takes what it has seen." => merganser::cart;
    "MG.CONFLICTS" -1 [Readonly] NONE Merganser "[COUNT count] [CURSOR cursor]"
        "Lists keys in conflict on this node, those with most siblings first, and where the next page begins." => conflicts::list;
    "MG.CONTEXT" 2 [Readonly] NONE Merganser "token"
        "Shows a context token to people, as in {A:2, B:1}." => siblings::context;
    "MG.COUNTER" -3 [Write Fast] SECOND Merganser "ADD key amount | GET key | RESET key"
        "Works on a counter; a reset takes away exactly what it has seen." => merganser::counter;
    "MG.CUT" 2 [Admin NoMulti] NONE Merganser "member"
        "Cuts the links between a member and all others (development clusters only)." => merganser::cut;
    "MG.DEL" 4 [Write Fast] ONE Merganser "key CONTEXT token"
        "Removes the siblings that the context has seen." => siblings::del;
    "MG.EXPLAIN" -2 [Readonly] ONE Merganser "key [TEXT | JSON | SVG]"
        "Shows how a key stands: owners and what each holds, dots, version vectors, siblings, and its history." => merganser::explain;
    "MG.GET" -2 [Readonly Fast] ONE Merganser "key [WITHDOTS]"
        "Answers every sibling of a raw value, and the context to put with." => siblings::get;
    "MG.GSET" -3 [Write] SECOND Merganser
        "ADD key element [element ...] | MEMBERS key | CONTAINS key element | CARD key"
        "Works on a grow-only set." => merganser::gset;
    "MG.HEAL" 2 [Admin NoMulti] NONE Merganser "member"
        "Restores the links that MG.CUT cut." => merganser::heal;
    "MG.ID" -3 [Write] NONE Merganser "id command [argument ...]"
        "Does a writing command once, however often it is sent under this id." => named::id;
    "MG.PUT" -3 [Write Fast] ONE Merganser "key value [CONTEXT token]"
        "Puts a raw value in place of the siblings that the context has seen, beside all others." => siblings::put;
    "MG.QUORUM" -3 [Fast NoMulti] NONE Merganser "r w [STRICT]"
        "Sets how many replicas each command of this connection involves; 0 for the bucket's own. STRICT refuses reads that fewer answered." => merganser::quorum;
    "MG.RESOLVE" 4 [Write] ONE Merganser "key KEEP type"
        "Ends a conflict of types: removes what was observed of every type but one; answers how many went." => conflicts::resolve;
    "MGET" -2 [Readonly Fast] ALL String "key [key ...]"
        "Answers the values of strings; nothing for a key of another type." => strings::mget;
    "MSET" -3 [Write] PAIRS String "key value [key value ...]"
        "Sets strings, each on its own: other clients may see some before others." => strings::mset;
    "MULTI" 1 [Fast Immediate] NONE Transactions ""
        "Begins to queue commands." => transaction::multi;
    "PERSIST" 2 [Write Fast] ONE Generic "key"
        "Takes the deadline away that was observed of a key." => expiry::persist;
    "PEXPIRE" -3 [Write Fast] ONE Generic "key milliseconds [NX|XX|GT|LT]"
        "Has all that was observed of a key end so many milliseconds from now." => expiry::pexpire;
    "PEXPIREAT" -3 [Write Fast] ONE Generic "key unix-time-milliseconds [NX|XX|GT|LT]"
        "Has all that was observed of a key end at a time." => expiry::pexpireat;
    "PEXPIRETIME" 2 [Readonly Fast] ONE Generic "key"
        "Answers when a key ends, in milliseconds since 1970; -1 for never, -2 for no such key." => expiry::pexpiretime;
    "PING" -1 [Fast] NONE Connection "[message]"
        "Answers PONG, or the message." => connection::ping;
    "PSETEX" 4 [Write] ONE String "key milliseconds value"
        "Sets a string that ends so many milliseconds from now." => expiry::psetex;
    "PTTL" 2 [Readonly Fast] ONE Generic "key"
        "Answers how many milliseconds a key has left; -1 for no end, -2 for no such key." => expiry::pttl;
    "QUIT" -1 [Fast Immediate] NONE Connection ""
        "Ends the connection." => connection::quit;
    "RESET" 1 [Fast Immediate] NONE Connection ""
        "Puts the connection back to how it began." => connection::reset;
    "SADD" -3 [Write Fast] ONE Set "key member [member ...]"
        "Adds members; answers how many are new." => sets::sadd;
    "SCAN" -2 [Readonly] NONE Generic "cursor [MATCH pattern] [COUNT count] [TYPE type]"
        "Answers a page of the keys of the cluster." => keys::scan;
    "SCARD" 2 [Readonly Fast] ONE Set "key"
        "Counts the members." => sets::scard;
    "SELECT" 2 [Fast] NONE Connection "index"
        "Accepts database 0, the only one." => connection::select;
    "SET" -3 [Write] ONE String
        "key value [EX seconds | PX milliseconds | EXAT unix-time-seconds | PXAT unix-time-milliseconds | KEEPTTL]"
        "Sets a string, in place of whatever the key held." => strings::set;
    "SETEX" 4 [Write] ONE String "key seconds value"
        "Sets a string that ends so many seconds from now." => expiry::setex;
    "SISMEMBER" 3 [Readonly Fast] ONE Set "key member"
        "Answers whether the set has a member." => sets::sismember;
    "SMEMBERS" 2 [Readonly] ONE Set "key"
        "Answers all members." => sets::smembers;
    "SMISMEMBER" -3 [Readonly Fast] ONE Set "key member [member ...]"
        "Answers for each member whether the set has it." => sets::smismember;
    "SREM" -3 [Write Fast] ONE Set "key member [member ...]"
        "Removes what was observed of members; answers how many were there." => sets::srem;
    "SSCAN" -3 [Readonly] ONE Set "key cursor [MATCH pattern] [COUNT count]"
        "Answers a page of the members." => sets::sscan;
    "STRLEN" 2 [Readonly Fast] ONE String "key"
        "Answers how many bytes a string has; 0 for no such key." => strings::strlen;
    "TIME" 1 [Fast] NONE Server ""
        "Answers the node's time in seconds and microseconds." => server::time;
    "TTL" 2 [Readonly Fast] ONE Generic "key"
        "Answers how many seconds a key has left; -1 for no end, -2 for no such key." => expiry::ttl;
    "TYPE" 2 [Readonly Fast] ONE Generic "key"
        "Answers the key's type: string, set, hash, none, bytes, gset, counter or cart." => keys::type_of;
    "UNLINK" -2 [Write Fast] ALL Generic "key [key ...]"
        "The same as DEL." => keys::del;
    "UNWATCH" 1 [Fast] NONE Transactions ""
        "Does nothing: nothing is ever watched." => transaction::unwatch;
    "WATCH" -2 [Fast Immediate] ALL Transactions "key [key ...]"
        "Refused: transactions are not isolated; MG.PUT with a context notices other writers." => refused::watch;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_order_and_every_name_is_found_in_any_case() {
        assert!(COMMANDS.is_sorted_by(|a, b| a.name < b.name));
        for spec in COMMANDS {
            let found = find(spec.name.to_lowercase().as_bytes()).map(|found| found.name);
            assert_eq!(found, Some(spec.name));
            assert_eq!(spec.name, spec.name.to_uppercase());
            assert!(spec.name.len() <= NAME_BYTES_MAX);
        }
        assert!(find(b"").is_none());
        assert!(find(b"GETX").is_none());
        assert!(find(&[b'X'; 1000]).is_none());
    }

    #[test]
    fn the_reference_page_lists_exactly_the_commands_of_the_table() {
        let page = include_str!("../../../docs/reference/redis-commands.md");
        let (commands, _) = page.split_once("\n## Errors\n").expect("errors follow the commands");
        let mut rows: Vec<&str> = commands.lines().filter(|l| l.starts_with("| `")).collect();
        rows.sort_unstable();
        assert_eq!(rows.len(), COMMANDS.len());
        for (row, spec) in rows.iter().zip(COMMANDS) {
            let call = format!("{} {}", spec.name, spec.syntax).trim_end().replace('|', "\\|");
            assert_eq!(*row, format!("| `{call}` | {} |", spec.summary));
        }
    }
}
