//! Landlock around a worker.
//!
//! Role Run handles only what WASI has no use for. Reading, writing, creating, deleting and the
//! network are left to the BPF programs on purpose: the kernel asks Landlock first, and what
//! Landlock denies never reaches BPF, so it would be missing in the audit.

use std::os::fd::BorrowedFd;

use landlock::{
    ABI, Access as _, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible as _, LandlockStatus,
    PathBeneath, Ruleset, RulesetAttr as _, RulesetCreatedAttr as _, RulesetStatus, Scope,
    make_bitflags,
};

use super::failure::{Failure, Step as _};

/// The newest ABI whose rights this file was written for.
const KNOWN: ABI = ABI::V7;
const STEP: &str = "put Landlock into force";
const HINT: &str = "boot with `landlock` in the kernel's `lsm=` list; `wasi-guard doctor` tells";

/// Forbids, for good, to execute files, to make devices, sockets and FIFOs, to control devices,
/// and to reach abstract sockets and signal processes outside. Answers the ABI version.
///
/// # Errors
/// If Landlock is absent or older than ABI 2 (Linux 5.19).
pub fn confine_guest(preopens: &[BorrowedFd<'_>]) -> Result<u32, Failure> {
    let handled = make_bitflags!(AccessFs::{
        Execute | MakeChar | MakeBlock | MakeSock | MakeFifo | IoctlDev | Refer
    });
    let mut ruleset = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(handled)
        .and_then(|ruleset| ruleset.scope(Scope::from_all(KNOWN)))
        .and_then(Ruleset::create)
        .step(STEP)?;
    // Every Landlock domain forbids renames and links between directories that no rule lets
    // through. BPF decides about them.
    for directory in preopens {
        ruleset = ruleset.add_rule(PathBeneath::new(directory, AccessFs::Refer)).step(STEP)?;
    }
    let status = ruleset.restrict_self().step(STEP)?;
    let abi = in_force(&status.ruleset, &status.landlock)
        .ok_or_else(|| Failure::new(STEP).because("this kernel does not offer it").hint(HINT))?;
    if abi < 2 {
        return Err(Failure::new(STEP)
            .because(format!("ABI {abi} forbids every rename between directories"))
            .hint("Linux 5.19 or later is needed"));
    }
    Ok(abi)
}

/// Forbids everything that Landlock can forbid. `None` if this kernel has no Landlock.
///
/// # Errors
/// If Landlock is there and fails.
pub fn confine_compiler() -> Result<Option<u32>, Failure> {
    let network: BitFlags<AccessNet> = AccessNet::from_all(KNOWN);
    let status = Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(KNOWN))
        .and_then(|ruleset| ruleset.handle_access(network))
        .and_then(|ruleset| ruleset.scope(Scope::from_all(KNOWN)))
        .and_then(Ruleset::create)
        .and_then(landlock::RulesetCreated::restrict_self)
        .step(STEP)?;
    Ok(in_force(&status.ruleset, &status.landlock))
}

fn in_force(ruleset: &RulesetStatus, landlock: &LandlockStatus) -> Option<u32> {
    match (ruleset, landlock) {
        (RulesetStatus::NotEnforced, _) => None,
        (_, LandlockStatus::Available { effective_abi, .. }) => {
            u32::try_from(*effective_abi as i32).ok()
        }
        _ => None,
    }
}
