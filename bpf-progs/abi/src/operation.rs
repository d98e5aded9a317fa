//! Numbers of operations, rights and reasons.

/// Rights as bits of one mask. A name's rights are computed by the policy automaton.
pub mod right {
    /// Open for reading; list a directory.
    pub const READ: u16 = 1 << 0;
    /// Open for writing, truncate, change times, mode, owner or attributes.
    pub const WRITE: u16 = 1 << 1;
    /// Bring the name into being: file, directory, link, target of a rename.
    pub const CREATE: u16 = 1 << 2;
    /// Remove the name: unlink, rmdir, source of a rename, overwritten target.
    pub const DELETE: u16 = 1 << 3;
    /// See metadata. Never written in a policy: every name that has another right has it, and
    /// every directory on the way to a name with a right, unless a deny pattern matches.
    pub const STAT: u16 = 1 << 4;
    /// Rights that belong to a file's content and metadata and so must not grow when it gets
    /// another name (rule 4 in docs/architecture.md).
    pub const CARRIED: u16 = READ | WRITE | DELETE | STAT;
    /// Rights that belong to a file's content and metadata, whatever the name. Deleting takes a
    /// name away, not the file.
    pub const OF_FILE: u16 = READ | WRITE | STAT;
    /// Beside the rights of a name, for the programs only: other names of the file took some away.
    pub const LINKED: u16 = 1 << 7;
    /// All of them.
    pub const ALL: u16 = READ | WRITE | CREATE | DELETE | STAT;
}

macro_rules! numbered {
    ($(#[$meta:meta])* $name:ident : $repr:ty { $($(#[$vmeta:meta])* $variant:ident = $value:expr => $text:expr),+ $(,)? }) => {
        $(#[$meta])*
        #[repr($repr)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$vmeta])* $variant = $value),+ }
        impl $name {
            /// Every value, in the order of the numbers.
            pub const EVERY: &'static [Self] = &[$(Self::$variant),+];
            /// The word for it in audit records, on the command line and in docs.
            pub const fn name(self) -> &'static str { match self { $(Self::$variant => $text),+ } }
            /// The value with this number, if there is one.
            pub const fn from_number(number: $repr) -> Option<Self> {
                match number { $($value => Some(Self::$variant),)+ _ => None }
            }
            /// The value that has this word, if there is one.
            pub fn from_name(name: &str) -> Option<Self> {
                Self::EVERY.iter().copied().find(|value| value.name() == name)
            }
        }
    };
}

numbered! {
    /// What was attempted: one number a kernel hook, in the hook's own terms.
    Operation: u16 {
        /// `security_file_open`: open(2) and its kin, without `O_PATH`.
        Open = 1 => "open",
        /// `security_path_truncate`, `security_file_truncate`: truncate(2), ftruncate(2), `O_TRUNC`.
        Truncate = 2 => "truncate",
        /// `security_path_mknod`: creation of a regular file, device, fifo or socket.
        Create = 3 => "create",
        /// `security_path_mkdir`.
        Mkdir = 4 => "mkdir",
        /// `security_path_rmdir`.
        Rmdir = 5 => "rmdir",
        /// `security_path_unlink`.
        Unlink = 6 => "unlink",
        /// `security_path_rename`: both names.
        Rename = 7 => "rename",
        /// `security_path_link`: the existing name and the new one.
        Link = 8 => "link",
        /// `security_path_symlink`.
        Symlink = 9 => "symlink",
        /// `security_inode_getattr`: stat(2) and its kin.
        Stat = 10 => "stat",
        /// `security_inode_setattr`: chmod, chown, utimes and size through notify_change.
        SetAttr = 11 => "setattr",
        /// `security_inode_readlink`: where a symbolic link points to.
        Readlink = 12 => "readlink",
        /// `security_inode_getxattr`, `_listxattr`, `_get_acl`: extended attributes are content.
        GetXattr = 13 => "getxattr",
        /// `security_inode_setxattr`, `_removexattr`, `_set_acl`, `_remove_acl`.
        SetXattr = 14 => "setxattr",
        /// `security_socket_create`.
        SocketCreate = 20 => "socket_create",
        /// `security_socket_connect`.
        Connect = 21 => "connect",
        /// `security_socket_bind`.
        Bind = 22 => "bind",
        /// `security_socket_listen`.
        Listen = 23 => "listen",
        /// `security_socket_sendmsg` with an address.
        Send = 24 => "send",
        /// `security_bprm_check`: execve(2).
        Exec = 30 => "exec",
        /// `security_task_alloc` without `CLONE_THREAD`: fork, vfork, clone.
        Fork = 31 => "fork",
        /// `security_mmap_file`, `security_file_mprotect`: executable memory, but for the code of
        /// the worker and of the compiled module.
        MapExec = 32 => "map_exec",
        /// `security_file_receive`: a descriptor from another process.
        Receive = 33 => "receive",
        /// `security_file_ioctl` with a request that no WASI call makes.
        Ioctl = 34 => "ioctl",
        /// `security_file_fcntl` with a command that no WASI call makes.
        Fcntl = 35 => "fcntl",
        /// `security_file_lock`: flock(2), `F_SETLK` and its kin.
        Lock = 36 => "lock",
        /// `security_path_notify`: inotify(7), fanotify(7), dnotify.
        Notify = 37 => "notify",
        /// `security_path_chroot`.
        Chroot = 38 => "chroot",
        /// `security_ptrace_access_check`, `_traceme`: ptrace(2), process_vm_readv(2),
        /// pidfd_getfd(2), the closed files below `/proc/PID`.
        Ptrace = 39 => "ptrace",
        /// `security_task_kill`: a signal to another process.
        Signal = 40 => "signal",
        /// `security_task_setnice`, `_setioprio`, `_setscheduler`.
        Priority = 41 => "priority",
        /// `security_task_prlimit`: the limits of another process.
        ResourceLimit = 42 => "resource_limit",
        /// `security_bpf`: bpf(2).
        Bpf = 43 => "bpf",
        /// `security_perf_event_open`.
        PerfEvent = 44 => "perf_event",
        /// `security_sb_mount`, `_umount`, `_pivotroot`, `security_move_mount`.
        Mount = 45 => "mount",
        /// `security_userns_create`.
        Namespace = 46 => "namespace",
        /// `security_uring_override_creds`, `_sqpoll`, `_cmd`.
        IoUring = 47 => "io_uring",
        /// `security_key_alloc`, `_permission`: the kernel's keyrings.
        Key = 48 => "key",
        /// `security_ipc_permission`, `_shm_alloc`, `_msg_queue_alloc`, `_sem_alloc`: System V IPC.
        Ipc = 49 => "ipc",
        /// `security_unix_may_send`; connecting is [`Self::Connect`].
        UnixSocket = 50 => "unix_socket",
        /// `security_kernel_module_request`: a module that the kernel would load by itself.
        KernelModule = 51 => "kernel_module",
        /// `security_syslog`: the kernel's log.
        Syslog = 52 => "syslog",
    }
}

numbered! {
    /// Why a verdict is what it is.
    Reason: u16 {
        /// The rule whose number is in the record's `rule` field denies the name.
        Deny = 1 => "deny_rule",
        /// No rule grants the right.
        NotGranted = 2 => "not_granted",
        /// The object lies below none of the guest's preopens.
        Outside = 3 => "outside_preopens",
        /// The guest has no policy yet, or none any more.
        NoPolicy = 4 => "no_policy",
        /// The new name would carry more rights than the old one.
        Widens = 5 => "widens_rights",
        /// No guest may do this, whatever its policy.
        Never = 6 => "never_granted",
        /// The kernel side met an error or a limit; doubt is a denial.
        Error = 7 => "internal_error",
        /// Names kept changing while they were read.
        Moving = 8 => "names_moving",
        /// Another name of the same file does not have the right; the rule in the record's `rule`
        /// field denies that name, if there is one.
        Linked = 9 => "linked_name",
    }
}

/// What an operation is about, and so what its record carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    /// One name.
    Name,
    /// An old name and a new one.
    TwoNames,
    /// A socket.
    Socket,
    /// A socket and an address.
    Address,
    /// Nothing that has a name.
    Nothing,
}

impl Operation {
    /// What it is about.
    pub const fn subject(self) -> Subject {
        match self {
            Self::Rename | Self::Link => Subject::TwoNames,
            Self::SocketCreate | Self::Listen => Subject::Socket,
            Self::Connect | Self::Bind | Self::Send => Subject::Address,
            Self::Exec | Self::Receive | Self::Ioctl | Self::Fcntl | Self::Lock => Subject::Name,
            _ if self.is_never_granted() => Subject::Nothing,
            _ => Subject::Name,
        }
    }

    /// Whether no policy can grant it: WASI has no call for it.
    pub const fn is_never_granted(self) -> bool {
        self as u16 >= Self::Exec as u16
    }
}
