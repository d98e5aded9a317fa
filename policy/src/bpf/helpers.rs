//! Helper functions of the kernel: their numbers, their names, and who may call them.

mod table;

use table::HELPERS;

/// Who may call a helper function.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    /// Every program that may be loaded.
    Default,
    /// The same, of a policy with `scope = "host"`.
    Host,
    /// Programs of a policy that names it.
    Named,
    /// Nobody.
    Never,
}

/// Its name, as in `bpf_map_lookup_elem`; `None` for a number that is no helper function's.
pub fn name(id: u32) -> Option<&'static str> {
    helper(id).map(|(_, name, _)| name)
}

/// The number of the helper function with this name, `bpf_` included.
pub fn by_name(name: &str) -> Option<u32> {
    HELPERS.iter().find(|(_, known, _)| *known == name).map(|(id, ..)| *id)
}

/// Whether programs may call it that no policy names it for. No unknown one is. See also
/// [`needs_host`].
pub fn is_default(id: u32) -> bool {
    helper(id).is_some_and(|(.., by)| matches!(by, Use::Default | Use::Host))
}

/// Whether only programs of a policy with `scope = "host"` may call it, because it reads memory at
/// any address, leads there, or finds what belongs to others.
pub fn needs_host(id: u32) -> bool {
    helper(id).is_some_and(|(.., by)| by == Use::Host)
}

/// Whether a policy can let programs call it, named or not. No unknown one is.
pub fn is_grantable(id: u32) -> bool {
    helper(id).is_some_and(|(.., by)| by != Use::Never)
}

/// Every name, by number.
pub fn names() -> impl Iterator<Item = &'static str> {
    HELPERS.iter().map(|(_, name, _)| *name)
}

fn helper(id: u32) -> Option<(u32, &'static str, Use)> {
    let index = usize::try_from(id).ok()?.checked_sub(1)?;
    HELPERS.get(index).copied()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn every_number_is_there_once_and_every_name_is_its_own() {
        for (index, (id, ..)) in HELPERS.iter().enumerate() {
            assert_eq!(*id as usize, index + 1);
        }
        let names: HashSet<&str> = names().collect();
        assert_eq!(names.len(), HELPERS.len());
        assert!(names.iter().all(|name| name.starts_with("bpf_")));
        for (id, known, _) in HELPERS {
            assert_eq!((name(id), by_name(known)), (Some(known), Some(id)));
        }
    }

    /// Some whose numbers are well known, from the beginning, the middle and the end.
    #[test]
    fn the_numbers_are_those_of_the_kernel() {
        for (id, known) in [
            (1, "bpf_map_lookup_elem"),
            (6, "bpf_trace_printk"),
            (12, "bpf_tail_call"),
            (25, "bpf_perf_event_output"),
            (58, "bpf_override_return"),
            (109, "bpf_send_signal"),
            (113, "bpf_probe_read_kernel"),
            (132, "bpf_ringbuf_submit"),
            (166, "bpf_sys_bpf"),
            (181, "bpf_loop"),
            (211, "bpf_cgrp_storage_delete"),
        ] {
            assert_eq!(name(id), Some(known));
        }
    }

    #[test]
    fn what_is_unknown_is_neither_default_nor_grantable() {
        for id in [0, 212, 1000, u32::MAX] {
            assert_eq!((name(id), is_default(id), is_grantable(id)), (None, false, false));
        }
        assert_eq!(
            (by_name("bpf_unspec"), by_name("map_lookup_elem"), by_name("")),
            (None, None, None)
        );
    }

    #[test]
    fn what_changes_something_is_not_default() {
        for word in ["redirect", "store", "set_", "adjust", "change", "push_data", "send", "assign"]
        {
            for name in names().filter(|name| name.contains(word)) {
                let id = by_name(name).unwrap();
                assert!(!is_default(id), "{name}");
                assert!(is_grantable(id), "{name}");
            }
        }
        for name in [
            "bpf_probe_write_user",
            "bpf_override_return",
            "bpf_send_signal",
            "bpf_send_signal_thread",
            "bpf_setsockopt",
            "bpf_bind",
            "bpf_btf_find_by_name_kind",
        ] {
            assert!(by_name(name).is_some_and(|id| !is_default(id) && is_grantable(id)), "{name}");
        }
        for name in ["bpf_sys_bpf", "bpf_sys_close", "bpf_kallsyms_lookup_name"] {
            assert!(by_name(name).is_some_and(|id| !is_grantable(id)), "{name}");
        }
    }

    /// Those that the kernel has for every kind of program, if who loads it has CAP_PERFMON.
    #[test]
    fn what_reads_any_address_needs_the_hosts_scope() {
        for name in [
            "bpf_trace_printk",
            "bpf_get_current_task",
            "bpf_get_current_task_btf",
            "bpf_probe_read_user",
            "bpf_probe_read_kernel",
            "bpf_probe_read_user_str",
            "bpf_probe_read_kernel_str",
            "bpf_snprintf_btf",
            "bpf_snprintf",
            "bpf_task_pt_regs",
            "bpf_trace_vprintk",
        ] {
            assert!(by_name(name).is_some_and(|id| needs_host(id) && is_default(id)), "{name}");
        }
        for word in
            ["probe_read", "copy_from_user", "skc_to_", "printf", "printk", "stack", "lookup_tcp"]
        {
            for name in names().filter(|name| name.contains(word)) {
                assert!(by_name(name).is_some_and(needs_host), "{name}");
            }
        }
        assert!(!needs_host(0) && !needs_host(1) && !needs_host(109) && !needs_host(212));
    }

    #[test]
    fn what_examples_of_tracing_tools_call_is_default() {
        for name in [
            "bpf_get_current_pid_tgid",
            "bpf_get_current_comm",
            "bpf_probe_read_kernel_str",
            "bpf_ringbuf_output",
            "bpf_perf_event_output",
            "bpf_get_stackid",
            "bpf_trace_printk",
            "bpf_skb_load_bytes",
            "bpf_map_update_elem",
        ] {
            assert!(by_name(name).is_some_and(is_default), "{name}");
        }
    }
}
