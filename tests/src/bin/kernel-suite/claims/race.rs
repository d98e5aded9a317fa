//! Names that change while they are read: a walk that mixes two moments must not leak.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use anyhow::{Result, bail, ensure};
use wasi_guard_tests::operation::{Answer, Do, Tally, at};

use super::cases;
use crate::lab::Lab;

cases![no_mix_of_two_moments_of_a_rename_leaks];

/// Opens of one name, before another one's turn.
const TURN: u32 = 1_000;
/// Directories that the one with the secret is moved to.
const OTHERS: usize = 64;

/// The directory with the secret is `a/c` and `zN/b` in turns; `a/b/**` is what may be read, which
/// it never is. A walk that read its name at one moment and its parent at another would see it.
///
/// With many N, because `a` and a `zN` that lie near each other in the kernel's memory are the
/// hardest to tell apart by a sum over addresses: one that only rotated took some for each other.
fn no_mix_of_two_moments_of_a_rename_leaks(lab: &Lab) -> Result<()> {
    let policy = "[[preopen]]\nguest = \"/data\"\nhost = \"data\"\nread = [\"a/b/**\"]\n";
    let stage = lab.stage(policy, &["data/a/c/secret"])?;
    stage.reset()?;
    let others: Vec<_> = (0..OTHERS).map(|number| format!("z{number}")).collect();
    for other in &others {
        std::fs::create_dir(stage.roots[0].join(other))?;
    }
    let one = stage.roots[0].join("a/c");
    let two: Vec<_> = others.iter().map(|other| stage.roots[0].join(other).join("b")).collect();
    let hammer = |path: &str| -> Result<Tally> {
        let answer = stage.inside.ask(&Do::Hammer(at(0, path), TURN))?;
        let Answer::Done(bytes) = answer else { bail!("{answer:?}") };
        Ok(postcard::from_bytes(&bytes)?)
    };
    // Where it may be read, and nothing moves.
    let granted = stage.roots[0].join("a/b");
    let works = || -> Result<()> {
        std::fs::rename(&one, &granted)?;
        let tally = hammer("a/b/secret")?;
        ensure!(tally.opened == TURN, "{tally:?}");
        Ok(std::fs::rename(&granted, &one)?)
    };
    works()?;
    let (stop, moves, place) = (AtomicBool::new(false), AtomicU64::new(0), AtomicUsize::new(0));
    let tallies = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(Ordering::Relaxed) {
                let two = &two[place.load(Ordering::Relaxed)];
                // A failure shows as a number of moves that is too low.
                if std::fs::rename(&one, two).is_ok() && std::fs::rename(two, &one).is_ok() {
                    moves.fetch_add(2, Ordering::Relaxed);
                }
            }
        });
        let turns = (0..lab.race.div_ceil(TURN) as usize).map(|turn| {
            let other = turn / 2 % OTHERS;
            place.store(other, Ordering::Relaxed);
            if turn % 2 == 0 { hammer("a/c/secret") } else { hammer(&format!("z{other}/b/secret")) }
        });
        let tallies = turns.collect::<Result<Vec<_>>>();
        stop.store(true, Ordering::Relaxed);
        tallies
    })?;
    works()?;
    let mut denied = 0;
    for tally in tallies {
        ensure!(tally.opened == 0, "a denied file was opened: {tally:?}");
        ensure!(tally.other == 0, "{tally:?}");
        denied += tally.denied;
    }
    let moves = moves.load(Ordering::Relaxed);
    println!("# {} opens raced with {moves} renames, {denied} met the secret", lab.race);
    ensure!(denied > lab.race / 100, "no race: {denied} denials");
    ensure!(moves > u64::from(lab.race / 100), "no race: {moves} renames");
    Ok(())
}
