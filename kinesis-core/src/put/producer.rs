//! Idempotent producers: a producer numbers its events, the stream remembers the last number in its journal.
//!
//! Invariant: an event whose number is at or below the remembered one is never stored again, and the number is
//! remembered by the same frame that stores the event.

use crate::error::{Error, Result};
use crate::limits::PUT_RECORDS_MAX;
use crate::stream::check_name;

/// Who puts a batch, and the numbers of its events.
///
/// After a restart the producer asks [`DataStream::producer`](crate::DataStream::producer) for the last number the
/// stream knows, and goes on behind it; what it sends again is recognised and dropped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Producer {
    id: String,
    numbers: Numbers,
    previous: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Numbers {
    Consecutive(u64),
    Each(Vec<u64>),
}

impl Producer {
    /// Events numbered `first`, `first + 1`, ... without gaps: a batch that would leave one behind the last known
    /// number is refused as a `Conflict`, so that batches sent at the same time cannot overtake each other unnoticed.
    pub fn consecutive(id: impl Into<String>, first: u64) -> Self {
        Self { id: id.into(), numbers: Numbers::Consecutive(first), previous: first.checked_sub(1) }
    }

    /// One number per event, rising, gaps allowed: line numbers of a file of which some lines are left out.
    pub fn numbered(id: impl Into<String>, numbers: impl IntoIterator<Item = u64>) -> Self {
        // One more than a batch can have is enough to refuse it.
        let numbers = numbers.into_iter().take(PUT_RECORDS_MAX + 1).collect();
        Self { id: id.into(), numbers: Numbers::Each(numbers), previous: None }
    }

    /// Refuses the batch as a `Conflict` unless the stream knows the event `number` of this producer.
    #[must_use]
    pub fn with_previous(mut self, number: u64) -> Self {
        self.previous = Some(number);
        self
    }

    /// Its name: 1 to 128 of `a-z A-Z 0-9 _ . -`.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Refuses what does not number `records` events.
    pub(crate) fn check(&self, records: usize) -> Result<()> {
        check_name("producer id", &self.id)?;
        match &self.numbers {
            Numbers::Consecutive(first) if first.checked_add(records as u64).is_none() => {
                Err(Error::invalid(format!("producer '{}' numbers its events past 2^64", self.id)))
            }
            Numbers::Each(numbers) if numbers.len() != records => Err(Error::invalid(format!(
                "producer '{}' gives {} numbers for {records} records; give one for each",
                self.id,
                numbers.len()
            ))),
            Numbers::Each(numbers) if !numbers.is_sorted_by(|a, b| a < b) => {
                Err(Error::invalid(format!("the numbers of producer '{}' do not rise", self.id)))
            }
            _ => Ok(()),
        }
    }

    /// How many of the first of `records` events the stream has, when it knows `last`; checked before.
    pub(crate) fn known(&self, records: usize, last: Option<u64>) -> Result<usize> {
        let missing = match (self.previous, last) {
            (Some(previous), Some(last)) => last < previous,
            // A producer that the stream never met may start anywhere, unless it says what must be there.
            (Some(_), None) => matches!(self.numbers, Numbers::Each(_)),
            (None, _) => false,
        };
        if missing {
            return Err(Error::new(
                durable_core::ErrorKind::Conflict,
                format!(
                    "producer '{}' goes on behind event {}, but the stream knows {}; send what is between first",
                    self.id,
                    self.previous.unwrap_or_default(),
                    last.map_or_else(|| "none of its events".to_owned(), |last| format!("only up to event {last}")),
                ),
            ));
        }
        let Some(last) = last else { return Ok(0) };
        Ok(match &self.numbers {
            Numbers::Consecutive(first) => {
                let known = last.checked_sub(*first).map_or(0, |distance| distance.saturating_add(1));
                usize::try_from(known).unwrap_or(records).min(records)
            }
            Numbers::Each(numbers) => numbers.partition_point(|number| *number <= last),
        })
    }

    /// The number of the last of `records` events; none if there are none.
    pub(crate) fn last(&self, records: usize) -> Option<u64> {
        match &self.numbers {
            Numbers::Consecutive(first) => first.checked_add(records as u64)?.checked_sub(1).filter(|_| records > 0),
            Numbers::Each(numbers) => numbers.last().copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use durable_core::ErrorKind;

    use super::*;

    #[test]
    fn consecutive_numbers_leave_no_gap() {
        let producer = Producer::consecutive("file", 10);
        assert_eq!(producer.known(5, None).unwrap(), 0);
        assert_eq!(producer.known(5, Some(9)).unwrap(), 0);
        assert_eq!(producer.known(5, Some(11)).unwrap(), 2);
        assert_eq!(producer.known(5, Some(u64::MAX)).unwrap(), 5);
        assert_eq!(producer.known(5, Some(8)).unwrap_err().kind(), ErrorKind::Conflict);
        assert_eq!(producer.last(5), Some(14));
    }

    #[test]
    fn given_numbers_may_have_gaps() {
        let producer = Producer::numbered("file", [10, 20, 30]);
        assert_eq!(producer.known(3, Some(3)).unwrap(), 0);
        assert_eq!(producer.known(3, Some(25)).unwrap(), 2);
        assert_eq!(producer.last(3), Some(30));
        let strict = producer.with_previous(7);
        assert_eq!(strict.known(3, Some(7)).unwrap(), 0);
        assert!(strict.known(3, Some(6)).is_err() && strict.known(3, None).is_err());
    }

    #[test]
    fn numbers_must_rise_and_fit() {
        assert!(Producer::numbered("p", [1, 1]).check(2).is_err());
        assert!(Producer::numbered("p", [1]).check(2).is_err());
        assert!(Producer::consecutive("p", u64::MAX - 1).check(2).is_err());
        assert!(Producer::consecutive("", 0).check(2).is_err());
        assert!(Producer::consecutive("p", 0).check(2).is_ok());
    }
}
