//! Kills a real process again and again and looks at what it left behind.
//!
//! A child does the work and acknowledges it line by line over a pipe; the harness sends SIGKILL after a seeded delay
//! from when the child began, or in every second round from its first acknowledgement, so that also a slow disk sees work;
//! drains the pipe, and hands the acknowledged lines to a check, which reopens the directory. Then the next child goes
//! on in the same directory. A line counts once its newline was read, so no acknowledgement is counted that the child
//! did not give.
//!
//! A test is its own child: the driver re-executes the current test binary with the name of the test, and
//! [`Child::current`] tells the two apart. So one function holds both halves of a promise:
//!
//! ```no_run
//! use testkit::crash::{Child, Crash};
//!
//! // #[test]
//! fn no_acknowledged_line_is_lost() {
//!     if let Some(child) = Child::current() {
//!         let log = child.dir().join("log");
//!         let mut number = std::fs::read(&log).map_or(0, |bytes| bytes.len());
//!         child.ready(); // the delay to the kill starts here
//!         loop {
//!             std::fs::write(&log, "x".repeat(number + 1)).unwrap(); // the code under test
//!             number += 1;
//!             child.ack(number);
//!         }
//!     }
//!     let dir = tempfile::tempdir().unwrap();
//!     let mut acked = 0;
//!     // The name is the test's own, as `cargo test -- --list` prints it.
//!     let tally = Crash::test("survives_kill::no_acknowledged_line_is_lost").with_kills(200).run(dir.path(), |run| {
//!         acked = run.acks.last().map_or(acked, |line| line.parse().unwrap());
//!         let found = std::fs::read(dir.path().join("log")).unwrap().len();
//!         assert!(found >= acked, "{run}: {acked} were acknowledged, {found} are left");
//!     });
//!     assert!(tally.acks > 200, "{tally:?}");
//! }
//! ```
//!
//! A sabotaged twin is the same child in another [mode](Crash::with_mode), run under `std::panic::catch_unwind` or with
//! a check that counts instead of asserting.

use std::ffi::OsString;
use std::fmt;
use std::io::{BufRead, BufReader, Write};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{self, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use durable_core::{Clock, SystemClock};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

pub(crate) const DIR: &str = "TESTKIT_CRASH_DIR";
pub(crate) const ROUND: &str = "TESTKIT_CRASH_ROUND";
pub(crate) const SEED: &str = "TESTKIT_CRASH_SEED";
pub(crate) const MODE: &str = "TESTKIT_CRASH_MODE";

/// Stands before the lines that are ours: the test binary writes lines of its own.
pub(crate) const ACK: &str = "@ack ";
const READY: &str = "@ready";

/// How long a child may take to say that it is ready; only a child that hangs meets it.
const READY_MAX: Duration = Duration::from_secs(120);

/// The kills of the pull-request gate.
pub const KILLS: u32 = 200;

/// A series of children, each killed.
#[derive(Clone, Debug)]
pub struct Crash {
    program: PathBuf,
    args: Vec<OsString>,
    /// Whether the child is a test of ours, which marks its lines, or a program whose every line counts.
    marked: bool,
    kills: u32,
    delay: RangeInclusive<Duration>,
    seed: u64,
    mode: String,
}

impl Crash {
    /// Children that run the test `name` of the current test binary, which calls [`Child::current`].
    ///
    /// # Panics
    /// If the path of the running binary is not known.
    #[must_use]
    pub fn test(name: &str) -> Self {
        let program = std::env::current_exe().expect("the path of the test binary");
        Self { marked: true, ..Self::program(program, test_args(name)) }
    }

    /// Children that run any program, for example an example of the workspace. Each line of its output is an
    /// acknowledgement, and the delay starts with the process.
    #[must_use]
    pub fn program<A: Into<OsString>>(program: impl Into<PathBuf>, args: impl IntoIterator<Item = A>) -> Self {
        Self {
            program: program.into(),
            args: args.into_iter().map(Into::into).collect(),
            marked: false,
            kills: KILLS,
            delay: Duration::from_millis(5)..=Duration::from_millis(40),
            seed: 1,
            mode: String::new(),
        }
    }

    /// How many children are killed; [`KILLS`] unless told.
    #[must_use]
    pub fn with_kills(mut self, kills: u32) -> Self {
        self.kills = kills;
        self
    }

    /// How long a child lives, uniformly distributed; 5 to 40 ms unless told.
    #[must_use]
    pub fn with_delay(mut self, delay: RangeInclusive<Duration>) -> Self {
        self.delay = delay;
        self
    }

    /// The seed of the delays; each child gets one of its own derived from it, [`Child::seed`].
    #[must_use]
    pub fn with_seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// A word that the child reads as [`Child::mode`]: which variant to run, which sabotage to switch on.
    #[must_use]
    pub fn with_mode(mut self, mode: &str) -> Self {
        mode.clone_into(&mut self.mode);
        self
    }

    /// Runs the children in `dir`, one after another, and calls `verify` after each. A child that ends by itself with
    /// success is counted as finished and verified like the others.
    ///
    /// # Panics
    /// If a child cannot be started, fails by itself, or is not ready within two minutes; and when `verify` panics.
    pub fn run(&self, dir: &Path, mut verify: impl FnMut(&Run)) -> Tally {
        let mut rng = StdRng::seed_from_u64(self.seed);
        let mut tally = Tally { kills: 0, finished: 0, acks: 0 };
        for round in 0..self.kills {
            let run = self.one(dir, round, rng.random(), rng.random_range(self.delay.clone()));
            tally.acks += run.acks.len();
            if run.killed {
                tally.kills += 1;
            } else {
                tally.finished += 1;
            }
            verify(&run);
        }
        tally
    }

    fn one(&self, dir: &Path, round: u32, seed: u64, delay: Duration) -> Run {
        let mut child = self.spawn(dir, round, seed);
        let lines = read_lines(&mut child);
        let mut acks = Vec::new();
        let mut ready = !self.marked;
        let clock = SystemClock::new();
        let mut deadline = if ready { delay } else { READY_MAX };
        let killed = loop {
            match lines.recv_timeout(deadline.saturating_sub(clock.monotonic())) {
                Ok(line) if !ready && line == READY => {
                    ready = true;
                    deadline = clock.monotonic() + delay;
                }
                Ok(line) => {
                    let ack = self.ack(line);
                    // Every second child works for its whole delay, however long its opening took.
                    if ack.is_some() && acks.is_empty() && round % 2 == 1 && self.marked {
                        deadline = clock.monotonic() + delay;
                    }
                    acks.extend(ack);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => break child.kill().is_ok(),
                Err(mpsc::RecvTimeoutError::Disconnected) => break false,
            }
        };
        let status = child.wait().expect("the child's status");
        acks.extend(lines.into_iter().filter_map(|line| self.ack(line)));
        assert!(ready, "round {round}: the child ended ({status}) or hung before it said that it was ready");
        // A child may end between the deadline and the kill; its status tells.
        let killed = killed && status.code().is_none();
        assert!(killed || status.success(), "round {round}, seed {seed}: the child failed by itself: {status}");
        Run { round, seed, delay, acks, killed }
    }

    fn spawn(&self, dir: &Path, round: u32, seed: u64) -> process::Child {
        Command::new(&self.program)
            .args(&self.args)
            .env(DIR, dir)
            .env(ROUND, round.to_string())
            .env(SEED, seed.to_string())
            .env(MODE, &self.mode)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("starting {} failed: {error}", self.program.display()))
    }

    fn ack(&self, line: String) -> Option<String> {
        if self.marked { line.strip_prefix(ACK).map(str::to_owned) } else { Some(line) }
    }
}

/// What makes the test binary run one test, and nothing stand between its output and the pipe.
pub(crate) fn test_args(name: &str) -> [&str; 5] {
    [name, "--exact", "--nocapture", "--test-threads=1", "--quiet"]
}

/// The complete lines of the child's output, until it ends. A line that the kill cut short does not count.
fn read_lines(child: &mut process::Child) -> mpsc::Receiver<String> {
    let (sender, lines) = mpsc::channel();
    let mut output = BufReader::new(child.stdout.take().expect("the child's output is piped"));
    std::thread::spawn(move || {
        let mut line = Vec::new();
        while matches!(output.read_until(b'\n', &mut line), Ok(read) if read > 0) && line.pop() == Some(b'\n') {
            // The receiver outlives the pipe, unless the harness itself is unwinding.
            let _ = sender.send(String::from_utf8_lossy(&line).into_owned());
            line.clear();
        }
    });
    lines
}

/// What one child did until it was killed.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Run {
    /// Counts from 0.
    pub round: u32,
    /// The child's seed.
    pub seed: u64,
    /// How long it lived after it was ready, or after its first acknowledgement in odd rounds.
    pub delay: Duration,
    /// What it acknowledged, in order.
    pub acks: Vec<String>,
    /// Whether it was killed, rather than having ended with success before.
    pub killed: bool,
}

impl fmt::Display for Run {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { round, seed, delay, .. } = self;
        write!(f, "round {round} (seed {seed}, {} acks, killed after {delay:?})", self.acks.len())
    }
}

/// What a series came to; a test asserts on it that it saw enough.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tally {
    /// Children that were killed.
    pub kills: u32,
    /// Children that ended by themselves first.
    pub finished: u32,
    /// Lines acknowledged by all of them.
    pub acks: usize,
}

/// The child's side.
#[derive(Debug)]
pub struct Child {
    dir: PathBuf,
    round: u32,
    seed: u64,
    mode: String,
}

impl Child {
    /// This process as a child of [`Crash::run`], or nothing in the test itself.
    #[must_use]
    pub fn current() -> Option<Self> {
        let number = |name| std::env::var(name).ok()?.parse().ok();
        let dir = PathBuf::from(std::env::var_os(DIR)?);
        let round = u32::try_from(number(ROUND)?).ok()?;
        Some(Self { dir, round, seed: number(SEED)?, mode: std::env::var(MODE).unwrap_or_default() })
    }

    /// The directory that all children of the series share.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Which child of the series this is, from 0.
    #[must_use]
    pub fn round(&self) -> u32 {
        self.round
    }

    /// A seed for what is random in this child.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// What the test said with [`Crash::with_mode`]; empty otherwise.
    #[must_use]
    pub fn mode(&self) -> &str {
        &self.mode
    }

    /// Starts the delay to the kill. Call it before opening, so that recovery is killed too.
    pub fn ready(&self) {
        say(&format!("{READY}\n"));
    }

    /// Acknowledges one thing, by one line: call it once the code under test has promised it.
    pub fn ack(&self, line: impl fmt::Display) {
        acknowledge(line);
    }
}

/// As [`Child::ack`], from a task or thread that does not have the child at hand.
pub fn acknowledge(line: impl fmt::Display) {
    say(&format!("{ACK}{line}\n"));
}

/// One write per line. An error means that the harness is gone, and then the child has no reason to go on.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    output.write_all(line.as_bytes()).and_then(|()| output.flush()).expect("the harness reads the acknowledgements");
}
