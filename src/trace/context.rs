//! W3C Trace Context (w3.org/TR/trace-context-1): the place of a span in its trace, as a caller writes it into the
//! headers of a request.

use std::fmt;
use std::num::{NonZeroU64, NonZeroU128};
use std::sync::Arc;

/// The header with the trace, the span, and whether it is recorded: `00-TRACE-SPAN-FLAGS`, all in lower-case hex.
pub const PARENT: &str = "traceparent";
/// The header with what tracing systems have to say to themselves, handed on as it is.
pub const STATE: &str = "tracestate";

/// What every system must hand on of the latter, and all that this one does, in bytes (§3.3.1.5).
const MAX_STATE: usize = 512;
/// The only flag that is defined (§3.2.2.5).
const SAMPLED: u8 = 1;

/// The place of a span in its trace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Context {
    pub trace: NonZeroU128,
    pub span: NonZeroU64,
    /// Whether the trace is recorded, by whoever has begun it.
    pub sampled: bool,
    pub state: Option<Arc<str>>,
}

impl Context {
    /// That of a new trace.
    pub fn root(sampled: bool) -> Self {
        let trace = rand::random::<NonZeroU128>();
        Self { trace, span: rand::random(), sampled, state: None }
    }

    /// That of another span in the same trace.
    pub fn sibling(&self) -> Self {
        Self { span: rand::random(), ..self.clone() }
    }

    /// The caller's, by the headers of its request; `None` where there is none, or none that can be read.
    pub fn of_headers<'a>(header: impl Fn(&str) -> Option<&'a str>) -> Option<Self> {
        let context = Self::parse(header(PARENT)?)?;
        let state = header(STATE).filter(|state| !state.is_empty() && state.len() <= MAX_STATE);
        Some(Self { state: state.map(Arc::from), ..context })
    }

    /// The headers of a request on its behalf.
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        let state = self.state.as_ref().map(|state| (STATE, state.to_string()));
        std::iter::once((PARENT, self.to_string())).chain(state)
    }

    /// Of a version to come the parts that are known are read (§4.3).
    fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(5, '-');
        let mut part = |digits: usize| {
            let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
            parts.next().filter(|part| part.len() == digits && part.bytes().all(is_digit))
        };
        let (version, trace, span, flags) = (part(2)?, part(32)?, part(16)?, part(2)?);
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return None;
        }
        let flags = u8::from_str_radix(flags, 16).ok()?;
        Some(Self {
            trace: NonZeroU128::new(u128::from_str_radix(trace, 16).ok()?)?,
            span: NonZeroU64::new(u64::from_str_radix(span, 16).ok()?)?,
            sampled: flags & SAMPLED != 0,
            state: None,
        })
    }
}

impl fmt::Display for Context {
    /// As the header has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
    const SPAN: &str = "00f067aa0ba902b7";

    fn read(parent: &str, state: &str) -> Option<Context> {
        Context::of_headers(|name| match name {
            PARENT => Some(parent),
            STATE => Some(state),
            _ => None,
        })
    }

    #[test]
    fn a_context_is_read_and_written_as_the_specification_has_it() {
        for (flags, sampled, written) in [("00", false, "00"), ("01", true, "01"), ("ff", true, "01")] {
            let context = read(&format!("00-{TRACE}-{SPAN}-{flags}"), "a=b,c@d=e").unwrap();
            assert_eq!(context.sampled, sampled);
            let headers: Vec<_> = context.headers().collect();
            let parent = format!("00-{TRACE}-{SPAN}-{written}");
            assert_eq!(headers, [(PARENT, parent), (STATE, "a=b,c@d=e".to_owned())]);
        }
        let headers: Vec<_> = Context::root(true).headers().collect();
        assert_eq!(headers.len(), 1, "without a state: {headers:?}");
    }

    #[test]
    fn what_is_none_begins_no_trace() {
        let none = |text: &str| assert_eq!(read(text, ""), None, "{text:?}");
        none("");
        none(&format!("00-{TRACE}-{SPAN}"));
        none(&format!("00-{TRACE}-{SPAN}-1"));
        none(&format!("00-{TRACE}-{SPAN}-01-"));
        none(&format!("00-{TRACE}-{SPAN}-01-more"));
        none(&format!("ff-{TRACE}-{SPAN}-01"));
        none(&format!("00-{}-{SPAN}-01", TRACE.to_uppercase()));
        none(&format!("00-{}-{SPAN}-01", "0".repeat(32)));
        none(&format!("00-{TRACE}-{}-01", "0".repeat(16)));
        none(&format!("00-+{}-{SPAN}-01", &TRACE[1..]));
        none(&format!(" 00-{TRACE}-{SPAN}-01"));
    }

    #[test]
    fn a_version_to_come_may_say_more() {
        let known = read(&format!("00-{TRACE}-{SPAN}-01"), "");
        assert!(known.is_some());
        assert_eq!(read(&format!("01-{TRACE}-{SPAN}-01"), ""), known);
        assert_eq!(read(&format!("cc-{TRACE}-{SPAN}-01-more-and-more"), ""), known);
        assert_eq!(read(&format!("cc-{TRACE}-{SPAN}-01.more"), ""), None);
    }

    #[test]
    fn a_state_beyond_its_bound_is_left_out() {
        let parent = format!("00-{TRACE}-{SPAN}-01");
        assert!(read(&parent, &"a".repeat(MAX_STATE)).unwrap().state.is_some());
        let without = read(&parent, &"a".repeat(MAX_STATE + 1)).unwrap();
        assert_eq!(without.state, None);
        assert_eq!(without.to_string(), parent);
    }

    proptest! {
        #[test]
        fn no_header_panics(text in ".*", state in ".*") {
            let _ = read(&text, &state);
        }

        #[test]
        fn what_is_written_reads_back(trace: NonZeroU128, span: NonZeroU64, sampled: bool) {
            let context = Context { trace, span, sampled, state: None };
            prop_assert_eq!(read(&context.to_string(), ""), Some(context));
        }
    }
}
