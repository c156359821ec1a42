//! Signals by name and number: one type for images, the CRI and the task API.

use std::fmt;
use std::str::FromStr;

use crate::proto::cri;

/// A signal that can be sent to a process: 1 to 64.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Signal(u8);

/// Why a text names no signal.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("unknown signal {0:?}")]
pub struct UnknownSignal(String);

const NAMES: [&str; 31] = [
    "HUP", "INT", "QUIT", "ILL", "TRAP", "ABRT", "BUS", "FPE", "KILL", "USR1", "SEGV", "USR2", "PIPE",
    "ALRM", "TERM", "STKFLT", "CHLD", "CONT", "STOP", "TSTP", "TTIN", "TTOU", "URG", "XCPU", "XFSZ",
    "VTALRM", "PROF", "WINCH", "IO", "PWR", "SYS",
];
/// The first and last real-time signal as glibc counts them (signal(7)): what image builders mean.
const RTMIN: u8 = 34;
const RTMAX: u8 = 64;
/// What the CRI's enum writes before each name.
const CRI_PREFIX: &str = "SIGNAL_";

impl Signal {
    /// Asks a process to end.
    pub const TERM: Self = Self(15);
    /// Ends it.
    pub const KILL: Self = Self(9);

    /// The number that the kernel knows.
    pub const fn number(self) -> u32 {
        self.0 as u32
    }

    /// From the CRI's enum; `None` for the runtime's default, which is not a signal.
    ///
    /// # Errors
    /// [`UnknownSignal`] for a number that the CRI does not define.
    pub fn from_cri(value: i32) -> Result<Option<Self>, UnknownSignal> {
        match cri::Signal::try_from(value) {
            Ok(cri::Signal::RuntimeDefault) => Ok(None),
            Ok(signal) => signal.as_str_name().trim_start_matches(CRI_PREFIX).parse().map(Some),
            Err(_) => Err(UnknownSignal(value.to_string())),
        }
    }

    /// The CRI's enum value of the same name (`SIGRTMIN+1` is `SIGRTMINPLUS1` there).
    pub fn to_cri(self) -> cri::Signal {
        let name = self.to_string().replace('+', "PLUS").replace("SIGRTMAX-", "SIGRTMAXMINUS");
        cri::Signal::from_str_name(&format!("{CRI_PREFIX}{name}")).unwrap_or(cri::Signal::RuntimeDefault)
    }
}

impl FromStr for Signal {
    type Err = UnknownSignal;

    /// Reads `15`, `TERM`, `SIGTERM`, `SIGRTMIN+1` and the CRI's `SIGRTMINPLUS1`, in any case.
    fn from_str(text: &str) -> Result<Self, UnknownSignal> {
        let unknown = || UnknownSignal(text.chars().take(40).collect());
        let upper = text.trim().to_ascii_uppercase();
        if let Ok(number) = upper.parse::<u8>() {
            return if (1..=RTMAX).contains(&number) { Ok(Self(number)) } else { Err(unknown()) };
        }
        let name = upper.strip_prefix("SIG").unwrap_or(&upper);
        if let Some(at) = NAMES.iter().position(|known| *known == name) {
            return u8::try_from(at + 1).map(Self).map_err(|_| unknown());
        }
        match name {
            "CLD" => return Ok(Self(17)),
            "POLL" => return Ok(Self(29)),
            "IOT" => return Ok(Self(6)),
            "RTMIN" => return Ok(Self(RTMIN)),
            "RTMAX" => return Ok(Self(RTMAX)),
            _ => {}
        }
        let offset = |prefix: &str, word: &str, sign: char| -> Option<u8> {
            let rest = name.strip_prefix(prefix)?;
            rest.strip_prefix(word).or_else(|| rest.strip_prefix(sign))?.parse().ok()
        };
        let number = if let Some(plus) = offset("RTMIN", "PLUS", '+') {
            RTMIN.checked_add(plus)
        } else {
            offset("RTMAX", "MINUS", '-').and_then(|minus| RTMAX.checked_sub(minus))
        };
        number.filter(|n| (RTMIN..=RTMAX).contains(n)).map(Self).ok_or_else(unknown)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            n @ 1..=31 => write!(f, "SIG{}", NAMES[usize::from(n) - 1]),
            RTMIN => f.write_str("SIGRTMIN"),
            RTMAX => f.write_str("SIGRTMAX"),
            // The kernel's own naming splits the range in two halves, and so does the CRI's.
            n if n <= 49 => write!(f, "SIGRTMIN+{}", n.saturating_sub(RTMIN)),
            n => write!(f, "SIGRTMAX-{}", RTMAX - n),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_read() {
        for (text, number) in [
            ("SIGTERM", 15),
            ("term", 15),
            ("15", 15),
            ("SIGKILL", 9),
            ("SIGRTMIN", 34),
            ("SIGRTMIN+3", 37),
            ("SIGRTMINPLUS15", 49),
            ("RTMAX-14", 50),
            ("SIGRTMAXMINUS1", 63),
            ("SIGCLD", 17),
            ("64", 64),
        ] {
            assert_eq!(text.parse::<Signal>().map(Signal::number), Ok(number), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused() {
        for text in ["", "0", "65", "-1", "SIG", "SIGNOPE", "SIGRTMIN+31", "SIGRTMAX-31", "RTMIN+x", "999"] {
            assert!(text.parse::<Signal>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_cris_names_round_trip() {
        let mut seen = 0;
        for number in 0..200 {
            let Ok(Some(signal)) = Signal::from_cri(number) else { continue };
            assert_eq!(Signal::from_cri(signal.to_cri() as i32), Ok(Some(signal)));
            assert_eq!(signal.to_string().parse(), Ok(signal));
            seen += 1;
        }
        assert_eq!(seen, 65);
    }
}
