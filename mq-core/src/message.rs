//! A message: a body that is never copied in process, and AMQP's fourteen properties.

use std::time::Duration;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::codec::{Reader, Writer};
use crate::error::{Error, Result};
use crate::name::NAME_BYTES_MAX;
use crate::value::{self, Table, Value};

/// Whether a message outlives the process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeliveryMode {
    /// Kept in memory only: gone after a restart. AMQP's 1.
    Transient,
    /// Journaled in every durable queue it reaches, before it is confirmed. AMQP's 2.
    #[default]
    Persistent,
}

/// The properties of a message, named as AMQP names them.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Properties {
    /// MIME type of the body.
    pub content_type: Option<Box<str>>,
    /// MIME encoding of the body.
    pub content_encoding: Option<Box<str>>,
    /// The app's own values; a headers exchange routes by them.
    pub headers: Table,
    /// Whether the message outlives the process.
    pub delivery_mode: DeliveryMode,
    /// 0 to 255, higher first in a priority queue.
    pub priority: Option<u8>,
    /// What a reply refers to.
    pub correlation_id: Option<Box<str>>,
    /// The queue for replies.
    pub reply_to: Option<Box<str>>,
    /// How long the message may wait in a queue; whole milliseconds.
    pub expiration: Option<Duration>,
    /// The app's own id.
    pub message_id: Option<Box<str>>,
    /// When the app made the message; whole seconds.
    pub timestamp: Option<DateTime<Utc>>,
    /// AMQP's `type`: what kind of message this is.
    pub kind: Option<Box<str>>,
    /// Who sent it.
    pub user_id: Option<Box<str>>,
    /// Which app sent it.
    pub app_id: Option<Box<str>>,
    /// Deprecated in AMQP; carried along.
    pub cluster_id: Option<Box<str>>,
}

/// A message. Cloning it shares the body.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Message {
    body: Bytes,
    properties: Properties,
}

impl Message {
    /// A persistent message without further properties.
    pub fn new(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), properties: Properties::default() }
    }

    /// A persistent message whose body is `payload` as JSON, with that content type.
    ///
    /// # Errors
    /// `InvalidInput` if `payload` cannot be written as JSON.
    pub fn json<T: Serialize>(payload: &T) -> Result<Self> {
        let body = serde_json::to_vec(payload)
            .map_err(|error| Error::invalid("the payload cannot be written as JSON").with_source(error))?;
        Ok(Self::new(body).with_content_type("application/json"))
    }

    /// Reads the body as JSON.
    ///
    /// # Errors
    /// `InvalidInput` if the body is not the JSON of a `T`.
    pub fn parse_json<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            let name = std::any::type_name::<T>();
            Error::invalid(format!("the body is not the JSON of a {name}: reject it")).with_source(error)
        })
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The properties.
    #[must_use]
    pub fn properties(&self) -> &Properties {
        &self.properties
    }

    /// The properties, to be changed.
    pub fn properties_mut(&mut self) -> &mut Properties {
        &mut self.properties
    }

    /// Kept in memory only: gone after a restart.
    #[must_use]
    pub fn transient(mut self) -> Self {
        self.properties.delivery_mode = DeliveryMode::Transient;
        self
    }

    /// Sets the MIME type of the body.
    #[must_use]
    pub fn with_content_type(mut self, content_type: &str) -> Self {
        self.properties.content_type = Some(content_type.into());
        self
    }

    /// Adds a header, or replaces it.
    #[must_use]
    pub fn with_header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.properties.headers.insert(name.into(), value.into());
        self
    }

    /// Sets the app's own id.
    #[must_use]
    pub fn with_message_id(mut self, id: &str) -> Self {
        self.properties.message_id = Some(id.into());
        self
    }

    /// Sets what a reply refers to.
    #[must_use]
    pub fn with_correlation_id(mut self, id: &str) -> Self {
        self.properties.correlation_id = Some(id.into());
        self
    }

    /// Sets the queue for replies.
    #[must_use]
    pub fn with_reply_to(mut self, queue: &str) -> Self {
        self.properties.reply_to = Some(queue.into());
        self
    }

    /// Sets how long the message may wait in a queue; parts of a millisecond are cut off. Nothing means that it is
    /// delivered at once, or expires.
    #[must_use]
    pub fn with_expiration(mut self, expiration: Duration) -> Self {
        self.properties.expiration = Some(expiration);
        self
    }

    pub(crate) fn is_persistent(&self) -> bool {
        self.properties.delivery_mode == DeliveryMode::Persistent
    }

    /// Bytes in memory, roughly: for accounting.
    pub(crate) fn weight(&self) -> usize {
        let texts: usize = self.texts().into_iter().flatten().map(str::len).sum();
        self.body.len() + texts + value::weight(&self.properties.headers)
    }

    /// Refuses what AMQP could not carry.
    pub(crate) fn check(&self) -> Result<()> {
        for text in self.texts().into_iter().flatten() {
            if text.len() > NAME_BYTES_MAX {
                let bytes = text.len();
                return Err(Error::invalid(format!("a property of {bytes} bytes: at most {NAME_BYTES_MAX} fit")));
            }
        }
        value::check(&self.properties.headers, "headers")
    }

    fn texts(&self) -> [Option<&str>; 9] {
        let p = &self.properties;
        [
            p.content_type.as_deref(),
            p.content_encoding.as_deref(),
            p.correlation_id.as_deref(),
            p.reply_to.as_deref(),
            p.message_id.as_deref(),
            p.kind.as_deref(),
            p.user_id.as_deref(),
            p.app_id.as_deref(),
            p.cluster_id.as_deref(),
        ]
    }

    /// | part | bytes |
    /// |---|---|
    /// | flags | varint; bits 0-8: which texts follow, 9: headers, 10: priority, 11: expiration, 12: timestamp, 13: transient |
    /// | texts | as flagged, in the order of `texts` |
    /// | headers, priority, expiration (ms), timestamp (s) | as flagged |
    /// | body | length-prefixed |
    pub(crate) fn encode(&self, to: &mut Writer) {
        let p = &self.properties;
        let texts = self.texts();
        let mut flags = 0u64;
        for (bit, text) in texts.iter().enumerate() {
            flags |= u64::from(text.is_some()) << bit;
        }
        flags |= u64::from(!p.headers.is_empty()) << HEADERS_BIT;
        flags |= u64::from(p.priority.is_some()) << PRIORITY_BIT;
        flags |= u64::from(p.expiration.is_some()) << EXPIRATION_BIT;
        flags |= u64::from(p.timestamp.is_some()) << TIMESTAMP_BIT;
        flags |= u64::from(!self.is_persistent()) << TRANSIENT_BIT;
        to.varint(flags);
        texts.into_iter().flatten().for_each(|text| to.text(text));
        if !p.headers.is_empty() {
            value::encode_table(&p.headers, to);
        }
        if let Some(priority) = p.priority {
            to.u8(priority);
        }
        if let Some(expiration) = p.expiration {
            to.varint(u64::try_from(expiration.as_millis()).unwrap_or(u64::MAX));
        }
        if let Some(timestamp) = p.timestamp {
            to.signed(timestamp.timestamp());
        }
        to.bytes(&self.body);
    }

    pub(crate) fn decode(from: &mut Reader<'_>) -> Result<Self> {
        let flags = from.varint()?;
        let has = |bit: usize| flags >> bit & 1 == 1;
        let mut texts: [Option<Box<str>>; 9] = Default::default();
        for (bit, text) in texts.iter_mut().enumerate() {
            if has(bit) {
                *text = Some(from.text()?.into());
            }
        }
        let [content_type, content_encoding, correlation_id, reply_to, message_id, kind, user_id, app_id, cluster_id] =
            texts;
        let headers = if has(HEADERS_BIT) { value::decode_table(from)? } else { Table::new() };
        let priority = if has(PRIORITY_BIT) { Some(from.u8()?) } else { None };
        let expiration = if has(EXPIRATION_BIT) { Some(Duration::from_millis(from.varint()?)) } else { None };
        let timestamp = if has(TIMESTAMP_BIT) { DateTime::from_timestamp(from.signed()?, 0) } else { None };
        let delivery_mode = if has(TRANSIENT_BIT) { DeliveryMode::Transient } else { DeliveryMode::Persistent };
        let properties = Properties {
            content_type,
            content_encoding,
            headers,
            delivery_mode,
            priority,
            correlation_id,
            reply_to,
            expiration,
            message_id,
            timestamp,
            kind,
            user_id,
            app_id,
            cluster_id,
        };
        // Copied, since a slice would keep the whole journal frame in memory for as long as the message waits.
        Ok(Self { body: Bytes::copy_from_slice(from.bytes()?), properties })
    }
}

const HEADERS_BIT: usize = 9;
const PRIORITY_BIT: usize = 10;
const EXPIRATION_BIT: usize = 11;
const TIMESTAMP_BIT: usize = 12;
const TRANSIENT_BIT: usize = 13;

#[cfg(test)]
mod tests {
    use super::*;

    fn check_comes_back(message: &Message) {
        let mut writer = Writer::default();
        message.encode(&mut writer);
        assert_eq!(&Message::decode(&mut Reader::new(&writer.finish())).unwrap(), message);
    }

    #[test]
    fn a_message_comes_back_with_all_its_properties() {
        check_comes_back(&Message::new("plain"));
        let mut message = Message::new("all")
            .transient()
            .with_content_type("text/plain")
            .with_header("k", 7)
            .with_message_id("m-1")
            .with_correlation_id("c-1")
            .with_reply_to("answers")
            .with_expiration(Duration::from_millis(1500));
        let properties = message.properties_mut();
        properties.content_encoding = Some("gzip".into());
        properties.priority = Some(9);
        properties.timestamp = DateTime::from_timestamp(1_700_000_000, 0);
        properties.kind = Some("alert".into());
        properties.user_id = Some("guest".into());
        properties.app_id = Some("app".into());
        properties.cluster_id = Some("one".into());
        check_comes_back(&message);
    }

    #[test]
    fn a_body_that_is_not_json_names_the_type() {
        let error = Message::new("{").parse_json::<u32>().unwrap_err();
        assert_eq!(error.message(), "the body is not the JSON of a u32: reject it");
    }
}
