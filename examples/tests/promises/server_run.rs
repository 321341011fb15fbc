//! The server as a stranger would start it: it says where it is, serves, ends in order, and has what it was told.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use serde_json::{Value, json};

use super::pipeline_run::example;

struct Started {
    child: Child,
    output: BufReader<ChildStdout>,
    /// Host and port.
    address: String,
}

fn start(store: &Path, arguments: &[&str]) -> Started {
    let mut child = Command::new(example("server"))
        .args(["--port", "0", "--store"])
        .arg(store)
        .args(arguments)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the example starts");
    let mut output = BufReader::new(child.stdout.take().expect("a pipe"));
    let mut line = String::new();
    output.read_line(&mut line).expect("a line");
    let address = line.split_whitespace().find_map(|word| word.strip_prefix("http://")).expect("a URL").to_owned();
    let url = format!("http://{address}");
    assert!(line.contains(&format!("boto3.client(\"kinesis\", endpoint_url=\"{url}\")")), "{line}");
    assert!(line.contains(&format!("aws --endpoint-url {url} kinesis")), "{line}");
    Started { child, output, address }
}

impl Started {
    /// Sends a request; answers status and body.
    fn send(&self, method: &str, path: &str, headers: &str, body: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(&self.address).expect("the port is open");
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n{headers}content-length: {}\r\n\r\n{body}",
            self.address,
            body.len()
        );
        stream.write_all(request.as_bytes()).expect("it is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("an answer");
        let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        (status, body.to_owned())
    }

    fn call(&self, operation: &str, input: &Value) -> (u16, Value) {
        let headers =
            format!("content-type: application/x-amz-json-1.1\r\nx-amz-target: Kinesis_20131202.{operation}\r\n");
        let (status, body) = self.send("POST", "/", &headers, &input.to_string());
        (status, serde_json::from_str(&body).unwrap_or(Value::Null))
    }

    /// Asks it to end; answers its exit code and the rest of its output.
    fn end(mut self, signal: &str) -> (Option<i32>, String) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().expect("kill runs").success());
        let mut rest = String::new();
        self.output.read_to_string(&mut rest).expect("text");
        (self.child.wait().expect("it ends").code(), rest)
    }
}

#[test]
fn it_serves_until_it_is_told_to_end_and_has_it_all_the_next_time() {
    let dir = tempfile::tempdir().expect("a directory");
    let store = dir.path().join("store");
    let server = start(&store, &[]);
    let (status, health) = server.send("GET", "/health", "", "");
    assert_eq!(status, 200);
    assert!(health.contains("kinesis") && health.contains("s3"), "{health}");
    assert_eq!(server.call("CreateStream", &json!({"StreamName": "s", "ShardCount": 1})).0, 200);
    let put = json!({"StreamName": "s", "PartitionKey": "k", "Data": "aGVsbG8="});
    assert_eq!(server.call("PutRecord", &put).0, 200);
    // The store itself, by S3; not what the streams keep in it.
    assert_eq!(server.send("PUT", "/bucket", "", "").0, 200);
    assert_eq!(server.send("PUT", "/bucket/folder/key", "", "an object").0, 200);
    let (status, refused) = server.send("GET", "/streams?list-type=2", "", "");
    assert!(status == 403 && refused.contains("AccessDenied"), "{refused}");
    let (code, rest) = server.end("-TERM");
    assert_eq!(code, Some(0), "{rest}");
    let file = store.join("store/bucket/folder/key");
    assert_eq!(std::fs::read(file).expect("the object is a file"), b"an object");
    assert!(rest.contains("closed: what was acknowledged is in the store"), "{rest}");

    // With a key, what is not signed is refused.
    let server = start(&store, &["--access-key", "AKID", "--secret-key", "secret"]);
    let (status, error) = server.call("ListStreams", &json!({}));
    assert_eq!((status, error["__type"].as_str()), (400, Some("MissingAuthenticationTokenException")), "{error}");
    assert_eq!(server.send("GET", "/health", "", "").0, 200);
    assert_eq!(server.end("-INT").0, Some(0));

    let server = start(&store, &[]);
    assert_eq!(server.send("GET", "/bucket/folder/key", "", ""), (200, "an object".to_owned()));
    let from = json!({"StreamName": "s", "ShardId": "shardId-000000000000", "ShardIteratorType": "TRIM_HORIZON"});
    let (_, iterator) = server.call("GetShardIterator", &from);
    let (_, records) = server.call("GetRecords", &json!({"ShardIterator": iterator["ShardIterator"]}));
    assert_eq!(records["Records"][0]["Data"], "aGVsbG8=", "{records}");
    // A second one on the same store or the same port says why it cannot be.
    let port = server.address.rsplit(':').next().expect("a port").to_owned();
    let again = |arguments: &[&str]| {
        let output = Command::new(example("server")).args(arguments).output().expect("the example starts");
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let (code, error) = again(&["--port", &port]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("choose another --port"), "{error}");
    let (code, error) = again(&["--port", "0", "--store", store.to_str().expect("a path")]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("cannot open the streams in"), "{error}");
    let (code, error) = again(&["--access-key", "x"]);
    assert_eq!(code, Some(2), "{error}");
    assert!(error.contains("--secret-key"), "{error}");
    assert_eq!(server.end("-TERM").0, Some(0));
}
