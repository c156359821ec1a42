//! Templates of a conflist, as far as Go's text/template is used for them: text, `{{.PodCIDR}}`, `range`, `if`, `else`
//! and `end` over `.PodCIDRRanges` and `.Routes`, variables of a range, comments, and `-` that trims blanks. Pure.
//!
//! ```text
//! pieces.rs   text and actions, told apart      parse.rs   their meaning
//! render.rs   the networks filled in
//! ```
//!
//! Whatever else text/template knows is refused when the template is read, with its line: what was read can be rendered.

mod parse;
mod pieces;
mod render;

use ipnet::IpNet;

use parse::{Parser, Scope, Stop};
use render::Renderer;

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
        let mut parser = Parser::new(pieces::pieces(text)?);
        match parser.block(&Scope::whole())? {
            (nodes, None) => Ok(Self(nodes)),
            (_, Some(Stop { line, action })) => {
                Err(TemplateError { line, why: format!("{{{{{action}}}}} without a range or an if") })
            }
        }
    }

    /// The template with the networks filled in.
    pub fn render(&self, cidrs: &PodCidrs) -> String {
        let mut out = String::new();
        Renderer::new(cidrs).render(&self.0, &mut out);
        out
    }
}

#[cfg(test)]
mod tests;
