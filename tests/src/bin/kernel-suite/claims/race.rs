//! Names that change while they are read: a walk that mixes two moments must not leak.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use anyhow::{Result, bail, ensure};
use wasi_guard_tests::operation::{Answer, Do, Tally, at};

use super::cases;
use crate::lab::Lab;

cases![no_mix_of_two_moments_of_a_rename_leaks];

/// Opens of each name; a rename takes about as long as an open.
const TRIES: u32 = 15_000;

/// The directory with the secret is `a/c` and `z/b` in turns; `a/b/**` is what may be read, which
/// it never is. A walk that read its name at one moment and its parent at another would see it.
fn no_mix_of_two_moments_of_a_rename_leaks(lab: &Lab) -> Result<()> {
    let policy = "[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nread = [\"a/b/**\"]\n";
    let stage = lab.stage(policy, &["data/a/c/secret", "data/z/"])?;
    stage.reset()?;
    let (one, two) = (stage.roots[0].join("a/c"), stage.roots[0].join("z/b"));
    let (stop, moves) = (AtomicBool::new(false), AtomicU64::new(0));
    let tallies = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                // A failure shows as a number of moves that is too low.
                if std::fs::rename(&one, &two).is_ok() && std::fs::rename(&two, &one).is_ok() {
                    moves.fetch_add(2, Ordering::Relaxed);
                }
            }
        });
        let tallies = ["a/c/secret", "z/b/secret"].map(|path| -> Result<Tally> {
            let answer = stage.inside.ask(&Do::Hammer(at(0, path), TRIES))?;
            let Answer::Done(bytes) = answer else { bail!("{answer:?}") };
            Ok(postcard::from_bytes(&bytes)?)
        });
        stop.store(true, Ordering::Relaxed);
        tallies
    });
    let mut denied = 0;
    for tally in tallies {
        let tally = tally?;
        ensure!(tally.opened == 0, "a denied file was opened: {tally:?}");
        ensure!(tally.other == 0, "{tally:?}");
        denied += tally.denied;
    }
    let moves = moves.load(Ordering::Relaxed);
    ensure!(denied > 1000 && moves > 1000, "no race: {denied} denials, {moves} moves");
    Ok(())
}
