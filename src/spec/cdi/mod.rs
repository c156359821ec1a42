//! The Container Device Interface (<https://tags.cncf.io/container-device-interface>, specification 1.1): files of
//! vendors say what of a container's spec is to be edited for a device. Pure: who calls reads the files and looks at the
//! device nodes.
//!
//! ```text
//! name.rs      vendor.com/class=device, and which of them a config asks for
//! document.rs  a vendor's file, checked as a whole
//! edits.rs     its edits, made complete and applied
//! ```

mod document;
mod edits;
mod name;

pub use document::Document;
pub use edits::CdiEdits;
pub use name::{CdiName, wanted};

pub(super) use edits::apply;
