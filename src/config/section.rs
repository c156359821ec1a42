//! A walk over a TOML document that goes on after a mistake: what is wrong is noted with its line, what nobody asked
//! for is left over as unknown.

use std::collections::BTreeMap;
use std::ops::Range;

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::error::Mistake;
use super::value::Read;

/// What the walk has found.
#[derive(Default)]
pub(super) struct Notes {
    /// Byte offsets at which lines begin, the second line first.
    breaks: Vec<usize>,
    pub mistakes: Vec<Mistake>,
    pub unknown: Vec<Mistake>,
    /// Every key that was asked for, whether there or not.
    pub asked: Vec<String>,
}

impl Notes {
    pub fn of(text: &str) -> Self {
        let breaks = text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1);
        Self { breaks: breaks.collect(), ..Self::default() }
    }

    /// The line of a byte, counted from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.breaks.partition_point(|start| *start <= offset) + 1
    }
}

/// A table of the document, less what has been read of it.
pub(super) struct Section<'a, 'text> {
    /// Path of the table with a final dot; empty for the whole document.
    prefix: String,
    rest: DeTable<'text>,
    /// Where the keys read were written.
    lines: BTreeMap<String, usize>,
    notes: &'a mut Notes,
}

impl<'a, 'text> Section<'a, 'text> {
    pub fn root(table: DeTable<'text>, notes: &'a mut Notes) -> Self {
        Self { prefix: String::new(), rest: table, lines: BTreeMap::new(), notes }
    }

    /// Reads a key, if it is there.
    pub fn key<T>(&mut self, key: &str, read: impl Fn(&DeValue<'_>) -> Read<T>, into: &mut T) {
        if let Some(value) = self.take(key)
            && let Some(read) = self.noted(key, value.span(), read(value.get_ref()))
        {
            *into = read;
        }
    }

    /// Reads a list; each wrong element is a mistake of its own.
    pub fn list<T>(&mut self, key: &str, read: impl Fn(&DeValue<'_>) -> Read<T>, into: &mut Vec<T>) {
        let Some(value) = self.take(key) else { return };
        let Some(list) = value.get_ref().as_array() else {
            return self.wrong(key, value.span(), "must be a list in brackets".into());
        };
        let elements = list.iter().enumerate().filter_map(|(n, element)| {
            self.noted(&format!("{key}[{n}]"), element.span(), read(element.get_ref()))
        });
        *into = elements.collect();
    }

    /// Descends into a table.
    pub fn table<T>(&mut self, key: &str, fill: impl Fn(&mut Section<'_, 'text>, &mut T), into: &mut T) {
        let table = match self.take(key) {
            Some(value) => self.as_table(key, value),
            // Walked nevertheless: it tells of the keys that there are.
            None => Some(DeTable::new()),
        };
        if let Some(rest) = table {
            let mut inner = Section {
                prefix: format!("{}{key}.", self.prefix),
                rest,
                lines: BTreeMap::new(),
                notes: &mut *self.notes,
            };
            fill(&mut inner, into);
            inner.finish();
        }
    }

    /// Descends into a table whose keys the operator chooses; an entry that is there already is added to.
    pub fn tables<T: Default>(
        &mut self,
        key: &str,
        fill: impl Fn(&mut Section<'_, 'text>, &mut T),
        into: &mut BTreeMap<String, T>,
    ) {
        self.table(
            key,
            |inner, into: &mut BTreeMap<String, T>| {
                for name in inner.names() {
                    inner.table(&name, &fill, into.entry(name.clone()).or_default());
                }
            },
            into,
        );
    }

    /// Reads every key there is, all by one rule.
    pub fn entries<T>(
        &mut self,
        read: impl Fn(&DeValue<'_>) -> Read<T>,
        into: &mut impl Extend<(String, T)>,
    ) {
        for name in self.names() {
            if let Some(value) = self.take(&name)
                && let Some(value) = self.noted(&name, value.span(), read(value.get_ref()))
            {
                into.extend([(name, value)]);
            }
        }
    }

    /// Notes a mistake that shows only beside other keys, at the line of this one.
    pub fn refuse(&mut self, key: &str, text: String) {
        if let Some(line) = self.lines.get(key).copied() {
            self.notes.mistakes.push(Mistake { line, key: format!("{}{key}", self.prefix), text });
        }
    }

    /// What is left is unknown.
    pub fn finish(self) {
        for (key, _) in self.rest {
            let line = self.notes.line(key.span().start);
            let key = format!("{}{}", self.prefix, key.get_ref());
            self.notes.unknown.push(Mistake { line, key, text: "unknown key".into() });
        }
    }

    fn names(&self) -> Vec<String> {
        self.rest.keys().map(|key| key.get_ref().to_string()).collect()
    }

    fn take(&mut self, key: &str) -> Option<Spanned<DeValue<'text>>> {
        self.notes.asked.push(format!("{}{key}", self.prefix));
        let (name, value) = self.rest.remove_entry(key)?;
        self.lines.insert(key.to_owned(), self.notes.line(name.span().start));
        Some(value)
    }

    fn as_table(&mut self, key: &str, value: Spanned<DeValue<'text>>) -> Option<DeTable<'text>> {
        let span = value.span();
        match value.into_inner() {
            DeValue::Table(table) => Some(table),
            _ => {
                self.wrong(key, span, "must be a table".into());
                None
            }
        }
    }

    fn noted<T>(&mut self, key: &str, span: Range<usize>, read: Read<T>) -> Option<T> {
        read.map_err(|text| self.wrong(key, span, text)).ok()
    }

    fn wrong(&mut self, key: &str, span: Range<usize>, text: String) {
        let line = self.notes.line(span.start);
        self.notes.mistakes.push(Mistake { line, key: format!("{}{key}", self.prefix), text });
    }
}
