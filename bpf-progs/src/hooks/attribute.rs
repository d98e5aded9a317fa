//! Extended attributes and access control lists: content beside the content.

use aya_ebpf::{macros::lsm, programs::LsmContext};
use wasi_guard_abi::operation::{Operation, right};

use crate::{ALLOW, decide::one_name, kernel::Object, layers::asked_by_overlay, scope::current};

/// Hooks that pass the dentry as argument `$at`.
macro_rules! attributes {
    ($($operation:ident $right:ident: $($hook:ident $at:literal),+;)+) => {$($(
        #[lsm]
        fn $hook(ctx: LsmContext) -> i32 {
            let Some(guarded) = current() else { return ALLOW };
            if asked_by_overlay(&guarded) {
                return ALLOW;
            }
            one_name(&guarded, Operation::$operation, Object(ctx.arg($at)), right::$right)
        }
    )+)+};
}

// The lists have hooks of their own since Linux 6.2; before, they are attributes like others.
attributes! {
    GetXattr READ: inode_getxattr 0, inode_listxattr 0, inode_get_acl 1;
    SetXattr WRITE: inode_setxattr 1, inode_removexattr 1, inode_set_acl 1, inode_remove_acl 1;
}
