//! The CRI log format (kubelet's pkg/kubelet/kuberuntime/logs): `<RFC 3339> <stream> <F|P> <text>\n`. Pure: bytes in,
//! lines out.
//!
//! Invariant: the lines depend on the bytes alone, never on how they were cut into reads. So nothing is written of a
//! line before its end is known, or that it is longer than the limit.

use std::io::BufRead as _;

use crate::time::Timestamp;

/// Which of a container's streams a line came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    /// As it is written in the log.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// What may follow the bytes at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tail {
    /// More of the last line.
    Open,
    /// Nothing; an unfinished line is written as a partial one.
    Closed,
}

/// How the lines of one batch are written.
#[derive(Debug)]
pub struct Format {
    pub stream: Stream,
    pub time: Timestamp,
    /// Bytes of text after which a line is split; at least 1.
    pub max_line: usize,
    /// No further line is begun in a batch that has this many bytes: headers multiply what short lines take.
    pub max_batch: usize,
}

impl Format {
    /// Appends the lines in `input` to `output`; returns how many bytes of `input` are in them.
    pub fn write(&self, input: &[u8], tail: Tail, output: &mut Vec<u8>) -> usize {
        let header = format!("{} {} ", self.time, self.stream.name());
        let mut emit = |tag: &[u8], text: &[u8]| {
            output.extend_from_slice(header.as_bytes());
            output.extend_from_slice(tag);
            output.extend_from_slice(text);
            output.push(b'\n');
            output.len() < self.max_batch
        };
        let mut done = 0;
        let mut room = true;
        while room && done < input.len() {
            let rest = &input[done..];
            let (text, whole) = first_line(rest, tail);
            if text.len() > self.max_line {
                room = emit(b"P ", &text[..self.max_line]);
                done += self.max_line;
            } else if let Some(length) = whole {
                room = emit(b"F ", text);
                done += length;
            } else if tail == Tail::Closed {
                room = emit(b"P ", text);
                done += text.len();
            } else {
                break;
            }
        }
        done
    }
}

/// The text of the first line, without its `\n` or `\r\n`, and its length with them if it has its end.
fn first_line(bytes: &[u8], tail: Tail) -> (&[u8], Option<usize>) {
    let mut rest = bytes;
    let length = rest.skip_until(b'\n').expect("memory can be read");
    let line = &bytes[..length];
    match line.strip_suffix(b"\n") {
        Some(text) => (text.strip_suffix(b"\r").unwrap_or(text), Some(length)),
        // The last byte may yet turn out to be part of the line's end.
        None if tail == Tail::Open => (line.strip_suffix(b"\r").unwrap_or(line), None),
        None => (line, None),
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const MAX_LINE: usize = 8;

    fn format(max_batch: usize) -> Format {
        Format { stream: Stream::Stdout, time: Timestamp::from_nanos(1), max_line: MAX_LINE, max_batch }
    }

    /// Feeds the chunks as a pipe would, keeping what was not consumed; returns the lines without header.
    fn lines(chunks: &[&[u8]], max_batch: usize) -> Vec<Vec<u8>> {
        let (mut pipe, mut log) = (Vec::new(), Vec::new());
        let mut take = |pipe: &mut Vec<u8>, tail| loop {
            let done = format(max_batch).write(pipe, tail, &mut log);
            pipe.drain(..done);
            if done == 0 {
                return;
            }
        };
        for chunk in chunks {
            pipe.extend_from_slice(chunk);
            take(&mut pipe, Tail::Open);
        }
        take(&mut pipe, Tail::Closed);
        assert!(pipe.is_empty());
        let header = b"1970-01-01T00:00:00.000000001Z stdout ";
        log.split_inclusive(|byte| *byte == b'\n')
            .map(|line| line.strip_suffix(b"\n").unwrap().strip_prefix(header).unwrap().to_vec())
            .collect()
    }

    fn check(input: &[u8], expected: &[&str]) {
        let found: Vec<_> =
            lines(&[input], usize::MAX).iter().map(|l| String::from_utf8_lossy(l).into_owned()).collect();
        assert_eq!(found, expected, "{:?}", String::from_utf8_lossy(input));
    }

    #[test]
    fn lines_are_whole_split_or_unfinished() {
        check(b"", &[]);
        check(b"one\ntwo\n", &["F one", "F two"]);
        check(b"\n\n", &["F ", "F "]);
        check(b"tail", &["P tail"]);
        check(b"12345678\n", &["F 12345678"]);
        check(b"123456789\n", &["P 12345678", "F 9"]);
        check(b"1234567812345678\n", &["P 12345678", "F 12345678"]);
        check(b"123456789", &["P 12345678", "P 9"]);
    }

    #[test]
    fn a_carriage_return_belongs_to_the_end_of_the_line_only() {
        check(b"one\r\ntwo\r\r\n\r\n", &["F one", "F two\r", "F "]);
        check(b"a\rb\n", &["F a\rb"]);
        check(b"12345678\r\n", &["F 12345678"]);
        check(b"12345678\rx\n", &["P 12345678", "F \rx"]);
        check(b"12345678\r", &["P 12345678", "P \r"]);
    }

    #[test]
    fn an_unfinished_line_waits_for_its_end() {
        let mut log = Vec::new();
        assert_eq!(format(usize::MAX).write(b"one\ntwo", Tail::Open, &mut log), 4);
        assert_eq!(format(usize::MAX).write(b"12345678\r", Tail::Open, &mut log), 0);
    }

    #[test]
    fn a_batch_has_a_bound() {
        let mut log = Vec::new();
        let done = format(100).write(&b"\n".repeat(1000), Tail::Open, &mut log);
        assert!(done > 0 && log.len() < 200, "{done} {}", log.len());
    }

    proptest! {
        #[test]
        fn any_chunking_gives_the_same_lines(
            bytes in vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..120),
            cuts in vec(any::<prop::sample::Index>(), 0..10),
            max_batch in 1usize..300,
        ) {
            let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let chunks: Vec<_> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(lines(&chunks, max_batch), lines(&[&bytes], usize::MAX));
        }

        #[test]
        fn the_text_is_all_there(bytes in vec(prop_oneof![Just(b'\n'), Just(b'\r'), any::<u8>()], 0..120)) {
            let mut text = Vec::new();
            for line in lines(&[&bytes], usize::MAX) {
                text.extend_from_slice(&line[2..]);
                if line.starts_with(b"F ") {
                    text.push(b'\n');
                }
            }
            let ends = |line: &[u8]| line.strip_suffix(b"\r\n").map(|text| [text, b"\n"].concat());
            let lines = bytes.split_inclusive(|byte| *byte == b'\n');
            let expected: Vec<u8> = lines.flat_map(|line| ends(line).unwrap_or(line.to_vec())).collect();
            prop_assert_eq!(text, expected);
        }
    }
}
