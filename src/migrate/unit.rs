//! The environment that a unit of systemd's gives its service: its file, its drop-ins and the files that these name, as
//! systemd.unit(5) and systemd.exec(5) have them.

use std::collections::BTreeMap;
use std::fs;
use std::iter::Peekable;
use std::path::{Path, PathBuf};
use std::str::Chars;

use super::glob::glob;

/// Where units are, the first counts.
const FOLDERS: [&str; 5] = [
    "etc/systemd/system",
    "run/systemd/system",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];
/// Bytes of a file that are read.
const FILE_MAX: u64 = 1 << 20;

/// Variables by their names.
pub(super) type Variables = BTreeMap<String, String>;

/// What a service's processes are given, as far as its files say it; empty where there is no such unit.
pub(super) fn environment(root: &Path, unit: &str) -> Variables {
    let mut told = Told::default();
    for file in files(root, unit) {
        told.read(&text(&file));
    }
    let mut variables: Variables = told.assignments.into_iter().collect();
    // Files count more, whatever the order.
    for entry in &told.files {
        for path in named(root, entry) {
            variables.extend(assignments_of_file(&text(&path)));
        }
    }
    variables.retain(|name, value| {
        !told.unset.iter().any(|entry| entry == name || *entry == format!("{name}={value}"))
    });
    variables
}

/// The unit's own file, then its drop-ins in the order of their names. A folder hides the like-named files of those
/// behind it; one that is a link to /dev/null hides them and says nothing.
fn files(root: &Path, unit: &str) -> Vec<PathBuf> {
    let folders = || FOLDERS.iter().map(|folder| root.join(folder));
    let own = folders().map(|folder| folder.join(unit)).find(|path| fs::symlink_metadata(path).is_ok());
    let mut drop_ins = BTreeMap::new();
    // Those of the unit count more than those of all services.
    for folder in [format!("{unit}.d"), "service.d".to_owned()] {
        for folder in folders().map(|parent| parent.join(&folder)) {
            for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.extension().is_some_and(|extension| extension == "conf") {
                    drop_ins.entry(entry.file_name()).or_insert(path);
                }
            }
        }
    }
    own.into_iter().chain(drop_ins.into_values()).collect()
}

fn text(path: &Path) -> String {
    let is_small = fs::metadata(path).is_ok_and(|found| found.is_file() && found.len() <= FILE_MAX);
    let bytes = if is_small { fs::read(path).unwrap_or_default() } else { Vec::new() };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// What `EnvironmentFile=` names.
fn named(root: &Path, entry: &str) -> Vec<PathBuf> {
    let path = entry.strip_prefix('-').unwrap_or(entry);
    let Ok(path) = Path::new(path).strip_prefix("/") else { return Vec::new() };
    glob(&root.join(path)).unwrap_or_default()
}

/// The lines of `[Service]` that are about the environment.
#[derive(Default)]
struct Told {
    assignments: Vec<(String, String)>,
    files: Vec<String>,
    unset: Vec<String>,
}

impl Told {
    fn read(&mut self, text: &str) {
        let mut section = String::new();
        for line in joined(text) {
            let line = line.trim();
            if line.starts_with('[') {
                section = line.to_owned();
            }
            let Some((key, value)) = line.split_once('=').filter(|_| section == "[Service]") else {
                continue;
            };
            match (key.trim_end(), value.trim_start()) {
                ("Environment", "") => self.assignments.clear(),
                ("EnvironmentFile", "") => self.files.clear(),
                ("UnsetEnvironment", "") => self.unset.clear(),
                ("Environment", value) => {
                    self.assignments.extend(words(value).iter().filter_map(|word| assignment(word)));
                }
                ("EnvironmentFile", value) => self.files.push(expanded(value)),
                ("UnsetEnvironment", value) => self.unset.extend(words(value)),
                _ => {}
            }
        }
    }
}

/// Lines, with those that end in a backslash joined to the next, and without comments.
fn joined(text: &str) -> Vec<String> {
    let (mut lines, mut begun) = (Vec::new(), String::new());
    for line in text.lines() {
        if line.trim_start().starts_with(['#', ';']) {
            continue;
        }
        match line.strip_suffix('\\') {
            Some(part) => begun.push_str(&format!("{part} ")),
            None => lines.push(std::mem::take(&mut begun) + line),
        }
    }
    if !begun.is_empty() {
        lines.push(begun);
    }
    lines
}

/// The words of a line: quotes hold blanks, escapes are those of C, `%%` is a percent sign.
fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('"' | '\'', None) => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (c, Some(open)) if c == open => quote = None,
            (c, None) if c.is_whitespace() => words.extend(word.take()),
            ('\\', _) => word.get_or_insert_default().extend(escaped(&mut chars)),
            (c, _) => word.get_or_insert_default().push(c),
        }
    }
    words.extend(word);
    words.iter().map(|word| expanded(word)).collect()
}

/// What stands behind a backslash.
fn escaped(chars: &mut std::str::Chars<'_>) -> Option<char> {
    let mut number = |digits: usize, radix| {
        let text: String = chars.clone().take(digits).collect();
        let code = u32::from_str_radix(&text, radix).ok().filter(|_| text.len() == digits)?;
        chars.nth(digits.checked_sub(1)?);
        char::from_u32(code)
    };
    match number(3, 8) {
        Some(c) => Some(c),
        None => match chars.next()? {
            'a' => Some('\u{7}'),
            'b' => Some('\u{8}'),
            'f' => Some('\u{c}'),
            'n' => Some('\n'),
            'r' => Some('\r'),
            's' => Some(' '),
            't' => Some('\t'),
            'v' => Some('\u{b}'),
            kind @ ('x' | 'u' | 'U') => {
                let digits = if kind == 'x' {
                    2
                } else if kind == 'u' {
                    4
                } else {
                    8
                };
                let text: String = chars.clone().take(digits).collect();
                let code = u32::from_str_radix(&text, 16).ok().filter(|_| text.len() == digits)?;
                chars.nth(digits - 1);
                char::from_u32(code)
            }
            c => Some(c),
        },
    }
}

/// Without the one specifier that may be in a proxy's URL; all others name what a proxy does not depend on.
fn expanded(word: &str) -> String {
    word.replace("%%", "%")
}

fn assignment(text: &str) -> Option<(String, String)> {
    let (name, value) = text.split_once('=')?;
    let valid = |c: char| c.is_ascii_alphanumeric() || c == '_';
    (!name.is_empty() && name.chars().all(valid)).then(|| (name.to_owned(), value.to_owned()))
}

/// A file of `NAME=value` lines. Within single quotes all stands for itself, within double quotes a backslash may stand
/// before `"`, `\`, `` ` `` and `$`, elsewhere before anything; quotes may go over lines.
fn assignments_of_file(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        let Some(first) = chars.peek().copied() else { return found };
        if matches!(first, '#' | ';') {
            while chars.next_if(|c| *c != '\n').is_some() {}
            continue;
        }
        let mut name = String::new();
        while let Some(c) = chars.next_if(|c| !matches!(c, '=' | '\n')) {
            name.push(c);
        }
        // A line that assigns nothing means nothing.
        if chars.next_if_eq(&'=').is_some() {
            let assigned = value(&mut chars);
            found.extend(assignment(&format!("{}={assigned}", name.trim_end())));
        }
    }
}

/// What stands behind the equals sign, to the end of the line.
fn value(chars: &mut Peekable<Chars<'_>>) -> String {
    let (mut value, mut kept, mut is_bare) = (String::new(), 0, false);
    while let Some(c) = chars.next() {
        match c {
            '\n' => break,
            '\'' if !is_bare => value.extend(std::iter::from_fn(|| chars.next()).take_while(|c| *c != '\'')),
            '"' if !is_bare => double_quoted(chars, &mut value),
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(c) => value.push(c),
            },
            // Blanks count between words only.
            c if c.is_whitespace() => {
                if !value.is_empty() {
                    value.push(c);
                }
                continue;
            }
            c => {
                is_bare = true;
                value.push(c);
            }
        }
        kept = value.len();
    }
    value.truncate(kept);
    value
}

fn double_quoted(chars: &mut Peekable<Chars<'_>>, value: &mut String) {
    while let Some(c) = chars.next() {
        match c {
            '"' => return,
            '\\' => match chars.next() {
                Some('\n') | None => {}
                Some(c @ ('"' | '\\' | '`' | '$')) => value.push(c),
                Some(c) => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn told(text: &str) -> Told {
        let mut told = Told::default();
        told.read(text);
        told
    }

    #[test]
    fn words_are_quoted_and_escaped_as_systemd_has_it() {
        for (line, expected) in [
            ("A=1 B=2", vec!["A=1", "B=2"]),
            ("\"A=one two\" 'B=three \"four\"'", vec!["A=one two", "B=three \"four\""]),
            ("A=\"x y\"z", vec!["A=x yz"]),
            (r"A=a\x20b\sc\\d\101", vec!["A=a b c\\dA"]),
            ("A=http://u:p%%40ss@proxy", vec!["A=http://u:p%40ss@proxy"]),
            ("\"\"", vec![""]),
            ("A=\\", vec!["A="]),
        ] {
            assert_eq!(words(line), expected, "{line}");
        }
    }

    #[test]
    fn an_empty_assignment_takes_back_all_before_it() {
        let told = told(
            "[Unit]\nEnvironment=NO=1\n[Service]\n# Environment=NO=2\nEnvironment=A=1\nEnvironment=\n\
             Environment=B=2 \\\n; a comment between\n  C=3\nEnvironmentFile=-/etc/default/x\nUnsetEnvironment=D E=1\n",
        );
        let names: Vec<_> = told.assignments.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(names, ["B=2", "C=3"]);
        assert_eq!(told.files, ["-/etc/default/x"]);
        assert_eq!(told.unset, ["D", "E=1"]);
    }

    #[test]
    fn files_of_variables_have_quotes_of_their_own() {
        let text = "# x\n; y\nA=1\n B = two words  \nC='single \"\\n\"'\nD=\"dou\\\"ble\\n\"\nE=over\\\nlines\n\
                    F=\"a\nb\"\nbad line\n1-2=3\nG=it's\nH=%40\nI";
        let expected = [
            ("A", "1"),
            ("B", "two words"),
            ("C", "single \"\\n\""),
            ("D", "dou\"ble\\n"),
            ("E", "overlines"),
            ("F", "a\nb"),
            ("G", "it's"),
            ("H", "%40"),
        ];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(assignments_of_file(text), expected);
    }

    #[test]
    fn folders_hide_each_others_files_and_drop_ins_come_by_name() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        assert!(environment(dir.path(), "c.service").is_empty());
        write(
            "usr/lib/systemd/system/c.service",
            "[Service]\nEnvironment=A=unit B=unit C=unit D=unit X=gone\n",
        );
        write("etc/systemd/system/c.service.d/20-b.conf", "[Service]\nEnvironment=B=20\n");
        write("usr/lib/systemd/system/c.service.d/10-a.conf", "[Service]\nEnvironment=A=10 B=10\n");
        write("usr/lib/systemd/system/c.service.d/20-b.conf", "[Service]\nEnvironment=B=hidden\n");
        write("etc/systemd/system/c.service.d/30-c.conf", "[Service]\nEnvironmentFile=-/etc/default/c*\n");
        write("etc/systemd/system/c.service.d/ignored.txt", "[Service]\nEnvironment=A=no\n");
        write("etc/systemd/system/service.d/15-all.conf", "[Service]\nUnsetEnvironment=X D=other\n");
        write("etc/default/c1", "C=file\n");
        let expected = [("A", "10"), ("B", "20"), ("C", "file"), ("D", "unit")];
        let expected = expected.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(environment(dir.path(), "c.service"), expected.into());
        write("etc/systemd/system/c.service", "[Service]\nEnvironment=A=own\n");
        assert_eq!(environment(dir.path(), "c.service").get("D"), None);
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "(?s)[\\PC\n\\\\\"' =%]{0,60}") {
            let _ = (words(&text), assignments_of_file(&text), told(&format!("[Service]\nEnvironment={text}")));
        }
    }
}
