//! logfmt: `key=value`, separated by spaces, a value in quotes where it has to be (brandur.org/logfmt; as Go's slog and
//! logrus write it). One line for each event, whatever is in it.

use std::fmt::{self, Debug, Write as _};

use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

use crate::time::Timestamp;

/// An event's line: time, level, target, message, its own fields, and those of the spans around it, the outermost last.
pub struct Lines;

/// The fields of an event or span.
pub struct Fields;

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let metadata = event.metadata();
        let level = metadata.level().as_str().to_ascii_lowercase();
        write!(writer, "time={} level={level} target={} ", Timestamp::now(), metadata.target())?;
        context.format_fields(writer.by_ref(), event)?;
        for span in context.event_scope().into_iter().flatten() {
            let extensions = span.extensions();
            if let Some(fields) = extensions.get::<FormattedFields<N>>().filter(|fields| !fields.is_empty()) {
                write!(writer, " {}", fields.fields)?;
            }
        }
        writeln!(writer)
    }
}

impl<'writer> FormatFields<'writer> for Fields {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'writer>, fields: R) -> fmt::Result {
        let mut text = Text::default();
        fields.record(&mut text);
        writer.write_str(&text.0)
    }
}

/// Fields, as far as they were seen.
#[derive(Default)]
struct Text(String);

impl Text {
    fn put(&mut self, field: &Field, value: &str) {
        let name = if field.name() == "message" { "msg" } else { field.name() };
        if !self.0.is_empty() {
            self.0.push(' ');
        }
        self.0.push_str(name);
        self.0.push('=');
        value_into(&mut self.0, value);
    }
}

impl Visit for Text {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, &format!("{value:?}"));
    }
}

/// In quotes unless it is a plain word.
fn value_into(text: &mut String, value: &str) {
    let plain =
        |letter: char| !(letter.is_whitespace() || letter.is_control() || ['"', '=', '\\'].contains(&letter));
    if !value.is_empty() && value.chars().all(plain) {
        return text.push_str(value);
    }
    text.push('"');
    for letter in value.chars() {
        match letter {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\r' => text.push_str("\\r"),
            '\t' => text.push_str("\\t"),
            control if control.is_control() => {
                let _ = write!(text, "\\u{:04x}", control as u32);
            }
            other => text.push(other),
        }
    }
    text.push('"');
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    /// What is logged meanwhile, without the times.
    fn logged(work: impl FnOnce()) -> Vec<String> {
        let lines: Arc<Mutex<Vec<u8>>> = Arc::default();
        let writer = {
            let lines = lines.clone();
            move || Sink(lines.clone())
        };
        let layer =
            tracing_subscriber::fmt::layer().with_writer(writer).event_format(Lines).fmt_fields(Fields);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), work);
        let text = String::from_utf8(lines.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| line.split_once(' ').unwrap().1.to_owned()).collect()
    }

    struct Sink(Arc<Mutex<Vec<u8>>>);

    impl std::io::Write for Sink {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_line_has_its_own_fields_and_those_around_it() {
        let target = module_path!();
        let lines = logged(|| {
            let outer = tracing::error_span!("op", op = "StartContainer", pod = "default/web");
            outer.in_scope(|| {
                tracing::error_span!("inner", image = "a b").in_scope(|| {
                    tracing::warn!(code = 7, error = %"it \"broke\"\nin two", "cannot start");
                });
            });
            tracing::info!("{}", "done");
        });
        assert_eq!(
            lines,
            [
                format!(
                    r#"level=warn target={target} msg="cannot start" code=7 error="it \"broke\"\nin two" image="a b" op=StartContainer pod=default/web"#
                ),
                format!("level=info target={target} msg=done"),
            ]
        );
    }

    /// As a reader of logfmt takes a value.
    fn read(text: &str) -> String {
        let Some(inner) = text.strip_prefix('"') else { return text.to_owned() };
        serde_json::from_str(&format!("\"{inner}")).unwrap()
    }

    proptest::proptest! {
        #[test]
        fn a_value_reads_back_and_is_on_one_line(value in proptest::prelude::any::<String>()) {
            let mut text = String::new();
            value_into(&mut text, &value);
            proptest::prop_assert_eq!(text.lines().count(), 1);
            proptest::prop_assert_eq!(read(&text), value);
        }
    }
}
