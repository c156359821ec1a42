//! cridge's fail points (its `src/work/points.rs`): which ones a call passes, and what happens at one of them.

use std::fs;
use std::path::PathBuf;

use super::until;

/// Those of one node's cridge.
pub struct Points {
    /// What `CRIDGE_POINTS` names.
    pub folder: PathBuf,
}

impl Points {
    /// What was passed before is forgotten.
    pub fn forget(&self) {
        let _ = fs::remove_file(self.folder.join("hit"));
    }

    /// The points that were passed, in order, each once.
    pub fn passed(&self) -> Vec<String> {
        let mut passed: Vec<String> = Vec::new();
        for point in fs::read_to_string(self.folder.join("hit")).unwrap_or_default().lines() {
            if !passed.iter().any(|known| known == point) {
                passed.push(point.to_owned());
            }
        }
        passed
    }

    /// cridge kills itself there.
    pub fn die_at(&self, point: &str) {
        fs::write(self.folder.join("die"), point).expect("a file");
    }

    /// Whoever comes there waits until [`Points::disarm`].
    pub fn hold_at(&self, point: &str) {
        self.forget();
        fs::write(self.folder.join("hold"), point).expect("a file");
    }

    /// Waits until somebody is there.
    pub async fn reached(&self, point: &str) {
        until(format!("{point} is reached"), || async {
            self.passed().iter().any(|passed| passed == point).then_some(())
        })
        .await;
    }

    /// Nothing happens at any point.
    pub fn disarm(&self) {
        for file in ["die", "hold"] {
            let _ = fs::remove_file(self.folder.join(file));
        }
    }
}
