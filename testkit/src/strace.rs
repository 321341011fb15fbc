//! What a process really asked of the operating system, and whether it asked in an order that survives a power loss.
//!
//! Invariant checked, for every name under a directory that is not a hidden staging name: a file gets its name only
//! after its bytes were synced, and by the time of an acknowledgement the directory of every name that was made or
//! removed, new directories included, was synced after that.
//!
//! The traced process is the test itself, re-executed as in [`crate::crash`]: its acknowledgements show in the trace
//! as writes, so their order among the other calls is the kernel's own.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::crash;
use crate::seeds::Violation;

const CALLS: &str = "trace=write,writev,pwrite64,pwritev,fsync,fdatasync,link,linkat,rename,renameat,renameat2,unlink,\
                     unlinkat,mkdir,mkdirat";

/// One call that succeeded, as far as order matters.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Call {
    Write(PathBuf),
    Sync(PathBuf),
    Link(PathBuf, PathBuf),
    Rename(PathBuf, PathBuf),
    Remove(PathBuf),
    Mkdir(PathBuf),
    Ack,
}

/// What a checked trace contained.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Seen {
    /// Acknowledgements.
    pub acks: usize,
    /// Names given by link or rename, and directories made.
    pub names: usize,
    /// Syncs of files and directories.
    pub syncs: usize,
}

/// Whether `strace` is installed and may trace here.
#[must_use]
pub fn is_available() -> bool {
    let mut probe = Command::new("strace");
    probe.args(["-o", "/dev/null", "true"]).stdout(Stdio::null()).stderr(Stdio::null());
    probe.status().is_ok_and(|status| status.success())
}

/// Runs the test `name` of this binary as a traced [`crash::Child`] in `dir` and checks the order of its calls.
///
/// # Errors
/// The first call out of order.
///
/// # Panics
/// If the child cannot be traced, or fails.
pub fn check(name: &str, mode: &str, dir: &Path) -> Result<Seen, Violation> {
    let log = tempfile::NamedTempFile::new().expect("a temporary file for the trace");
    let status = Command::new("strace")
        .args(["-f", "-y", "-s", "16", "-e", CALLS, "-o"])
        .arg(log.path())
        .arg(std::env::current_exe().expect("the path of the test binary"))
        .args(crash::test_args(name))
        .env(crash::DIR, dir)
        .env(crash::ROUND, "0")
        .env(crash::SEED, "0")
        .env(crash::MODE, mode)
        .stdout(Stdio::null())
        .status()
        .expect("strace runs");
    assert!(status.success(), "the traced child failed: {status}");
    let trace = std::fs::read_to_string(log.path()).expect("the trace is text");
    check_trace(&trace, &dir.canonicalize().expect("the directory exists"))
}

fn check_trace(trace: &str, root: &Path) -> Result<Seen, Violation> {
    let mut state =
        Order { root, unsynced_bytes: BTreeSet::new(), unsynced_names: BTreeMap::new(), seen: Seen::default() };
    whole_lines(trace).iter().filter_map(|line| parse(line)).try_for_each(|call| state.step(call))?;
    Ok(state.seen)
}

/// Joins the halves of calls that another thread's call interrupted; a call stands where it returned.
fn whole_lines(trace: &str) -> Vec<String> {
    let mut begun: BTreeMap<&str, &str> = BTreeMap::new();
    let mut lines = Vec::new();
    for line in trace.lines() {
        let Some((process, call)) = line.split_once(' ') else { continue };
        let call = call.trim_start();
        if let Some(begin) = call.strip_suffix("<unfinished ...>") {
            begun.insert(process, begin);
        } else if let Some((_, end)) = call.strip_prefix("<... ").and_then(|rest| rest.split_once(" resumed>")) {
            lines.push(format!("{}{end}", begun.remove(process).unwrap_or_default()));
        } else {
            lines.push(call.to_owned());
        }
    }
    lines
}

fn parse(line: &str) -> Option<Call> {
    let (name, rest) = line.split_once('(')?;
    let (args, result) = rest.rsplit_once(')')?;
    if result.split_once("= ")?.1.starts_with('-') {
        return None;
    }
    let file = || Some(PathBuf::from(args.split_once('<')?.1.split_once('>')?.0));
    let paths: Vec<PathBuf> = args.split('"').skip(1).step_by(2).map(PathBuf::from).collect();
    let path = |index: usize| paths.get(index).cloned();
    Some(match name {
        "write" | "writev" if args.contains(crash::ACK.trim_end()) => Call::Ack,
        "write" | "writev" | "pwrite64" | "pwritev" => Call::Write(file()?),
        "fsync" | "fdatasync" => Call::Sync(file()?),
        "link" | "linkat" => Call::Link(path(0)?, path(1)?),
        "rename" | "renameat" | "renameat2" => Call::Rename(path(0)?, path(1)?),
        "unlink" | "unlinkat" => Call::Remove(path(0)?),
        "mkdir" | "mkdirat" => Call::Mkdir(path(0)?),
        _ => return None,
    })
}

struct Order<'a> {
    root: &'a Path,
    unsynced_bytes: BTreeSet<PathBuf>,
    /// By directory.
    unsynced_names: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    seen: Seen,
}

impl Order<'_> {
    fn step(&mut self, call: Call) -> Result<(), Violation> {
        match call {
            Call::Write(file) => {
                if file.starts_with(self.root) {
                    self.unsynced_bytes.insert(file);
                }
            }
            Call::Sync(path) => {
                self.seen.syncs += 1;
                self.unsynced_bytes.remove(&path);
                self.unsynced_names.remove(&path);
            }
            Call::Link(from, to) => self.name(&from, &to)?,
            Call::Rename(from, to) => {
                self.name(&from, &to)?;
                self.changed(&from);
            }
            Call::Remove(path) => self.changed(&path),
            Call::Mkdir(path) => {
                self.seen.names += usize::from(path.starts_with(self.root));
                self.changed(&path);
            }
            Call::Ack => {
                self.seen.acks += 1;
                if let Some((dir, names)) = self.unsynced_names.first_key_value() {
                    return Err(format!("acknowledged while {} has unsynced names {names:?}", dir.display()));
                }
            }
        }
        Ok(())
    }

    fn name(&mut self, from: &Path, to: &Path) -> Result<(), Violation> {
        if self.unsynced_bytes.contains(from) && !is_hidden(to) {
            return Err(format!("{} got its name before its bytes were synced", to.display()));
        }
        self.seen.names += usize::from(!is_hidden(to));
        self.changed(to);
        Ok(())
    }

    fn changed(&mut self, name: &Path) {
        if let Some(dir) = name.parent().filter(|dir| dir.starts_with(self.root) && !is_hidden(name)) {
            self.unsynced_names.entry(dir.to_path_buf()).or_default().insert(name.to_path_buf());
        }
    }
}

/// Whether object_store's lists leave the name out: `x#1`.
fn is_hidden(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.split_once('#')
        .is_some_and(|(_, number)| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_order_is_judged() {
        let good = [
            r#"7 write(9</r/s#1>, "x", 1) = 1"#,
            "7 fsync(9</r/s#1>) = 0",
            r#"7 mkdir("/r/a", 0777) = 0"#,
            "7 fsync(8</r>) = 0",
            r#"7 linkat(AT_FDCWD</>, "/r/s#1", AT_FDCWD</>, "/r/a/1", 0 <unfinished ...>"#,
            "8 fsync(3</elsewhere>) = 0",
            "7 <... linkat resumed>) = 0",
            "7 fsync(8</r/a>) = 0",
            r#"7 write(1<pipe:[5]>, "@ack 1\n", 7) = 7"#,
        ];
        let seen = check_trace(&good.join("\n"), Path::new("/r")).unwrap();
        assert_eq!(seen, Seen { acks: 1, names: 2, syncs: 4 });
        for (left_out, verdict) in [(1, "before its bytes"), (3, "unsynced names"), (7, "unsynced names")] {
            let bad: Vec<&str> =
                good.iter().enumerate().filter(|(at, _)| *at != left_out).map(|(_, line)| *line).collect();
            let violation = check_trace(&bad.join("\n"), Path::new("/r")).unwrap_err();
            assert!(violation.contains(verdict), "{violation}");
        }
    }
}
