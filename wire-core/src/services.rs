//! What is behind one port, and which of it a request is for.
//!
//! Invariant: `X-Amz-Target` decides; without one, the signature's scope; what neither names goes to the fallback.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::Arc;

use axum::Router;
use axum::response::IntoResponse;
use bytes::Bytes;
use durable_core::{Clock, SystemClock};
use http::header::{AUTHORIZATION, CONTENT_TYPE, EXPECT};
use http::request::Parts;
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri};
use http_body::Body;
use tower_service::Service as TowerService;

use crate::context::RequestId;
use crate::receive::{Received, Refused, Room, discard, receive, within};
use crate::response::{self, ResponseBody};
use crate::service::{BodyLimit, Call, Operation, Table};
use crate::signature::{Credentials, Scope, verify};
use crate::{Context, Encoding, Service, Settings, WireError};

/// The header that names an operation.
const TARGET: &str = "x-amz-target";

/// The path that tells which services are there, unless the request is signed: `GET /health`.
const HEALTH_PATH: &str = "/health";

/// The services behind one port, as AWS's endpoints are behind one name.
///
/// [`Server::bind`](crate::Server::bind) serves them; [`into_router`](Services::into_router) mounts them in an app's own server.
#[derive(Debug)]
#[must_use = "services do nothing until they are served"]
pub struct Services {
    settings: Settings,
    clock: Arc<dyn Clock>,
    credentials: Credentials,
    tables: Vec<Table>,
    fallback: Option<Fallback>,
    #[cfg(feature = "s3")]
    s3: Option<crate::S3>,
}

/// The service for what names no operation by a target, such as S3.
#[derive(Clone, Debug)]
struct Fallback {
    name: &'static str,
    router: Router,
}

impl Fallback {
    fn new<T>(name: &'static str, service: T) -> Self
    where
        T: TowerService<Request<axum::body::Body>, Error = Infallible> + Clone + Send + Sync + 'static,
        T::Response: IntoResponse,
        T::Future: Send + 'static,
    {
        Self { name, router: Router::new().fallback_service(service) }
    }
}

impl Default for Services {
    fn default() -> Self {
        Self::new(Settings::default())
    }
}

impl Services {
    /// No services yet.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            clock: Arc::new(SystemClock::new()),
            credentials: Credentials::default(),
            tables: Vec::new(),
            fallback: None,
            #[cfg(feature = "s3")]
            s3: None,
        }
    }

    /// Adds a service. One with the same target prefix replaces it.
    pub fn with<S: Clone + Send + Sync + 'static>(mut self, service: Service<S>) -> Self {
        let table = service.into_table();
        self.tables.retain(|other| other.target_prefix != table.target_prefix);
        self.tables.push(table);
        self
    }

    /// Adds the service that gets every request without an `X-Amz-Target` (S3, whose operations are methods and paths). It
    /// checks signatures and bounds bodies itself. `name` is what its clients sign for.
    pub fn with_fallback<T>(mut self, name: &'static str, service: T) -> Self
    where
        T: TowerService<Request<axum::body::Body>, Error = Infallible> + Clone + Send + Sync + 'static,
        T::Response: IntoResponse,
        T::Future: Send + 'static,
    {
        self.fallback = Some(Fallback::new(name, service));
        self
    }

    /// Offers an object store to clients of S3: it gets every request without an `X-Amz-Target`, in place of another
    /// [fallback](Services::with_fallback). The port's credentials, clock and settings are its own as well.
    #[cfg(feature = "s3")]
    pub fn with_s3(mut self, s3: crate::S3) -> Self {
        self.s3 = Some(s3);
        self
    }

    /// Accepts only requests that one of these keys has signed (Signature Version 4, in the header or presigned). Without any,
    /// every request is accepted; the region it names is used all the same.
    pub fn with_credentials(mut self, credentials: Credentials) -> Self {
        self.credentials = credentials;
        self
    }

    /// Takes time from this clock, for signatures' ages and for timeouts.
    pub fn with_clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.clock = clock;
        self
    }

    /// A router that serves them at every path, to mount in an app's own axum server.
    ///
    /// Connections, their timeouts and closing are then that server's.
    ///
    /// ```
    /// use wire_core::{Services, axum::Router};
    ///
    /// let app: Router = Router::new().nest_service("/aws", Services::default().into_router());
    /// ```
    pub fn into_router(self) -> Router {
        let port = Arc::new(self.into_port());
        Router::new().fallback(move |request: Request<axum::body::Body>| {
            let port = Arc::clone(&port);
            async move { port.handle(request).await.map(ResponseBody::into_axum) }
        })
    }

    pub(crate) fn into_port(self) -> Port {
        #[cfg(not(feature = "s3"))]
        let fallback = self.fallback;
        #[cfg(feature = "s3")]
        let fallback = self.s3.map_or(self.fallback, |s3| {
            let service = s3.into_service(&self.credentials, Arc::clone(&self.clock), self.settings.clone());
            Some(Fallback::new("s3", service))
        });
        let by_prefix = self.tables.iter().enumerate().map(|(at, table)| (table.target_prefix, at)).collect();
        Port {
            account_id: self.settings.account_id.as_str().into(),
            region: self.settings.region.as_str().into(),
            room: Room::new(self.settings.bodies_bytes_max),
            settings: self.settings,
            clock: self.clock,
            credentials: self.credentials,
            tables: self.tables,
            by_prefix,
            fallback,
        }
    }
}

/// The services at work.
#[derive(Debug)]
pub(crate) struct Port {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<dyn Clock>,
    credentials: Credentials,
    account_id: Arc<str>,
    region: Arc<str>,
    room: Room,
    tables: Vec<Table>,
    by_prefix: HashMap<&'static str, usize>,
    fallback: Option<Fallback>,
}

/// Where a request goes.
enum Route<'a> {
    Health,
    Target {
        table: &'a Table,
        operation: &'a Operation,
        encoding: Encoding,
    },
    UnknownOperation {
        encoding: Encoding,
    },
    Fallback(&'a Fallback),
    /// Not the request of any AWS protocol here: refused in XML, as AWS's front ends do.
    Xml(StatusCode, &'static str),
}

const NO_OPERATION: Route<'static> = Route::Xml(
    StatusCode::FORBIDDEN,
    "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be authorized</Message>\n\
     </AccessDeniedException>\n",
);

const NO_ENCODING: Route<'static> = Route::Xml(StatusCode::NOT_FOUND, "<UnknownOperationException/>\n");

impl Port {
    /// Answers a request. Dropping the future drops the operation.
    pub(crate) async fn handle<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        let id = RequestId::random();
        let (parts, body) = request.into_parts();
        let scope = Scope::of(&parts.uri, &parts.headers);
        match self.route(&parts.method, &parts.uri, &parts.headers, scope.as_ref()) {
            Route::Health => response::response(StatusCode::OK, "application/json", self.health(), id),
            Route::Fallback(fallback) => fallback.call(Request::from_parts(parts, body)).await,
            Route::Xml(status, text) => {
                discard(body, self.settings.body_bytes_max).await;
                response::response(status, "application/xml", ResponseBody::whole(text.into()), id)
            }
            Route::UnknownOperation { encoding } => {
                discard(body, self.settings.body_bytes_max).await;
                response::error(&WireError::bare("UnknownOperationException"), encoding, id)
            }
            Route::Target { table, operation, encoding } => {
                let answer = self.call(table, operation, encoding, &parts, body, scope, id).await;
                let code = answer.as_ref().map_or_else(WireError::code, |_| "OK");
                let target = parts.headers.get(TARGET);
                tracing::debug!(service = table.name, ?target, code, request_id = %id, "answered");
                answer.unwrap_or_else(|error| response::error(&error, encoding, id))
            }
        }
    }

    fn route(&self, method: &Method, uri: &Uri, headers: &HeaderMap, scope: Option<&Scope>) -> Route<'_> {
        let fallback = self.fallback.as_ref();
        let target = headers.get(TARGET);
        let health = *method == Method::GET && uri.path() == HEALTH_PATH && scope.is_none();
        if health && target.is_none() && !headers.contains_key(AUTHORIZATION) {
            return Route::Health;
        }
        let encoding = || {
            let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            content_type.and_then(Encoding::of_content_type)
        };
        if let Some(target) = target {
            return match (*method == Method::POST, encoding()) {
                (false, _) => NO_OPERATION,
                (true, None) => NO_ENCODING,
                (true, Some(encoding)) => self.operation(target.as_bytes(), encoding),
            };
        }
        let to_fallback = fallback.filter(|fallback| scope.is_some_and(|scope| scope.service == fallback.name));
        match (to_fallback.or(fallback), encoding()) {
            (Some(fallback), None) => Route::Fallback(fallback),
            (Some(fallback), Some(_)) if to_fallback.is_some() => Route::Fallback(fallback),
            (_, Some(encoding)) if *method == Method::POST => Route::UnknownOperation { encoding },
            (Some(fallback), Some(_)) => Route::Fallback(fallback),
            (None, _) => NO_OPERATION,
        }
    }

    /// What `Kinesis_20131202.PutRecord` names.
    fn operation(&self, target: &[u8], encoding: Encoding) -> Route<'_> {
        let named = std::str::from_utf8(target).ok().and_then(|target| target.rsplit_once('.'));
        let found = named.and_then(|(prefix, name)| {
            let table = self.tables.get(*self.by_prefix.get(prefix)?)?;
            Some((table, table.operations.get(name)?))
        });
        match found {
            Some((table, operation)) => Route::Target { table, operation, encoding },
            None => Route::UnknownOperation { encoding },
        }
    }

    #[expect(clippy::too_many_arguments, reason = "a request's parts, each once")]
    async fn call<B>(
        &self,
        table: &Table,
        operation: &Operation,
        encoding: Encoding,
        parts: &Parts,
        body: B,
        scope: Option<Scope>,
        id: RequestId,
    ) -> Result<Response<ResponseBody>, WireError>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let port_max = self.settings.body_bytes_max;
        let own_limit = table.body_limit.as_ref().filter(|limit| limit.bytes_max < port_max);
        let bytes_max = own_limit.map_or(port_max, |limit| limit.bytes_max);
        let waits_to_send = parts.headers.contains_key(EXPECT);
        let received = async {
            if body.size_hint().lower() > bytes_max as u64 && !waits_to_send {
                // A client that is sending reads its answer afterwards.
                discard(body, bytes_max).await;
                return Err(Refused::TooLong);
            }
            receive(body, bytes_max, &self.room).await
        };
        let received =
            within(&*self.clock, self.settings.body_timeout, received).await.unwrap_or(Err(Refused::TooSlow));
        let Received { body, held } = received.map_err(|refused| refusal(&refused, own_limit, bytes_max))?;
        // From here on the scope is a proven one, if there are credentials to prove it by.
        let scope = match self.credentials.is_empty() {
            true => scope,
            false => Some(verify(&self.credentials, table.name, self.clock.now(), parts, &body)?),
        };

        let region = match &scope {
            Some(scope) if *scope.region != *self.region && scope.is_region() => scope.region.as_str().into(),
            _ => Arc::clone(&self.region),
        };
        let access_key_id = scope.map(|scope| scope.access_key_id.into());
        let context = Context::new(&self.account_id, region, access_key_id, id);
        let answer = operation(Call { context, encoding, body }).await;
        drop(held);
        Ok(answer?.into_http(id))
    }

    fn health(&self) -> ResponseBody {
        let names =
            self.tables.iter().map(|table| table.name).chain(self.fallback.iter().map(|fallback| fallback.name));
        let services: BTreeMap<_, _> = names.map(|name| (name, "running")).collect();
        ResponseBody::whole(serde_json::json!({ "services": services }).to_string().into())
    }
}

impl Fallback {
    async fn call<B>(&self, request: Request<B>) -> Response<ResponseBody>
    where
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<axum::BoxError>,
    {
        // A router is always ready.
        let answer = self.router.clone().call(request.map(axum::body::Body::new)).await;
        let Ok(answer) = answer.map_err(|never: Infallible| match never {});
        answer.map(ResponseBody::foreign)
    }
}

fn refusal(refused: &Refused, own_limit: Option<&BodyLimit>, bytes_max: usize) -> WireError {
    match (refused, own_limit) {
        (Refused::TooLong, Some(limit)) => limit.error.clone(),
        (Refused::TooLong, None) => {
            let message = format!("the request's body is longer than {bytes_max} bytes");
            WireError::new("RequestEntityTooLargeException", message).with_status(StatusCode::PAYLOAD_TOO_LARGE)
        }
        (Refused::TooSlow, _) => WireError::new("RequestTimeoutException", "the request's body did not arrive in time")
            .with_status(StatusCode::REQUEST_TIMEOUT),
        (Refused::Broken, _) => WireError::new("IncompleteBodyException", "the request's body broke off"),
    }
}
