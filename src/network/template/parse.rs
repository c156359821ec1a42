//! What the actions of a template mean: blocks within blocks, and names that are known where they stand.

use super::pieces::{Content, Piece, is_blank};
use super::{Kind, Node, Operand, TemplateError};

/// Actions within actions: more than any conflist has, and few enough for the stack.
const MAX_DEPTH: usize = 16;

/// What names mean at some place.
#[derive(Clone)]
pub(super) struct Scope {
    dot: Kind,
    variables: Vec<(String, Kind)>,
}

/// The action that ends a block.
pub(super) struct Stop {
    pub line: usize,
    pub action: String,
}

pub(super) struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
}

impl Scope {
    /// Outside of every range.
    pub fn whole() -> Self {
        Self { dot: Kind::Whole, variables: Vec::new() }
    }
}

impl Parser {
    pub fn new(pieces: Vec<Piece>) -> Self {
        Self { pieces: pieces.into_iter(), depth: 0 }
    }

    /// Nodes up to an `end` or `else`, or to the end of the text.
    pub fn block(&mut self, scope: &Scope) -> Result<(Vec<Node>, Option<Stop>), TemplateError> {
        let mut nodes = Vec::new();
        while let Some(Piece { line, content }) = self.pieces.next() {
            let action = match content {
                Content::Text(text) if text.is_empty() => continue,
                Content::Text(text) => {
                    nodes.push(Node::Text(text));
                    continue;
                }
                Content::Action(action) => action,
            };
            let words = tokens(&action);
            let words: Vec<_> = words.iter().map(String::as_str).collect();
            match words.as_slice() {
                ["end"] | ["else", ..] => return Ok((nodes, Some(Stop { line, action }))),
                ["range", of @ ..] => nodes.push(self.range(line, of, scope)?),
                ["if", condition @ ..] => nodes.push(self.condition(line, condition, scope)?),
                [word] => match operand(word, scope).map_err(|why| TemplateError { line, why })? {
                    (operand, Kind::Text | Kind::Number) => nodes.push(Node::Print(operand)),
                    (_, Kind::Whole | Kind::List) => {
                        return Err(TemplateError { line, why: format!("{word:?} is no text: use range") });
                    }
                },
                _ => {
                    let why =
                        format!("{{{{{action}}}}} is not understood: fields, range, if, else and end are");
                    return Err(TemplateError { line, why });
                }
            }
        }
        Ok((nodes, None))
    }

    fn range(&mut self, line: usize, words: &[&str], scope: &Scope) -> Result<Node, TemplateError> {
        let wrong = |why: String| TemplateError { line, why };
        let (names, list) = match words {
            [list] => (Vec::new(), list),
            [item, ":=", list] => (vec![*item], list),
            [index, ",", item, ":=", list] => (vec![*index, *item], list),
            _ => return Err(wrong(format!("range of {:?} is not understood", words.join(" ")))),
        };
        if let Some(bad) = names.iter().find(|name| !is_variable(name)) {
            return Err(wrong(format!("{bad:?} is no name of a variable")));
        }
        let (list, kind) = operand(list, scope).map_err(wrong)?;
        if kind != Kind::List {
            return Err(wrong(format!("{:?} is no list to range over", words.last().unwrap_or(&""))));
        }
        let kinds = if names.len() == 2 { [Kind::Number, Kind::Text].as_slice() } else { &[Kind::Text] };
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut inner = Scope { dot: Kind::Text, variables: scope.variables.clone() };
        inner.variables.extend(names.iter().cloned().zip(kinds.iter().copied()));
        let (body, stop) = self.inner(line, &inner)?;
        let otherwise = self.otherwise(stop, scope, false)?;
        Ok(Node::Range { names, list, body, otherwise })
    }

    fn condition(&mut self, line: usize, words: &[&str], scope: &Scope) -> Result<Node, TemplateError> {
        let wrong = |why: String| TemplateError { line, why };
        let [word] = words else {
            return Err(wrong(format!(
                "if {:?} is not understood: it takes one field or variable",
                words.join(" ")
            )));
        };
        let (condition, kind) = operand(word, scope).map_err(wrong)?;
        if kind == Kind::Whole {
            return Err(wrong(format!("{word:?} is always there")));
        }
        let (then, stop) = self.inner(line, scope)?;
        let otherwise = self.otherwise(stop, scope, true)?;
        Ok(Node::If { condition, then, otherwise })
    }

    /// What an `else` brings before the `end`.
    fn otherwise(&mut self, stop: Stop, scope: &Scope, chains: bool) -> Result<Vec<Node>, TemplateError> {
        let Stop { line, action } = stop;
        let words = tokens(&action);
        let words: Vec<_> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            ["end"] => Ok(Vec::new()),
            ["else"] => match self.inner(line, scope)? {
                (nodes, stop) if stop.action == "end" => Ok(nodes),
                (_, Stop { line, .. }) => Err(TemplateError { line, why: "a second else".into() }),
            },
            ["else", "if", condition @ ..] if chains => Ok(vec![self.condition(line, condition, scope)?]),
            _ => Err(TemplateError { line, why: format!("{{{{{action}}}}} is not understood") }),
        }
    }

    /// A block that must have an end.
    fn inner(&mut self, line: usize, scope: &Scope) -> Result<(Vec<Node>, Stop), TemplateError> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(TemplateError {
                line,
                why: format!("more than {MAX_DEPTH} actions within each other"),
            });
        }
        let (nodes, stop) = self.block(scope)?;
        self.depth -= 1;
        let stop = stop.ok_or(TemplateError { line, why: "has no {{end}}".into() })?;
        Ok((nodes, stop))
    }
}

/// Words of an action; commas and `:=` are words of their own.
fn tokens(action: &str) -> Vec<String> {
    let spaced = action.replace(',', " , ").replace(":=", " := ");
    spaced.split(is_blank).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn is_variable(word: &str) -> bool {
    let name = word.strip_prefix('$').unwrap_or_default();
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// What a word names.
fn operand(word: &str, scope: &Scope) -> Result<(Operand, Kind), String> {
    let field = match word {
        "." => return Ok((Operand::Dot, scope.dot)),
        "$" => return Ok((Operand::Dot, Kind::Whole)),
        _ => match word.strip_prefix("$.") {
            Some(field) => field,
            None if is_variable(word) => {
                let found = scope.variables.iter().rev().find(|(name, _)| name == word);
                let (name, kind) = found.ok_or_else(|| format!("there is no variable {word:?} here"))?;
                return Ok((Operand::Variable(name.clone()), *kind));
            }
            None if word.starts_with('.') && scope.dot != Kind::Whole => {
                return Err(format!("within a range {word:?} is called ${word}"));
            }
            None => word.strip_prefix('.').unwrap_or_default(),
        },
    };
    match field {
        "PodCIDR" => Ok((Operand::PodCidr, Kind::Text)),
        "PodCIDRRanges" => Ok((Operand::PodCidrRanges, Kind::List)),
        "Routes" => Ok((Operand::Routes, Kind::List)),
        _ => Err(format!("{word:?} is not known: .PodCIDR, .PodCIDRRanges and .Routes are")),
    }
}
