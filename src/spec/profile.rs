//! Which seccomp or AppArmor profile a config asks for: the field of today, or the string of earlier kubelets.

use super::SpecError;
use crate::proto::cri::{self, security_profile::ProfileType};

/// What a localhost profile's name may begin with.
const LOCALHOST: &str = "localhost/";

/// A profile by its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Profile<'a> {
    RuntimeDefault,
    Unconfined,
    /// The node's own: a file for seccomp, a loaded profile's name for AppArmor.
    Localhost(&'a str),
}

/// A field and its predecessor. The field counts when present, though its zero value is RuntimeDefault.
pub(super) struct Fields<'a> {
    pub name: &'static str,
    pub message: Option<&'a cri::SecurityProfile>,
    pub old_name: &'static str,
    pub old_text: &'a str,
}

impl<'a> Fields<'a> {
    /// The profile asked for, if any.
    pub fn profile(&self) -> Result<Option<Profile<'a>>, SpecError> {
        match (self.message, self.old_text) {
            (Some(message), _) => of_message(self.name, message).map(Some),
            (None, "") => Ok(None),
            (None, text) => of_text(self.old_name, text).map(Some),
        }
    }
}

fn of_message<'a>(name: &str, message: &'a cri::SecurityProfile) -> Result<Profile<'a>, SpecError> {
    let local = &message.localhost_ref;
    let kind = ProfileType::try_from(message.profile_type);
    match kind {
        Ok(ProfileType::Localhost) => localhost(&format!("{name}.localhost_ref"), local),
        Err(_) => Err(SpecError::invalid(
            format!("{name}.profile_type"),
            format!("{} is unknown", message.profile_type),
        )),
        Ok(_) if !local.is_empty() => Err(SpecError::invalid(
            format!("{name}.localhost_ref"),
            "is given, but profile_type is not Localhost",
        )),
        Ok(ProfileType::RuntimeDefault) => Ok(Profile::RuntimeDefault),
        Ok(ProfileType::Unconfined) => Ok(Profile::Unconfined),
    }
}

/// A profile in the words of earlier kubelets, and of `unset_seccomp_profile`.
pub(super) fn of_text<'a>(name: &str, text: &'a str) -> Result<Profile<'a>, SpecError> {
    match text {
        "runtime/default" | "docker/default" => Ok(Profile::RuntimeDefault),
        "unconfined" => Ok(Profile::Unconfined),
        text if text.starts_with(LOCALHOST) => localhost(name, text),
        text => Err(SpecError::invalid(
            name,
            format!("{text:?} is none of runtime/default, unconfined and localhost/ with a profile's name"),
        )),
    }
}

fn localhost<'a>(name: &str, text: &'a str) -> Result<Profile<'a>, SpecError> {
    match text.strip_prefix(LOCALHOST).unwrap_or(text) {
        "" => Err(SpecError::invalid(name, "names no profile")),
        text => super::field::text(name, text).map(Profile::Localhost),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields<'a>(message: Option<&'a cri::SecurityProfile>, old_text: &'a str) -> Fields<'a> {
        Fields { name: "new", message, old_name: "old", old_text }
    }

    #[test]
    fn the_old_text_counts_without_the_new_field() {
        for (text, expected) in [
            ("", None),
            ("runtime/default", Some(Profile::RuntimeDefault)),
            ("docker/default", Some(Profile::RuntimeDefault)),
            ("unconfined", Some(Profile::Unconfined)),
            ("localhost/a/b", Some(Profile::Localhost("a/b"))),
        ] {
            assert_eq!(fields(None, text).profile(), Ok(expected), "{text}");
        }
        let zero = cri::SecurityProfile::default();
        assert_eq!(fields(Some(&zero), "unconfined").profile(), Ok(Some(Profile::RuntimeDefault)));
    }

    #[test]
    fn a_reference_goes_with_localhost_only() {
        let message =
            |kind: i32, local: &str| cri::SecurityProfile { profile_type: kind, localhost_ref: local.into() };
        for name in ["p", "localhost/p"] {
            assert_eq!(fields(Some(&message(2, name)), "").profile(), Ok(Some(Profile::Localhost("p"))));
        }
        for (kind, local, field) in
            [(0, "p", "new.localhost_ref: "), (1, "p", "new.localhost_ref: "), (2, "", "new.localhost_ref: ")]
        {
            let error = fields(Some(&message(kind, local)), "").profile().unwrap_err().to_string();
            assert!(error.starts_with(field), "{error}");
        }
        assert!(
            fields(Some(&message(9, "")), "")
                .profile()
                .unwrap_err()
                .to_string()
                .starts_with("new.profile_type: ")
        );
        for text in ["localhost/", "custom", "default"] {
            assert!(fields(None, text).profile().unwrap_err().to_string().starts_with("old: "), "{text}");
        }
    }
}
