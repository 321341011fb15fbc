//! The lines of a file, decompressed as they are read, each with its number.
//!
//! Invariant: memory is bounded by one line of [`LINE_BYTES_MAX`]; a longer line, bytes that are not UTF-8 and a damaged
//! archive are lines too, with the reason why they cannot be read, so that nothing vanishes silently.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::Path;

use flate2::bufread::MultiGzDecoder;

/// The longest line in bytes: a record of a stream is at most 1 MiB, and typed JSON is longer than the line it came from.
pub const LINE_BYTES_MAX: usize = 512 * 1024;

/// How much of a line that cannot be read is kept to be shown, in bytes.
pub const SHOWN_BYTES_MAX: usize = 4 * 1024;

/// How a line ends, the longer before its own end. A return at the end of a file is half of an end that was cut off.
const ENDS: [&str; 3] = ["\r\n", "\n", "\r"];

/// One line with its end apart, or why it cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// From 1.
    pub number: u64,
    /// The text, or the reason and what could be read of it.
    pub text: Result<String, Unreadable>,
    /// How it ends, for a field that runs on into the next line. The last line of a file may have no end.
    pub end: &'static str,
}

/// A line that is not a line of text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable {
    /// Why, as the end of a sentence that begins with the file and the line.
    pub reason: String,
    /// The beginning of the line, with what is not UTF-8 replaced.
    pub shown: String,
}

/// Reads lines one after the other.
pub struct Lines {
    reader: Box<dyn BufRead + Send>,
    number: u64,
    ended: bool,
}

impl std::fmt::Debug for Lines {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lines").field("number", &self.number).finish_non_exhaustive()
    }
}

impl Lines {
    /// Opens a file, decompressing it if it is said to be gzip.
    ///
    /// # Errors
    /// The file cannot be opened.
    pub fn open(path: &Path, gzip: bool) -> io::Result<Self> {
        let file = BufReader::with_capacity(64 * 1024, File::open(path)?);
        let reader: Box<dyn BufRead + Send> = if gzip {
            Box::new(BufReader::with_capacity(64 * 1024, MultiGzDecoder::new(file)))
        } else {
            Box::new(file)
        };
        Ok(Self::over(reader))
    }

    fn over(reader: Box<dyn BufRead + Send>) -> Self {
        Self { reader, number: 0, ended: false }
    }

    /// The next line; `Ok(None)` at the end.
    ///
    /// # Errors
    /// The disk failed. A damaged archive is not an error but a last, unreadable line.
    pub fn next_line(&mut self) -> io::Result<Option<Line>> {
        if self.ended {
            return Ok(None);
        }
        let mut bytes = Vec::new();
        let limit = u64::try_from(LINE_BYTES_MAX).unwrap_or(u64::MAX) + 1;
        match self.reader.by_ref().take(limit).read_until(b'\n', &mut bytes) {
            Ok(0) => {
                self.ended = true;
                return Ok(None);
            }
            Ok(_) => {}
            Err(error) if is_damage(&error) => {
                self.ended = true;
                return Ok(Some(
                    self.unreadable(&bytes, format!("the compressed file is damaged here and ends: {error}")),
                ));
            }
            Err(error) => return Err(error),
        }
        if bytes.len() > LINE_BYTES_MAX && bytes.last() != Some(&b'\n') {
            let reason = format!("the line is longer than {LINE_BYTES_MAX} bytes");
            let line = self.unreadable(&bytes, reason);
            self.skip_to_end_of_line()?;
            return Ok(Some(line));
        }
        Ok(Some(self.line(bytes)))
    }

    fn line(&mut self, mut bytes: Vec<u8>) -> Line {
        let end = ENDS.into_iter().find(|end| bytes.ends_with(end.as_bytes())).unwrap_or_default();
        bytes.truncate(bytes.len() - end.len());
        if self.number == 0 && bytes.starts_with(b"\xef\xbb\xbf") {
            bytes.drain(..3);
        }
        match String::from_utf8(bytes) {
            Ok(text) => {
                self.number += 1;
                Line { number: self.number, text: Ok(text), end }
            }
            Err(error) => {
                let at = error.utf8_error().valid_up_to() + 1;
                self.unreadable(error.as_bytes(), format!("byte {at} of the line is not UTF-8; save the file as UTF-8"))
            }
        }
    }

    fn unreadable(&mut self, bytes: &[u8], reason: String) -> Line {
        self.number += 1;
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES_MAX)]);
        let shown = shown.trim_end_matches(['\r', '\n']).to_owned();
        Line { number: self.number, text: Err(Unreadable { reason, shown }), end: "" }
    }

    fn skip_to_end_of_line(&mut self) -> io::Result<()> {
        loop {
            let available = match self.reader.fill_buf() {
                Ok(available) => available,
                // The damage that ends the archive is met again, and told, by the next call.
                Err(error) if is_damage(&error) => return Ok(()),
                Err(error) => return Err(error),
            };
            if available.is_empty() {
                return Ok(());
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let used = end.map_or(available.len(), |end| end + 1);
            self.reader.consume(used);
            if end.is_some() {
                return Ok(());
            }
        }
    }
}

/// Whether the error is about what the archive holds, not about reading it.
fn is_damage(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn all(bytes: Vec<u8>) -> Vec<Line> {
        collect(Lines::over(Box::new(io::Cursor::new(bytes))))
    }

    fn collect(mut lines: Lines) -> Vec<Line> {
        std::iter::from_fn(|| lines.next_line().unwrap()).collect()
    }

    #[test]
    fn ends_of_lines_and_byte_order_mark_are_taken_off() {
        let lines = all(b"\xef\xbb\xbfa\r\nb\n\nc".to_vec());
        let texts: Vec<_> = lines.into_iter().map(|line| (line.number, line.text.unwrap())).collect();
        assert_eq!(texts, [(1, "a".to_owned()), (2, "b".to_owned()), (3, String::new()), (4, "c".to_owned())]);
    }

    #[test]
    fn a_line_loses_its_own_end_and_no_more() {
        let lines = all(b"a\r\r\n\r\nb\rc\nd\r".to_vec());
        let parts: Vec<_> = lines.into_iter().map(|line| (line.text.unwrap(), line.end)).collect();
        let expected = [("a\r", "\r\n"), ("", "\r\n"), ("b\rc", "\n"), ("d", "\r")];
        assert_eq!(parts, expected.map(|(text, end)| (text.to_owned(), end)));
    }

    #[test]
    fn a_line_too_long_is_told_and_the_next_is_read() {
        let mut bytes = vec![b'x'; 3 * LINE_BYTES_MAX];
        bytes.extend_from_slice(b"\nnext\n");
        let lines = all(bytes);
        assert_eq!(lines.len(), 2);
        let told = lines[0].text.as_ref().unwrap_err();
        assert!(told.reason.contains("longer than 524288 bytes"), "{}", told.reason);
        assert_eq!(told.shown.len(), SHOWN_BYTES_MAX);
        assert_eq!(lines[1], Line { number: 2, text: Ok("next".to_owned()), end: "\n" });
    }

    #[test]
    fn bytes_that_are_not_utf8_are_told_with_their_place() {
        let lines = all(b"fine\nna\xefve\nfine".to_vec());
        assert!(lines[1].text.as_ref().unwrap_err().reason.starts_with("byte 3 of the line is not UTF-8"));
        assert_eq!(lines[2].text.as_deref(), Ok("fine"));
    }

    #[test]
    fn a_cut_archive_gives_its_lines_and_then_the_damage() {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
        gzip.write_all("a line\n".repeat(50_000).as_bytes()).unwrap();
        let whole = gzip.finish().unwrap();
        let cut = whole[..whole.len() / 2].to_vec();
        let lines = collect(Lines::over(Box::new(BufReader::new(MultiGzDecoder::new(io::Cursor::new(cut))))));
        let (last, before) = lines.split_last().unwrap();
        assert!(before.len() > 20_000 && before.iter().all(|line| line.text.as_deref() == Ok("a line")));
        assert!(last.text.as_ref().unwrap_err().reason.contains("damaged"));
    }
}
