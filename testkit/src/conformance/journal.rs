//! What every journal does, wherever it lies.
//!
//! The suite opens one place again and again through a function that gives its builder, so that it sees what an app
//! sees: order, recovery, checkpoints, limits and errors.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use durable_core::ErrorKind;
use durable_core::journal::{Durability, Frame, Journal, JournalBuilder, Level, Position, Recovery};
use futures::future::BoxFuture;

/// How often the suite asks for a directory that the threads of a dropped journal still hold.
const OPEN_ATTEMPTS: u32 = 1_000_000;

/// A journal under test.
#[derive(Clone, Copy)]
pub struct Subject<'a> {
    /// Its builder, always for the same place, which is empty at first.
    pub builder: &'a (dyn Fn() -> JournalBuilder + Sync),
    /// The bytes that it takes where it lies; 0 for one in memory.
    pub stored_bytes: &'a (dyn Fn() -> BoxFuture<'a, u64> + Sync),
}

impl std::fmt::Debug for Subject<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Subject")
    }
}

/// What the hook has seen.
type Seen = Arc<Mutex<Vec<Frame>>>;

impl Subject<'_> {
    /// Opens it; a journal that was dropped frees its directory a little later.
    async fn open(&self) -> Recovery {
        for _ in 0..OPEN_ATTEMPTS {
            match (self.builder)().open().await {
                Ok(recovery) => return recovery,
                Err(error) if error.kind() == ErrorKind::Conflict => tokio::task::yield_now().await,
                Err(error) => panic!("it does not open: {error:?}"),
            }
        }
        panic!("the directory of a dropped journal never became free");
    }

    async fn start(&self) -> (Journal, Seen) {
        let seen = Seen::default();
        let hook = Arc::clone(&seen);
        let journal = self.open().await.start(move |frames| hook.lock().unwrap().extend_from_slice(frames)).await;
        (journal.unwrap(), seen)
    }

    /// Its checkpoint's position and parts, and all frames after it.
    async fn content(&self) -> (Position, BTreeMap<String, Bytes>, Vec<Frame>) {
        let mut recovery = self.open().await;
        let mut frames = Vec::new();
        while let Some(frame) = recovery.next().await.unwrap() {
            frames.push(frame);
        }
        let checkpoint = recovery.checkpoint().cloned().unwrap_or_default();
        (checkpoint.at, checkpoint.parts, frames)
    }
}

/// Runs the suite.
///
/// # Panics
/// At the first deviation.
pub async fn run(subject: Subject<'_>) {
    order_and_spans(subject).await;
    writers_at_once(subject).await;
    positions_are_never_given_twice(subject).await;
    limits(subject).await;
    checkpoints(subject).await;
    trimming(subject).await;
    closing(subject).await;
}

/// Appends one after another, and checks what comes back.
async fn order_and_spans(subject: Subject<'_>) {
    let (journal, seen) = subject.start().await;
    let mut expected = Vec::new();
    for (number, span) in [1_u32, 3, 2, 1, 1000].into_iter().enumerate() {
        let body = Bytes::from(vec![u8::try_from(number).unwrap(); number * 100]);
        let position = journal.append(body.clone(), span).await.unwrap();
        expected.push(Frame::new(position, span, body));
        assert_eq!(*seen.lock().unwrap(), expected, "the hook sees a frame before its append is acknowledged");
        assert_eq!(journal.durable(), expected[number].end());
    }
    let consecutive = expected.windows(2).all(|pair| pair[0].end() == pair[1].position);
    assert!(consecutive, "a frame takes as many positions as its span");
    let level = journal.level();
    journal.close().await.unwrap();
    let (_, _, frames) = subject.content().await;
    assert_eq!(frames, if level == Level::Memory { Vec::new() } else { expected });
}

/// Appends from many tasks: one order, the same for the writers, the hook and the next opening.
async fn writers_at_once(subject: Subject<'_>) {
    let (journal, seen) = subject.start().await;
    let write = |writer: u8| {
        let journal = journal.clone();
        tokio::spawn(async move {
            let mut written = Vec::new();
            for number in 0..30_u8 {
                let (body, span) = (Bytes::from(vec![writer, number]), 1 + u32::from(number % 3));
                written.push(Frame::new(journal.append(body.clone(), span).await.unwrap(), span, body));
            }
            written
        })
    };
    let writers: Vec<_> = (0..8).map(write).collect();
    let mut all = Vec::new();
    for writer in writers {
        let written = writer.await.unwrap();
        assert!(written.windows(2).all(|pair| pair[0].end() <= pair[1].position), "a writer's own order is kept");
        all.extend(written);
    }
    all.sort_by_key(|frame| frame.position);
    assert!(all.windows(2).all(|pair| pair[0].end() <= pair[1].position), "no position is given twice");
    assert_eq!(*seen.lock().unwrap(), all, "the hook sees every frame once and in order");
    let level = journal.level();
    journal.close().await.unwrap();
    let (_, _, frames) = subject.content().await;
    assert!(level == Level::Memory || frames.ends_with(&all), "the next opening finds them in the same order");
}

/// Gives positions away in memory, drops the journal with them, and opens it again.
async fn positions_are_never_given_twice(subject: Subject<'_>) {
    let mut below = Position::ZERO;
    for _ in 0..4 {
        let (journal, _) = subject.start().await;
        if journal.level() == Level::Memory {
            return;
        }
        for _ in 0..20 {
            let reservation = journal.reserve(10).await.unwrap();
            let pending = reservation.submit("in memory".into(), 5, Durability::Memory).unwrap();
            assert!(pending.position() >= below, "{} was given before", pending.position());
            below = pending.position() + 5;
            assert_eq!(pending.position(), pending.await.unwrap());
        }
        // Dropped without closing: what was in memory only may be lost, its positions are gone all the same.
    }
}

async fn limits(subject: Subject<'_>) {
    let (journal, _) = subject.start().await;
    let most = usize::try_from(journal.frame_bytes_max()).unwrap();
    assert_eq!(journal.reserve(most + 1).await.unwrap_err().kind(), ErrorKind::LimitExceeded);
    let position = journal.append(vec![7; most].into(), 1).await.unwrap();
    assert!(journal.durable() > position);
    let reservation = journal.reserve(3).await.unwrap();
    let error = reservation.submit("more than three".into(), 1, Durability::Journal).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    drop(journal.reserve(100).await.unwrap());
    let beyond = journal.durable() + 1;
    assert_eq!(journal.checkpoint(beyond, Vec::new()).await.unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(!journal.is_poisoned(), "refused calls poison nothing");
    journal.close().await.unwrap();
}

/// Changes named parts, step by step, and looks at them after each opening.
async fn checkpoints(subject: Subject<'_>) {
    let mut expected: BTreeMap<String, Bytes> = BTreeMap::new();
    let steps: [&[(&str, Option<&str>)]; 5] = [
        &[("a", Some("one")), ("b", Some("two"))],
        &[("b", Some("changed"))],
        &[("a", None), ("c", Some(""))],
        &[],
        &[("d", Some("last")), ("unknown", None)],
    ];
    for step in steps {
        let (journal, _) = subject.start().await;
        if journal.level() == Level::Memory {
            journal.checkpoint(journal.durable(), Vec::new()).await.unwrap();
            return;
        }
        journal.append("below".into(), 2).await.unwrap();
        let at = journal.durable();
        let changes =
            step.iter().map(|(name, body)| ((*name).to_owned(), body.map(|body| Bytes::from(body.to_owned()))));
        let changes: Vec<_> = changes.collect();
        for (name, body) in changes.iter().cloned() {
            match body {
                Some(body) => expected.insert(name, body),
                None => expected.remove(&name),
            };
        }
        journal.checkpoint(at, changes).await.unwrap();
        let after = journal.append("at or after".into(), 1).await.unwrap();
        if at > Position(1) {
            let below = journal.checkpoint(Position(1), Vec::new()).await.unwrap_err();
            assert_eq!(below.kind(), ErrorKind::InvalidInput);
        }
        journal.close().await.unwrap();
        let (found, parts, frames) = subject.content().await;
        assert_eq!((found, &parts), (at, &expected));
        assert_eq!(frames, vec![Frame::new(after, 1, "at or after".into())]);
    }
}

/// Writes far more than the journal keeps.
async fn trimming(subject: Subject<'_>) {
    let (journal, _) = subject.start().await;
    let most = usize::try_from(journal.frame_bytes_max().min(4 << 10)).unwrap();
    let mut stored = Vec::new();
    for _ in 0..6 {
        for _ in 0..20 {
            journal.append(vec![1; most].into(), 1).await.unwrap();
        }
        journal.checkpoint(journal.durable(), vec![("state".into(), Some(vec![2; 500].into()))]).await.unwrap();
        stored.push((subject.stored_bytes)().await);
    }
    let (first, last) = (stored[0], stored[5]);
    assert!(last <= first.max(1) * 2, "what checkpoints cover is deleted: {stored:?}");
    journal.close().await.unwrap();
}

async fn closing(subject: Subject<'_>) {
    let (journal, _) = subject.start().await;
    let position = journal.append("last".into(), 1).await.unwrap();
    let other = journal.clone();
    let reservation = journal.reserve(4).await.unwrap();
    journal.close().await.unwrap();
    assert_eq!(reservation.submit("late".into(), 1, Durability::Journal).unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(other.append("late".into(), 1).await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(other.flush().await.unwrap_err().kind(), ErrorKind::Closed);
    assert_eq!(other.checkpoint(Position(1), Vec::new()).await.unwrap_err().kind(), ErrorKind::Closed);
    other.close().await.unwrap();
    let (journal, _) = subject.start().await;
    let next = journal.append("again".into(), 1).await.unwrap();
    assert!(next > position || journal.level() == Level::Memory);
    journal.flush().await.unwrap();
    journal.close().await.unwrap();
}
