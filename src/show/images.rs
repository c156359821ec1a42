//! Each image, by its names, and those on their way.

use serde::Serialize;

use super::runtime::{Runtime, call};
use super::table::{Cell, Table, or_dash, short, size};
use super::{ShowError, pulls};
use crate::image::progress::PullReport;
use crate::proto::cri;
use crate::time::Timestamp;

const HEAD: &[&str] = &["IMAGE", "IMAGE ID", "SIZE", "STATE"];

/// An image, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Image {
    /// Empty for one that is being pulled.
    pub id: String,
    pub repo_tags: Vec<String>,
    pub repo_digests: Vec<String>,
    /// Compressed bytes.
    pub size: u64,
    /// Never removed to make room.
    pub pinned: bool,
    /// How far it is, of one that is being pulled.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pull: Option<PullReport>,
}

/// In the order of their names; those that are being pulled are the last.
pub async fn read(runtime: &Runtime) -> Result<Vec<Image>, ShowError> {
    let pulls = pulls::read(runtime).await?;
    let listed = async { runtime.images().list_images(cri::ListImagesRequest::default()).await };
    let mut images: Vec<_> = call("list images", listed).await?.images.into_iter().map(Image::from).collect();
    images.sort_by(|a, b| a.names().cmp(b.names()));
    images.extend(pulls.into_iter().map(Image::from));
    Ok(images)
}

impl Image {
    /// Those that people gave it, else those that it was pulled by.
    fn names(&self) -> std::slice::Iter<'_, String> {
        if self.repo_tags.is_empty() { self.repo_digests.iter() } else { self.repo_tags.iter() }
    }
}

impl From<cri::Image> for Image {
    fn from(image: cri::Image) -> Self {
        let cri::Image { id, repo_tags, repo_digests, size, pinned, .. } = image;
        Self { id, repo_tags, repo_digests, size, pinned, pull: None }
    }
}

impl From<PullReport> for Image {
    fn from(pull: PullReport) -> Self {
        let (repo_tags, size) = (vec![pull.image.clone()], pull.total_bytes);
        Self { id: String::new(), repo_tags, repo_digests: Vec::new(), size, pinned: false, pull: Some(pull) }
    }
}

/// A line for each name.
pub fn table(images: &[Image], _: Timestamp) -> Table {
    let rows = images.iter().flat_map(|image| {
        let names = image.names().map(String::as_str);
        let names: Vec<_> = if image.names().len() == 0 { vec!["<none>"] } else { names.collect() };
        names.into_iter().map(move |name| row(name, image))
    });
    Table::new(HEAD, rows.collect())
}

fn row(name: &str, image: &Image) -> Vec<Cell> {
    let state = match &image.pull {
        Some(pull) if pull.total_bytes > 0 => format!("pulling, {}%", pull.bytes * 100 / pull.total_bytes),
        Some(pull) => format!("pulling, to {}", pull.stage),
        None if image.pinned => "pinned".to_owned(),
        None => String::new(),
    };
    let bytes = if image.size > 0 { size(image.size) } else { String::new() };
    vec![name.into(), or_dash(short(&image.id)).into(), or_dash(bytes).into(), or_dash(state).into()]
}

#[cfg(test)]
mod tests {
    use super::super::table::Colour;
    use super::*;

    #[test]
    fn an_image_has_a_line_for_each_name() {
        let image = |tags: &[&str], digests: &[&str], pinned| Image {
            id: "sha256:0123456789abcdef".into(),
            repo_tags: tags.iter().map(ToString::to_string).collect(),
            repo_digests: digests.iter().map(ToString::to_string).collect(),
            size: 1 << 20,
            pinned,
            pull: None,
        };
        let pull = PullReport::begun("new:1", "");
        let half = PullReport { image: "half:1".into(), bytes: 512, total_bytes: 1024, ..pull.clone() };
        let images = [
            image(&["a:1", "a:2"], &["a@sha256:7"], false),
            image(&[], &["b@sha256:7"], true),
            image(&[], &[], false),
            pull.into(),
            half.into(),
        ];
        let expected = "\
IMAGE       IMAGE ID       SIZE    STATE
a:1         0123456789abc  1.0MiB  -
a:2         0123456789abc  1.0MiB  -
b@sha256:7  0123456789abc  1.0MiB  pinned
<none>      0123456789abc  1.0MiB  -
new:1       -              -       pulling, to get the manifest
half:1      -              1.0KiB  pulling, 50%
";
        assert_eq!(table(&images, Timestamp::NEVER).text(Colour::No), expected);
    }
}
