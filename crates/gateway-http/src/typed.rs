//! Typed values: `GET|POST|DELETE /v1/buckets/{bucket}/{kind}/{key}`.
//!
//! A write names only what it changes, so its answer shows only that of a collection (`named`),
//! beside the collection's size: adding to a set of a million costs what adding to one of ten does.

mod operation;
mod shown;

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use replication::Answer;
use serde_json::{Value, json};
use values::{Blob, Key, Lifetime, Operation, Scope, Tag};

pub(crate) use operation::parse;
pub(crate) use shown::{put_size, put_value};

use crate::address::Target;
use crate::gateway::{Body, Gateway, Shared, json_response};
use crate::headers::describe;
use crate::json::text;
use crate::parameters::{IDLE_TTL, Parameters, refused};
use crate::problem::Problem;
use crate::raw::{missing, note_doubts, written};

/// Elements on a page where the request does not say, and at most.
const PAGE: u32 = 1000;
const PAGE_MAX: u32 = 10_000;

/// A type with an address of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Counter,
    Set,
    Gset,
    Cart,
    Register,
    Map,
}

impl Kind {
    pub(crate) const ALL: [Self; 6] =
        [Self::Counter, Self::Set, Self::Gset, Self::Cart, Self::Register, Self::Map];

    /// The path segment.
    pub(crate) const fn word(self) -> &'static str {
        match self {
            Self::Counter => "counters",
            Self::Set => "sets",
            Self::Gset => "gsets",
            Self::Cart => "carts",
            Self::Register => "registers",
            Self::Map => "maps",
        }
    }

    /// Reading, writing and deleting, as metrics name them.
    pub(crate) const fn operations(self) -> [&'static str; 3] {
        match self {
            Self::Counter => ["counter_get", "counter_update", "counter_delete"],
            Self::Set => ["set_get", "set_update", "set_delete"],
            Self::Gset => ["gset_get", "gset_update", "gset_delete"],
            Self::Cart => ["cart_get", "cart_update", "cart_delete"],
            Self::Register => ["register_get", "register_update", "register_delete"],
            Self::Map => ["map_get", "map_update", "map_delete"],
        }
    }

    pub(crate) const fn tag(self) -> Tag {
        match self {
            Self::Counter => Tag::COUNTER,
            Self::Set => Tag::ORSET,
            Self::Gset => Tag::GSET,
            Self::Cart => Tag::CART,
            Self::Register => Tag::LWW,
            Self::Map => Tag::MAP,
        }
    }

    pub(crate) fn of(tag: Tag) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.tag() == tag)
    }

    /// The query parameter that names one element of a collection.
    const fn element_parameter(self) -> Option<&'static str> {
        match self {
            Self::Counter | Self::Register => None,
            Self::Set | Self::Gset => Some("member"),
            Self::Cart => Some("item"),
            Self::Map => Some("field"),
        }
    }
}

/// What part of a value a read asks for.
pub(crate) enum Part {
    /// A counter or register.
    Scalar,
    /// The size of a collection.
    Size,
    /// One element.
    Element(&'static str, Blob),
    /// A page of elements.
    Page { after: Option<Blob>, limit: u32 },
}

impl Part {
    fn parse(kind: Kind, parameters: &mut Parameters) -> Result<Self, Problem> {
        let Some(name) = kind.element_parameter() else { return Ok(Self::Scalar) };
        let element = parameters.take(name);
        let size = parameters.flag("count")?;
        let after = parameters.take("after");
        let limit = parameters.limit("limit", PAGE_MAX)?;
        let paged = after.is_some() || limit.is_some();
        match element {
            Some(element) if !size && !paged => Ok(Self::Element(name, element)),
            None if size && !paged => Ok(Self::Size),
            None if !size => Ok(Self::Page { after, limit: limit.unwrap_or(PAGE) }),
            _ => Err(refused(format!(
                "use one of {name}=…, count=true, and paging with after=… and limit=…"
            ))),
        }
    }

    /// What a read in a batch shows: the value, of a collection its first page.
    pub(crate) const fn of_batch(kind: Kind) -> Self {
        match kind.element_parameter() {
            None => Self::Scalar,
            Some(_) => Self::Page { after: None, limit: PAGE },
        }
    }

    pub(crate) fn scope(&self, tag: Tag) -> Scope {
        match self {
            Self::Scalar | Self::Size => Scope::Headers,
            Self::Element(_, element) => {
                Scope::Elements { tag, elements: [element.clone()].into() }
            }
            Self::Page { after, limit } => {
                Scope::Range { tag, after: after.clone(), limit: *limit }
            }
        }
    }
}

/// Reads.
pub(crate) async fn get(
    kind: Kind,
    State(gateway): Shared,
    Target(key): Target,
    mut parameters: Parameters,
) -> Result<Response, Problem> {
    let tag = kind.tag();
    let part = Part::parse(kind, &mut parameters)?;
    let asked = parameters.asked()?;
    parameters.finish()?;
    let answer = gateway.read(&key, part.scope(tag), asked).await?;
    shown_part(&gateway, kind, &part, &key, &answer)
}

/// What a read of `part` answers.
pub(crate) fn shown_part(
    gateway: &Gateway,
    kind: Kind,
    part: &Part,
    key: &Key,
    answer: &Answer,
) -> Result<Response, Problem> {
    let tag = kind.tag();
    let view = &answer.view;
    if let Err(wrong) = view.check_type(tag) {
        return Err(Problem::wrong_type(key, tag, &wrong.live).with_answer(answer, tag));
    }
    if !view.is_live(tag) {
        return Err(missing(answer, tag));
    }
    let mut document = json!({ "type": tag.to_string() });
    match part {
        Part::Scalar => put_value(&mut document, "value", view, tag),
        Part::Size => put_size(&mut document, view, tag),
        Part::Element(name, element) => {
            document[*name] = text(element);
            shown::put_element(&mut document, view, kind, element);
        }
        Part::Page { .. } => {
            put_value(&mut document, "value", view, tag);
            put_size(&mut document, view, tag);
            if let Some(next) = &view.next {
                document["next"] = text(next);
            }
        }
    }
    complete(&mut document, key, answer, tag);
    Ok(described(gateway.answer(StatusCode::OK, &document), answer, tag))
}

/// Does one operation, given as JSON.
pub(crate) async fn post(
    kind: Kind,
    State(gateway): Shared,
    Target(key): Target,
    mut parameters: Parameters,
    headers: HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let asked = parameters.asked_of_write()?;
    parameters.finish()?;
    let operation = parse(kind, &body)?;
    if asked.lifetime != Lifetime::Usual && !operation.adds() {
        return Err(refused(format!("{IDLE_TTL}; leave it out; nothing was done")));
    }
    let answer = gateway.update(&key, operation, asked, &headers).await?;
    Ok(updated(kind, &key, &answer))
}

/// What an update answers.
pub(crate) fn updated(kind: Kind, key: &Key, answer: &Answer) -> Response {
    let tag = kind.tag();
    let mut document = json!({ "type": tag.to_string(), "changed": answer.changed });
    if kind.element_parameter().is_some() {
        put_value(&mut document, "named", &answer.view, tag);
        put_size(&mut document, &answer.view, tag);
    } else {
        put_value(&mut document, "value", &answer.view, tag);
    }
    if answer.partly_observed {
        document["partly_observed"] = true.into();
    }
    let status = if answer.acks.is_met() { StatusCode::OK } else { StatusCode::ACCEPTED };
    complete(&mut document, key, answer, tag);
    // No longer than what was sent allows, and a write that is done must not be shown as refused.
    described(json_response(status, &document), answer, tag)
}

/// Removes what is observed of this type; other types that the key may have stay.
pub(crate) async fn delete(
    kind: Kind,
    State(gateway): Shared,
    Target(key): Target,
    mut parameters: Parameters,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let asked = parameters.asked()?;
    parameters.finish()?;
    let delete = Operation::Delete(Some(kind.tag()));
    let answer = gateway.update(&key, delete, asked, &headers).await?;
    Ok(written(&answer, kind.tag()))
}

/// Adds the context, and what keeps the answer from being plain.
fn complete(document: &mut Value, key: &Key, answer: &Answer, tag: Tag) {
    if let Some(token) = answer.contexts.get(&tag) {
        document["context"] = token.as_str().into();
    }
    note_doubts(document, key, answer);
}

fn described(mut response: Response, answer: &Answer, tag: Tag) -> Response {
    describe(response.headers_mut(), answer, tag);
    response
}
