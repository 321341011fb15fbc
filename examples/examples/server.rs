//! The services for clients of AWS, on one port: `cargo run --example server -- --port 4566 --store DIR`.
//!
//! Ends in order with Ctrl-C or SIGTERM. `GET /health` answers while it serves.

use std::process::ExitCode;

use clap::Parser;
use examples::failure::{Doing, Result, exit_code};
use examples::print::print;
use examples::server::{ServerOptions, Serving, asked_to_end};
use tokio::runtime::Runtime;

/// Kinesis Data Streams, Data Firehose and S3 for boto3, the AWS CLI, the AWS SDKs and the Kinesis Client Library, by endpoint URL.
#[derive(Debug, Parser)]
#[command(name = "server", max_term_width = 110)]
struct Options {
    #[command(flatten)]
    server: ServerOptions,
}

fn main() -> ExitCode {
    exit_code(run(&Options::parse().server))
}

fn run(options: &ServerOptions) -> Result<()> {
    let runtime = Runtime::new().doing(|| "cannot start threads".to_owned())?;
    runtime.block_on(async {
        let serving = Serving::open(options).await?;
        let (url, store) = (serving.url(), &options.store);
        print(&format!(
            "serving Kinesis Data Streams, Data Firehose and S3 at {url} from {store}: boto3.client(\"kinesis\", endpoint_url=\"{url}\"), \
             or aws --endpoint-url {url} kinesis list-streams\n"
        ))?;
        print(&format!("s3://bucket/key is bucket/key in the store: aws --endpoint-url {url} s3 mb s3://bucket\n"))?;
        let keys = match &options.access_key {
            Some(id) => format!("requests must be signed by key {id}"),
            None => "every request is accepted; clients need any key and region to sign with".to_owned(),
        };
        print(&format!("{keys}; health: {url}/health; Ctrl-C or SIGTERM ends it\n"))?;
        asked_to_end().await?;
        serving.close().await?;
        print("closed: what was acknowledged is in the store\n")
    })
}
