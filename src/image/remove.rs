//! Removing an image: all its names, so that garbage collection takes the rest.

use super::{ImageError, Images};
use crate::containerd::Collect;
use crate::registry::Reference;

impl Images {
    /// Removes every name of the image; one that is not there is fine. Returns when its content is collected, as far
    /// as nothing else uses it. The pause image is refused.
    pub async fn remove(&self, text: &str) -> Result<(), ImageError> {
        let names = match self.find(text) {
            Some(image) => self.0.index().names_of(&image.id),
            // A name that is left out of the index, because its image is broken, can be removed nevertheless.
            None => text.parse::<Reference>().map(|reference| reference.to_string()).into_iter().collect(),
        };
        if names.iter().any(|name| name == self.pause_name()) {
            return Err(ImageError::Pause { image: text.to_owned() });
        }
        let mut left = names.len();
        for name in &names {
            left -= 1;
            let collect = if left == 0 { Collect::Now } else { Collect::Later };
            match self.0.containerd.delete_image(name, collect).await {
                Err(error) if !error.is_not_found() => {
                    return Err(ImageError::containerd("remove", name)(error));
                }
                _ => self.refresh(name).await?,
            }
        }
        Ok(())
    }
}
