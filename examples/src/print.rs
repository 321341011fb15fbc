//! Words to the person at the terminal, or to the program that the output is piped into.
//!
//! Invariant: a reader that has seen enough and left (`| head -1`) is no failure, and nothing here panics.

use std::io::{self, ErrorKind, Write};

use crate::failure::{Failure, Result};

/// Writes to standard output, all of it before this returns.
///
/// # Errors
/// It cannot be written, say to a full disk. That nobody reads it any more is no error.
pub fn print(text: &str) -> Result<()> {
    print_to(&mut io::stdout().lock(), text)
}

/// Writes to standard error; where that cannot be written nobody is left to be told.
pub fn warn(text: &str) {
    let _ = io::stderr().lock().write_all(text.as_bytes());
}

fn print_to(out: &mut impl Write, text: &str) -> Result<()> {
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Failure::caused(
            "cannot write to standard output: send it to a terminal, a program or a file on a disk with room",
            error,
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Fails as it is told to.
    struct Fails(ErrorKind);

    impl Write for Fails {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_left_is_no_failure_and_a_full_disk_is_one() {
        let mut out = Vec::new();
        print_to(&mut out, "a\nb").unwrap();
        assert_eq!(out, b"a\nb");
        print_to(&mut Fails(ErrorKind::BrokenPipe), "a").unwrap();
        let told = print_to(&mut Fails(ErrorKind::StorageFull), "a").unwrap_err();
        assert!(format!("{told:?}").starts_with("cannot write to standard output: send it to"), "{told:?}");
    }
}
