//! Which programs there are, and what each is needed for.

use super::btf::KernelTypes;

/// One hook. Its program in the object has its name, and a suffix where kernels pass the
/// hook's arguments in different places.
pub struct Hook {
    /// The LSM hook, as in `bpf_lsm_<name>`.
    pub name: &'static str,
    /// What rests on it.
    pub guards: &'static str,
    /// Kernels that do without it cover the same with another hook.
    pub covered_by: Option<&'static str>,
    /// The hook is about a dentry that some kernels pass after the mount's idmapping.
    pub after_idmap: bool,
}

impl Hook {
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
    Hook { name, guards, covered_by: None, after_idmap: false }
}

/// Every program of the object. A hook that a kernel lacks stops the start, unless another one
/// covers for it.
pub const HOOKS: &[Hook] = &[
    hook("file_open", "reading and writing files, listing directories"),
    Hook {
        name: "file_truncate",
        guards: "truncation of open files",
        // do_sys_ftruncate called security_path_truncate before Linux 6.2.
        covered_by: Some("path_truncate"),
        after_idmap: false,
    },
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
    hook("socket_create", "creation of sockets"),
    hook("socket_connect", "outgoing connections"),
    hook("socket_bind", "bound ports"),
    hook("socket_listen", "listening without a bound port"),
    hook("socket_sendmsg", "datagrams, and TCP fast open"),
    hook("bprm_check_security", "execution of programs"),
    hook("task_alloc", "new processes"),
];
