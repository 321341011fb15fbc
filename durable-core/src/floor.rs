//! A number that only rises: below it names may be free again, so that what is created there is void.
//!
//! Each value is an empty object called by the number, and the greatest counts; no write can lower it.

use std::sync::Arc;

use bytes::Bytes;
use object_store::ObjectStore;
use object_store::path::Path;

use crate::{Clock, Result, create, retrying};

/// A floor under one prefix of a store.
#[derive(Clone, Debug)]
pub struct Floor {
    store: Arc<dyn ObjectStore>,
    prefix: Path,
    clock: Arc<dyn Clock>,
}

impl Floor {
    /// The floor whose values are kept under `prefix`.
    #[must_use]
    pub fn new(store: Arc<dyn ObjectStore>, prefix: Path, clock: Arc<dyn Clock>) -> Self {
        Self { store, prefix, clock }
    }

    /// The floor now; 0 if it was never raised. Dropping the future changes nothing.
    ///
    /// # Errors
    /// As the store reports them.
    pub async fn read(&self) -> Result<u64> {
        let numbers = retrying::numbers(self.store.as_ref(), self.clock.as_ref(), &self.prefix).await?;
        Ok(numbers.last().copied().unwrap_or(0))
    }

    /// Raises the floor to `to`, unless it is there already. Dropping the future may leave it raised or not.
    ///
    /// # Errors
    /// As the store reports them.
    pub async fn raise(&self, to: u64) -> Result<()> {
        let numbers = retrying::numbers(self.store.as_ref(), self.clock.as_ref(), &self.prefix).await?;
        if numbers.last().is_some_and(|newest| *newest >= to) {
            return Ok(());
        }
        // That another raised it to the same is as good, so the answer does not matter.
        create::create(self.store.as_ref(), self.clock.as_ref(), &self.name(to), Bytes::new()).await?;
        for lower in numbers {
            retrying::delete(self.store.as_ref(), self.clock.as_ref(), &self.name(lower)).await?;
        }
        Ok(())
    }

    fn name(&self, number: u64) -> Path {
        self.prefix.clone().join(format!("{number:020}"))
    }
}
