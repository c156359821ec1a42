//! Who a process is: the config's user, else the image's, looked up in the image's accounts; and its groups.

use std::collections::BTreeSet;

use oci_spec::image::Config as ImageConfig;
use oci_spec::runtime::User;

use super::SpecError;
use super::accounts;
use super::field::{self, MAX_ID, SECURITY};
use crate::proto::cri::{self, SupplementalGroupsPolicy};

/// Where an image's own user is named in errors.
const IMAGE_USER: &str = "image.config.User";

/// /etc/passwd and /etc/group of the image, as far as it has them.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Accounts<'a> {
    pub passwd: Option<&'a str>,
    pub group: Option<&'a str>,
}

impl<'a> Accounts<'a> {
    fn user(self, matches: impl Fn(&accounts::User<'_>) -> bool) -> Option<accounts::User<'a>> {
        accounts::users(self.passwd.unwrap_or_default()).find(|user| matches(user))
    }

    fn groups(self) -> impl Iterator<Item = accounts::Group<'a>> {
        accounts::groups(self.group.unwrap_or_default())
    }
}

/// A user or group as asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked<'a> {
    Id(u32),
    Name(&'a str),
}

impl<'a> Asked<'a> {
    /// Digits are a number, anything else a name.
    fn parse(field: &str, text: &'a str) -> Result<Self, SpecError> {
        field::text(field, text)?;
        let digits = text.strip_prefix('-').unwrap_or(text);
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return Ok(Self::Name(text));
        }
        match text.parse::<i64>() {
            Ok(id) => field::id(field, id).map(Self::Id),
            Err(_) => Err(SpecError::invalid(field, format!("{text} is not between 0 and {MAX_ID}"))),
        }
    }
}

/// What the config or the image says of the user. The default is root, with root's groups.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity<'a> {
    /// The field that names the user, for errors.
    field: &'static str,
    user: Asked<'a>,
    group: Option<Asked<'a>>,
    /// Whether somebody named a user, whose own group then counts.
    named: bool,
}

impl<'a> Identity<'a> {
    /// The user of a container.
    pub fn of_container(
        security: &'a cri::LinuxContainerSecurityContext,
        image: &'a ImageConfig,
    ) -> Result<Self, SpecError> {
        let (uid, name) = (security.run_as_user, security.run_as_username.as_str());
        if uid.is_some() && !name.is_empty() {
            return Err(SpecError::invalid(
                "config.linux.security_context.run_as_username",
                "is given besides run_as_user; only one of the two names the user",
            ));
        }
        let asked = match uid {
            None if name.is_empty() => None,
            None => {
                let field = "config.linux.security_context.run_as_username";
                Some((field, Asked::parse(field, name)?))
            }
            Some(uid) => Some(by_id(uid)?),
        };
        Self::resolve(asked, security.run_as_group, image)
    }

    /// The user of a pause.
    pub fn of_pause(
        security: &cri::LinuxSandboxSecurityContext,
        image: &'a ImageConfig,
    ) -> Result<Self, SpecError> {
        Self::resolve(security.run_as_user.map(by_id).transpose()?, security.run_as_group, image)
    }

    fn resolve(
        asked: Option<(&'static str, Asked<'a>)>,
        group: Option<cri::Int64Value>,
        image: &'a ImageConfig,
    ) -> Result<Self, SpecError> {
        let group_field = format!("{SECURITY}.run_as_group");
        match (asked, group) {
            (Some((field, user)), group) => {
                let group = group.map(|gid| field::id(&group_field, gid.value).map(Asked::Id)).transpose()?;
                Ok(Self { field, user, group, named: true })
            }
            (None, Some(gid)) => Err(SpecError::invalid(
                group_field,
                format!("{} is given without a user; set run_as_user too", gid.value),
            )),
            (None, None) => Self::of_image(image.user().as_deref().unwrap_or_default()),
        }
    }

    /// An image's `user[:group]`.
    fn of_image(text: &'a str) -> Result<Self, SpecError> {
        let root = Self { field: IMAGE_USER, user: Asked::Id(0), group: None, named: false };
        if text.is_empty() {
            return Ok(root);
        }
        let (user, group) = text.split_once(':').unwrap_or((text, ""));
        if group.contains(':') {
            return Err(SpecError::invalid(IMAGE_USER, format!("{text:?} is not `user` or `user:group`")));
        }
        let part = |text| match text {
            "" => Ok(None),
            text => Asked::parse(IMAGE_USER, text).map(Some),
        };
        Ok(Self { user: part(user)?.unwrap_or(root.user), group: part(group)?, named: true, ..root })
    }

    /// Whether this user's number, group and memberships stand without the image's accounts.
    fn stands_alone(&self, policy: SupplementalGroupsPolicy) -> bool {
        let known = matches!((self.user, self.group), (Asked::Id(_), Some(Asked::Id(_)))) || !self.named;
        known && policy == SupplementalGroupsPolicy::Strict
    }

    /// Looks the names up.
    ///
    /// A number without group takes the group of its passwd line, or 0 without one. Groups are sorted, the primary one
    /// among them.
    pub fn look_up(
        self,
        accounts: Accounts<'_>,
        policy: SupplementalGroupsPolicy,
        supplemental: &[i64],
    ) -> Result<User, SpecError> {
        let entry = match self.user {
            Asked::Id(uid) => accounts.user(|user| user.uid == uid),
            Asked::Name(name) => Some(accounts.user(|user| user.name == name).ok_or_else(|| {
                SpecError::invalid(self.field, format!("no user {name:?} in the image's /etc/passwd"))
            })?),
        };
        let uid = match self.user {
            Asked::Id(uid) => uid,
            Asked::Name(_) => entry.map_or(0, |entry| entry.uid),
        };
        let gid = match self.group {
            Some(Asked::Id(gid)) => gid,
            Some(Asked::Name(name)) => {
                accounts.groups().find(|group| group.name == name).map(|group| group.gid).ok_or_else(
                    || SpecError::invalid(self.field, format!("no group {name:?} in the image's /etc/group")),
                )?
            }
            None if self.named => entry.map_or(0, |entry| entry.gid),
            None => 0,
        };
        let mut gids = BTreeSet::from([gid]);
        for (n, &group) in supplemental.iter().enumerate() {
            gids.insert(field::id(&format!("{SECURITY}.supplemental_groups[{n}]"), group)?);
        }
        if let (SupplementalGroupsPolicy::Merge, Some(user)) = (policy, entry) {
            // A group of the user's own name is its primary one, not a membership.
            let of_user = accounts.groups().filter(|group| group.name != user.name && group.has(user.name));
            gids.extend(of_user.map(|group| group.gid));
        }
        let mut user = User::default();
        user.set_uid(uid);
        user.set_gid(gid);
        user.set_additional_gids(Some(gids.into_iter().collect()));
        Ok(user)
    }
}

fn by_id(uid: cri::Int64Value) -> Result<(&'static str, Asked<'static>), SpecError> {
    let field = "config.linux.security_context.run_as_user";
    Ok((field, Asked::Id(field::id(field, uid.value)?)))
}

/// The policy as sent.
pub(super) fn policy(value: i32) -> Result<SupplementalGroupsPolicy, SpecError> {
    SupplementalGroupsPolicy::try_from(value).map_err(|_| {
        SpecError::invalid(format!("{SECURITY}.supplemental_groups_policy"), format!("{value} is unknown"))
    })
}

/// Whether the user can only be known with the image's passwd and group at hand.
///
/// Not needed only with the Strict policy and number and group given, or nobody named at all: under Merge, the groups
/// that list the user count, whoever it is, and a number without group takes that of its passwd line.
pub fn needs_passwd(config: &cri::ContainerConfig, image: &ImageConfig) -> bool {
    let security = field::security(config);
    match (Identity::of_container(security, image), policy(security.supplemental_groups_policy)) {
        (Ok(identity), Ok(policy)) => !identity.stands_alone(policy),
        // The spec will say what is wrong; no look-up helps.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use SupplementalGroupsPolicy::{Merge, Strict};

    use super::*;

    const PASSWD: &str = "root:x:0:0::/root:/bin/sh\nwww:x:33:34::/:/bin/sh\nwww2:x:33:99::/:/bin/sh\n";
    const GROUP: &str = "root:x:0:\nwheel:x:10:root\nwww:x:34:www\nlog:x:40:www,root\nadm:x:4:other\n";
    const ACCOUNTS: Accounts<'_> = Accounts { passwd: Some(PASSWD), group: Some(GROUP) };

    fn image(user: &str) -> ImageConfig {
        let mut image = ImageConfig::default();
        image.set_user(Some(user.into()));
        image
    }

    fn security(uid: Option<i64>, name: &str, gid: Option<i64>) -> cri::LinuxContainerSecurityContext {
        cri::LinuxContainerSecurityContext {
            run_as_user: uid.map(|value| cri::Int64Value { value }),
            run_as_username: name.into(),
            run_as_group: gid.map(|value| cri::Int64Value { value }),
            ..Default::default()
        }
    }

    fn look_up(
        security: &cri::LinuxContainerSecurityContext,
        image_user: &str,
        policy: SupplementalGroupsPolicy,
        groups: &[i64],
    ) -> Result<(u32, u32, Vec<u32>), SpecError> {
        let image = image(image_user);
        let user = Identity::of_container(security, &image)?.look_up(ACCOUNTS, policy, groups)?;
        Ok((user.uid(), user.gid(), user.additional_gids().clone().unwrap()))
    }

    #[test]
    fn users_and_groups_are_those_of_the_config_or_the_image() {
        let none = security(None, "", None);
        for (security, image, policy, groups, expected) in [
            // Nobody named: root, with root's groups under Merge.
            (none.clone(), "", Merge, &[][..], (0, 0, vec![0, 10, 40])),
            (none.clone(), "", Strict, &[7], (0, 0, vec![0, 7])),
            (none.clone(), "www", Merge, &[], (33, 34, vec![34, 40])),
            (none.clone(), "33", Merge, &[1], (33, 34, vec![1, 34, 40])),
            (none.clone(), "33:5", Merge, &[], (33, 5, vec![5, 40])),
            (none.clone(), "www:log", Strict, &[], (33, 40, vec![40])),
            (none.clone(), "1234", Merge, &[], (1234, 0, vec![0])),
            (none.clone(), "www:", Merge, &[], (33, 34, vec![34, 40])),
            (none.clone(), ":log", Strict, &[], (0, 40, vec![40])),
            (security(Some(33), "", None), "root", Merge, &[], (33, 34, vec![34, 40])),
            (security(Some(33), "", Some(3)), "root", Strict, &[9, 2], (33, 3, vec![2, 3, 9])),
            (security(None, "www", Some(3)), "root", Strict, &[], (33, 3, vec![3])),
            (security(None, "33", None), "root", Strict, &[], (33, 34, vec![34])),
        ] {
            assert_eq!(look_up(&security, image, policy, groups).unwrap(), expected, "{security:?} {image}");
        }
    }

    #[test]
    fn what_cannot_be_names_its_field() {
        let context = "config.linux.security_context.";
        let none = security(None, "", None);
        for (security, image, groups, field) in [
            (security(None, "", Some(5)), "www", &[][..], format!("{context}run_as_group: ")),
            (security(Some(1), "www", None), "", &[], format!("{context}run_as_username: ")),
            (security(Some(-1), "", None), "", &[], format!("{context}run_as_user: ")),
            (security(Some(1), "", Some(1 << 40)), "", &[], format!("{context}run_as_group: ")),
            (security(None, "nobody", None), "", &[], format!("{context}run_as_username: ")),
            (security(None, "99999999999999999999", None), "", &[], format!("{context}run_as_username: ")),
            (none.clone(), "-5", &[], "image.config.User: ".into()),
            (none.clone(), "nobody", &[], "image.config.User: ".into()),
            (none.clone(), "www:nogroup", &[], "image.config.User: ".into()),
            (none.clone(), "a:b:c", &[], "image.config.User: ".into()),
            (none.clone(), "", &[1, -2], format!("{context}supplemental_groups[1]: ")),
        ] {
            let error = look_up(&security, image, Merge, groups).unwrap_err().to_string();
            assert!(error.starts_with(&field), "{error} should name {field}");
        }
        assert!(
            policy(7).unwrap_err().to_string().starts_with(&format!("{context}supplemental_groups_policy: "))
        );
    }

    #[test]
    fn accounts_are_needed_unless_all_is_given_in_numbers_and_strict() {
        for (uid, gid, user, policy, expected) in [
            (Some(5), Some(5), "", Strict, false),
            (Some(5), None, "", Strict, true),
            (Some(5), Some(5), "", Merge, true),
            (None, None, "", Strict, false),
            (None, None, "", Merge, true),
            (None, None, "5:5", Strict, false),
            (None, None, "5", Strict, true),
            (None, None, "www:5", Strict, true),
            (None, None, "5:log", Strict, true),
        ] {
            let mut security = security(uid, "", gid);
            security.supplemental_groups_policy = policy.into();
            let linux = cri::LinuxContainerConfig { security_context: Some(security), resources: None };
            let config = cri::ContainerConfig { linux: Some(linux), ..Default::default() };
            assert_eq!(needs_passwd(&config, &image(user)), expected, "{uid:?} {gid:?} {user} {policy:?}");
        }
    }
}
