//! Templates of a conflist, as far as Go's text/template is used for them: text, `{{.PodCIDR}}`, `range`, `if`, `else`
//! and `end` over `.PodCIDRRanges` and `.Routes`, variables of a range, comments, and `-` that trims blanks. Pure.
//!
//! Whatever else text/template knows is refused when the template is read, with its line: what was read can be rendered.

use ipnet::IpNet;

/// Actions within actions: more than any conflist has, and few enough for the stack.
const MAX_DEPTH: usize = 16;
/// Networks of one node: Kubernetes has at most two.
const MAX_CIDRS: usize = 16;

/// The node's pod networks, as a template sees them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodCidrs {
    ranges: Vec<String>,
    routes: Vec<String>,
}

impl PodCidrs {
    /// Reads `10.244.1.0/24,fd00:10:244:1::/64` (CRI NetworkConfig.pod_cidr).
    ///
    /// # Errors
    /// What of it is no network.
    pub fn parse(text: &str) -> Result<Self, String> {
        let ranges: Vec<_> = text.split(',').map(|range| range.trim().to_owned()).collect();
        if ranges.len() > MAX_CIDRS {
            return Err(format!("names {} networks; at most {MAX_CIDRS} are allowed", ranges.len()));
        }
        let mut families = [("0.0.0.0/0", false), ("::/0", false)];
        for range in &ranges {
            match range.parse() {
                Ok(IpNet::V4(_)) => families[0].1 = true,
                Ok(IpNet::V6(_)) => families[1].1 = true,
                Err(_) => return Err(format!("{range:?} is no network like 10.244.1.0/24")),
            }
        }
        let routes = families.iter().filter(|(_, has)| *has).map(|(route, _)| (*route).to_owned()).collect();
        Ok(Self { ranges, routes })
    }
}

/// A template that was read.
#[derive(Clone, Debug, PartialEq)]
pub struct Template(Vec<Node>);

/// What of a template is not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {why}")]
pub struct TemplateError {
    pub line: usize,
    pub why: String,
}

#[derive(Clone, Debug, PartialEq)]
enum Node {
    Text(String),
    Print(Operand),
    Range { names: Vec<String>, list: Operand, body: Vec<Node>, otherwise: Vec<Node> },
    If { condition: Operand, then: Vec<Node>, otherwise: Vec<Node> },
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    /// The range's element, or the whole.
    Dot,
    PodCidr,
    PodCidrRanges,
    Routes,
    Variable(String),
}

/// What an operand can be, known when the template is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Whole,
    Text,
    Number,
    List,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// The line of what is beyond this subset, and why.
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        let mut parser = Parser { pieces: pieces(text)?.into_iter(), depth: 0 };
        let scope = Scope { dot: Kind::Whole, variables: Vec::new() };
        match parser.block(&scope)? {
            (nodes, None) => Ok(Self(nodes)),
            (_, Some(Stop { line, action })) => {
                Err(TemplateError { line, why: format!("{{{{{action}}}}} without a range or an if") })
            }
        }
    }

    /// The template with the networks filled in.
    pub fn render(&self, cidrs: &PodCidrs) -> String {
        let mut out = String::new();
        Renderer { cidrs, dot: None, variables: Vec::new() }.render(&self.0, &mut out);
        out
    }
}

/// A stretch of text, or what stands between braces; with its line.
#[derive(Debug)]
struct Piece {
    line: usize,
    content: Content,
}

#[derive(Debug)]
enum Content {
    Text(String),
    Action(String),
}

/// Takes the text apart, and trims what lies beside `{{- ` and ` -}}`.
fn pieces(text: &str) -> Result<Vec<Piece>, TemplateError> {
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
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\r' | '\n')
}

/// What names mean at some place.
#[derive(Clone)]
struct Scope {
    dot: Kind,
    variables: Vec<(String, Kind)>,
}

/// The action that ends a block.
struct Stop {
    line: usize,
    action: String,
}

struct Parser {
    pieces: std::vec::IntoIter<Piece>,
    depth: usize,
}

impl Parser {
    /// Nodes up to an `end` or `else`, or to the end of the text.
    fn block(&mut self, scope: &Scope) -> Result<(Vec<Node>, Option<Stop>), TemplateError> {
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

#[derive(Clone, Copy)]
enum Value<'a> {
    Text(&'a str),
    Number(usize),
    List(&'a [String]),
}

struct Renderer<'a> {
    cidrs: &'a PodCidrs,
    /// The element of the innermost range.
    dot: Option<&'a str>,
    variables: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Renderer<'a> {
    fn render(&mut self, nodes: &'a [Node], out: &mut String) {
        for node in nodes {
            match node {
                Node::Text(text) => out.push_str(text),
                Node::Print(operand) => match self.value(operand) {
                    Value::Text(text) => out.push_str(text),
                    Value::Number(number) => out.push_str(&number.to_string()),
                    Value::List(list) => out.extend(list.iter().map(String::as_str)),
                },
                Node::Range { names, list, body, otherwise } => {
                    let Value::List(list) = self.value(list) else { continue };
                    for (index, item) in list.iter().enumerate() {
                        self.with(names, index, item, |inner| inner.render(body, out));
                    }
                    if list.is_empty() {
                        self.render(otherwise, out);
                    }
                }
                Node::If { condition, then, otherwise } => {
                    let holds = match self.value(condition) {
                        Value::Text(text) => !text.is_empty(),
                        Value::Number(number) => number != 0,
                        Value::List(list) => !list.is_empty(),
                    };
                    self.render(if holds { then } else { otherwise }, out);
                }
            }
        }
    }

    /// One turn of a range.
    fn with(&mut self, names: &'a [String], index: usize, item: &'a str, turn: impl FnOnce(&mut Self)) {
        let (dot, known) = (self.dot.replace(item), self.variables.len());
        match names {
            [name] => self.variables.push((name, Value::Text(item))),
            [number, name] => {
                self.variables
                    .extend([(number.as_str(), Value::Number(index)), (name.as_str(), Value::Text(item))]);
            }
            _ => {}
        }
        turn(self);
        self.variables.truncate(known);
        self.dot = dot;
    }

    fn value(&self, operand: &Operand) -> Value<'a> {
        let nothing = Value::Text("");
        match operand {
            Operand::Dot => self.dot.map_or(nothing, Value::Text),
            Operand::PodCidr => self.cidrs.ranges.first().map_or(nothing, |range| Value::Text(range)),
            Operand::PodCidrRanges => Value::List(&self.cidrs.ranges),
            Operand::Routes => Value::List(&self.cidrs.routes),
            Operand::Variable(wanted) => {
                let found = self.variables.iter().rev().find(|(name, _)| name == wanted);
                found.map_or(nothing, |(_, value)| *value)
            }
        }
    }
}

#[cfg(test)]
#[path = "template_tests.rs"]
mod tests;
