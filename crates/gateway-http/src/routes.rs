//! The table of routes, and the router made of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath, Request};
use axum::handler::Handler;
use axum::http::{Method, StatusCode, Uri};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, on};
use client::Datastore;

use crate::gateway::Gateway;
use crate::headers::refuse_conditions;
use crate::options::HttpOptions;
use crate::problem::Problem;
use crate::typed::Kind;
use crate::{
    admin, batch, buckets, comparisons, conflicts, expiry, explain, keys, metrics, origin, raw,
    typed,
};

/// One address with its methods, each under the name that metrics give it.
struct Route {
    path: String,
    methods: Vec<(Method, &'static str)>,
    handlers: MethodRouter<Arc<Gateway>>,
}

impl Route {
    fn new(path: impl Into<String>) -> Self {
        Self { path: path.into(), methods: Vec::new(), handlers: MethodRouter::new() }
    }

    fn on<H, T>(mut self, method: Method, operation: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Gateway>>,
        T: 'static,
    {
        let filter = method.clone().try_into().expect("a method that axum routes");
        self.handlers = self.handlers.merge(on(filter, handler));
        self.methods.push((method, operation));
        self
    }

    fn get<H, T>(self, operation: &'static str, handler: H) -> Self
    where
        H: Handler<T, Arc<Gateway>>,
        T: 'static,
    {
        self.on(Method::GET, operation, handler)
    }
}

/// Everything that is served.
fn table() -> Vec<Route> {
    let mut routes = vec![
        Route::new("/").get("index", admin::index),
        Route::new("/livez").get("livez", admin::livez),
        Route::new("/readyz").get("readyz", admin::readyz),
        Route::new("/metrics").get("metrics", metrics::get),
        Route::new("/v1/ring").get("ring", admin::ring),
        Route::new("/v1/status").get("status", admin::status),
        Route::new("/v1/transfers").get("transfers", admin::transfers),
        Route::new("/v1/plan").get("plan", admin::plan),
        Route::new("/v1/comparisons").get("comparisons", comparisons::get),
        Route::new("/v1/repair").on(Method::POST, "repair", comparisons::post),
        Route::new("/v1/buckets").get("buckets", buckets::list),
        Route::new("/v1/buckets/{bucket}")
            .get("bucket_show", buckets::get)
            .on(Method::PUT, "bucket_create", buckets::put)
            .on(Method::PATCH, "bucket_set", buckets::patch)
            .on(Method::DELETE, "bucket_drop", buckets::delete),
        Route::new("/v1/batch").on(Method::POST, "batch", batch::post),
        Route::new("/v1/conflicts").get("conflicts", conflicts::get),
        Route::new("/v1/buckets/{bucket}/conflicts/{key}").on(
            Method::POST,
            "resolve",
            conflicts::post,
        ),
        Route::new("/v1/buckets/{bucket}/expiry/{key}")
            .get("expiry_get", expiry::get)
            .on(Method::PUT, "expiry_set", expiry::put)
            .on(Method::DELETE, "expiry_delete", expiry::delete),
        Route::new("/v1/explain/{bucket}/{key}").get("explain", explain::get),
        Route::new("/v1/buckets/{bucket}/keys").get("keys", keys::get),
        Route::new("/v1/buckets/{bucket}/keys/{key}")
            .get("raw_get", raw::get)
            .on(Method::PUT, "raw_put", raw::put)
            .on(Method::DELETE, "raw_delete", raw::delete),
    ];
    for kind in Kind::ALL {
        let [get, post, delete] = kind.operations();
        let route = Route::new(format!("/v1/buckets/{{bucket}}/{}/{{key}}", kind.word()))
            .get(get, move |state, key, query| typed::get(kind, state, key, query))
            .on(Method::POST, post, move |state, key, query, headers, body| {
                typed::post(kind, state, key, query, headers, body)
            })
            .on(Method::DELETE, delete, move |state, key, query, headers| {
                typed::delete(kind, state, key, query, headers)
            });
        routes.push(route);
    }
    routes
}

/// The gateway as a router, to be served as it is: paths are read whole, so it cannot be nested
/// under a prefix.
pub fn router(datastore: Arc<dyn Datastore>, options: HttpOptions) -> Router {
    let body_bytes_max = options.body_bytes_max;
    let gateway = Arc::new(Gateway::new(datastore, options));
    let mut names = BTreeMap::new();
    let mut router = Router::new();
    for Route { path, methods, handlers } in table() {
        // The empty key is a key, but no pattern of axum's matches an empty segment.
        let empty_key = path.strip_suffix("{key}").map(str::to_owned);
        for path in empty_key.into_iter().chain([path]) {
            for (method, operation) in &methods {
                names.insert((path.clone(), method.to_string()), *operation);
            }
            router = router.route(&path, handlers.clone());
        }
    }
    let names = Arc::new(names);
    let counting = Arc::clone(&gateway);
    router
        .fallback(no_such_path)
        .method_not_allowed_fallback(no_such_method)
        .layer(DefaultBodyLimit::max(body_bytes_max))
        .layer(from_fn(conditions))
        .layer(from_fn(origin::check))
        .layer(from_fn(move |request, next| {
            count(Arc::clone(&counting), Arc::clone(&names), request, next)
        }))
        .with_state(gateway)
}

/// Counts and times every request, under the name of its route.
async fn count(
    gateway: Arc<Gateway>,
    names: Arc<BTreeMap<(String, String), &'static str>>,
    request: Request,
    next: Next,
) -> Response {
    // A HEAD is a GET without the body.
    let method = if request.method() == Method::HEAD { &Method::GET } else { request.method() };
    let path = request.extensions().get::<MatchedPath>().map(|path| path.as_str().to_owned());
    let named = path.and_then(|path| names.get(&(path, method.to_string())).copied());
    let started = Instant::now();
    let response = next.run(request).await;
    gateway.metrics.count(named.unwrap_or("other"), response.status(), started.elapsed());
    response
}

/// Passes on what reads, and what writes under no condition.
async fn conditions(request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && let Err(problem) = refuse_conditions(request.headers()) {
        return problem.into_response();
    }
    next.run(request).await
}

async fn no_such_path(uri: Uri) -> Problem {
    Problem::no_such_path(uri.path())
}

async fn no_such_method(method: Method, uri: Uri) -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "no-such-method",
        "The method is not possible here",
        format!("{method} is not possible on {}; the Allow header lists what is", uri.path()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const PAGE: &str = include_str!("../../../docs/reference/http.md");

    #[test]
    fn every_route_is_in_the_reference_with_its_methods_and_an_example() {
        for route in table() {
            let methods: Vec<&str> =
                route.methods.iter().map(|(method, _)| method.as_str()).collect();
            let heading = format!("## `{} {}`", methods.join("|"), route.path);
            let section = PAGE.split("\n#").find(|section| {
                section.lines().next().is_some_and(|line| format!("#{line}").ends_with(&heading))
            });
            let section =
                section.unwrap_or_else(|| panic!("docs/reference/http.md lacks {heading}"));
            assert!(section.contains("curl "), "{heading} has no example");
        }
    }

    #[test]
    fn the_index_page_lists_every_route() {
        let page = include_str!("index.html");
        for route in table() {
            assert!(page.contains(&format!("<code>{}</code>", route.path)), "{}", route.path);
        }
    }
}
