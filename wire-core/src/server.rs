//! A port that speaks HTTP/1.1 and HTTP/2 in clear text (with prior knowledge), over hyper.
//!
//! Invariant: a thin driver. It runs on the runtime that it was opened on, holds no rule of any service, and every task it
//! starts has ended when `close` returns.

use std::fmt;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use durable_core::{Error, ErrorKind, Result};
use futures::FutureExt;
use http::Request;
use hyper::body::Incoming;
use hyper::rt::Executor;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream, ToSocketAddrs};
use tokio::runtime::Handle;
use tokio::sync::{Semaphore, mpsc, watch};

use crate::Services;
use crate::receive::within;
use crate::services::Port;

/// How many streams a client may have open on one HTTP/2 connection.
const STREAMS_MAX: u32 = 256;

/// How much a client may send on a stream before it is told to go on: a batch of records fits.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

/// The same for a connection. It bounds what a connection may hold of bodies that wait for room.
const CONNECTION_WINDOW_BYTES: u32 = 2 << 20;

/// How much of an answer is buffered for a stream.
const SEND_BUFFER_BYTES: usize = 1 << 20;

/// The largest frame a client may send.
const FRAME_BYTES_MAX: u32 = 256 << 10;

/// The headers of one request.
const HEADERS_BYTES_MAX: u32 = 64 << 10;

/// How often an idle HTTP/2 connection is asked whether it still lives, and how long its answer may take.
const PING_INTERVAL: Duration = Duration::from_secs(30);
const PING_TIMEOUT: Duration = Duration::from_secs(20);

/// How long to wait after the system refused a connection (no file descriptors left).
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);

/// An open port.
///
/// Dropping it closes at once, without waiting: the listener, connections and requests under way end on their own.
/// [`close`](Server::close) lets requests finish.
pub struct Server {
    local_addr: SocketAddr,
    phase: watch::Sender<Phase>,
    /// Closed once the last task has ended.
    tasks: mpsc::Receiver<()>,
    port: Arc<Port>,
}

/// What the tasks are to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Phase {
    Serving,
    /// Finish what has begun.
    Draining,
    Aborting,
}

impl Server {
    /// Opens a port: `"127.0.0.1:4566"`, or port 0 for any that is free. Serving has begun when this returns.
    ///
    /// Dropping the future leaves nothing open.
    ///
    /// # Errors
    ///
    /// `Unavailable` if the address cannot be listened on; `InvalidInput` outside a tokio runtime.
    pub async fn bind(address: impl ToSocketAddrs, services: Services) -> Result<Self> {
        let runtime = Handle::try_current().map_err(|error| {
            Error::new(ErrorKind::InvalidInput, "a server needs a tokio runtime").with_source(error)
        })?;
        let unavailable = |error| Error::new(ErrorKind::Unavailable, "cannot listen on the address").with_source(error);
        let listener = TcpListener::bind(address).await.map_err(unavailable)?;
        let local_addr = listener.local_addr().map_err(unavailable)?;

        let (phase, watched) = watch::channel(Phase::Serving);
        let (alive, tasks) = mpsc::channel(1);
        let port = Arc::new(services.into_port());
        let tasks_of = Tasks { runtime, phase: watched, _alive: alive };
        tasks_of.clone().spawn(accept(listener, Arc::clone(&port), tasks_of));
        Ok(Self { local_addr, phase, tasks, port })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local_addr
    }

    /// What clients take as their endpoint, `http://127.0.0.1:4566`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.local_addr)
    }

    /// Stops listening, ends event streams after a whole event, lets other requests finish for the
    /// [drain timeout](crate::Settings::with_drain_timeout), drops what is left, and returns once every task has ended.
    ///
    /// Dropping the future drops the requests under way.
    pub async fn close(mut self) {
        self.phase.send_replace(Phase::Draining);
        let (clock, timeout) = (Arc::clone(&self.port.clock), self.port.settings.drain_timeout);
        if within(&*clock, timeout, self.tasks.recv()).await.is_none() {
            self.phase.send_replace(Phase::Aborting);
            self.tasks.recv().await;
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.phase.send_replace(Phase::Aborting);
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("local_addr", &self.local_addr).finish_non_exhaustive()
    }
}

/// Where tasks are started; each ends when the server aborts.
#[derive(Clone)]
struct Tasks {
    runtime: Handle,
    phase: watch::Receiver<Phase>,
    /// Held by every task and never sent on.
    _alive: mpsc::Sender<()>,
}

impl Tasks {
    fn spawn(self, work: impl Future<Output = ()> + Send + 'static) {
        let runtime = self.runtime.clone();
        runtime.spawn(async move {
            tokio::select! {
                biased;
                () = self.reached(Phase::Aborting) => {}
                () = work => {}
            }
        });
    }

    /// Resolves once the server is at this phase or past it.
    fn reached(&self, phase: Phase) -> impl Future<Output = ()> + Send + use<> {
        let mut watched = self.phase.clone();
        async move {
            // An error means that the server is gone, which is past every phase.
            let _ = watched.wait_for(|now| *now >= phase).await;
        }
    }
}

/// HTTP/2 runs each request as a task.
impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Tasks {
    fn execute(&self, work: F) {
        self.clone().spawn(work);
    }
}

async fn accept(listener: TcpListener, port: Arc<Port>, tasks: Tasks) {
    let places = Arc::new(Semaphore::new(port.settings.connections_max.clamp(1, Semaphore::MAX_PERMITS)));
    let mut closing = pin!(tasks.reached(Phase::Draining));
    loop {
        let next = async {
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (place, listener.accept().await)
        };
        let (place, accepted) = tokio::select! {
            () = &mut closing => return,
            next = next => next,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = serve(stream, Arc::clone(&port), tasks.clone());
                tasks.clone().spawn(connection.map(|()| drop(place)));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection was not accepted");
                port.clock.sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
    }
}

async fn serve(stream: TcpStream, port: Arc<Port>, tasks: Tasks) {
    // Without it, small answers wait for the client's acknowledgement of the last one.
    let _ = stream.set_nodelay(true);
    let begun = Arc::new(AtomicBool::new(false));
    let service = service_fn({
        let (port, tasks, begun) = (Arc::clone(&port), tasks.clone(), Arc::clone(&begun));
        move |request: Request<Incoming>| {
            begun.store(true, Ordering::Relaxed);
            let (port, tasks) = (Arc::clone(&port), tasks.clone());
            async move {
                let answer = port.handle(request).await;
                Ok::<_, std::convert::Infallible>(answer.map(|body| match body.is_events() {
                    true => body.until(tasks.reached(Phase::Draining).boxed()),
                    false => body,
                }))
            }
        }
    });
    let builder = builder(tasks.clone(), port.settings.header_timeout);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut closing = pin!(tasks.reached(Phase::Draining));
    // hyper's timers begin once it knows the protocol; this one is for a client that does not even say that.
    let mut silent = port.clock.sleep(port.settings.header_timeout);
    let mut drained = false;
    let mut spoke = false;
    loop {
        tokio::select! {
            ended = &mut connection => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "a connection broke");
                }
                return;
            }
            () = &mut closing, if !drained => {
                connection.as_mut().graceful_shutdown();
                drained = true;
            }
            () = &mut silent, if !spoke => {
                spoke = begun.load(Ordering::Relaxed);
                if !spoke {
                    return;
                }
            }
        }
    }
}

fn builder(tasks: Tasks, header_timeout: Duration) -> auto::Builder<Tasks> {
    let mut builder = auto::Builder::new(tasks);
    builder.http1().timer(TokioTimer::new()).header_read_timeout(header_timeout);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES)
        .max_frame_size(FRAME_BYTES_MAX)
        .max_header_list_size(HEADERS_BYTES_MAX)
        .keep_alive_interval(PING_INTERVAL)
        .keep_alive_timeout(PING_TIMEOUT);
    builder
}
