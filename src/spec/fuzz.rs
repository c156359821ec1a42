use super::accounts::{groups, users};
use super::cdi::Document;
use super::stored::StoredSpec;
use crate::fuzz::{fuzz, fuzz_text};

#[test]
fn no_accounts_do_harm() {
    fuzz_text("accounts", |text| {
        for user in users(text) {
            assert!(!user.name.is_empty() && !user.name.contains([':', '\n']), "{user:?}");
        }
        for group in groups(text) {
            assert!(!group.name.is_empty() && !group.name.contains([':', '\n']), "{group:?}");
            assert!(!group.has("a:b"));
        }
    });
}

#[test]
fn no_stored_spec_does_harm() {
    fuzz("spec", |input, _| {
        let Ok(spec) = StoredSpec::parse(input) else { return };
        let again = StoredSpec::parse(&spec.to_json()).expect("it was written by us");
        assert_eq!(again.report(), spec.report());
    });
}

#[test]
fn no_cdi_file_does_harm() {
    fuzz_text("cdi", |text| match Document::parse(text) {
        Ok(document) => assert!(!document.devices.is_empty()),
        Err(why) => assert!(!why.is_empty()),
    });
}
