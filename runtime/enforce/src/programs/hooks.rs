//! Which programs there are, and what each is needed for.

use super::btf::KernelTypes;

/// One hook. Its program in the object has its name, and a suffix where kernels pass the
/// hook's arguments in different places.
pub struct Hook {
    /// The LSM hook, as in `bpf_lsm_<name>`.
    pub name: &'static str,
    /// What rests on it.
    pub guards: &'static str,
    /// What it means that a kernel does not have it.
    pub absence: Absence,
    /// The hook is about a dentry that some kernels pass after the mount's idmapping.
    pub after_idmap: bool,
}

/// What it means that a kernel does not have a hook.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// A promise would be broken: no guarded run starts.
    Stops,
    /// Such kernels cover the same with this other hook.
    CoveredBy(&'static str),
    /// The kernel was built without what the hook guards.
    Harmless,
}

impl Hook {
    /// Whether this kernel lacks it in a way that stops the start.
    pub fn is_missed(&self, types: &KernelTypes) -> bool {
        !types.has_hook(self.name)
            && match self.absence {
                Absence::Stops => true,
                Absence::CoveredBy(other) => !types.has_hook(other),
                Absence::Harmless => false,
            }
    }

    /// The program for this kernel's order of arguments; `None` if the order is unknown.
    pub fn program(&self, types: &KernelTypes) -> Option<String> {
        if !self.after_idmap {
            return Some(self.name.into());
        }
        match types.hook_parameter(self.name, "dentry")? {
            0 => Some(self.name.into()),
            1 => Some(format!("{}_idmap", self.name)),
            _ => None,
        }
    }
}

const fn hook(name: &'static str, guards: &'static str) -> Hook {
    Hook { name, guards, absence: Absence::Stops, after_idmap: false }
}

const fn covered(name: &'static str, guards: &'static str, by: &'static str) -> Hook {
    Hook { absence: Absence::CoveredBy(by), ..hook(name, guards) }
}

const fn optional(name: &'static str, guards: &'static str) -> Hook {
    Hook { absence: Absence::Harmless, ..hook(name, guards) }
}

/// Every program of the object.
pub const HOOKS: &[Hook] = &[
    hook("file_open", "reading and writing files, listing directories"),
    // do_sys_ftruncate called security_path_truncate before Linux 6.2.
    covered("file_truncate", "truncation of open files", "path_truncate"),
    hook("path_truncate", "truncation by path"),
    hook("path_mknod", "creation of files"),
    hook("path_mkdir", "creation of directories"),
    hook("path_symlink", "creation of symbolic links"),
    hook("path_link", "creation of hard links"),
    hook("path_rename", "renaming"),
    hook("path_unlink", "removal of files"),
    hook("path_rmdir", "removal of directories"),
    hook("inode_getattr", "reading of metadata"),
    Hook { after_idmap: true, ..hook("inode_setattr", "change of times, modes, owners") },
    hook("inode_readlink", "targets of symbolic links"),
    hook("inode_getxattr", "reading of extended attributes"),
    hook("inode_listxattr", "names of extended attributes"),
    hook("inode_setxattr", "change of extended attributes"),
    hook("inode_removexattr", "removal of extended attributes"),
    // Before Linux 6.2 access control lists went through the hooks of extended attributes.
    covered("inode_get_acl", "reading of access control lists", "inode_getxattr"),
    covered("inode_set_acl", "change of access control lists", "inode_setxattr"),
    covered("inode_remove_acl", "removal of access control lists", "inode_removexattr"),
    hook("file_receive", "descriptors from other processes"),
    hook("file_ioctl", "requests to files and drivers"),
    // Before Linux 6.8 calls of 32-bit tasks went through file_ioctl.
    covered("file_ioctl_compat", "the same of 32-bit tasks", "file_ioctl"),
    hook("file_fcntl", "leases and signals on files"),
    hook("file_lock", "locks"),
    hook("mmap_file", "executable memory"),
    hook("file_mprotect", "memory that becomes executable"),
    hook("path_notify", "watching of files"),
    hook("path_chroot", "change of the root directory"),
    hook("socket_create", "creation of sockets"),
    hook("socket_connect", "outgoing connections"),
    hook("socket_bind", "bound ports"),
    hook("socket_listen", "listening without a bound port"),
    hook("socket_sendmsg", "datagrams, and TCP fast open"),
    hook("unix_may_send", "datagrams to local services"),
    hook("bprm_check_security", "execution of programs"),
    hook("task_alloc", "new processes"),
    hook("task_kill", "signals to other processes"),
    hook("task_prlimit", "limits of other processes"),
    hook("task_setnice", "priorities of other processes"),
    hook("task_setioprio", "priorities of other processes"),
    hook("task_setscheduler", "priorities of other processes"),
    hook("ptrace_access_check", "looking into other processes"),
    hook("ptrace_traceme", "being looked into"),
    hook("bpf", "BPF programs and maps"),
    optional("perf_event_open", "performance counters"),
    hook("sb_mount", "mounts"),
    hook("sb_umount", "mounts"),
    hook("sb_pivotroot", "mounts"),
    hook("move_mount", "mounts"),
    hook("userns_create", "user namespaces"),
    optional("uring_override_creds", "io_uring"),
    optional("uring_sqpoll", "io_uring"),
    optional("uring_cmd", "io_uring"),
    optional("key_alloc", "keyrings"),
    optional("key_permission", "keyrings"),
    hook("ipc_permission", "System V IPC"),
    hook("shm_alloc_security", "System V shared memory"),
    hook("msg_queue_alloc_security", "System V message queues"),
    hook("sem_alloc_security", "System V semaphores"),
    hook("kernel_module_request", "loading of kernel modules"),
    hook("syslog", "the kernel's log"),
];
