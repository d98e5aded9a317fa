//! What overlayfs does to the files of its layers.
//!
//! A file on overlayfs is one of a layer below, on another file system. What a task does to the
//! one, overlayfs does to the other, and the kernel asks the hooks again, about a file that lies
//! below no preopen. It does so in the task's context, but with the credentials of whoever mounted
//! the overlay (`ovl_override_creds` in the kernel's fs/overlayfs/util.c). The first question is
//! the one that counts: it was about the name that the guest used. The second one is let through.

use aya_ebpf::helpers::generated::bpf_get_current_task_btf;

use crate::{
    kernel::{
        CAP_SYS_ADMIN, OFF_CRED_EFFECTIVE, OFF_CRED_PERMITTED, OFF_TASK_CRED, OFF_TASK_REAL_CRED,
        Object,
    },
    scope::Guarded,
};

/// Does overlayfs ask, for an attempt that was judged by the name on the overlay?
///
/// Credentials that are not the task's own are not enough: access(2) and a core dump work with
/// altered copies of them. No copy has what the original lacks, though, and whoever mounts has
/// `CAP_SYS_ADMIN`, which no worker has. Under a policy without a preopen on overlayfs nobody comes
/// this far; before there is a policy, Landlock's rules look at the preopens' metadata.
#[inline(always)]
pub(crate) fn asked_by_overlay(guarded: &Guarded) -> bool {
    match &guarded.policy {
        Some(policy) => policy.header.overlay != 0 && acts_as_mounter(),
        None => guarded.in_setup() && acts_as_mounter(),
    }
}

#[inline(never)]
fn acts_as_mounter() -> bool {
    // SAFETY: a helper without preconditions.
    let task = Object(unsafe { bpf_get_current_task_btf() }.cast());
    // By addresses: what the verifier allows to be done with credentials differs by kernel. The
    // current task's own cannot go away meanwhile.
    let own = task.address(&OFF_TASK_REAL_CRED);
    let acting = task.address(&OFF_TASK_CRED);
    if acting == own {
        return false;
    }
    let capabilities = |cred: u64, set| Object(cred as *const u8).address(set) & CAP_SYS_ADMIN;
    // What cannot be read is 0: then this is no mounter.
    own != 0
        && capabilities(own, &OFF_CRED_PERMITTED) == 0
        && capabilities(acting, &OFF_CRED_EFFECTIVE) != 0
}
