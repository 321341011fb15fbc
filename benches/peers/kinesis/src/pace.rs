//! So many a second, evenly.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;

/// Lets one writer go at a time, so many a second, evenly: the runtime's own timers go by milliseconds, and would make bursts.
pub(crate) fn pace(rate: u32, time: Duration) -> Arc<Semaphore> {
    let permits = Arc::new(Semaphore::new(0));
    let paced = permits.clone();
    std::thread::spawn(move || {
        let begun = Instant::now();
        let every = Duration::from_secs(1) / rate;
        let mut due = Duration::ZERO;
        while begun.elapsed() < time {
            std::thread::sleep(due.saturating_sub(begun.elapsed()));
            while due <= begun.elapsed() {
                paced.add_permits(1);
                due += every;
            }
        }
        paced.close();
    });
    permits
}

/// Waits for a turn, if turns are given; false once no more are.
pub(crate) async fn turn(pace: Option<&Semaphore>) -> bool {
    let Some(pace) = pace else { return true };
    pace.acquire().await.map(tokio::sync::SemaphorePermit::forget).is_ok()
}
