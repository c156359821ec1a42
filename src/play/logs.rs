//! A container's log as the runtime writes it: `<time> <stdout|stderr> <F|P> <text>` a line, F(ull) or P(artial).

use std::path::PathBuf;
use std::time::Duration;

use tokio::fs::File;
use tokio::io::AsyncReadExt;
use tokio_util::sync::CancellationToken;

/// How often a log is looked at for more.
const INTERVAL: Duration = Duration::from_millis(100);
/// Empty looks after the container's end that make an end of its log: the last line may come after the news.
const QUIET_LOOKS: u32 = 2;
/// Longest line put together of partial ones, in bytes; what is longer is shown in pieces.
const LONGEST_LINE: usize = 64 << 10;

/// Hands every line of the log to `print`, until the container has ended and all is read. A log that never comes
/// (nothing was started) ends likewise.
pub async fn follow(path: PathBuf, ended: CancellationToken, mut print: impl FnMut(&[u8])) {
    let mut lines = Lines::default();
    let mut file = None;
    let mut quiet = 0;
    let mut buffer = vec![0; 32 << 10];
    while quiet < QUIET_LOOKS {
        if file.is_none() {
            file = File::open(&path).await.ok();
        }
        let read = match &mut file {
            Some(file) => file.read(&mut buffer).await.unwrap_or(0),
            None => 0,
        };
        lines.feed(&buffer[..read], &mut print);
        if read > 0 {
            quiet = 0;
        } else if ended.is_cancelled() {
            quiet += 1;
            tokio::time::sleep(INTERVAL).await;
        } else {
            let _ = tokio::time::timeout(INTERVAL, ended.cancelled()).await;
        }
    }
    lines.finish(&mut print);
}

/// Puts lines together out of whatever was read.
#[derive(Default)]
struct Lines {
    /// A line of the file whose end is not read yet.
    raw: Vec<u8>,
    /// Text of partial lines before it, of stdout and of stderr.
    partial: [Vec<u8>; 2],
}

impl Lines {
    fn feed(&mut self, mut data: &[u8], print: &mut impl FnMut(&[u8])) {
        while let Some(end) = data.iter().position(|byte| *byte == b'\n') {
            self.raw.extend_from_slice(&data[..end]);
            let raw = std::mem::take(&mut self.raw);
            self.line(&raw, print);
            data = &data[end + 1..];
        }
        self.raw.extend_from_slice(data);
        if self.raw.len() > LONGEST_LINE {
            // No runtime writes this; shown as it is rather than kept without bound.
            print(&std::mem::take(&mut self.raw));
        }
    }

    fn line(&mut self, raw: &[u8], print: &mut impl FnMut(&[u8])) {
        let mut parts = raw.splitn(4, |byte| *byte == b' ');
        let (Some(_time), Some(stream), Some(tag), Some(text)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return print(raw);
        };
        let partial = &mut self.partial[usize::from(stream == b"stderr")];
        partial.extend_from_slice(text);
        // Further tags may follow after a colon.
        let is_whole = tag.split(|byte| *byte == b':').next() != Some(b"P");
        if is_whole || partial.len() > LONGEST_LINE {
            print(&std::mem::take(partial));
        }
    }

    /// Shows what was never brought to an end.
    fn finish(&mut self, print: &mut impl FnMut(&[u8])) {
        for partial in &mut self.partial {
            if !partial.is_empty() {
                print(&std::mem::take(partial));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut shown = Vec::new();
        let mut print = |text: &[u8]| shown.push(String::from_utf8_lossy(text).into_owned());
        let mut lines = Lines::default();
        for piece in pieces {
            lines.feed(piece, &mut print);
        }
        lines.finish(&mut print);
        shown
    }

    const LOG: &str = "2024-01-01T00:00:00Z stdout F one\n\
        2024-01-01T00:00:00Z stdout P tw\n\
        2024-01-01T00:00:00Z stderr F other stream\n\
        2024-01-01T00:00:00Z stdout F o\n\
        2024-01-01T00:00:00Z stdout F \n\
        2024-01-01T00:00:00Z stdout P:x never ended\n";

    #[test]
    fn partial_lines_are_put_together_by_stream() {
        assert_eq!(lines(&[LOG.as_bytes()]), ["one", "other stream", "two", "", "never ended"]);
    }

    proptest! {
        #[test]
        fn where_reads_are_cut_makes_no_difference(at in 0..LOG.len(), more in 0..LOG.len()) {
            let (first, rest) = LOG.as_bytes().split_at(at.min(more));
            let (second, third) = rest.split_at(at.max(more) - at.min(more));
            prop_assert_eq!(lines(&[first, second, third]), lines(&[LOG.as_bytes()]));
        }

        #[test]
        fn no_log_panics(data in proptest::collection::vec(any::<u8>(), 0..200)) {
            lines(&[&data]);
        }
    }

    #[tokio::test]
    async fn a_log_is_read_to_its_end_after_the_container_ended() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("0.log");
        std::fs::write(&path, LOG).unwrap();
        let ended = CancellationToken::new();
        ended.cancel();
        let mut shown = 0;
        follow(path, ended, |_| shown += 1).await;
        assert_eq!(shown, 5);
    }
}
