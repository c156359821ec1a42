//! The networks, filled into a template that was read.

use super::{Node, Operand, PodCidrs};

#[derive(Clone, Copy)]
enum Value<'a> {
    Text(&'a str),
    Number(usize),
    List(&'a [String]),
}

pub(super) struct Renderer<'a> {
    cidrs: &'a PodCidrs,
    /// The element of the innermost range.
    dot: Option<&'a str>,
    variables: Vec<(&'a str, Value<'a>)>,
}

impl<'a> Renderer<'a> {
    pub fn new(cidrs: &'a PodCidrs) -> Self {
        Self { cidrs, dot: None, variables: Vec::new() }
    }

    pub fn render(&mut self, nodes: &'a [Node], out: &mut String) {
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
