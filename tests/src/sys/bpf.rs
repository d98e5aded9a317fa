//! A BPF LSM program such as other software has: loaded and attached by hand.

use std::{
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd, RawFd},
};

use aya_obj::btf::{Btf, BtfKind};

/// Leading fields of `union bpf_attr` for `BPF_PROG_LOAD` (uapi/linux/bpf.h).
#[repr(C)]
#[derive(Default)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
    btf_fd: u32,
    function_record: u32,
    functions: u64,
    function_count: u32,
    line_record: u32,
    lines: u64,
    line_count: u32,
    attach_btf_id: u32,
}

/// The same for `BPF_RAW_TRACEPOINT_OPEN`, which attaches LSM programs as well.
#[repr(C)]
struct Attach {
    name: u64,
    program: u32,
    padding: u32,
}

const PROG_LOAD: libc::c_long = 5;
const RAW_TRACEPOINT_OPEN: libc::c_long = 17;
const TYPE_LSM: u32 = 29;
const LSM_MAC: u32 = 27;
/// `r0 = -EPERM; exit`.
const DENY: [u64; 2] = [0xffff_ffff_0000_00b7, 0x95];

fn bpf<T>(command: libc::c_long, attribute: &T) -> io::Result<OwnedFd> {
    // SAFETY: the attribute is a prefix of union bpf_attr, of the size given, and what it points to
    // outlives the call.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attribute), size_of::<T>())
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as RawFd) })
}

/// The program, in force until this is dropped.
#[derive(Debug)]
pub struct Foreign {
    _program: OwnedFd,
    _link: OwnedFd,
}

impl Foreign {
    /// A program with this name that denies chroot with EPERM, to everybody.
    ///
    /// # Errors
    /// If the kernel refuses it.
    pub fn deny_chroot(name: &str) -> io::Result<Self> {
        let btf = Btf::from_sys_fs().map_err(io::Error::other)?;
        let hook = btf
            .id_by_type_name_kind("bpf_lsm_path_chroot", BtfKind::Func)
            .map_err(io::Error::other)?;
        let license = c"GPL";
        let mut load = Load {
            kind: TYPE_LSM,
            instructions: DENY.len() as u32,
            code: DENY.as_ptr() as u64,
            license: license.as_ptr() as u64,
            attach_type: LSM_MAC,
            attach_btf_id: hook,
            ..Load::default()
        };
        for (to, from) in load.name.iter_mut().take(15).zip(name.bytes()) {
            *to = from;
        }
        let program = bpf(PROG_LOAD, &load)?;
        let attach = Attach { name: 0, program: program.as_raw_fd() as u32, padding: 0 };
        let link = bpf(RAW_TRACEPOINT_OPEN, &attach)?;
        Ok(Self { _program: program, _link: link })
    }
}
