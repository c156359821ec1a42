//! How containerd's process reaches registries: its proxies, and where it finds those whom it trusts. cridge's unit is to
//! have the same.
//!
//! A proxy's URL may hold a password: it is in the drop-in's text, which goes to a file of its own, and nowhere else.

use std::fmt;

use reqwest::Url;
use serde::Serialize;

use super::unit::Variables;

/// Those of Go's `net/http` and `crypto/x509`; cridge reads the same ones. A proxy's may be in small letters too.
const PROXIES: [&str; 3] = ["HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"];
const TRUSTED: [&str; 2] = ["SSL_CERT_FILE", "SSL_CERT_DIR"];
/// Where the drop-in belongs.
const PLACE: &str = "/etc/systemd/system/cridge.service.d/environment.conf";

/// What is told of the environment, without passwords.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Environment {
    pub variables: Vec<Variable>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Variable {
    pub name: String,
    pub value: String,
    pub source: &'static str,
    /// Whether something of the value is not shown.
    pub hidden: bool,
}

/// The environment, and the unit's drop-in with all of it; no drop-in where there is nothing to be told.
pub(super) fn carried(process: Option<Variables>, unit: &Variables) -> (Environment, Option<String>) {
    let source = if process.is_some() { "the running containerd" } else { "containerd.service" };
    // What runs is what works; the unit may have been edited since.
    let given = process.as_ref().unwrap_or(unit);
    let names = PROXIES.iter().flat_map(|name| [(*name).to_owned(), name.to_ascii_lowercase()]);
    let names = names.chain(TRUSTED.map(str::to_owned));
    let set: Vec<_> = names
        .filter_map(|name| Some((given.get(&name).filter(|value| !value.trim().is_empty())?.clone(), name)))
        .collect();
    let variables = set.iter().map(|(value, name)| {
        let shown = shown(name, value);
        Variable { name: name.clone(), hidden: shown != *value, value: shown, source }
    });
    let environment = Environment { variables: variables.collect() };
    let lines: Vec<_> = set.iter().map(|(value, name)| assignment(name, value)).collect();
    let text = format!("# As {source} has it.\n[Service]\n{}", lines.concat());
    (environment, (!lines.is_empty()).then_some(text))
}

/// A line of the unit: quoted, and with percent signs that are none of systemd's.
fn assignment(name: &str, value: &str) -> String {
    let escaped: String = value
        .chars()
        .map(|c| match c {
            '"' | '\\' => format!("\\{c}"),
            '%' => "%%".to_owned(),
            c if c.is_control() => format!("\\u{:04x}", u32::from(c)),
            c => c.to_string(),
        })
        .collect();
    format!("Environment=\"{name}={escaped}\"\n")
}

/// A value that may be shown: a proxy without user, password and query; nothing at all where that cannot be told apart.
fn shown(name: &str, value: &str) -> String {
    if name.eq_ignore_ascii_case("NO_PROXY") || TRUSTED.contains(&name) {
        return value.to_owned();
    }
    let value = value.trim();
    let full = if value.contains("://") { value.to_owned() } else { format!("http://{value}") };
    let Some(mut url) = Url::parse(&full).ok().filter(Url::has_host) else { return "(not shown)".into() };
    let is_plain = url.username().is_empty()
        && url.password().is_none()
        && url.query().is_none()
        && url.fragment().is_none();
    if is_plain {
        return value.to_owned();
    }
    url.set_query(None);
    url.set_fragment(None);
    // Neither can fail where there is a host.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    format!("{} (user, password and query are not shown)", url.as_str().trim_end_matches('/'))
}

impl fmt::Display for Environment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.variables.first() else { return Ok(()) };
        writeln!(f, "\nthe environment of {}, for {PLACE}:", first.source)?;
        writeln!(f, "    [Service]")?;
        for variable in &self.variables {
            if variable.hidden {
                writeln!(f, "    # {}={}", variable.name, variable.value)?;
            } else {
                write!(f, "    {}", assignment(&variable.name, &variable.value))?;
            }
        }
        writeln!(f, "--unit-dropin {PLACE} writes it whole, readable by root alone")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::unit;
    use super::*;

    fn variables(list: &[(&str, &str)]) -> Variables {
        list.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn a_password_is_in_the_drop_in_alone() {
        let process = variables(&[
            ("HTTPS_PROXY", "http://user:s%40cret@proxy.example:3128/?token=s%40cret"),
            ("https_proxy", "user:s%40cret@proxy.example:3128"),
            ("NO_PROXY", "10.0.0.0/8,.svc"),
            ("SSL_CERT_FILE", "/etc/ca.pem"),
            ("HTTP_PROXY", " "),
            ("PATH", "/bin"),
        ]);
        let (environment, text) = carried(Some(process), &variables(&[("HTTP_PROXY", "http://unit:1")]));
        let told = format!("{environment}{environment:?}{}", serde_json::to_string(&environment).unwrap());
        assert!(!told.contains("cret") && told.contains("http://proxy.example:3128 (user"), "{told}");
        let expected = "# As the running containerd has it.\n[Service]\n\
            Environment=\"HTTPS_PROXY=http://user:s%%40cret@proxy.example:3128/?token=s%%40cret\"\n\
            Environment=\"https_proxy=user:s%%40cret@proxy.example:3128\"\n\
            Environment=\"NO_PROXY=10.0.0.0/8,.svc\"\n\
            Environment=\"SSL_CERT_FILE=/etc/ca.pem\"\n";
        assert_eq!(text.as_deref(), Some(expected));
    }

    #[test]
    fn the_unit_counts_where_nothing_runs() {
        let unit = variables(&[("HTTP_PROXY", "http://unit:1")]);
        let (environment, _) = carried(None, &unit);
        assert_eq!(environment.variables[0].source, "containerd.service");
        assert_eq!(carried(Some(Variables::new()), &unit), (Environment::default(), None));
    }

    #[test]
    fn what_is_no_url_is_not_shown() {
        assert_eq!(shown("HTTP_PROXY", "http://user:secret@"), "(not shown)");
        assert_eq!(shown("HTTP_PROXY", "proxy:3128"), "proxy:3128");
    }

    proptest! {
        #[test]
        fn systemd_reads_what_was_written(value in "\\PC{0,40}") {
            let dir = tempfile::tempdir().unwrap();
            let units = dir.path().join("etc/systemd/system");
            std::fs::create_dir_all(&units).unwrap();
            let text = format!("[Service]\n{}", assignment("A", &value));
            std::fs::write(units.join("c.service"), text).unwrap();
            let read = unit::environment(dir.path(), "c.service");
            prop_assert_eq!(read.get("A"), Some(&value));
        }
    }
}
