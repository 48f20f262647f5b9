//! MG.BUCKET: buckets and their policies.

use bytes::Bytes;
use replication::{BucketCall, BucketInfo, BucketReply, Field, PolicyFields, Standing};

use crate::codec::Args;
use crate::plan::{Context, Planned, Refusal, check_arity, unknown_subcommand, wrong_arity};
use crate::reply::Reply;

pub(crate) fn bucket(cx: &mut Context<'_>, args: Args<'_>) -> Planned {
    let subcommand = args.at(1).to_ascii_uppercase();
    let call = match subcommand.as_slice() {
        b"CREATE" => BucketCall::Create { name: name(&args)?, fields: fields(&args)? },
        b"SET" => BucketCall::Set { name: name(&args)?, fields: fields(&args)? },
        b"SHOW" => {
            check_arity(&args, "mg.bucket|show", 3, 3)?;
            BucketCall::Show { name: name(&args)? }
        }
        b"DROP" => {
            check_arity(&args, "mg.bucket|drop", 3, 3)?;
            BucketCall::Drop { name: name(&args)? }
        }
        b"LIST" => {
            check_arity(&args, "mg.bucket|list", 2, 2)?;
            BucketCall::List
        }
        _ => return Err(unknown_subcommand("MG.BUCKET", args.at(1))),
    };
    let changes = !matches!(call, BucketCall::Show { .. } | BucketCall::List);
    cx.call(move |datastore| async move {
        match datastore.buckets(call).await {
            Ok(BucketReply::Changed { bucket, known, members }) => {
                let mut pairs = described(&bucket);
                pairs.push(("known".into(), Reply::Integer(known.into())));
                pairs.push(("members".into(), Reply::Integer(members.into())));
                Reply::Map(pairs)
            }
            Ok(BucketReply::Shown(bucket)) => Reply::Map(described(&bucket)),
            Ok(BucketReply::Listed(buckets)) => {
                let described = |bucket: &BucketInfo| Reply::Map(described(bucket));
                Reply::Array(buckets.iter().map(described).collect())
            }
            Err(error) if changes => Reply::failed(&error),
            Err(error) => Reply::failed_read(error),
        }
    })
}

fn name(args: &Args<'_>) -> Result<Bytes, Refusal> {
    if args.len() < 3 {
        return Err(wrong_arity("mg.bucket"));
    }
    Ok(Bytes::copy_from_slice(args.at(2)))
}

/// The fields that follow the name, each with its value.
fn fields(args: &Args<'_>) -> Result<PolicyFields, Refusal> {
    let mut fields = PolicyFields::default();
    if args.len().is_multiple_of(2) {
        return Err(wrong_arity("mg.bucket"));
    }
    // More than there are fields cannot all be different.
    for at in (3..args.len()).step_by(2) {
        let [field, value] = [at, at + 1].map(|at| String::from_utf8_lossy(args.at(at)));
        let added = fields.add(&field, &value);
        added.map_err(|error| Reply::error("BADBUCKET", error))?;
    }
    Ok(fields)
}

fn described(bucket: &BucketInfo) -> Vec<(Reply, Reply)> {
    let standing = match bucket.standing {
        Standing::Implicit => "implicit",
        Standing::Created => "created",
        Standing::Dropped => "dropped",
    };
    let generation = i64::try_from(bucket.generation).unwrap_or(i64::MAX);
    let mut pairs: Vec<(Reply, Reply)> = vec![
        ("name".into(), bucket.name.clone().into()),
        ("generation".into(), Reply::Integer(generation)),
        ("standing".into(), Reply::text(standing)),
    ];
    if bucket.standing == Standing::Dropped {
        return pairs;
    }
    for field in Field::ALL {
        let value = bucket.policy.value(field);
        let shown = field.show(value);
        let number = i64::try_from(value).ok().filter(|number| number.to_string() == shown);
        pairs.push((field.name().into(), number.map_or(Reply::text(shown), Reply::Integer)));
    }
    let doubts = bucket.doubts.iter().map(Reply::text).collect();
    pairs.push(("doubts".into(), Reply::Array(doubts)));
    pairs
}
