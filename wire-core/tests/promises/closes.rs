//! A server that closes finishes what it has begun, for a bounded time, and leaves nothing running.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use durable_core::ManualClock;
use futures::poll;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use wire_core::{Context, ErrorKind, Server, Service, Services, Settings, WireError};

use crate::rig::{Client, Http, JSON, request, serve, services};

/// An operation that waits: `begun` gets a permit when it starts, and it ends when `ends` has one.
#[derive(Clone)]
struct Gate {
    begun: Arc<Semaphore>,
    ends: Arc<Semaphore>,
}

impl Gate {
    fn new() -> Self {
        Self { begun: Arc::new(Semaphore::new(0)), ends: Arc::new(Semaphore::new(0)) }
    }

    async fn pass(self, _: Context, _: Value) -> Result<Value, WireError> {
        self.begun.add_permits(1);
        self.ends.acquire().await.unwrap().forget();
        Ok(json!({"Passed": true}))
    }

    fn services(&self) -> Services {
        let service = Service::new("kinesis", "Kinesis_20131202", self.clone()).operation("Pass", Self::pass);
        Services::new(Settings::default()).with(service)
    }
}

#[tokio::test]
async fn requests_under_way_are_answered() {
    for version in [Http::One, Http::Two] {
        let gate = Gate::new();
        let server = serve(gate.services()).await;
        let address = server.local_addr();
        let mut client = Client::connect(&server, version).await;
        let answer = tokio::spawn(async move { client.call("Pass", "{}").await });
        gate.begun.acquire().await.unwrap().forget();

        let mut close = pin!(server.close());
        assert!(poll!(close.as_mut()).is_pending());
        gate.ends.add_permits(1);
        close.await;
        assert_eq!(answer.await.unwrap().json(), json!({"Passed": true}));
        assert!(TcpStream::connect(address).await.is_err(), "it listens no more");
    }
}

#[tokio::test]
async fn what_does_not_end_is_dropped_after_the_drain_timeout() {
    for version in [Http::One, Http::Two] {
        let gate = Gate::new();
        let clock = ManualClock::default();
        let server = serve(gate.services().with_clock(Arc::new(clock.clone()))).await;
        let mut client = Client::connect(&server, version).await;
        let answer = tokio::spawn(async move { client.send(request("Pass", JSON, "{}")).await });
        gate.begun.acquire().await.unwrap().forget();

        let mut close = pin!(server.close());
        assert!(poll!(close.as_mut()).is_pending());
        clock.advance(Duration::from_secs(10));
        close.await;
        assert!(answer.await.unwrap().is_err());
        assert_eq!(Arc::strong_count(&gate.begun), 1, "the operation and its service are gone");
    }
}

#[tokio::test]
async fn dropping_it_drops_requests_under_way() {
    for version in [Http::One, Http::Two] {
        let gate = Gate::new();
        let server = serve(gate.services()).await;
        let mut client = Client::connect(&server, version).await;
        let answer = tokio::spawn(async move { client.send(request("Pass", JSON, "{}")).await });
        gate.begun.acquire().await.unwrap().forget();
        drop(server);
        assert!(answer.await.unwrap().is_err());
    }
}

/// Notices that it was dropped before its end.
struct Unfinished(Arc<Semaphore>);

impl Drop for Unfinished {
    fn drop(&mut self) {
        self.0.add_permits(1);
    }
}

#[tokio::test]
async fn an_operation_is_dropped_when_its_client_goes_away() {
    for version in [Http::One, Http::Two] {
        let gate = Gate::new();
        let pass = |gate: Gate, _: Context, _: Value| async move {
            let _unfinished = Unfinished(Arc::clone(&gate.ends));
            gate.begun.add_permits(1);
            std::future::pending::<Result<(), WireError>>().await
        };
        let service = Service::new("kinesis", "Kinesis_20131202", gate.clone()).operation("Pass", pass);
        let server = serve(Services::new(Settings::default()).with(service)).await;
        let mut client = Client::connect(&server, version).await;
        let asking = tokio::spawn(async move { client.send(request("Pass", JSON, "{}")).await.is_ok() });
        gate.begun.acquire().await.unwrap().forget();
        asking.abort();
        gate.ends.acquire().await.unwrap().forget();
        server.close().await;
    }
}

#[tokio::test]
async fn an_address_in_use_and_a_missing_runtime_are_typed_errors() {
    let server = serve(services()).await;
    let error = Server::bind(server.local_addr(), services()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Unavailable);
    server.close().await;
    let outside =
        std::thread::spawn(|| futures::executor::block_on(Server::bind("127.0.0.1:0", services())).unwrap_err());
    assert_eq!(outside.join().unwrap().kind(), ErrorKind::InvalidInput);
}

#[test]
fn handles_and_futures_are_send() {
    fn is_send<T: Send + 'static>(_: &T) {}
    is_send(&Server::bind("127.0.0.1:0", services()));
    fn closes(server: Server) -> impl Send + 'static {
        server.close()
    }
    let _: fn(Server) -> _ = closes;
}
