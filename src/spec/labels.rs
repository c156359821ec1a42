//! SELinux labels: what the policy has for containers, with the parts that a config asks for instead.

use super::SpecError;
use crate::proto::cri;

/// A label, part by part: `user:role:type[:level]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    user: String,
    role: String,
    kind: String,
    /// Empty under a policy without levels.
    level: String,
}

impl Label {
    /// `None` of what is no label.
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, ':').map(str::to_owned);
        let label = Self {
            user: parts.next()?,
            role: parts.next()?,
            kind: parts.next()?,
            level: parts.next().unwrap_or_default(),
        };
        let given = ![&label.user, &label.role, &label.kind].iter().any(|part| part.is_empty());
        given.then_some(label)
    }

    pub fn level(&self) -> &str {
        &self.level
    }

    /// With another's type.
    pub fn of_kind(&self, other: &Self) -> Self {
        Self { kind: other.kind.clone(), ..self.clone() }
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.user, self.role, self.kind)?;
        if !self.level.is_empty() {
            write!(f, ":{}", self.level)?;
        }
        Ok(())
    }
}

/// What a container's process and its files are labelled with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Labels {
    pub process: Label,
    pub file: Label,
}

impl Labels {
    /// With the parts of `wanted` that are given. Without a level there, one is asked of `fresh`, where the policy has
    /// levels; process and files have the same.
    ///
    /// # Errors
    /// Parts that are none, and those of `fresh`.
    pub fn with(
        &self,
        name: &str,
        wanted: &cri::SeLinuxOption,
        fresh: impl FnOnce() -> Result<String, SpecError>,
    ) -> Result<Self, SpecError> {
        check(name, wanted)?;
        let level = match wanted.level.as_str() {
            "" if self.process.level.is_empty() => String::new(),
            "" => fresh()?,
            level => level.to_owned(),
        };
        let or = |given: &str, own: &str| if given.is_empty() { own.to_owned() } else { given.to_owned() };
        let process = Label {
            user: or(&wanted.user, &self.process.user),
            role: or(&wanted.role, &self.process.role),
            kind: or(&wanted.r#type, &self.process.kind),
            level: level.clone(),
        };
        let user = or(&wanted.user, &self.file.user);
        let level = or(&level, &self.file.level);
        Ok(Self { process, file: Label { user, level, ..self.file.clone() } })
    }
}

/// The parts of a label, to ask for the like of it.
impl From<&Label> for cri::SeLinuxOption {
    fn from(label: &Label) -> Self {
        let Label { user, role, kind, level } = label.clone();
        Self { user, role, r#type: kind, level }
    }
}

fn check(name: &str, wanted: &cri::SeLinuxOption) -> Result<(), SpecError> {
    for (part, text) in [("user", &wanted.user), ("role", &wanted.role), ("type", &wanted.r#type)] {
        if !text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.')) {
            let why = format!("{text:?} has other characters than letters, digits, `_`, `-` and `.`");
            return Err(SpecError::invalid(format!("{name}.{part}"), why));
        }
    }
    if !wanted.level.is_empty() && !is_level(&wanted.level) {
        let why = format!("{:?} is no level like s0:c1,c2", wanted.level);
        return Err(SpecError::invalid(format!("{name}.level"), why));
    }
    Ok(())
}

/// `s0`, `s0-s1`, `s0:c1`, `s0:c1,c3.c5`: what the built-in plugin takes.
fn is_level(text: &str) -> bool {
    let numbered = |text: &str, letter, digits| {
        let number = text.strip_prefix(letter).unwrap_or_default();
        (1..=digits).contains(&number.len()) && number.bytes().all(|byte| byte.is_ascii_digit())
    };
    let (sensitivity, categories) = match text.split_once(':') {
        Some((sensitivity, categories)) => (sensitivity, Some(categories)),
        None => (text, None),
    };
    let pair = |text: &str, separator, letter, digits| match text.split_once(separator) {
        Some((from, to)) => numbered(from, letter, digits) && numbered(to, letter, digits),
        None => numbered(text, letter, digits),
    };
    pair(sensitivity, '-', 's', 1)
        && categories.is_none_or(|list| list.split(',').all(|one| pair(one, '.', 'c', 4)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(process: &str, file: &str) -> Labels {
        Labels { process: Label::parse(process).unwrap(), file: Label::parse(file).unwrap() }
    }

    fn option(user: &str, role: &str, kind: &str, level: &str) -> cri::SeLinuxOption {
        let [user, role, kind, level] = [user, role, kind, level].map(str::to_owned);
        cri::SeLinuxOption { user, role, r#type: kind, level }
    }

    /// What InitLabels of opencontainers/selinux, which the built-in plugin calls, gives of each.
    #[test]
    fn parts_that_are_given_take_the_place_of_the_policys() {
        let policy = labels("system_u:system_r:container_t:s0", "system_u:object_r:container_file_t:s0");
        for (wanted, process, file) in [
            (
                option("", "", "", ""),
                "system_u:system_r:container_t:s0:c1,c2",
                "system_u:object_r:container_file_t:s0:c1,c2",
            ),
            (
                option("", "", "spc_t", ""),
                "system_u:system_r:spc_t:s0:c1,c2",
                "system_u:object_r:container_file_t:s0:c1,c2",
            ),
            (
                option("user_u", "user_r", "svirt_t", "s0:c4,c5"),
                "user_u:user_r:svirt_t:s0:c4,c5",
                "user_u:object_r:container_file_t:s0:c4,c5",
            ),
            (
                option("", "", "", "s0"),
                "system_u:system_r:container_t:s0",
                "system_u:object_r:container_file_t:s0",
            ),
        ] {
            let made = policy.with("f", &wanted, || Ok("s0:c1,c2".into())).unwrap();
            assert_eq!((made.process.to_string(), made.file.to_string()), (process.into(), file.into()));
        }
        // A policy without levels.
        let policy = labels("u:r:t", "u:o:f");
        let made = policy.with("f", &option("", "", "", ""), || panic!("none is needed")).unwrap();
        assert_eq!(made, policy);
    }

    #[test]
    fn a_label_is_asked_for_by_its_parts() {
        let label = Label::parse("a:b:c:s0:c1,c2").unwrap();
        assert_eq!(cri::SeLinuxOption::from(&label), option("a", "b", "c", "s0:c1,c2"));
        assert_eq!(label.of_kind(&Label::parse("x:y:z").unwrap()).to_string(), "a:b:z:s0:c1,c2");
        for text in ["", "a", "a:b", "a::c", ":b:c"] {
            assert_eq!(Label::parse(text), None, "{text}");
        }
    }

    #[test]
    fn bad_parts_are_refused_by_their_field() {
        let policy = labels("u:r:t:s0", "u:o:f:s0");
        for (wanted, field) in [
            (option("a:b", "", "", ""), "x.user: "),
            (option("", "r\"", "", ""), "x.role: "),
            (option("", "", "t,rw", ""), "x.type: "),
            (option("", "", "", "c1"), "x.level: "),
        ] {
            let error = policy.with("x", &wanted, || Ok("s0".into())).unwrap_err();
            assert!(error.to_string().starts_with(field), "{error}");
        }
    }

    #[test]
    fn levels_are_those_of_the_built_in_plugin() {
        for level in ["s0", "s0-s3", "s0:c1", "s0:c1,c2", "s0-s0:c1.c1023", "s1:c0,c2.c5,c1234"] {
            assert!(is_level(level), "{level}");
        }
        for level in
            ["s", "0", "s10", "s0:", "s0:c", "s0:c1,", "s0:c12345", "s0:1", "s0-", "s0:c1\",rw", "s0 "]
        {
            assert!(!is_level(level), "{level}");
        }
    }
}
