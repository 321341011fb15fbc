//! Which object stores a plan may open: those that were registered for it, and no other.
//!
//! Invariant: there is no local file system here, so no statement can name a host file and have it read.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use datafusion::error::{DataFusionError, Result};
use datafusion::execution::object_store::ObjectStoreRegistry;
use object_store::ObjectStore;
use url::Url;

/// The stores of one query, by scheme and host.
#[derive(Debug, Default)]
pub(super) struct RegisteredOnly {
    stores: Mutex<BTreeMap<String, Arc<dyn ObjectStore>>>,
}

fn key(url: &Url) -> String {
    format!("{}://{}", url.scheme(), url.host_str().unwrap_or_default())
}

impl ObjectStoreRegistry for RegisteredOnly {
    fn register_store(&self, url: &Url, store: Arc<dyn ObjectStore>) -> Option<Arc<dyn ObjectStore>> {
        self.stores.lock().unwrap_or_else(PoisonError::into_inner).insert(key(url), store)
    }

    fn get_store(&self, url: &Url) -> Result<Arc<dyn ObjectStore>> {
        let stores = self.stores.lock().unwrap_or_else(PoisonError::into_inner);
        stores.get(&key(url)).cloned().ok_or_else(|| {
            DataFusionError::Plan(format!("\"{url}\" cannot be read: a query reads catalogued tables only"))
        })
    }
}
