//! The keys whose signatures a port accepts.
//!
//! Invariant: secrets are wiped when dropped, and shown by no `Debug`, error or event.

use std::collections::BTreeMap;
use std::fmt;

use aws_smithy_runtime_api::client::identity::Identity;
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// The keys that an app gives to its clients: access key id, secret, and a session token where the key is a temporary one.
///
/// A port without any accepts every request, signed or not.
///
/// ```
/// use wire_core::Credentials;
///
/// let credentials = Credentials::default().with_key("AKIDEXAMPLE", "a secret from the app's own configuration");
/// assert_eq!(format!("{credentials:?}"), r#"Credentials(["AKIDEXAMPLE"])"#);
/// ```
#[derive(Clone, Default)]
#[must_use]
pub struct Credentials {
    keys: BTreeMap<String, Key>,
}

impl Credentials {
    /// Adds a key. One with the same id replaces it.
    pub fn with_key(self, access_key_id: impl Into<String>, secret: impl Into<SecretString>) -> Self {
        self.add(access_key_id.into(), &secret.into(), None)
    }

    /// Adds a temporary key: requests must bring its session token as well.
    pub fn with_temporary_key(
        self,
        access_key_id: impl Into<String>,
        secret: impl Into<SecretString>,
        session_token: impl Into<SecretString>,
    ) -> Self {
        self.add(access_key_id.into(), &secret.into(), Some(session_token.into()))
    }

    fn add(mut self, id: String, secret: &SecretString, session_token: Option<SecretString>) -> Self {
        let token = session_token.as_ref().map(|token| token.expose_secret().to_owned());
        // AWS's own type: it wipes the secret, and its `Debug` does not show it.
        let key = aws_credential_types::Credentials::new(&id, secret.expose_secret(), token, None, "wire-core");
        self.keys.insert(id, Key { identity: key.into(), session_token });
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    #[cfg(feature = "s3")]
    pub(crate) fn secret(&self, access_key_id: &str) -> Option<&str> {
        let key = self.keys.get(access_key_id)?;
        Some(key.identity.data::<aws_credential_types::Credentials>()?.secret_access_key())
    }

    #[cfg(feature = "s3")]
    pub(crate) fn takes_token(&self, access_key_id: &str, token: Option<&str>) -> bool {
        self.keys.get(access_key_id).is_some_and(|key| key.takes_token(token))
    }

    pub(super) fn key(&self, access_key_id: &str) -> Option<&Key> {
        self.keys.get(access_key_id)
    }
}

impl fmt::Debug for Credentials {
    /// The ids only.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Credentials").field(&self.keys.keys().collect::<Vec<_>>()).finish()
    }
}

#[derive(Clone)]
pub(super) struct Key {
    pub(super) identity: Identity,
    session_token: Option<SecretString>,
}

impl Key {
    /// Whether a request brings the token that this key asks for, and none if it asks for none.
    pub(super) fn takes_token(&self, token: Option<&str>) -> bool {
        match (&self.session_token, token) {
            (Some(own), Some(token)) => own.expose_secret().as_bytes().ct_eq(token.as_bytes()).into(),
            (None, None) => true,
            _ => false,
        }
    }
}
