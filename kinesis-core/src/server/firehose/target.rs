//! Where a delivery stream delivers to: S3, or an endpoint with S3 beside it.
//!
//! Invariant: what is accepted is done; what is not done here is refused by its name.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use wire_core::WireError;

use super::super::refusal::invalid;
use super::destination::S3Destination;
use super::endpoint::{Endpoint, EndpointKind};
use super::functions::Functions;
use crate::firehose::{DeliverySettings, Destination, SchemaSource, Transform};

/// Destinations of AWS that are not available here.
const OTHERS: [&str; 3] = ["AmazonOpenSearchServerlessDestination", "SnowflakeDestination", "IcebergDestination"];

/// A destination as AWS describes it.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub(super) struct Target {
    /// The only one, or the one in S3 beside the endpoint.
    pub(super) destination: S3Destination,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) endpoint: Option<Endpoint>,
}

/// What a destination means here.
pub(super) struct Plan {
    pub(super) bucket: String,
    pub(super) settings: DeliverySettings,
    pub(super) backup_bucket: Option<String>,
    pub(super) transform: Option<Arc<dyn Transform>>,
    pub(super) schema: SchemaSource,
    pub(super) destination: Option<Arc<dyn Destination>>,
}

impl Target {
    /// The one destination among the members of a request, whose names end in `suffix`.
    ///
    /// # Errors
    /// `InvalidArgumentException` for none, for several, and for one that is not available here.
    pub(super) fn given(members: &Map<String, Value>, suffix: &str) -> Result<Self, WireError> {
        let given = |name: &str| members.get(&format!("{name}{suffix}")).filter(|value| !value.is_null());
        if let Some(name) = OTHERS.iter().find(|name| given(name).is_some()) {
            return Err(invalid(format!("{name}{suffix} is not available here.")));
        }
        let mut targets = Vec::new();
        if let Some(plain) = given("S3Destination") {
            targets.push(Self { destination: read::<S3Destination>(plain)?.plain(), endpoint: None });
        }
        if let Some(extended) = given("ExtendedS3Destination") {
            targets.push(Self { destination: read(extended)?, endpoint: None });
        }
        for kind in EndpointKind::ALL {
            let Some(value) = given(&format!("{}Destination", kind.name())) else { continue };
            let mut endpoint: Endpoint = read(value)?;
            endpoint.kind = kind;
            let destination = endpoint.s3.take().unwrap_or_default().plain();
            targets.push(Self { destination, endpoint: Some(endpoint) });
        }
        match <[Self; 1]>::try_from(targets) {
            Ok([target]) => Ok(target),
            Err(_) => Err(invalid(format!("Exactly one destination {} must be given.", suffix.to_lowercase()))),
        }
    }

    /// This destination with what `update` says otherwise; another kind of destination takes its place.
    pub(super) fn merged(self, update: Self) -> Self {
        let endpoint = match (self.endpoint, update.endpoint) {
            (None, None) => None,
            (Some(endpoint), Some(update)) if endpoint.kind == update.kind => Some(endpoint.merged(update)),
            (_, endpoint) => return Self { destination: update.destination, endpoint },
        };
        Self { destination: self.destination.merged(update.destination), endpoint }
    }

    /// As it is described.
    pub(super) fn described(&self) -> Map<String, Value> {
        let described = self.destination.described();
        let plain = value(described.plain());
        let mut members = Map::new();
        match &self.endpoint {
            None => {
                members.insert("S3DestinationDescription".to_owned(), plain);
                members.insert("ExtendedS3DestinationDescription".to_owned(), value(described));
            }
            Some(endpoint) => {
                let mut endpoint_members = value(endpoint.described());
                endpoint_members["S3DestinationDescription"] = plain;
                members.insert(format!("{}DestinationDescription", endpoint.kind.name()), endpoint_members);
            }
        }
        members
    }

    /// What it means, if all of it can be done.
    ///
    /// # Errors
    /// `InvalidArgumentException` that names the member.
    pub(super) fn plan(&self, functions: &Functions) -> Result<Plan, WireError> {
        match &self.endpoint {
            None => self.destination.plan(functions),
            Some(endpoint) => endpoint.plan(&self.destination, functions),
        }
    }
}

fn read<T: serde::de::DeserializeOwned>(members: &Value) -> Result<T, WireError> {
    T::deserialize(members).map_err(|error| WireError::new("SerializationException", error.to_string()))
}

/// Plain data always has a JSON value.
fn value(members: impl Serialize) -> Value {
    serde_json::to_value(members).unwrap_or_default()
}
