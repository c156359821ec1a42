//! A walk over a manifest that goes on after a mistake, and leaves no field unread: what nobody asked for is a
//! mistake too, because a pod that ran without it would not be the pod that was written.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::{Map, Value};

use super::quantity::Quantity;

/// What is wrong with a manifest, each with the path of the field: `spec.containers[1].livenessProbe`.
pub type Mistakes = Vec<String>;

/// An object of the manifest, less what has been read of it.
pub struct Fields<'a> {
    path: String,
    rest: Map<String, Value>,
    mistakes: &'a mut Mistakes,
}

impl<'a> Fields<'a> {
    /// A whole document.
    pub fn root(document: Map<String, Value>, mistakes: &'a mut Mistakes) -> Self {
        Self { path: String::new(), rest: document, mistakes }
    }

    /// The path of a field of this object.
    pub fn path(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    /// Notes a mistake at a field.
    pub fn wrong(&mut self, key: &str, text: impl std::fmt::Display) {
        let path = self.path(key);
        self.mistakes.push(format!("{path}: {text}"));
    }

    /// Drops a field that is known to make no difference here.
    pub fn ignore(&mut self, key: &str) {
        self.rest.remove(key);
    }

    /// Whether the field is there; what is null is not.
    pub fn has(&self, key: &str) -> bool {
        self.rest.get(key).is_some_and(|value| !value.is_null())
    }

    pub fn text(&mut self, key: &str) -> Option<String> {
        self.read(key, "must be a string (in quotes, where YAML would see something else)", |value| {
            match value {
                Value::String(text) => Some(text),
                _ => None,
            }
        })
    }

    /// A string that must be there; empty with a mistake noted where it is not.
    pub fn required(&mut self, key: &str) -> String {
        if !self.has(key) {
            self.wrong(key, "must be given");
            return String::new();
        }
        let text = self.text(key);
        if text.as_deref() == Some("") {
            self.wrong(key, "must not be empty");
        }
        text.unwrap_or_default()
    }

    pub fn truth(&mut self, key: &str) -> Option<bool> {
        self.read(key, "must be true or false", |value| value.as_bool())
    }

    /// A whole number within the range.
    pub fn whole(&mut self, key: &str, range: RangeInclusive<i64>) -> Option<i64> {
        let expected = format!("must be a whole number from {} to {}", range.start(), range.end());
        self.read(key, &expected, |value| value.as_i64().filter(|number| range.contains(number)))
    }

    /// One of a few words.
    pub fn word<T: Copy>(&mut self, key: &str, words: &[(&str, T)]) -> Option<T> {
        let names: Vec<_> = words.iter().map(|(word, _)| *word).collect();
        let expected = format!("must be one of {}", names.join(", "));
        self.read(key, &expected, |value| {
            words.iter().find(|(word, _)| value.as_str() == Some(word)).map(|(_, meaning)| *meaning)
        })
    }

    pub fn quantity(&mut self, key: &str) -> Option<Quantity> {
        self.read(key, &super::quantity::NotAQuantity.to_string(), |value| match value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.to_string().parse().ok(),
            _ => None,
        })
    }

    pub fn texts(&mut self, key: &str) -> Vec<String> {
        let read = self.read(key, "must be a list of strings", |value| match value {
            Value::Array(list) => list.into_iter().map(text_of).collect::<Option<Vec<_>>>(),
            _ => None,
        });
        read.unwrap_or_default()
    }

    /// Whole numbers of at least 0: user and group ids.
    pub fn ids(&mut self, key: &str) -> Vec<i64> {
        let id = |value: Value| value.as_i64().filter(|id| (0..=i64::from(i32::MAX)).contains(id));
        let read =
            self.read(key, "must be a list of whole numbers from 0 to 2147483647", |value| match value {
                Value::Array(list) => list.into_iter().map(id).collect::<Option<Vec<_>>>(),
                _ => None,
            });
        read.unwrap_or_default()
    }

    /// Strings by name: labels and annotations.
    pub fn dictionary(&mut self, key: &str) -> BTreeMap<String, String> {
        let read = self.read(key, "must be strings by name", |value| match value {
            Value::Object(entries) => {
                entries.into_iter().map(|(key, value)| Some((key, text_of(value)?))).collect()
            }
            _ => None,
        });
        read.unwrap_or_default()
    }

    /// Descends into an object; every field of it that `read` leaves is a mistake.
    pub fn object<T>(&mut self, key: &str, read: impl FnOnce(&mut Fields<'_>) -> T) -> Option<T> {
        let rest = self.read(key, "must be an object", object_of)?;
        let mut inner = Fields { path: self.path(key), rest, mistakes: &mut *self.mistakes };
        let read = read(&mut inner);
        inner.finish();
        Some(read)
    }

    /// Descends into each object of a list.
    pub fn objects<T>(&mut self, key: &str, mut read: impl FnMut(&mut Fields<'_>) -> T) -> Vec<T> {
        let list = self.read(key, "must be a list", |value| match value {
            Value::Array(list) => Some(list),
            _ => None,
        });
        let mut objects = Vec::new();
        for (n, value) in list.into_iter().flatten().enumerate() {
            let path = format!("{}[{n}]", self.path(key));
            let Some(rest) = object_of(value) else {
                self.mistakes.push(format!("{path}: must be an object"));
                continue;
            };
            let mut inner = Fields { path, rest, mistakes: &mut *self.mistakes };
            objects.push(read(&mut inner));
            inner.finish();
        }
        objects
    }

    /// Whatever is left was not understood.
    pub fn finish(self) {
        let unread = self.rest.iter().filter(|(_, value)| !value.is_null());
        for (key, _) in unread {
            let path = self.path(key);
            self.mistakes.push(format!("{path}: not supported by cridge play"));
        }
    }

    fn read<T>(&mut self, key: &str, expected: &str, read: impl FnOnce(Value) -> Option<T>) -> Option<T> {
        let value = self.rest.remove(key).filter(|value| !value.is_null())?;
        let read = read(value);
        if read.is_none() {
            self.wrong(key, expected);
        }
        read
    }
}

fn text_of(value: Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text),
        _ => None,
    }
}

fn object_of(value: Value) -> Option<Map<String, Value>> {
    match value {
        Value::Object(object) => Some(object),
        _ => None,
    }
}
