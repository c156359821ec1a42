//! A tar archive with one program in it: all that the built-in image needs of the format (POSIX.1-1988, ustar).

/// Bytes of a header, and what everything is padded to.
const BLOCK: usize = 512;
/// Where a header's checksum is.
const CHECKSUM: std::ops::Range<usize> = 148..156;

/// An archive of one executable file of root's, dated 1970. The name has at most 99 bytes.
pub fn of_program(name: &str, program: &[u8]) -> Vec<u8> {
    let mut archive = header(name, program.len()).to_vec();
    archive.extend_from_slice(program);
    // Filled up to a whole block; then two empty blocks, the end.
    archive.resize(archive.len().next_multiple_of(BLOCK) + 2 * BLOCK, 0);
    archive
}

fn header(name: &str, size: usize) -> [u8; BLOCK] {
    let mut header = [0; BLOCK];
    let mut set = |at: usize, text: &str| header[at..at + text.len()].copy_from_slice(text.as_bytes());
    set(0, name);
    set(100, "0000755\0");
    set(108, "0000000\0");
    set(116, "0000000\0");
    set(124, &format!("{size:011o}\0"));
    set(136, "00000000000\0");
    set(CHECKSUM.start, "        ");
    set(156, "0");
    set(257, "ustar\x0000");
    let sum: u32 = header.iter().map(|&byte| u32::from(byte)).sum();
    header[CHECKSUM].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    header
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    #[test]
    fn tar_lists_it() {
        let archive = super::of_program("pause", &[7; 700]);
        let mut tar = Command::new("tar");
        tar.args(["--list", "--verbose", "--utc", "--numeric-owner", "--file=-"]);
        let mut tar = tar.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("tar");
        tar.stdin.take().expect("piped").write_all(&archive).expect("read");
        let output = tar.wait_with_output().expect("an end");
        let listed = String::from_utf8(output.stdout).expect("text");
        let words: Vec<_> = listed.split_whitespace().collect();
        assert!(output.status.success());
        assert_eq!(words, ["-rwxr-xr-x", "0/0", "700", "1970-01-01", "00:00", "pause"]);
    }
}
