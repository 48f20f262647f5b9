//! Commands on values: every type's operations through the typed handles.

use std::io::Read as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use client::{Bucket, CounterHandle, RegisterHandle, Siblings, TimeToLive};
use clock::{ContextToken, Stamp};
use replication::{Answer, RequestError};
use serde_json::{Value, json};
use values::{CounterOp, Deadline, InvalidKey, Operation, RegisterOp, Tag};

use crate::options::{
    CartCommand, Command, CounterCommand, ElementsCommand, MapCommand, RegisterCommand, SetCommand,
};
use crate::output::{Printer, json_bytes, table, text_bytes};

/// Does a command on a value.
pub(crate) async fn run(printer: &Printer, bucket: &Bucket, command: Command) -> Result<ExitCode> {
    match command {
        Command::Get { key } => get(printer, bucket, key).await,
        Command::Put { key, value, context } => {
            let value = match value.as_str() {
                "-" => {
                    let mut bytes = Vec::new();
                    std::io::stdin().read_to_end(&mut bytes).context("cannot read the value")?;
                    bytes
                }
                _ => value.into_bytes(),
            };
            let raw = bucket.raw(key).map_err(invalid)?;
            let answer = raw.put(value, context.map(ContextToken::from)).await?;
            Ok(written(printer, &answer))
        }
        Command::Del { key, context } => {
            let raw = bucket.raw(key).map_err(invalid)?;
            let seen = match context {
                Some(context) => Some(ContextToken::from(context)),
                None => {
                    let siblings = raw.get().await?;
                    // Done before under its name, the delete is the reason that nothing is there.
                    siblings.context.filter(|_| bucket.is_named() || !siblings.values.is_empty())
                }
            };
            match seen {
                Some(context) => Ok(written(printer, &raw.delete(context).await?)),
                None => Ok(absent(printer)),
            }
        }
        Command::Expire { key, seconds } => {
            let deadline = Deadline::In(u64::from(seconds) * 1_000);
            let answer = bucket.expire(key, deadline).await?;
            let shown = changed(printer, &answer, "keys given a deadline");
            Ok(if answer.changed > 0 || answer.repeated { shown } else { ExitCode::FAILURE })
        }
        Command::Persist { key } => {
            Ok(changed(printer, &bucket.persist(key).await?, "deadlines taken away"))
        }
        Command::Ttl { key } => Ok(match bucket.time_to_live(key).await? {
            TimeToLive::Absent => absent(printer),
            TimeToLive::Endless => {
                let endless = json!({ "ttl_ms": null, "at_ms": null });
                printer.show(&endless, || "no deadline".into());
                ExitCode::SUCCESS
            }
            TimeToLive::Ends { in_ms, at_ms } => {
                printer.show(&json!({ "ttl_ms": in_ms, "at_ms": at_ms }), || {
                    let at = Stamp::from_millis(at_ms).utc();
                    format!("{}.{:03} s, until {at}", in_ms / 1_000, in_ms % 1_000)
                });
                ExitCode::SUCCESS
            }
        }),
        Command::Resolve { key, keep } => {
            let answer = bucket.update(key, Operation::Resolve(keep)).await?;
            Ok(changed(printer, &answer, "types removed"))
        }
        Command::Register(command) => register(printer, bucket, command).await,
        Command::Counter(command) => counter(printer, bucket, command).await,
        Command::Set(command) => set(printer, bucket, command).await,
        Command::Gset(command) => gset(printer, bucket, command).await,
        Command::Cart(command) => cart(printer, bucket, command).await,
        Command::Map(command) => map(printer, bucket, command).await,
        _ => unreachable!("commands on clusters are done elsewhere"),
    }
}

fn invalid(error: InvalidKey) -> RequestError {
    error.into()
}

fn absent(printer: &Printer) -> ExitCode {
    printer.show(&Value::Null, || "(nothing there)".into());
    ExitCode::FAILURE
}

/// What people are shown of a collection without elements.
const EMPTY: &str = "(empty)";

/// How many copies an answer rests on, for people.
fn copies(answer: &Answer) -> String {
    let acks = answer.acks;
    let mut text = format!("{} of {} owners have it", acks.answered, acks.owners);
    if acks.hinted > 0 {
        text += &format!(", {} will get it when they are back", acks.hinted);
    }
    if answer.partly_observed {
        text += "; fewer than r replicas showed what they hold";
    }
    if let Some(many) = answer.many_siblings {
        text += &format!("\n{many}");
    }
    if answer.repeated {
        text += "; repeated: it had been done before";
    }
    text
}

fn acks(answer: &Answer) -> Value {
    let acks = answer.acks;
    json!({ "owners": acks.owners, "needed": acks.needed, "acked": acks.answered,
        "hinted": acks.hinted, "partly_observed": answer.partly_observed,
        "repeated": answer.repeated })
}

/// Reports a write: its copies, and the context where the answer carries one.
fn written(printer: &Printer, answer: &Answer) -> ExitCode {
    let context = answer.contexts.get(&answer.raw_tag()).map(ContextToken::as_str);
    let mut shown = json!({ "acks": acks(answer), "context": context });
    if let Some(many) = answer.many_siblings {
        shown["many_siblings"] =
            json!({ "siblings": many.siblings, "soft": many.soft, "hard": many.hard });
    }
    printer.show(&shown, || {
        let mut text = copies(answer);
        if let Some(context) = context {
            text += &format!("\ncontext {context}");
        }
        text
    });
    ExitCode::SUCCESS
}

/// Reports an update that shows `value`.
fn updated(printer: &Printer, answer: &Answer, value: &Value, text: String) -> ExitCode {
    printer.show(&json!({ "value": value, "acks": acks(answer) }), || {
        format!("{text} ({})", copies(answer))
    });
    ExitCode::SUCCESS
}

async fn get(printer: &Printer, bucket: &Bucket, key: String) -> Result<ExitCode> {
    let Siblings { values, context } = bucket.raw(key).map_err(invalid)?.get().await?;
    if values.is_empty() {
        return Ok(absent(printer));
    }
    let context = context.as_ref().map(ContextToken::as_str);
    let siblings: Vec<Value> = values.iter().map(|s| json_bytes(&s.value)).collect();
    printer.show(&json!({ "siblings": siblings, "context": context }), || {
        let mut lines: Vec<String> = values.iter().map(|s| text_bytes(&s.value)).collect();
        if values.len() > 1 {
            lines.push(format!(
                "{} siblings: put the reconciled value with this context",
                values.len()
            ));
        }
        lines.push(format!("context {}", context.unwrap_or("(none)")));
        lines.join("\n")
    });
    Ok(ExitCode::SUCCESS)
}

async fn register(
    printer: &Printer,
    bucket: &Bucket,
    command: RegisterCommand,
) -> Result<ExitCode> {
    let handle = |key: String| bucket.register(key).map_err(invalid);
    match command {
        RegisterCommand::Get { key } => match handle(key)?.get().await? {
            Some(value) => {
                printer.show(&json_bytes(&value), || text_bytes(&value));
                Ok(ExitCode::SUCCESS)
            }
            None => Ok(absent(printer)),
        },
        RegisterCommand::Set { key, value } => {
            Ok(written(printer, &handle(key)?.set(value).await?))
        }
        RegisterCommand::Incr { key, by } => {
            let increment = Operation::Register(RegisterOp::Increment(by));
            let answer = bucket.update(key, increment).await?;
            let sum = RegisterHandle::read(&answer).unwrap_or_default();
            Ok(updated(printer, &answer, &json_bytes(&sum), text_bytes(&sum)))
        }
        RegisterCommand::Del { key } => Ok(written(printer, &handle(key)?.delete().await?)),
    }
}

async fn counter(printer: &Printer, bucket: &Bucket, command: CounterCommand) -> Result<ExitCode> {
    let handle = |key: String| bucket.counter(key).map_err(invalid);
    let answer = match command {
        CounterCommand::Get { key } => handle(key)?.get().await?,
        CounterCommand::Add { key, by } => {
            let answer = bucket.update(key, Operation::Counter(CounterOp::Add(by))).await?;
            let value = CounterHandle::read(&answer).to_string();
            return Ok(updated(printer, &answer, &json!(value), value.clone()));
        }
        CounterCommand::Reset { key } => {
            let answer = handle(key)?.reset().await?;
            let value = CounterHandle::read(&answer).to_string();
            return Ok(updated(printer, &answer, &json!(value), value.clone()));
        }
    };
    // Text in JSON: a merged counter may exceed what JSON readers take for a number.
    let value = CounterHandle::read(&answer).to_string();
    printer.show(&json!(value), || value.clone());
    Ok(found(answer.view.is_live(Tag::COUNTER)))
}

/// The exit code of a read that shows something of a missing key as well: 0, or an empty list.
const fn found(is_there: bool) -> ExitCode {
    if is_there { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn elements(printer: &Printer, elements: &[values::Blob]) -> ExitCode {
    printer.show(&elements.iter().map(|e| json_bytes(e)).collect(), || {
        if elements.is_empty() {
            return EMPTY.into();
        }
        elements.iter().map(|e| text_bytes(e)).collect::<Vec<_>>().join("\n")
    });
    found(!elements.is_empty())
}

fn truth(printer: &Printer, holds: bool) -> ExitCode {
    printer.show(&json!(holds), || if holds { "yes".into() } else { "no".into() });
    found(holds)
}

fn number(printer: &Printer, number: u64) -> ExitCode {
    printer.show(&json!(number), || number.to_string());
    found(number > 0)
}

fn changed(printer: &Printer, answer: &Answer, what: &str) -> ExitCode {
    let count = answer.changed;
    updated(printer, answer, &json!(count), format!("{count} {what}"))
}

async fn set(printer: &Printer, bucket: &Bucket, command: SetCommand) -> Result<ExitCode> {
    let handle = |key: String| bucket.set(key).map_err(invalid);
    Ok(match command {
        SetCommand::Elements(ElementsCommand::Add { key, elements }) => {
            changed(printer, &handle(key)?.add(elements).await?, "new")
        }
        SetCommand::Elements(ElementsCommand::Members { key }) => {
            elements(printer, &handle(key)?.members().await?)
        }
        SetCommand::Elements(ElementsCommand::Contains { key, element }) => {
            truth(printer, handle(key)?.contains(element).await?)
        }
        SetCommand::Elements(ElementsCommand::Size { key }) => {
            number(printer, handle(key)?.size().await?)
        }
        SetCommand::Remove { key, elements } => {
            changed(printer, &handle(key)?.remove(elements).await?, "removed")
        }
    })
}

async fn gset(printer: &Printer, bucket: &Bucket, command: ElementsCommand) -> Result<ExitCode> {
    let handle = |key: String| bucket.gset(key).map_err(invalid);
    Ok(match command {
        ElementsCommand::Add { key, elements } => {
            changed(printer, &handle(key)?.add(elements).await?, "new")
        }
        ElementsCommand::Members { key } => elements(printer, &handle(key)?.members().await?),
        ElementsCommand::Contains { key, element } => {
            truth(printer, handle(key)?.contains(element).await?)
        }
        ElementsCommand::Size { key } => number(printer, handle(key)?.size().await?),
    })
}

async fn cart(printer: &Printer, bucket: &Bucket, command: CartCommand) -> Result<ExitCode> {
    let handle = |key: String| bucket.cart(key).map_err(invalid);
    Ok(match command {
        CartCommand::Add { key, item, quantity } => {
            written(printer, &handle(key)?.add(item, quantity).await?)
        }
        CartCommand::Remove { key, item } => {
            changed(printer, &handle(key)?.remove(item).await?, "removed")
        }
        CartCommand::Set { key, item, quantity } => {
            written(printer, &handle(key)?.set_quantity(item, quantity).await?)
        }
        CartCommand::Items { key } => {
            let items = handle(key)?.items().await?;
            let json = items
                .iter()
                .map(|(item, units)| json!({ "item": json_bytes(item), "quantity": units.to_string() }))
                .collect();
            printer.show(&json, || {
                if items.is_empty() {
                    return EMPTY.into();
                }
                let rows = items.iter().map(|(item, n)| [text_bytes(item), n.to_string()]);
                table(["item", "quantity"], rows.collect())
            });
            found(!items.is_empty())
        }
    })
}

async fn map(printer: &Printer, bucket: &Bucket, command: MapCommand) -> Result<ExitCode> {
    let handle = |key: String| bucket.map(key).map_err(invalid);
    Ok(match command {
        MapCommand::Set { key, field, value } => {
            changed(printer, &handle(key)?.set([(field, value)]).await?, "new")
        }
        MapCommand::Incr { key, field, by } => {
            written(printer, &handle(key)?.increment(field, by).await?)
        }
        MapCommand::Remove { key, fields } => {
            changed(printer, &handle(key)?.remove(fields).await?, "removed")
        }
        MapCommand::Get { key, field } => match handle(key)?.get(field).await? {
            Some(value) => {
                printer.show(&json_bytes(&value), || text_bytes(&value));
                ExitCode::SUCCESS
            }
            None => absent(printer),
        },
        MapCommand::Fields { key } => {
            let fields = handle(key)?.fields().await?;
            let json = fields
                .iter()
                .map(|(name, value)| json!({ "field": json_bytes(name), "value": json_bytes(value) }))
                .collect();
            printer.show(&json, || {
                if fields.is_empty() {
                    return EMPTY.into();
                }
                let rows = fields.iter().map(|(name, value)| [text_bytes(name), text_bytes(value)]);
                table(["field", "value"], rows.collect())
            });
            found(!fields.is_empty())
        }
    })
}
