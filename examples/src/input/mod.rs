//! The user's events: a file or a folder of delimited text (`.csv`) or JSON lines (`.json`, `.jsonl`, `.ndjson`), each also `.gz`.
//!
//! What a column holds is decided over the whole input first ([`Survey`]), so that one column has one type in every file. Names
//! become what SQL takes without quotes: lower case, `_` for anything but letters, digits and `_`. An empty field and `NA` are
//! null. A row that cannot be read is a row too, with the reason, the file and the line.
//!
//! Invariant: a file gives the same rows with the same numbers each time, also after rows were added to its end.

pub mod delimited;
pub mod file;
pub mod kind;
pub mod lines;
pub mod record;
pub mod row;
pub mod survey;

pub use file::{FILES_MAX, InputFile, Shape, find};
pub use kind::{Cell, Kind};
pub use lines::LINE_BYTES_MAX;
pub use row::{Column, Content, Event, Malformed, Row, Rows};
pub use survey::{COLUMNS_MAX, FOLDER_BYTES_MAX, FileSurvey, Noted, PARTITIONS_MAX, Partitions, Survey, column_named};
