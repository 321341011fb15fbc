//! An app's own destination: what it refuses is put aside, also if it refuses other records after a crash.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::FutureExt;
use futures::future::BoxFuture;
use kinesis_core::firehose::{
    Answer, DeliveryEvent, DeliveryRequest, DeliverySettings, DeliveryStream, Destination, Refusal,
};
use object_store::memory::InMemory;

use super::firehose_rig::{ERRORS, rejected, until};
use super::stage::reopen;

/// Refuses one record for good.
struct Refuses(&'static str);

impl Destination for Refuses {
    fn deliver(&self, request: DeliveryRequest) -> BoxFuture<'_, Answer> {
        let at = request.records.iter().position(|record| record.data == self.0);
        let refused = at.map(|at| (at, Refusal::for_good("Test.Refused", self.0)));
        async move { Ok(refused.into_iter().collect()) }.boxed()
    }
}

#[tokio::test]
async fn a_record_that_is_refused_only_after_a_crash_is_put_aside_too() {
    let dir = tempfile::tempdir().unwrap();
    let store = Arc::new(InMemory::new());
    let settings = || DeliverySettings::new().with_error_output_prefix(ERRORS);
    {
        let kinesis = reopen(dir.path()).await;
        let builder = DeliveryStream::direct("d", kinesis.clone(), store.clone()).with_settings(settings());
        let (told, hears) = tokio::sync::watch::channel(false);
        // The records that were refused are in the store, and nothing behind that happens.
        let listener = move |event| {
            let rejected = matches!(event, DeliveryEvent::Rejected(_));
            told.send_if_modified(|told| std::mem::replace(told, rejected) != rejected);
            async move {
                if rejected {
                    std::future::pending::<()>().await;
                }
            }
        };
        let delivery = builder.with_destination(Refuses("a")).with_listener(listener).open().await.unwrap();
        delivery.put_record_batch(vec!["a".into(), "b".into(), "c".into()]).await.unwrap();
        let flush = tokio::spawn({
            let delivery = delivery.clone();
            async move { delivery.flush().await }
        });
        until(|| *hears.borrow()).await;
        flush.abort();
        drop(delivery);
        kinesis.close().await.unwrap();
    }
    let kinesis = reopen(dir.path()).await;
    let builder = DeliveryStream::direct("d", kinesis, store.clone()).with_settings(settings());
    let delivery = builder.with_destination(Refuses("b")).open().await.unwrap();
    delivery.flush().await.unwrap();
    let rejected = rejected(&*store).await;
    let texts: BTreeSet<_> = rejected["destination-failed"].iter().map(|(text, _)| text.as_str()).collect();
    assert_eq!(texts, ["a", "b"].into());
    let (_, line) = &rejected["destination-failed"][0];
    assert_eq!(line["errorCode"], "Test.Refused");
    assert!(line["recordId"].is_string());
}
