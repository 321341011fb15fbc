//! Names as AMQP has them: UTF-8, at most 255 bytes, parsed once at the edge.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// The longest name or routing key, in bytes: AMQP's short string.
pub const NAME_BYTES_MAX: usize = 255;

/// Names that begin so belong to the broker.
pub(crate) const RESERVED_PREFIX: &str = "amq.";

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $noun:literal) => {
        $(#[$doc])*
        #[derive(Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Parses a name.
            ///
            /// # Errors
            /// `InvalidInput` if it is longer than [`NAME_BYTES_MAX`].
            pub fn new(text: &str) -> Result<Self> {
                if text.len() > NAME_BYTES_MAX {
                    let bytes = text.len();
                    let message = format!("{} of {bytes} bytes: at most {NAME_BYTES_MAX} are allowed", $noun);
                    return Err(Error::invalid(message));
                }
                Ok(Self(text.into()))
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl TryFrom<&str> for $name {
            type Error = Error;

            fn try_from(text: &str) -> Result<Self> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = Error;

            fn try_from(text: String) -> Result<Self> {
                Self::new(&text)
            }
        }

        impl From<$name> for String {
            fn from(name: $name) -> Self {
                name.as_str().into()
            }
        }
    };
}

name!(
    /// The name of a queue.
    QueueName,
    "queue name"
);
name!(
    /// The name of an exchange; the empty one is the default exchange.
    ExchangeName,
    "exchange name"
);
name!(
    /// A routing key, or a binding's key or pattern: words separated by dots where the exchange is a topic.
    RoutingKey,
    "routing key"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_at_most_255_bytes() {
        assert!(QueueName::new(&"q".repeat(255)).is_ok());
        let error = QueueName::new(&"q".repeat(256)).unwrap_err();
        assert_eq!(error.message(), "queue name of 256 bytes: at most 255 are allowed");
    }
}
