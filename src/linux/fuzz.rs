use super::{mount_options::MountOptions, mountinfo};
use crate::fuzz::{fuzz, fuzz_text};

#[test]
fn no_table_of_mounts_does_harm() {
    fuzz("mountinfo", |input, _| match mountinfo::parse(input) {
        Ok(mounts) => assert!(mounts.len() <= input.split(|byte| *byte == b'\n').count()),
        Err(line) => assert!(!line.is_empty()),
    });
}

#[test]
fn no_mount_options_do_harm() {
    fuzz_text("mount-options", |text| {
        let options: Vec<String> = text.lines().map(str::to_owned).collect();
        let parsed = MountOptions::parse(&options);
        if let Some((folder, short)) = parsed.relative() {
            assert!(folder.is_absolute() && short.data.len() <= parsed.data.len());
        }
    });
}
