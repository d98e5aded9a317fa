//! Reading kernel objects.
//!
//! Offsets come from the running kernel's BTF: userspace writes them into read-only globals
//! before loading. The verifier folds frozen read-only data into constants, so `pointer +
//! offset` stays a typed pointer whose loads it checks against that same BTF: a wrong offset
//! is refused at load time or faults to zero, it never reads unchecked memory.

use aya_ebpf::{EbpfContext as _, helpers::generated::bpf_probe_read_kernel, programs::LsmContext};

macro_rules! offsets {
    ($($(#[$meta:meta])* $name:ident),+ $(,)?) => {$(
        $(#[$meta])*
        #[unsafe(no_mangle)]
        pub(crate) static $name: u32 = 0;
    )+};
}

offsets! {
    /// `file.f_path.dentry`.
    OFF_FILE_DENTRY,
    /// `file.f_flags`.
    OFF_FILE_FLAGS,
    /// `file.f_mode`.
    OFF_FILE_MODE,
    /// `path.dentry`.
    OFF_PATH_DENTRY,
    /// `dentry.d_parent`.
    OFF_DENTRY_PARENT,
    /// `dentry.d_inode`.
    OFF_DENTRY_INODE,
    /// `dentry.d_name.name`.
    OFF_DENTRY_NAME,
    /// `dentry.d_name.len`.
    OFF_DENTRY_LEN,
    /// `dentry.d_iname`.
    OFF_DENTRY_INLINE,
    /// Whole 8-byte words in `dentry.d_iname`; 0 switches reading of inline names off.
    DENTRY_INLINE_WORDS,
    /// `dentry.d_seq.sequence`.
    OFF_DENTRY_SEQ,
    /// `dentry.d_sb`.
    OFF_DENTRY_SB,
    /// `super_block.s_flags`.
    OFF_SB_FLAGS,
    /// `inode.i_mode`.
    OFF_INODE_MODE,
    /// `linux_binprm.file`.
    OFF_BPRM_FILE,
    /// `socket.sk`.
    OFF_SOCKET_SK,
    /// `sock.sk_protocol`.
    OFF_SOCK_PROTOCOL,
    /// `sock.sk_type`.
    OFF_SOCK_TYPE,
    /// `sock.__sk_common.skc_family`.
    OFF_SOCK_FAMILY,
    /// `sock.__sk_common.skc_num`.
    OFF_SOCK_NUM,
    /// `sock.__sk_common.skc_v6_rcv_saddr`.
    OFF_SOCK_V6_BOUND,
    /// `msghdr.msg_name`.
    OFF_MSG_NAME,
    /// `msghdr.msg_namelen`.
    OFF_MSG_NAMELEN,
    /// `vm_area_struct.vm_file`.
    OFF_VMA_FILE,
    /// `task_struct.tgid`.
    OFF_TASK_TGID,
    /// `task_struct.cred`: as whom the task acts.
    OFF_TASK_CRED,
    /// `task_struct.real_cred`: who the task is.
    OFF_TASK_REAL_CRED,
    /// `cred.cap_permitted`.
    OFF_CRED_PERMITTED,
    /// `cred.cap_effective`.
    OFF_CRED_EFFECTIVE,
}

/// Address of the kernel's `rename_lock.seqcount.seqcount.sequence`, from /proc/kallsyms; 0 if it
/// is not told.
#[unsafe(no_mangle)]
pub(crate) static RENAME_LOCK: u64 = 0;

/// `SB_NOUSER` (include/linux/fs.h): a file system that no path leads into, like pipefs.
pub(crate) const SB_NOUSER: u64 = 1 << 31;
/// `FMODE_READ` (include/linux/fs.h).
pub(crate) const FMODE_READ: u32 = 1;
/// `FMODE_WRITE` (include/linux/fs.h).
pub(crate) const FMODE_WRITE: u32 = 2;
/// `FMODE_EXEC` (include/linux/fs.h).
pub(crate) const FMODE_EXEC: u32 = 32;
/// `PROT_EXEC` (asm-generic/mman-common.h).
pub(crate) const PROT_EXEC: u64 = 4;
/// `O_TRUNC` (asm-generic/fcntl.h).
pub(crate) const O_TRUNC: u32 = 0o1000;
/// `S_IFMT`, `S_IFREG` and `S_IFDIR` (uapi/linux/stat.h).
pub(crate) const S_IFMT: u16 = 0o170_000;
/// See [`S_IFMT`].
pub(crate) const S_IFREG: u16 = 0o100_000;
/// See [`S_IFMT`].
pub(crate) const S_IFDIR: u16 = 0o040_000;
/// `CAP_SYS_ADMIN` (uapi/linux/capability.h), as its bit in a set.
pub(crate) const CAP_SYS_ADMIN: u64 = 1 << 21;
/// `CLONE_THREAD` (uapi/linux/sched.h).
pub(crate) const CLONE_THREAD: u64 = 0x1_0000;
/// `RENAME_NOREPLACE` (uapi/linux/fs.h).
pub(crate) const RENAME_NOREPLACE: u32 = 1;
/// `RENAME_EXCHANGE` (uapi/linux/fs.h).
pub(crate) const RENAME_EXCHANGE: u32 = 2;

/// A read-only global as userspace set it.
#[inline(always)]
pub(crate) fn global(value: &'static u32) -> u32 {
    // SAFETY: a reference is valid to read; volatile because the compiler sees a constant 0.
    unsafe { core::ptr::read_volatile(value) }
}

/// [`global`] for eight bytes.
#[inline(always)]
pub(crate) fn global_wide(value: &'static u64) -> u64 {
    // SAFETY: as in `global`.
    unsafe { core::ptr::read_volatile(value) }
}

/// A kernel object that the verifier knows by its BTF type.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub(crate) struct Object(pub(crate) *const u8);

impl Object {
    pub(crate) fn is_null(self) -> bool {
        self.0.is_null()
    }

    /// The pointer member at `offset`.
    #[inline(always)]
    pub(crate) fn pointer(self, offset: &'static u32) -> Self {
        // SAFETY: the verifier checks type and offset; a fault reads as null.
        Self(unsafe { core::ptr::read_volatile(self.0.add(global(offset) as usize).cast()) })
    }

    /// The integer member at `offset`.
    #[inline(always)]
    pub(crate) fn read<T: Copy>(self, offset: &'static u32) -> T {
        // SAFETY: as in `pointer`; T is an integer of the member's size at every call.
        unsafe { core::ptr::read_volatile(self.0.add(global(offset) as usize).cast()) }
    }

    /// The member that lies inside the object at `offset`.
    #[inline(always)]
    pub(crate) fn inside(self, offset: &'static u32) -> Self {
        // SAFETY: as in `pointer`; no load happens here.
        Self(unsafe { self.0.add(global(offset) as usize) })
    }

    /// Is there something under this dentry's name? Asked of a copy of the member: the verifiers
    /// from 6.4 to 6.15 take `d_inode` of a hook's own dentry for never null ("no negative
    /// dentry-s in places where bpf can see it"), and drop a check of the typed pointer.
    #[inline(never)]
    pub(crate) fn exists(self) -> bool {
        self.address(&OFF_DENTRY_INODE) != 0
    }

    /// Is this dentry a directory? A negative dentry is not.
    #[inline(never)]
    pub(crate) fn is_directory(self) -> bool {
        let mut mode = 0u16;
        let at = self.address(&OFF_DENTRY_INODE) + u64::from(global(&OFF_INODE_MODE));
        // SAFETY: the helper checks the source, and writes zeros if it cannot be read, as with no
        // inode; the destination is two bytes long.
        unsafe { bpf_probe_read_kernel((&raw mut mode).cast(), 2, at as *const _) };
        mode & S_IFMT == S_IFDIR
    }

    /// The pointer member at `offset` as a number: what the verifier knows of the member's type
    /// does not hold for it.
    #[inline(always)]
    pub(crate) fn address(self, offset: &'static u32) -> u64 {
        copy(self.inside(offset).0)
    }
}

/// Whether argument `N` of a hook is null. Asked of a copy: verifiers after 6.1's take every
/// argument for never null unless the kernel says otherwise, drop a check of it, and a load through
/// it then crashes the kernel. 6.12 does not say otherwise of `mmap_file`, whose file is null for
/// anonymous memory.
#[inline(always)]
pub(crate) fn is_null_argument<const N: usize>(ctx: &LsmContext) -> bool {
    // A hook's arguments lie in its context one after the other, 8 bytes each.
    copy(ctx.as_ptr().cast_const().cast::<u8>().wrapping_add(8 * N)) == 0
}

/// The eight bytes at `from`; 0 if they cannot be read.
#[inline(always)]
pub(crate) fn copy(from: *const u8) -> u64 {
    let mut value = 0u64;
    // SAFETY: the helper checks the source; the destination is eight bytes long.
    unsafe { bpf_probe_read_kernel((&raw mut value).cast(), 8, from.cast()) };
    value
}
