//! From the rows of a list to filters. The library itself contains the result: build.rs does this.

use std::collections::BTreeMap;

use seccompiler::{BpfProgram, sock_filter};

use super::list::{Rows, Unlisted};

/// The filters of a list, in the order in which they must be installed: the last one denies the
/// call that installs filters. Of several filters' verdicts the kernel takes the strictest. Where a
/// row names the process itself, [`super::list::OWN_PID`] stands for its id.
///
/// # Errors
/// If the filter library does not accept the list.
pub(crate) fn programs(
    rows: &Rows,
    unlisted: Unlisted,
) -> Result<Vec<BpfProgram>, seccompiler::Error> {
    let json = rows.to_json(unlisted);
    // The numbers of calls and what their arguments mean are those of this architecture.
    let architecture = seccompiler::TargetArch::x86_64;
    let mut programs: BTreeMap<_, _> =
        seccompiler::compile_from_json(json.as_bytes(), architecture)?.into_iter().collect();
    if unlisted == Unlisted::Asked {
        programs.values_mut().for_each(ask);
    }
    // Their names sort in the right order.
    let listed = programs.into_values();
    Ok(std::iter::once(without_x32()).chain(listed).collect())
}

/// `BPF_RET | BPF_K` (uapi/linux/bpf_common.h).
const RETURN: u16 = 0x06;

/// Turns `trace` into "ask": the filter library has no word for the latter.
fn ask(program: &mut BpfProgram) {
    for instruction in program {
        if instruction.code == RETURN && instruction.k == libc::SECCOMP_RET_TRACE {
            instruction.k = libc::SECCOMP_RET_USER_NOTIF;
        }
    }
}

/// Ends the process at a call of the x32 interface, which has the architecture of the others and
/// one bit more in its numbers (`__X32_SYSCALL_BIT`, asm/unistd.h). The filter library ends it at
/// calls of other architectures.
fn without_x32() -> BpfProgram {
    /// `BPF_LD | BPF_W | BPF_ABS` and `BPF_JMP | BPF_JSET | BPF_K` (uapi/linux/bpf_common.h).
    const LOAD: u16 = 0x20;
    const IF_BIT: u16 = 0x45;
    const X32: u32 = 0x4000_0000;
    let step = |code, jt, k| sock_filter { code, jt, jf: 0, k };
    vec![
        // `seccomp_data.nr` (uapi/linux/seccomp.h).
        step(LOAD, 0, 0),
        step(IF_BIT, 1, X32),
        step(RETURN, 0, libc::SECCOMP_RET_ALLOW),
        step(RETURN, 0, libc::SECCOMP_RET_KILL_PROCESS),
    ]
}
