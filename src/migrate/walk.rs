//! A walk over one section: each key is taken once and comes out as a setting, as a line of the report, or as both;
//! what nobody takes is named as well.

use std::time::Duration;

use toml::Value;

use super::duration;
use super::release::Release;
use super::report::{Item, Outcome};
use super::settings::{Effect, Setting};
use super::tree::{Leaf, Node, Tree, is_empty, leaves};

const UNKNOWN: &str = "containerd knows no such key and passes it over, as cridge does";
const AS_DEFAULT: &str = "cridge's default";
/// Where containerd takes an empty value for none.
const UNSET: &str = "not set";

/// What has come of the keys so far.
pub(super) struct Output {
    pub release: Release,
    /// Whether the plugin runs pods by what it is told, so that its own defaults are what they have today.
    pub lives: bool,
    pub settings: Vec<Setting>,
    pub items: Vec<Item>,
}

impl Output {
    /// A setting, if it changes anything; or the reason why there can be none.
    pub fn carry(&mut self, leaf: Leaf, to: &[&str], value: impl Into<Value>) {
        self.carry_with(leaf, to, value, "");
    }

    /// The same, with a remark behind what is told of it.
    pub fn carry_with(&mut self, leaf: Leaf, to: &[&str], value: impl Into<Value>, remark: &str) {
        self.carry_told(setting(&leaf, to, value), |setting| format!("{setting}{remark}"));
    }

    /// The same, in words that need not tell the value.
    pub fn carry_told(&mut self, setting: Setting, tell: impl FnOnce(&Setting) -> String) {
        match setting.effect() {
            Effect::None => self.items.push(Item::new(setting.from, Outcome::Default, AS_DEFAULT)),
            Effect::Change => {
                let text = tell(&setting);
                self.add(setting, text);
            }
            Effect::Refused(why) => {
                let text = format!("{} {why}; it keeps its default", setting.key());
                self.items.push(Item::left(setting.from, text));
            }
        }
    }

    /// A setting that means something beside others only.
    pub fn put(&mut self, setting: Setting) {
        let text = setting.to_string();
        self.add(setting, text);
    }

    /// The first of one key counts.
    fn add(&mut self, setting: Setting, text: String) {
        if let Some(first) = self.settings.iter().find(|other| other.path == setting.path) {
            return self.items.push(Item::left(setting.from, format!("{} counts instead", first.from)));
        }
        self.items.push(Item::new(setting.from.clone(), Outcome::Carried, text));
        self.settings.push(setting);
    }

    pub fn left(&mut self, leaf: Leaf, why: &str) {
        self.items.push(Item::left(leaf.from, why));
    }

    pub fn refuse(&mut self, leaf: Leaf, why: &str) {
        self.items.push(Item::refused(leaf.from, why));
    }

    pub fn as_default(&mut self, leaf: Leaf, why: &str) {
        self.items.push(Item::new(leaf.from, Outcome::Default, why));
    }

    pub fn all_left(&mut self, tree: Tree, why: &str) {
        leaves(tree).into_iter().for_each(|leaf| self.left(leaf, why));
    }

    /// Whether a setting of that key came out.
    pub fn has(&self, path: &[&str]) -> bool {
        self.settings.iter().any(|setting| setting.path == path)
    }
}

pub(super) fn setting(leaf: &Leaf, to: &[&str], value: impl Into<Value>) -> Setting {
    let path = to.iter().map(|part| (*part).to_owned()).collect();
    Setting { path, value: value.into(), from: leaf.from.clone() }
}

/// A table of containerd's, less what has been taken of it.
pub(super) struct Section<'a> {
    tree: Tree,
    pub out: &'a mut Output,
}

impl<'a> Section<'a> {
    pub fn of(tree: Tree, out: &'a mut Output) -> Self {
        Self { tree, out }
    }

    pub fn has(&self, key: &str) -> bool {
        self.tree.contains_key(key)
    }

    /// Takes a value of any type.
    pub fn leaf(&mut self, key: &str) -> Option<Leaf> {
        match self.tree.remove(key)? {
            Node::Leaf(leaf) => Some(leaf),
            Node::Table(table) => {
                self.out.all_left(table, &format!("{key} must be no table: containerd would not start"));
                None
            }
        }
    }

    pub fn table(&mut self, key: &str) -> Option<Tree> {
        match self.tree.remove(key)? {
            Node::Table(table) => Some(table),
            Node::Leaf(leaf) => {
                self.out.left(leaf, "it must be a table: containerd would not start");
                None
            }
        }
    }

    /// Every value that there is, by its name.
    pub fn leaves(&mut self) -> Vec<(String, Leaf)> {
        let names: Vec<_> = self.tree.keys().cloned().collect();
        names.into_iter().filter_map(|name| Some((name.clone(), self.leaf(&name)?))).collect()
    }

    /// Every table that there is, by its name.
    pub fn tables(&mut self) -> Vec<(String, Tree)> {
        let names: Vec<_> = self.tree.keys().cloned().collect();
        names.into_iter().filter_map(|name| Some((name.clone(), self.table(&name)?))).collect()
    }

    /// A text that is set.
    pub fn text(&mut self, key: &str) -> Option<(String, Leaf)> {
        let leaf = self.leaf(key)?;
        match leaf.value.as_str() {
            Some("") => {
                self.out.as_default(leaf, UNSET);
                None
            }
            Some(text) => Some((text.to_owned(), leaf)),
            None => {
                self.out.left(leaf, "it must be a text: containerd would not start");
                None
            }
        }
    }

    pub fn number(&mut self, key: &str) -> Option<(i64, Leaf)> {
        let leaf = self.leaf(key)?;
        match leaf.value.as_integer() {
            Some(number) => Some((number, leaf)),
            None => {
                self.out.left(leaf, "it must be a whole number: containerd would not start");
                None
            }
        }
    }

    /// Whether it says true; what says false is cridge's way as well.
    pub fn is_true(&mut self, key: &str) -> Option<Leaf> {
        let leaf = self.leaf(key)?;
        match leaf.value.as_bool() {
            Some(true) => Some(leaf),
            Some(false) => {
                self.out.as_default(leaf, AS_DEFAULT);
                None
            }
            None => {
                self.out.left(leaf, "it must be true or false: containerd would not start");
                None
            }
        }
    }

    /// A duration as Go writes them, that is set.
    pub fn duration(&mut self, key: &str) -> Option<(Duration, Leaf)> {
        let (text, leaf) = self.text(key)?;
        match duration::parse(&text) {
            Some(duration) => Some((duration, leaf)),
            None => {
                self.out.left(leaf, "it is no duration: containerd would not start");
                None
            }
        }
    }

    /// Carries a value as it stands.
    pub fn same(&mut self, key: &str, to: &[&str]) {
        if let Some(leaf) = self.leaf(key) {
            let value = leaf.value.clone();
            self.out.carry(leaf, to, value);
        }
    }

    /// The same, where an empty value is none.
    pub fn same_if_set(&mut self, key: &str, to: &[&str]) {
        if let Some(leaf) = self.leaf(key) {
            match leaf.value.clone() {
                value if is_empty(&value) => self.out.as_default(leaf, UNSET),
                value => self.out.carry(leaf, to, value),
            }
        }
    }

    /// A key that has no like: fine as long as it has that value.
    pub fn expect(&mut self, key: &str, usual: impl Into<Value>, otherwise: &str) {
        if let Some(leaf) = self.leaf(key) {
            if leaf.value == usual.into() || is_empty(&leaf.value) && !leaf.value.is_bool() {
                self.out.as_default(leaf, AS_DEFAULT);
            } else {
                self.out.left(leaf, otherwise);
            }
        }
    }

    /// Names all that is left, with a reason.
    pub fn give_up(self, why: &str) {
        self.out.all_left(self.tree, why);
    }

    /// Names what nobody took.
    pub fn finish(self) {
        self.give_up(UNKNOWN);
    }
}
