//! A conflist made of a template, on a node that has none: UpdateRuntimeConfig.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::Path;

use super::conflist::NetworkList;
use super::error::NetworkError;
use super::folder;
use super::template::{PodCidrs, Template};
use crate::linux::file;

/// As the built-in plugin calls it, so that one does not add to the other's.
const FILE: &str = "10-containerd-net.conflist";

/// Reads a template's file.
///
/// # Errors
/// It cannot be read, or is beyond what is understood.
pub fn load_template(path: &Path) -> Result<Template, NetworkError> {
    let wrong = |why: String| NetworkError::Template { path: path.to_owned(), why };
    let bytes = folder::read(path).map_err(wrong)?;
    let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8".into()))?;
    Template::parse(&text).map_err(|error| wrong(error.to_string()))
}

/// Makes the conflist, and the folder if need be. Whole or not at all. Blocking.
///
/// # Errors
/// The template's, also when what it gives is no conflist; those of the file system.
pub(super) fn write(template: &Path, folder: &Path, cidrs: &PodCidrs) -> Result<(), NetworkError> {
    let conflist = load_template(template)?.render(cidrs);
    NetworkList::parse(conflist.as_bytes()).map_err(|why| NetworkError::Template {
        path: template.to_owned(),
        why: format!("gives no network list: {why}"),
    })?;
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| NetworkError::Generate { path, source }
    };
    fs::DirBuilder::new().recursive(true).mode(0o755).create(folder).map_err(failed(folder))?;
    let path = folder.join(FILE);
    // No name that a look at the folder would take for a network.
    let sibling = folder.join(format!(".{FILE}.{:08x}", rand::random::<u32>()));
    file::replace(&path, &sibling, 0o644, |new| {
        new.write_all(conflist.as_bytes())?;
        new.sync_data()
    })
    .map_err(failed(&path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_network_list_is_written() {
        let dir = tempfile::tempdir().unwrap();
        let (template, folder) = (dir.path().join("t"), dir.path().join("a/net.d"));
        let cidrs = PodCidrs::parse("10.1.0.0/24").unwrap();
        let names =
            || fs::read_dir(&folder).map(|all| all.flatten().map(|entry| entry.file_name()).collect());
        let error = write(&template, &folder, &cidrs).unwrap_err().to_string();
        assert!(error.contains(template.to_str().unwrap()), "{error}");
        for (text, word) in
            [("{{.Nope}}", "line 1: "), ("{}", "no network list"), ("\u{7f}", "no network list")]
        {
            fs::write(&template, text).unwrap();
            let error = write(&template, &folder, &cidrs).unwrap_err().to_string();
            assert!(error.contains(word), "{error}");
            assert!(!folder.exists());
        }
        let text = r#"{"cniVersion":"1.0.0","name":"n","plugins":[{"type":"t","subnet":"{{.PodCIDR}}"}]}"#;
        fs::write(&template, text).unwrap();
        for _ in 0..2 {
            write(&template, &folder, &cidrs).unwrap();
        }
        let written = fs::read_to_string(folder.join(FILE)).unwrap();
        assert_eq!(written, text.replace("{{.PodCIDR}}", "10.1.0.0/24"));
        let all: Vec<_> = names().unwrap();
        assert_eq!(all, [FILE]);
    }
}
