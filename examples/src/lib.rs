//! What the examples of the composed system share.
//!
//! An example is a thin `main`; the steps it is made of stand here, one idea a file.

pub mod failure;
pub mod input;
pub mod pipeline;
pub mod print;
pub mod server;
pub mod statements;
pub mod store;
pub mod table_text;
