//! The clients of S3 that programs use work with a store here: boto3, the AWS CLI, pyarrow and awswrangler.

use std::sync::Arc;

use durable_core::DurableLocal;
use object_store::memory::InMemory;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use wire_core::{Credentials, S3, Services};

use crate::python;
use crate::rig::serve;

const KEY: (&str, &str) = ("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
const ANYONE: (&str, &str) = ("anyone", "whatever");

/// Runs a script of `tests/s3` against a store; the port asks for signatures unless anyone may come.
async fn run(script: &str, packages: &str, store: Arc<dyn ObjectStore>, kind: &str, (key, secret): (&str, &str)) {
    if !python::has(packages).await {
        return;
    }
    store.put(&Path::from("streams/claim"), "what a service keeps".into()).await.unwrap();
    let mut services = Services::default().with_s3(S3::new(store).with_hidden("streams"));
    if key != ANYONE.0 {
        services = services.with_credentials(Credentials::default().with_key(key, secret));
    }
    let server = serve(services).await;
    let path = format!("{}/tests/s3/{script}", env!("CARGO_MANIFEST_DIR"));
    python::run(&[&path, &server.url(), key, secret, kind], "content").await;
    server.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_over_a_directory_signed() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(DurableLocal::new(dir.path()).unwrap());
    run("boto3_client.py", "boto3", store, "files", KEY).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn boto3_over_memory_unsigned() {
    run("boto3_client.py", "boto3", Arc::new(InMemory::new()), "memory", ANYONE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cli_pyarrow_and_awswrangler_over_a_directory() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(DurableLocal::new(dir.path()).unwrap());
    run("clients.py", "awscli, pyarrow, awswrangler", store, "files", ANYONE).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_cli_pyarrow_and_awswrangler_over_memory_signed() {
    run("clients.py", "awscli, pyarrow, awswrangler", Arc::new(InMemory::new()), "memory", KEY).await;
}
