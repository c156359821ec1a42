//! A template taken apart: text, and what stands between braces.

use super::TemplateError;

/// A stretch of text, or what stands between braces; with its line.
#[derive(Debug)]
pub(super) struct Piece {
    pub line: usize,
    pub content: Content,
}

#[derive(Debug)]
pub(super) enum Content {
    Text(String),
    Action(String),
}

/// Takes the text apart, and trims what lies beside `{{- ` and ` -}}`.
pub(super) fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
    let mut pieces = Vec::new();
    let (mut rest, mut line, mut trim) = (text, 1, false);
    loop {
        let start = rest.find("{{").unwrap_or(rest.len());
        let (plain, tail) = rest.split_at(start);
        let here = line + plain.matches('\n').count();
        let Some(inner) = tail.strip_prefix("{{") else {
            let plain = if trim { plain.trim_start() } else { plain };
            pieces.push(Piece { line, content: Content::Text(plain.to_owned()) });
            return Ok(pieces);
        };
        let (action, used, before, after) =
            action(inner).map_err(|why| TemplateError { line: here, why: why.to_owned() })?;
        let plain = if trim { plain.trim_start() } else { plain };
        let plain = if before { plain.trim_end() } else { plain };
        pieces.push(Piece { line, content: Content::Text(plain.to_owned()) });
        if let Some(action) = action {
            pieces.push(Piece { line: here, content: Content::Action(action.to_owned()) });
        }
        line = here + inner[..used].matches('\n').count();
        rest = &inner[used..];
        trim = after;
    }
}

/// What stands up to the next `}}` (nothing, for a comment), the bytes of that, and whether text before and after is to
/// be trimmed.
fn action(inner: &str) -> Result<(Option<&str>, usize, bool, bool), &'static str> {
    let before = inner.starts_with('-') && inner[1..].starts_with(is_blank);
    let skipped = if before { inner.len() - inner[1..].trim_start_matches(is_blank).len() } else { 0 };
    let content = &inner[skipped..];
    let comment = content.starts_with("/*");
    let from = match comment {
        true => content.find("*/").ok_or("a comment has no end")? + 2,
        false => 0,
    };
    let length = from + content[from..].find("}}").ok_or("an action has no end")?;
    let whole = &content[..length];
    let trimmed = whole.strip_suffix('-').filter(|whole| whole.ends_with(is_blank));
    let words = trimmed.unwrap_or(whole).trim_matches(is_blank);
    let used = skipped + length + 2;
    match comment {
        true if words.len() == from => Ok((None, used, before, trimmed.is_some())),
        true => Err("a comment stands alone in its braces"),
        false => Ok((Some(words), used, before, trimmed.is_some())),
    }
}

/// What text/template trims.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}
