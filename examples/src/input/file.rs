//! Which files an input path means, and how each is to be read.
//!
//! Invariant: the order is that of the paths, on every machine.

use std::fs;
use std::path::{Path, PathBuf};

use crate::failure::{Doing, Failure, Result};

/// The most files one folder may give.
pub const FILES_MAX: usize = 10_000;

const ENDINGS: &str = ".csv, .json, .jsonl or .ndjson, each also with .gz";

/// How a file's rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Comma-separated, the first line names the columns.
    Delimited,
    /// One JSON object a line.
    JsonLines,
}

/// One file of the input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InputFile {
    path: PathBuf,
    place: PathBuf,
    shape: Shape,
    gzip: bool,
}

impl InputFile {
    /// The file with this name's ending; `None` if the ending is not one that is read.
    #[must_use]
    pub fn at(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let (stem, gzip) = name.strip_suffix(".gz").map_or((name.as_str(), false), |stem| (stem, true));
        let shape = match stem.rsplit_once('.')?.1 {
            "csv" => Shape::Delimited,
            "json" | "jsonl" | "ndjson" => Shape::JsonLines,
            _ => return None,
        };
        Some(Self { path: path.to_owned(), place: path.file_name()?.into(), shape, gzip })
    }

    /// Where it lies, absolute and without links.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Where it lies within the input: its name, behind the folders between the input's and its own. It stays when the input
    /// is moved.
    #[must_use]
    pub fn place(&self) -> &Path {
        &self.place
    }

    /// How its rows are written.
    #[must_use]
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Whether it is compressed.
    #[must_use]
    pub fn gzip(&self) -> bool {
        self.gzip
    }

    /// How messages call it.
    #[must_use]
    pub fn name(&self) -> String {
        self.path.display().to_string()
    }
}

/// The input's files: the file itself, or those of a folder and the folders in it, in the order of their paths. Files of other
/// endings and hidden ones are passed over.
///
/// # Errors
/// The path does not exist, cannot be read, is a file of another ending, or a folder without a file to read.
pub fn find(input: &Path) -> Result<Vec<InputFile>> {
    let path = fs::canonicalize(input)
        .doing(|| format!("cannot read the input {}: give a file or a folder that exists", input.display()))?;
    if path.is_file() {
        let file = InputFile::at(&path).ok_or_else(|| {
            Failure::new(format!("{} is not a file this program reads: it must end in {ENDINGS}", input.display()))
        })?;
        return Ok(vec![file]);
    }
    let mut files = Vec::new();
    collect(&path, &mut files)?;
    if files.is_empty() {
        return Err(Failure::new(format!("the folder {} holds no file that ends in {ENDINGS}", input.display())));
    }
    for file in &mut files {
        if let Ok(place) = file.path.strip_prefix(&path) {
            file.place = place.into();
        }
    }
    files.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(files)
}

fn collect(folder: &Path, files: &mut Vec<InputFile>) -> Result<()> {
    let reading = || format!("cannot read the folder {}", folder.display());
    for entry in fs::read_dir(folder).doing(reading)? {
        let entry = entry.doing(reading)?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        // A link to a folder is not followed: it could lead back here.
        if entry.file_type().doing(reading)?.is_dir() {
            collect(&entry.path(), files)?;
        } else if entry.path().is_file() {
            files.extend(InputFile::at(&entry.path()));
        }
        if files.len() > FILES_MAX {
            return Err(Failure::new(format!(
                "the folder {} holds more than {FILES_MAX} files: give a part of it",
                folder.display()
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_readable_files_in_order() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("b")).unwrap();
        for name in ["z.csv", "a.JSONL.gz", "b/m.ndjson", "notes.txt", ".hidden.csv"] {
            fs::write(folder.path().join(name), "").unwrap();
        }
        let found = find(folder.path()).unwrap();
        let names: Vec<_> = found.iter().map(|file| file.path.file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(names, ["a.JSONL.gz", "m.ndjson", "z.csv"]);
        assert_eq!((found[0].shape, found[0].gzip), (Shape::JsonLines, true));
        assert_eq!((found[2].shape, found[2].gzip), (Shape::Delimited, false));
        assert_eq!(found[1].place(), Path::new("b/m.ndjson"));
        assert_eq!(find(&folder.path().join("b/m.ndjson")).unwrap()[0].place(), Path::new("m.ndjson"));
    }

    #[test]
    fn what_cannot_be_read_is_named_with_a_remedy() {
        let folder = tempfile::tempdir().unwrap();
        let told = |path: &Path| find(path).unwrap_err().to_string();
        assert!(told(&folder.path().join("none.csv")).contains("none.csv: give a file or a folder that exists"));
        assert!(told(folder.path()).contains("holds no file that ends in .csv"));
        fs::write(folder.path().join("a.xlsx"), "").unwrap();
        assert!(told(&folder.path().join("a.xlsx")).contains("it must end in .csv"));
    }
}
