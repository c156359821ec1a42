//! Hostile bytes for every parser of what comes from outside: a kept corpus (tests/corpus), and what becomes of it by
//! chance, for `CRIDGE_FUZZ_SECONDS` (1 unless told; `hack/test fuzz` takes some more, `hack/soak fuzz` a long time).
//! Without a compiler's help in finding new paths, which stable Rust does not give: what that costs in depth, seeds that
//! reach every kind of input make up for. The targets are in files of this name, beside their parsers.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rand::prelude::*;

/// Bytes of an input, at most: longer ones find nothing that shorter ones do not.
const MAX_INPUT: usize = 64 << 10;

/// What formats of text are made of, and what tells their readers apart.
const WORDS: &str = "\" { } [ ] , : = / .. /../ \\u0000 \0 \n % @ # * ' null true {} [] \"\" -1 1e999 \
                     18446744073709551616 sha256: \u{2028} \u{202e} ß";

/// Gives a target the corpus in `folder`, whole and in pieces, and then all that chance makes of it. An input that a
/// target panics on is kept there.
pub fn fuzz(folder: &str, target: impl Fn(&[u8], &[usize])) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus").join(folder);
    let seeds: Vec<Vec<u8>> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|file| std::fs::read(file.unwrap().path()).unwrap())
        .collect();
    assert!(!seeds.is_empty(), "{} is empty", folder.display());
    let mut chance = rand::rng();
    for seed in &seeds {
        carry_out(&folder, &target, seed, &[1; 64]);
    }
    let seconds = std::env::var("CRIDGE_FUZZ_SECONDS").map_or(1, |text| text.parse().unwrap());
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut runs = 0u64;
    while Instant::now() < end {
        let mut input = seeds.choose(&mut chance).unwrap().clone();
        for _ in 0..chance.random_range(1..8) {
            mutate(&mut input, &seeds, &mut chance);
        }
        input.truncate(MAX_INPUT);
        let pieces: Vec<usize> =
            (0..chance.random_range(0..16)).map(|_| chance.random_range(1..200)).collect();
        carry_out(&folder, &target, &input, &pieces);
        runs += 1;
    }
    println!("{}: {runs} runs", folder.display());
}

/// The same for what is read as text: bytes that are none are replaced first, as its readers have it.
pub fn fuzz_text(folder: &str, target: impl Fn(&str)) {
    fuzz(folder, |input, _| target(&String::from_utf8_lossy(input)));
}

fn carry_out(folder: &Path, target: &impl Fn(&[u8], &[usize]), input: &[u8], pieces: &[usize]) {
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| target(input, pieces))) {
        let file: PathBuf = folder.join(format!("found-{:016x}", rand::random::<u64>()));
        std::fs::write(&file, input).unwrap();
        eprintln!("in pieces of {pieces:?}, kept as {}", file.display());
        resume_unwind(panic);
    }
}

fn mutate(input: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut impl Rng) {
    const TELLING: [u8; 10] = [0, 1, 2, 3, 0x7e, 0x7f, 0x80, 0xf0, 0xfe, 0xff];
    let at = chance.random_range(0..=input.len());
    let until = (at + chance.random_range(1..16)).min(input.len());
    match chance.random_range(0..9) {
        0 if at < input.len() => input[at] ^= 1 << chance.random_range(0..8),
        1 if at < input.len() => input[at] = *TELLING.choose(chance).unwrap(),
        2 if at < input.len() => {
            input[at] = input[at].wrapping_add(chance.random_range(0..5)).wrapping_sub(2)
        }
        3 => drop(input.drain(at..until)),
        4 => {
            let again = input[at..until].to_vec();
            input.splice(at..at, again);
        }
        5 => {
            let noise: Vec<u8> = (0..chance.random_range(1..9)).map(|_| chance.random()).collect();
            input.splice(at..at, noise);
        }
        6 | 7 => {
            let word = WORDS.split(' ').choose(chance).unwrap();
            input.splice(at..at, word.bytes());
        }
        _ => {
            let other = seeds.choose(chance).unwrap();
            let from = chance.random_range(0..=other.len());
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
    }
}
