//! The axum routers of the edge's listeners, with health checks and CORS.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{HeaderName, HeaderValue, Method, Response, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::IntoResponse;
use axum::routing::get;
use concert_runtime::metrics;
use tower_http::cors::{AllowOrigin, CorsLayer};

use super::{EdgeArgs, StartError};
use crate::api::Api;
use crate::descriptions::Description;
use crate::error::{ANSWERED_BY, EdgeError, FLOW};
use crate::{cookie, page, routes};

/// The axum routers, one for each kind of connection.
pub(super) struct Apps {
    /// On `http.listen`.
    pub(super) public: Router,
    /// On `http.internal_listen`.
    pub(super) internal: Router,
    /// Of connections above the limit.
    pub(super) rejected: Router,
}

/// `separate`: only the internal service has metrics and descriptions.
pub(super) fn apps(api: Arc<Api>, base: Arc<str>, cors: Option<CorsLayer>, separate: bool) -> Apps {
    // Health checks are served on rejected connections, too: a busy process must not be restarted.
    let health =
        Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready));
    let metrics = Router::new().route("/metrics", get(metrics_text));
    let descriptions = Router::new()
        .route(
            "/openapi.json",
            get(async |State(api): State<Arc<Api>>| {
                api.descriptions.answer(Description::OpenApi).await
            }),
        )
        .route(
            "/asyncapi.json",
            get(async |State(api): State<Arc<Api>>| {
                api.descriptions.answer(Description::AsyncApi).await
            }),
        );
    let all = health.clone().merge(metrics.clone()).merge(descriptions);
    let (public, rejected) = match separate {
        true => (health.clone(), health),
        false => (all.clone(), health.merge(metrics)),
    };
    let (prefix, asked) = (base.clone(), api.clone());
    let public = public
        .fallback(move |State(api): State<Arc<Api>>, request: Request| async move {
            fallback(&api, &base, request).await
        })
        .with_state(api.clone());
    let errors = api.errors;
    let rejected = rejected
        .fallback(async move || EdgeError::Connections.response(errors))
        .with_state(api.clone());
    let internal = all.fallback(async move || EdgeError::NotFound.response(errors)).with_state(api);
    match cors {
        Some(cors) => {
            let preflight = move |request: Request, next: Next| {
                preflight(asked.clone(), prefix.clone(), request, next)
            };
            let public = public.layer(cors.clone()).layer(middleware::from_fn(preflight));
            Apps { public, rejected: rejected.layer(cors), internal }
        }
        None => Apps { public, rejected, internal },
    }
}

/// The path of a request without the base.
fn below<'a>(base: &str, request: &'a Request) -> Option<&'a str> {
    request.uri().path().strip_prefix(base).filter(|path| path.starts_with('/'))
}

/// Adds what CORS permits on a path: its methods, and the headers that the rules declare.
async fn preflight(api: Arc<Api>, base: Arc<str>, request: Request, next: Next) -> Response<Body> {
    if request.method() != Method::OPTIONS {
        return next.run(request).await;
    }
    let methods = below(&base, &request).map(|path| api.methods(path)).unwrap_or_default();
    let methods = match methods.is_empty() {
        true => "POST".to_owned(),
        false => routes::allow(&methods),
    };
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    if let Ok(methods) = HeaderValue::from_str(&methods) {
        headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
    }
    for name in api.declared_headers() {
        headers.append(header::ACCESS_CONTROL_ALLOW_HEADERS, name);
    }
    response
}

async fn fallback(api: &Arc<Api>, base: &str, request: Request) -> Response<Body> {
    let path = below(base, &request).map(str::to_owned);
    // If the base is empty, a path is a rule's only if the route table has it; otherwise it may be
    // a file.
    if let Some(path) = path.filter(|path| !base.is_empty() || api.has(path)) {
        return api.answer(&path, request).await;
    }
    let (parts, _) = request.into_parts();
    if parts.method == Method::GET && parts.uri.path() == page::LINK {
        return page::link_response(api.console_link.as_ref(), &parts.headers);
    }
    let file = match &api.files {
        Some(files) => files.response(&parts).await,
        None => None,
    };
    file.unwrap_or_else(|| EdgeError::NotFound.response(api.errors))
}

async fn ready(State(api): State<Arc<Api>>) -> Response<Body> {
    if api.shutdown.begun() {
        return (StatusCode::SERVICE_UNAVAILABLE, "shutting down\n").into_response();
    }
    let obstacle = if !api.bus.is_connected() {
        "no connection to NATS\n"
    } else if api.routes.borrow().is_none() {
        "no router has published the route table\n"
    } else if !api.bodies.has_room() {
        "too many request bodies in progress\n"
    } else {
        return "ready\n".into_response();
    };
    (StatusCode::SERVICE_UNAVAILABLE, obstacle).into_response()
}

async fn metrics_text() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], metrics::text())
}

/// CORS configuration. Only listed origins may send credentials; `*` would allow every site.
pub(super) fn cors(args: &EdgeArgs, cookies: bool) -> Result<Option<CorsLayer>, StartError> {
    let origins = &args.cors_origins;
    if origins.is_empty() {
        return Ok(None);
    }
    let any = origins.iter().any(|origin| origin == "*");
    let allowed = if any {
        AllowOrigin::any()
    } else {
        let parse = |origin: &String| {
            let ok = origin.starts_with("http://") || origin.starts_with("https://");
            HeaderValue::from_str(origin)
                .ok()
                .filter(|_| ok && !origin.ends_with('/'))
                .ok_or_else(|| StartError::Origin(origin.clone()))
        };
        AllowOrigin::list(origins.iter().map(parse).collect::<Result<Vec<_>, _>>()?)
    };
    let exposed =
        [HeaderName::from_static(FLOW), HeaderName::from_static(ANSWERED_BY), header::RETRY_AFTER];
    let accepted = [
        header::CONTENT_TYPE,
        HeaderName::from_static("idempotency-key"),
        cookie::ASK,
        HeaderName::from_static("traceparent"),
    ];
    let readable = args.headers.headers.iter().map(|header| header.name().clone());
    let accepted: Vec<HeaderName> = accepted.into_iter().chain(readable).collect();
    Ok(Some(
        CorsLayer::new()
            .allow_origin(allowed)
            .allow_headers(accepted)
            .allow_credentials(cookies && !any)
            .expose_headers(exposed)
            .max_age(Duration::from_secs(600)),
    ))
}
