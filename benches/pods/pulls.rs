//! Pulls of an image that is not there: each is removed before it is pulled again.

use anyhow::Result;

use crate::side::Side;
use crate::steps::on_both;
use crate::table::Table;

pub struct Picture {
    reference: &'static str,
    operation: &'static str,
    /// One in so many rounds.
    every: usize,
}

pub const SMALL: Picture =
    Picture { reference: "docker.io/cridge-tests/configured:1", operation: "PullImage, 1 MB", every: 1 };
/// Made by `benches/pods/image.py`.
pub const LARGE: Picture =
    Picture { reference: "docker.io/cridge-bench/large:1", operation: "PullImage, 200 MB", every: 5 };

pub async fn again_and_again(
    sides: &[Side; 2],
    image: &Picture,
    rounds: usize,
    table: &mut Table,
) -> Result<()> {
    for round in 0..rounds.div_ceil(image.every) {
        on_both(sides, round, image.operation, table, async |_, side| side.pull(image.reference).await)
            .await?;
        for side in sides {
            side.remove_image(image.reference).await?;
        }
    }
    Ok(())
}
