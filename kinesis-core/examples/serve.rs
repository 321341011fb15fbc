//! Kinesis Data Streams on a port, for boto3, the AWS CLI, the SDKs and the KCL: `serve [DIR] [ADDRESS]`.
//!
//! In memory without a directory. Ends with Ctrl-C.
#![allow(clippy::print_stdout, reason = "an example talks to its user")]

use kinesis_core::{Kinesis, server};
use wire_core::{Server, Services, Settings};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let builder = arguments.next().map_or_else(Kinesis::memory, Kinesis::at);
    let address = arguments.next().unwrap_or_else(|| "127.0.0.1:4566".to_owned());
    let kinesis = builder.open().await?;
    let services = Services::new(Settings::default()).with(server::service(kinesis.clone()));
    let server = Server::bind(address, services).await?;
    println!("serving Kinesis Data Streams: boto3.client(\"kinesis\", endpoint_url=\"{}\")", server.url());
    tokio::signal::ctrl_c().await?;
    server.close().await;
    Ok(kinesis.close().await?)
}
