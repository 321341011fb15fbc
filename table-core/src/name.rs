//! Names of databases, tables and columns: lower-cased as Hive and Glue do, and bounded.

use crate::{Error, Result};

/// The longest name, in characters.
pub const NAME_CHARS_MAX: usize = 255;

/// The name as the catalog keeps it: lower-case.
///
/// # Errors
///
/// `InvalidInput` if it is empty, longer than [`NAME_CHARS_MAX`], or holds a control character or a slash.
pub fn normalize(what: &str, name: &str) -> Result<String> {
    let length = name.chars().count();
    if length == 0 || length > NAME_CHARS_MAX {
        return Err(Error::invalid(format!(
            "{what} name \"{name}\" has {length} characters: give 1 to {NAME_CHARS_MAX}"
        )));
    }
    if let Some(bad) = name.chars().find(|c| c.is_control() || *c == '/') {
        return Err(Error::invalid(format!(
            "{what} name \"{name}\" holds {bad:?}: leave out control characters and slashes"
        )));
    }
    Ok(name.to_lowercase())
}
