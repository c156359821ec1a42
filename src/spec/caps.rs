//! Which capabilities a process has.

use std::str::FromStr as _;

use oci_spec::runtime::{Capabilities, Capability, LinuxCapabilities};

use super::SpecError;
use super::field::SECURITY;
use crate::linux::caps::CapSet;
use crate::proto::cri;

/// The name that stands for every capability.
const ALL: &str = "ALL";

/// The sets of a container: the base's, changed in containerd's order (add ALL, drop ALL, adds, drops).
///
/// Ambient capabilities are in every other set too, or the kernel would not raise them (capabilities(7)).
///
/// # Errors
/// For a name that is no capability: containerd hands it on, and the container then lacks what its owner asked for.
pub(super) fn capabilities(
    base: Option<&LinuxCapabilities>,
    change: Option<&cri::Capability>,
    all: CapSet,
) -> Result<LinuxCapabilities, SpecError> {
    let Some(change) = change else {
        let mut same = base.cloned().unwrap_or_else(|| sets(Capabilities::new(), Capabilities::new()));
        same.set_ambient(None);
        return Ok(same);
    };
    let mut bounding = base.and_then(|sets| sets.bounding().clone()).unwrap_or_default();
    let add = names("add_capabilities", &change.add_capabilities)?;
    let drop = names("drop_capabilities", &change.drop_capabilities)?;
    let raise = names("add_ambient_capabilities", &change.add_ambient_capabilities)?;

    if add.contains(&None) {
        bounding = known(all);
    }
    if drop.contains(&None) {
        bounding.clear();
    }
    let mut ambient: Capabilities = raise.iter().flatten().copied().collect();
    if raise.contains(&None) {
        ambient.extend(known(all));
    }
    bounding.extend(add.iter().flatten());
    bounding.extend(&ambient);
    for dropped in drop.iter().flatten() {
        bounding.remove(dropped);
        ambient.remove(dropped);
    }
    Ok(sets(bounding, ambient))
}

/// Refuses to add what containerd itself lacks: runc would fail the start with a bare EPERM.
///
/// What the kernel may not know at all (numbers above all that containerd has) is left to runc, which skips it.
pub(super) fn check_held(change: Option<&cri::Capability>, all: CapSet) -> Result<(), SpecError> {
    let Some(change) = change else { return Ok(()) };
    let lists = [
        ("add_capabilities", &change.add_capabilities),
        ("add_ambient_capabilities", &change.add_ambient_capabilities),
    ];
    for (list, texts) in lists {
        for (n, capability) in names(list, texts)?.into_iter().enumerate() {
            if let Some(name) = capability.map(|capability| format!("CAP_{capability}"))
                && lacks(all, &name)
            {
                return Err(SpecError::unsupported(
                    format!("{SECURITY}.capabilities.{list}[{n}]"),
                    format!("containerd itself lacks {name} on this node, so no container can have it"),
                ));
            }
        }
    }
    Ok(())
}

fn lacks(all: CapSet, name: &str) -> bool {
    let highest = u64::BITS - all.0.leading_zeros();
    !all.has(name) && (0..highest).any(|number| CapSet(1 << number).has(name))
}

/// The sets of a privileged container: all that containerd has, whatever else is asked for.
pub(super) fn privileged(all: CapSet) -> LinuxCapabilities {
    sets(known(all), Capabilities::new())
}

/// Whether a process may have a capability at all.
pub(super) fn has(capabilities: Option<&LinuxCapabilities>, capability: Capability) -> bool {
    capabilities.and_then(|sets| sets.bounding().as_ref()).is_some_and(|set| set.contains(&capability))
}

/// Nothing is inheritable but what is ambient: a file's inheritable flags would raise the rest (CVE-2022-24769).
fn sets(bounding: Capabilities, ambient: Capabilities) -> LinuxCapabilities {
    let mut sets = LinuxCapabilities::default();
    sets.set_effective(Some(bounding.clone()));
    sets.set_permitted(Some(bounding.clone()));
    sets.set_bounding(Some(bounding));
    let ambient = Some(ambient).filter(|set| !set.is_empty());
    sets.set_inheritable(ambient.clone());
    sets.set_ambient(ambient);
    sets
}

/// The capabilities of a set that oci-spec has words for.
fn known(set: CapSet) -> Capabilities {
    set.names().into_iter().filter_map(parse).collect()
}

/// The names of a list, `None` being all.
fn names(list: &str, texts: &[String]) -> Result<Vec<Option<Capability>>, SpecError> {
    texts
        .iter()
        .enumerate()
        .map(|(n, text)| match parse(text) {
            Some(capability) => Ok(Some(capability)),
            None if text.eq_ignore_ascii_case(ALL) => Ok(None),
            None => Err(SpecError::invalid(
                format!("{SECURITY}.capabilities.{list}[{n}]"),
                format!("{text:?} is not a capability's name"),
            )),
        })
        .collect()
}

/// A name with or without CAP_, in any case.
pub(super) fn parse(name: &str) -> Option<Capability> {
    let name = name.to_ascii_uppercase();
    Capability::from_str(name.strip_prefix("CAP_").unwrap_or(&name)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::base::Draft;

    fn list(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| name.to_string()).collect()
    }

    fn changed(add: &[&str], drop: &[&str], ambient: &[&str]) -> Result<LinuxCapabilities, SpecError> {
        let change = cri::Capability {
            add_capabilities: list(add),
            drop_capabilities: list(drop),
            add_ambient_capabilities: list(ambient),
        };
        let draft = Draft::without_limits();
        // chown, kill, net_admin: numbers 0, 5 and 12.
        capabilities(draft.process.capabilities().as_ref(), Some(&change), CapSet(1 | 1 << 5 | 1 << 12))
    }

    fn set(capabilities: &Option<Capabilities>) -> Vec<String> {
        let mut names: Vec<_> = capabilities.iter().flatten().map(|name| name.to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn all_comes_before_single_names() {
        for (add, drop, expected) in [
            (&["ALL"][..], &["KILL"][..], &["CHOWN", "NET_ADMIN"][..]),
            (&["NET_ADMIN"], &["all"], &["NET_ADMIN"]),
            (&["cap_net_raw", "CAP_BPF"], &["ALL", "NET_RAW"], &["BPF"]),
            (&["ALL"], &["ALL"], &[]),
        ] {
            let sets = changed(add, drop, &[]).unwrap();
            assert_eq!(set(sets.bounding()), expected);
            assert_eq!((sets.effective(), sets.permitted()), (sets.bounding(), sets.bounding()));
            assert_eq!((sets.ambient(), sets.inheritable()), (&None, &None));
        }
        assert_eq!(changed(&["SYS_TIME"], &["KILL"], &[]).unwrap().bounding().as_ref().unwrap().len(), 14);
    }

    #[test]
    fn ambient_ones_are_in_every_set() {
        let sets = changed(&[], &["ALL", "KILL"], &["NET_ADMIN", "KILL"]).unwrap();
        for found in [sets.bounding(), sets.effective(), sets.permitted(), sets.inheritable(), sets.ambient()]
        {
            assert_eq!(set(found), ["NET_ADMIN"]);
        }
    }

    #[test]
    fn what_containerd_lacks_cannot_be_added() {
        // All up to number 39, but for sys_resource (24).
        let all = CapSet(((1 << 40) - 1) & !(1 << 24));
        let adding = |name: &str| cri::Capability { add_capabilities: list(&[name]), ..Default::default() };
        assert_eq!(check_held(None, all), Ok(()));
        for name in ["ALL", "CAP_CHOWN", "BPF", "checkpoint_restore"] {
            assert_eq!(check_held(Some(&adding(name)), all), Ok(()), "{name}");
        }
        let error = check_held(Some(&adding("SYS_RESOURCE")), all).unwrap_err().to_string();
        assert!(
            error.starts_with("config.linux.security_context.capabilities.add_capabilities[0]: "),
            "{error}"
        );
    }

    #[test]
    fn an_unknown_name_is_refused_by_its_field() {
        let error = changed(&["CHOWN", "NETADMIN"], &[], &[]).unwrap_err().to_string();
        assert!(
            error.starts_with("config.linux.security_context.capabilities.add_capabilities[1]: "),
            "{error}"
        );
        assert!(changed(&[], &[""], &[]).unwrap_err().to_string().contains("drop_capabilities[0]: "));
        assert!(
            changed(&[], &[], &["CAP_CAP_KILL"])
                .unwrap_err()
                .to_string()
                .contains("add_ambient_capabilities[0]: ")
        );
    }
}
