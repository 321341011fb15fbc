//! What the benches share: ratios of what one run measured.

use std::path::{Path, PathBuf};

/// A pair of benchmarks of one run: how ours compares with what it is held against.
#[derive(Clone, Copy, Debug)]
pub struct Ratio {
    /// Group and name of ours, as criterion lays them out: `group/name`.
    pub ours: &'static str,
    /// Group and name of the other.
    pub theirs: &'static str,
    /// What the other is, for the reader.
    pub what: &'static str,
}

/// The lines that say how many times as long ours took, by the medians that criterion left under `target/criterion`.
#[must_use]
pub fn ratios(pairs: &[Ratio]) -> Vec<String> {
    let root = criterion_root();
    let mut lines = Vec::new();
    for pair in pairs {
        if let (Some(ours), Some(theirs)) = (median_ns(&root, pair.ours), median_ns(&root, pair.theirs)) {
            let (name, what) = (pair.ours, pair.what);
            lines.push(format!(
                "{name}: {:.2} x the time of {what} ({ours:.0} ns against {theirs:.0} ns)",
                ours / theirs
            ));
        }
    }
    lines
}

fn criterion_root() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map(PathBuf::from);
    target.unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target")).join("criterion")
}

fn median_ns(root: &Path, name: &str) -> Option<f64> {
    let text = std::fs::read_to_string(root.join(name).join("new/estimates.json")).ok()?;
    let median = text.split("\"median\"").nth(1)?;
    let number = median.split("\"point_estimate\":").nth(1)?;
    number.split([',', '}']).next()?.trim().parse().ok()
}
