//! HTTP/1.1 and HTTP/2 with prior knowledge share a port.

use futures::future::join_all;
use http_body_util::BodyExt;

use crate::rig::{Client, Http, JSON, request, serve, services};

#[tokio::test]
async fn both_are_answered_on_one_port() {
    let server = serve(services()).await;
    for version in [Http::One, Http::Two] {
        let mut client = Client::connect(&server, version).await;
        for limit in [0, 1, 10_000] {
            let answer = client.call("ListStreams", &format!(r#"{{"Limit":{limit}}}"#)).await;
            assert_eq!(answer.status, 200);
            assert_eq!(answer.json()["StreamNames"].as_array().unwrap().len(), limit);
        }
    }
    server.close().await;
}

#[tokio::test]
async fn http_2_runs_requests_side_by_side() {
    let server = serve(services()).await;
    let Client::Two(client) = Client::connect(&server, Http::Two).await else { unreachable!() };
    let answers = join_all((0..200).map(|limit| {
        let mut client = client.clone();
        async move {
            let mut request = request("ListStreams", JSON, format!(r#"{{"Limit":{limit}}}"#));
            *request.uri_mut() = "http://localhost/".parse().unwrap();
            let body = client.send_request(request).await.unwrap().collect().await.unwrap().to_bytes();
            let answer: serde_json::Value = serde_json::from_slice(&body).unwrap();
            assert_eq!(answer["StreamNames"].as_array().unwrap().len(), limit);
        }
    }));
    answers.await;
    server.close().await;
}
