//! `bpf(2)` that loads programs and types.

use std::ffi::CStr;
use std::os::fd::{AsFd as _, OwnedFd};

use aya_obj::generated::bpf_cmd;
use rustix::io::Errno;

use super::{address, address_mut, bpf_fd, empty, number};
use crate::kernel::LoadSpec;

/// Everything that the kernel has to say about an error (`BPF_LOG_LEVEL1`, linux/bpf_verifier.h).
const LOG_LEVEL: u32 = 1;

/// `BPF_BTF_LOAD`, with what the kernel has to say if `log` has room for it.
pub(in crate::kernel) fn btf_load(btf: &[u8], log: &mut [u8]) -> Result<OwnedFd, Errno> {
    let mut attr = empty();
    attr.__bindgen_anon_7.btf = address(btf);
    attr.__bindgen_anon_7.btf_size = length(btf)?;
    if !log.is_empty() {
        attr.__bindgen_anon_7.btf_log_level = LOG_LEVEL;
        attr.__bindgen_anon_7.btf_log_size = length(log)?;
        attr.__bindgen_anon_7.btf_log_buf = address_mut(log);
    }
    // SAFETY: the kernel reads btf_size bytes of the types and writes at most btf_log_size of the
    // log: the lengths of the slices. The command gives a new descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_BTF_LOAD, &mut attr) }
}

/// `BPF_PROG_LOAD`, with the verifier's log if `log` has room for it. `name` ends with a NUL.
pub(in crate::kernel) fn program_load(
    spec: &LoadSpec<'_>,
    name: [u8; 16],
    license: &CStr,
    log: &mut [u8],
) -> Result<OwnedFd, Errno> {
    let mut attr = empty();
    attr.__bindgen_anon_3.prog_type = spec.prog_type;
    attr.__bindgen_anon_3.expected_attach_type = spec.expected_attach_type;
    attr.__bindgen_anon_3.prog_flags = spec.flags;
    attr.__bindgen_anon_3.kern_version = spec.kernel_version;
    attr.__bindgen_anon_3.prog_name = name.map(|byte| byte as libc::c_char);
    attr.__bindgen_anon_3.license = license.as_ptr() as u64;
    attr.__bindgen_anon_3.insns = spec.instructions.as_ptr() as u64;
    attr.__bindgen_anon_3.insn_cnt =
        u32::try_from(spec.instructions.len()).map_err(|_| Errno::TOOBIG)?;
    attr.__bindgen_anon_3.attach_btf_id = spec.attach_btf_id;
    if let Some(btf) = spec.btf {
        attr.__bindgen_anon_3.prog_btf_fd = number(btf.as_fd());
        if let Some(count) = records(spec.func_info, spec.func_info_size)? {
            attr.__bindgen_anon_3.func_info = address(spec.func_info);
            attr.__bindgen_anon_3.func_info_rec_size = spec.func_info_size;
            attr.__bindgen_anon_3.func_info_cnt = count;
        }
        if let Some(count) = records(spec.line_info, spec.line_info_size)? {
            attr.__bindgen_anon_3.line_info = address(spec.line_info);
            attr.__bindgen_anon_3.line_info_rec_size = spec.line_info_size;
            attr.__bindgen_anon_3.line_info_cnt = count;
        }
    }
    if !log.is_empty() {
        attr.__bindgen_anon_3.log_level = LOG_LEVEL;
        attr.__bindgen_anon_3.log_size = length(log)?;
        attr.__bindgen_anon_3.log_buf = address_mut(log);
    }
    // SAFETY: the kernel reads insn_cnt instructions of eight bytes, the license to its NUL, so many
    // records as their bytes hold, and writes at most log_size bytes of the log: all of them within
    // the slices that the addresses are of. The command gives a new descriptor.
    unsafe { bpf_fd(bpf_cmd::BPF_PROG_LOAD, &mut attr) }
}

/// How many records there are; `None` if there are none.
fn records(bytes: &[u8], size: u32) -> Result<Option<u32>, Errno> {
    if bytes.is_empty() || size == 0 {
        return Ok(None);
    }
    let length = length(bytes)?;
    if length % size == 0 { Ok(Some(length / size)) } else { Err(Errno::INVAL) }
}

fn length(bytes: &[u8]) -> Result<u32, Errno> {
    u32::try_from(bytes.len()).map_err(|_| Errno::TOOBIG)
}
