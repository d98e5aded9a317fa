//! Numbers of the kernel's types, compared with those that aya finds.

use aya_obj::btf::{Btf, BtfKind};
use rustix::io::Errno;
use wasi_guard_broker::kernel::{Traced, attach_btf_id, attach_btf_ids};

#[test]
fn tracepoints_functions_and_hooks_have_numbers() {
    let btf = Btf::from_sys_fs().unwrap();
    let wanted = [
        (Traced::Tracepoint, "sched_switch", "btf_trace_sched_switch", BtfKind::Typedef),
        (Traced::Tracepoint, "sched_wakeup", "btf_trace_sched_wakeup", BtfKind::Typedef),
        (Traced::Function, "tcp_v4_connect", "tcp_v4_connect", BtfKind::Func),
        (Traced::Function, "do_exit", "do_exit", BtfKind::Func),
        (Traced::Hook, "path_rmdir", "bpf_lsm_path_rmdir", BtfKind::Func),
        (Traced::Hook, "file_open", "bpf_lsm_file_open", BtfKind::Func),
    ];
    let names: Vec<_> = wanted.iter().map(|(kind, name, ..)| (*kind, *name)).collect();
    let ids = attach_btf_ids(&names).unwrap();
    for ((kind, name, whole, of), id) in wanted.into_iter().zip(ids) {
        assert_eq!(id, btf.id_by_type_name_kind(whole, of).unwrap(), "{whole}");
        assert_eq!(attach_btf_id(kind, name).unwrap(), id, "{whole}");
    }
    assert_eq!(attach_btf_ids(&[]).unwrap(), []);
}

#[test]
fn what_the_kernel_does_not_have_is_named() {
    for (kind, text) in [
        (Traced::Tracepoint, "could not find the tracepoint \"sched_switc\" in the kernel"),
        (Traced::Function, "could not find the function \"sched_switc\" in the kernel"),
        (Traced::Hook, "could not find the LSM hook \"sched_switc\" in the kernel"),
    ] {
        let error = attach_btf_id(kind, "sched_switc").unwrap_err();
        assert_eq!(error.errno, Errno::SRCH);
        assert!(error.to_string().starts_with(text), "{error}");
    }
}
