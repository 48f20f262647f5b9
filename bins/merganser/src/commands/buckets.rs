//! `merganser bucket`: buckets and their policies.

use std::process::ExitCode;

use anyhow::Result;
use client::Datastore;
use replication::{
    BucketCall, BucketError, BucketInfo, BucketReply, Field, PolicyFields, RequestError, Standing,
};
use serde_json::{Map, Value, json};

use crate::options::BucketCommand;
use crate::output::{Printer, json_bytes, table, text_bytes};

/// Does a command on buckets.
pub(super) async fn run(
    printer: &Printer,
    datastore: &dyn Datastore,
    command: BucketCommand,
) -> Result<ExitCode> {
    let call = match command {
        BucketCommand::Create { name, fields } => {
            BucketCall::Create { name: name.into(), fields: said(&fields)? }
        }
        BucketCommand::Set { name, fields } => {
            BucketCall::Set { name: name.into(), fields: said(&fields)? }
        }
        BucketCommand::Show { name } => BucketCall::Show { name: name.into() },
        BucketCommand::Drop { name } => BucketCall::Drop { name: name.into() },
        BucketCommand::List => BucketCall::List,
    };
    match datastore.buckets(call).await? {
        BucketReply::Changed { bucket, known, members } => {
            let mut document = described(&bucket);
            document["known"] = known.into();
            document["members"] = members.into();
            printer.show(&document, || {
                let rest =
                    if known < members { "; the others get it when they are back" } else { "" };
                format!("{}\nknown to {known} of {members} members{rest}", lines(&bucket))
            });
        }
        BucketReply::Shown(bucket) => printer.show(&described(&bucket), || lines(&bucket)),
        BucketReply::Listed(buckets) => {
            let document = buckets.iter().map(described).collect();
            printer.show(&document, || {
                let rows = buckets.iter().map(|bucket| {
                    let policy = match bucket.standing {
                        Standing::Dropped => "dropped".to_owned(),
                        _ => bucket.policy.to_string(),
                    };
                    [text_bytes(&bucket.name), bucket.generation.to_string(), policy]
                });
                table(["bucket", "generation", "policy"], rows.collect())
            });
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn said(fields: &[(String, String)]) -> Result<PolicyFields, RequestError> {
    let mut said = PolicyFields::default();
    for (name, value) in fields {
        said.add(name, value).map_err(BucketError::Policy)?;
    }
    Ok(said)
}

fn lines(bucket: &BucketInfo) -> String {
    let name = text_bytes(&bucket.name);
    let standing = match bucket.standing {
        Standing::Implicit => "not created; the default policy",
        Standing::Created => "created",
        Standing::Dropped => return format!("bucket {name}: dropped"),
    };
    let mut text = format!("bucket {name}: {standing}, generation {}", bucket.generation);
    text += &format!("\n{}", bucket.policy);
    for doubt in &bucket.doubts {
        text += &format!("\ncontradiction: {doubt}; set the field again to mend it");
    }
    text
}

fn described(bucket: &BucketInfo) -> Value {
    let policy = Field::ALL.map(|field| {
        let value = bucket.policy.value(field);
        let shown = field.show(value);
        let value = if shown == value.to_string() { value.into() } else { shown.into() };
        (field.name().to_owned(), value)
    });
    json!({
        "name": json_bytes(&bucket.name),
        "generation": bucket.generation,
        "created": bucket.standing == Standing::Created,
        "dropped": bucket.standing == Standing::Dropped,
        "policy": Value::Object(policy.into_iter().collect::<Map<_, _>>()),
        "doubts": bucket.doubts,
    })
}
