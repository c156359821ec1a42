//! passwd(5) and group(5) of an image, read as glibc does: a line that is none is skipped, never read as root's.

/// A line of /etc/passwd.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct User<'a> {
    pub name: &'a str,
    pub uid: u32,
    pub gid: u32,
}

/// A line of /etc/group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Group<'a> {
    pub name: &'a str,
    pub gid: u32,
    members: &'a str,
}

impl Group<'_> {
    pub fn has(&self, user: &str) -> bool {
        self.members.split(',').any(|member| member.trim() == user)
    }
}

/// The users, in the file's order.
pub(super) fn users(passwd: &str) -> impl Iterator<Item = User<'_>> {
    lines(passwd).filter_map(|line| {
        let mut parts = line.split(':');
        let (name, _, uid, gid) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        (!name.is_empty()).then_some(User { name, uid: number(uid)?, gid: number(gid)? })
    })
}

/// The groups, in the file's order.
pub(super) fn groups(group: &str) -> impl Iterator<Item = Group<'_>> {
    lines(group).filter_map(|line| {
        let mut parts = line.split(':');
        let (name, _, gid) = (parts.next()?, parts.next()?, parts.next()?);
        (!name.is_empty()).then_some(Group {
            name,
            gid: number(gid)?,
            members: parts.next().unwrap_or_default(),
        })
    })
}

fn lines(file: &str) -> impl Iterator<Item = &str> {
    file.lines().map(str::trim).filter(|line| !line.starts_with('#'))
}

/// An id that runc takes, in digits only.
fn number(text: &str) -> Option<u32> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|&id| digits && id <= super::field::MAX_ID)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_that_are_none_are_skipped() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\n\n # c\n#u:x:1:1\nshort:x:5\n:x:6:6::\nminus:x:-1:0\n\
                      huge:x:4294967295:0\nname:x:abc:0\nplus:x:+7:7\n+::0:0\n  a:x:7:8:::  \r\n";
        let found: Vec<_> = users(passwd).map(|user| (user.name, user.uid, user.gid)).collect();
        assert_eq!(found, [("root", 0, 0), ("+", 0, 0), ("a", 7, 8)]);
    }

    #[test]
    fn members_are_separated_by_commas() {
        let found: Vec<_> = groups("g:x:5:a,b , c\nh:x:6:\ni:x:7\n").collect();
        assert_eq!(found.iter().map(|group| group.gid).collect::<Vec<_>>(), [5, 6, 7]);
        assert!(["a", "b", "c"].iter().all(|user| found[0].has(user)));
        assert!(!found[0].has("ab") && !found[1].has("a") && !found[2].has("a"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_without_panic(text in "\\PC*|[a-z0-9:,#\n\t -]*") {
            users(&text).for_each(|user| assert!(!user.name.is_empty()));
            groups(&text).for_each(|group| assert!(!group.has(":")));
        }

        #[test]
        fn what_was_written_is_found(
            entries in prop::collection::vec(("[a-z_][a-z0-9_-]{0,8}", 0..=i32::MAX as u32, 0..=i32::MAX as u32), 0..9)
        ) {
            let text: String = entries.iter().map(|(n, u, g)| format!("{n}:x:{u}:{g}:gecos:/home:/bin/sh\n")).collect();
            let found: Vec<_> = users(&text).map(|user| (user.name.to_owned(), user.uid, user.gid)).collect();
            prop_assert_eq!(found, entries);
        }
    }
}
