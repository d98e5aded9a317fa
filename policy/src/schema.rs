//! Every key of a policy, and of a file of assertions about one, declared once with its
//! documentation.
//!
//! The parser (`crate::parse`) matches on the enums made here, so a key that it forgets
//! does not compile; the reference ([`crate::reference`]) prints the comments made here, so a key
//! without documentation does not compile either.

use std::fmt;

/// What kind of value a key takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A whole number.
    Integer,
    /// A number with or without a fraction.
    Number,
    /// A string.
    Text,
    /// A list of strings.
    TextList,
    /// A list of lists of strings.
    TextLists,
    /// A table.
    Table,
    /// A list of tables.
    TableList,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Integer => "whole number",
            Self::Number => "number",
            Self::Text => "string",
            Self::TextList => "list of strings",
            Self::TextLists => "list of lists of strings",
            Self::Table => "table",
            Self::TableList => "list of tables",
        })
    }
}

/// One key.
#[derive(Clone, Copy, Debug)]
pub struct Key {
    /// As written in a policy.
    pub name: &'static str,
    /// Its documentation, Markdown; lines separated by line feeds.
    pub doc: &'static str,
    /// The value that it takes.
    pub kind: Kind,
    /// What holds without it; `None` if it must be there.
    pub default: Option<&'static str>,
}

/// One table of a policy.
#[derive(Clone, Copy, Debug)]
pub struct Table {
    /// As written in a policy; empty for the keys above all tables.
    pub header: &'static str,
    /// Its documentation, Markdown; lines separated by line feeds.
    pub doc: &'static str,
    /// Its keys.
    pub keys: &'static [Key],
}

/// The keys of one table, as an enum that the parser can match on.
pub(crate) trait Keys: Copy + 'static {
    const TABLE: Table;
    const EVERY: &'static [Self];
    /// Every table of the file in which this one may stand.
    const FILE: &'static [Table];
    /// What messages call that file.
    const FILE_NAME: &'static str;

    /// The key with this name.
    fn from_name(name: &str) -> Option<(Self, &'static Key)> {
        let at = Self::TABLE.keys.iter().position(|key| key.name == name)?;
        Some((*Self::EVERY.get(at)?, Self::TABLE.keys.get(at)?))
    }
}

macro_rules! tables {
    ($(#[doc = $file_doc:literal])+ $file:ident = $file_name:literal; $(
        $(#[doc = $table_doc:literal])+
        $table:ident = $header:literal {
            $( $(#[doc = $doc:literal])+ $key:ident = $name:literal: $kind:ident, $default:expr; )+
        }
    )+) => {
        $(
            $(#[doc = $table_doc])+
            #[derive(Clone, Copy, Debug, PartialEq, Eq)]
            pub(crate) enum $table { $( $(#[doc = $doc])+ $key ),+ }

            impl Keys for $table {
                const TABLE: Table = Table {
                    header: $header,
                    doc: concat!($($table_doc, "\n"),+),
                    keys: &[$( Key {
                        name: $name,
                        doc: concat!($($doc, "\n"),+),
                        kind: Kind::$kind,
                        default: $default,
                    } ),+],
                };
                const EVERY: &'static [Self] = &[$( Self::$key ),+];
                const FILE: &'static [Table] = $file;
                const FILE_NAME: &'static str = $file_name;
            }
        )+

        $(#[doc = $file_doc])+
        pub const $file: &[Table] = &[$( $table::TABLE ),+];
    };
}

tables! {
    /// Every table of a policy, in the order of the reference.
    TABLES = "the policy";

    /// Keys that stand above every table.
    RootKey = "" {
        /// Version of the policy language. There is one: `1`.
        Version = "version": Integer, None;
        /// `"enforce"`: a denial is an error for the guest. `"audit"`: denials are recorded and
        /// let through, to find out what a guest needs; it protects nothing.
        Mode = "mode": Text, Some("\"enforce\"");
        /// Directories that the guest sees; see [`[[preopen]]`](#preopen).
        Preopen = "preopen": TableList, Some("the guest sees no directory");
        /// Sockets that the guest may use; see [`[network]`](#network).
        Network = "network": Table, Some("no sockets");
        /// Bounds on what the guest may use up; see [`[limits]`](#limits).
        Limits = "limits": Table, Some("no bounds");
        /// Where records of denials go; see [`[audit]`](#audit).
        Audit = "audit": Table, Some("standard error");
        /// What the guest may load into the kernel through the `wasm_bpf` imports; see
        /// [`[bpf]`](#bpf). Without it the imports [answer as for an object that cannot be
        /// loaded](wasm-bpf.md).
        Bpf = "bpf": Table, Some("nothing is loaded");
    }

    /// One directory of the host that the guest sees, and what it may do with each name below; or
    /// one file. Write the table once for each. What no list grants is denied.
    PreopenKey = "[[preopen]]" {
        /// Name of the directory for the guest, as in `"/data"`. No two preopens have the same.
        Guest = "guest": Text, None;
        /// The directory or regular file on the host. A relative path starts at the directory of
        /// the policy file. It must exist when the guest starts, and be no symbolic link.
        Host = "host": Text, None;
        /// Patterns of names that may be opened for reading; for a directory: listed.
        Read = "read": TextList, Some("nothing");
        /// Patterns of names whose content, times, mode, owner and attributes may be changed.
        /// This includes truncation. It does not include bringing the name into being.
        Write = "write": TextList, Some("nothing");
        /// Patterns of names that may come into being: as a file, a directory, a link, or the
        /// new name in a rename.
        Create = "create": TextList, Some("nothing");
        /// Patterns of names that may be removed: a file, an empty directory, the old name in a
        /// rename, or a file that a rename replaces.
        Delete = "delete": TextList, Some("nothing");
        /// Patterns of names that are denied together with everything below them, whatever the
        /// other lists say, metadata included.
        Deny = "deny": TextList, Some("nothing");
    }

    /// What the guest may do with sockets. An entry is `PROTOCOL://HOST:PORT`; see
    /// [Network rules](#network-rules).
    NetworkKey = "[network]" {
        /// Addresses that the guest may connect to and send to.
        Connect = "connect": TextList, Some("nothing");
        /// Addresses that the guest may bind to and listen at.
        Bind = "bind": TextList, Some("nothing");
    }

    /// Bounds on what the guest may use up. What is not written has no bound.
    LimitsKey = "[limits]" {
        /// Memory of the guest and the runtime around it, as in `"256MiB"`: a whole number with
        /// `B`, `KiB`, `MiB` or `GiB`. A linear memory or a table that would be larger does not
        /// grow; a guest that needs more in all is ended by the kernel.
        Memory = "memory": Text, Some("no bound");
        /// Processor time as a share of one processor: `0.5` is half of one, `2` is two. From
        /// 0.01 to 1024. A guest that wants more waits.
        Cpu = "cpu": Number, Some("no bound");
        /// Threads of the guest and the runtime around it, from 1 to 4194304.
        Pids = "pids": Integer, Some("no bound");
        /// Files, directories and sockets that the guest may have open at once, from 1 to 1048576.
        /// What the runtime has open itself comes on top; where it has less open than is reckoned
        /// with, the guest may have a few more. One too many fails with `EIO` (a socket with
        /// `unknown`), for which WASI has no better word. The first of them has a record, on the
        /// worker's own word: the kernel gives no descriptor, and asks nobody.
        OpenFiles = "open_files": Integer, Some("the caller's own bound");
        /// Bytes that the guest may read in a second from each disk on which a preopen lies, as in
        /// `"10MiB"`; what the runtime reads from it counts as well. A guest that wants more waits.
        /// A disk is the whole of it, not a partition. What lies in memory (tmpfs) is on no disk;
        /// on a file system that does not tell its disks (btrfs, overlayfs, over a network) the
        /// guest does not start.
        ReadBps = "read_bps": Text, Some("no bound");
        /// Bytes that the guest may write in a second to each of these disks. Only on ext4, xfs and
        /// f2fs, which tell the kernel whose data it writes. A file that somebody else wrote counts as
        /// his as long as the kernel keeps it in memory, until the guest has written most of it for
        /// some time; and what has not come to the disk when the guest ends is written without
        /// bound.
        WriteBps = "write_bps": Text, Some("no bound");
        /// Reads in a second from each of these disks.
        ReadIops = "read_iops": Integer, Some("no bound");
        /// Writes in a second to each of these disks, on the file systems of `write_bps`.
        WriteIops = "write_iops": Integer, Some("no bound");
        /// Wall-clock time, as in `"30s"`: a whole number with `ms`, `s`, `m` or `h`. The guest
        /// ends when it is over.
        Time = "time": Text, Some("no bound");
        /// Units of fuel, about one for each WebAssembly instruction; the guest ends when they
        /// are used up. `0` is no bound.
        Fuel = "fuel": Integer, Some("no bound");
    }

    /// Where the records of denials go.
    AuditKey = "[audit]" {
        /// File to which records are appended as JSON lines. A relative path starts at the
        /// directory of the policy file.
        File = "file": Text, Some("standard error");
        /// Size of the buffer through which the kernel hands out records, as in `"64KiB"`: a
        /// power of two from 4KiB to 16MiB. A record that finds no room is counted as lost; the
        /// verdict stays.
        Ring = "ring": Text, Some("\"16KiB\"");
    }

    /// What the guest may load into the kernel through the [`wasm_bpf` imports](wasm-bpf.md): kinds
    /// of programs, what these may be attached to, and which helper functions of the kernel they may
    /// call. The lists of names hold [patterns](#patterns). An object is refused as a whole if one of
    /// its programs is.
    ///
    /// **With `scope = "host"` programs can read all memory** of the kernel and of every process of
    /// the host, with the helper functions that need not be named: passwords, keys, what other guests
    /// do. That is so for every kind, also for those that are about packets, and no list here bounds
    /// what they read. Grant `scope = "host"` to nobody whom you would not let read everything.
    BpfKey = "[bpf]" {
        /// A ready set, to which the other keys add. `"trace-ro"`: the kinds `tracepoint`,
        /// `raw_tracepoint`, `tp_btf`, `fentry`, `fexit`, `kprobe`, `kretprobe` and `perf_event`, at
        /// every tracepoint, function and counter of the kernel; they change nothing. `"net-observe"`:
        /// the same kinds without `perf_event`, at the tracepoints and functions of networking, and
        /// `socket_filter` at every interface; none of them can change or drop a packet. Both need
        /// `scope = "host"`, which stands beside them in words.
        Profile = "profile": Text, Some("no set");
        /// Whose events programs may see. `"guest"`: only kinds that the kernel runs for one cgroup
        /// (`sock_ops`, `cgroup_skb`, `cgroup_sock`, `cgroup_sock_addr`) can be loaded, and they are
        /// attached to the guest's own; they may not call helper functions that read any
        /// address. `"host"`: everybody's, which comes to **reading all memory** of the host.
        Scope = "scope": Text, Some("\"guest\"");
        /// Kinds of programs that may be loaded; see [kinds](#kinds-of-ebpf-programs).
        Programs = "programs": TextList, Some("nothing");
        /// Tracepoints for `tracepoint`, with their category, as in `"sched/sched_process_*"`.
        Tracepoints = "tracepoints": TextList, Some("nothing");
        /// Tracepoints for `raw_tracepoint` and `tp_btf`, without their category, as in
        /// `"sched_process_*"`.
        RawTracepoints = "raw_tracepoints": TextList, Some("nothing");
        /// Functions of the kernel for `fentry`, `fexit`, `kprobe` and `kretprobe`, as in
        /// `"tcp_v4_connect"`.
        Functions = "functions": TextList, Some("nothing");
        /// Functions of programs and libraries for `uprobe` and `uretprobe`: an absolute path and a
        /// symbol, both patterns, as in `"/usr/lib/**/libssl.so*:SSL_*"`. The last `:` separates them.
        /// The path is that of the file itself, not of a symbolic link to it.
        Uprobes = "uprobes": TextList, Some("nothing");
        /// Counters for `perf_event`: `cpu-clock`, `task-clock`, `page-faults`, `context-switches`,
        /// `cpu-migrations`, `minor-faults`, `major-faults`, `cpu-cycles`, `instructions`,
        /// `cache-references`, `cache-misses`, `branch-instructions`, `branch-misses`.
        PerfEvents = "perf_events": TextList, Some("nothing");
        /// Cgroups other than the guest's own, for the kinds that run for a cgroup: paths below the
        /// root of the hierarchy, as in `"system.slice/**"`; `"."` is the root. To the guest's own
        /// they may be attached without this. With `scope = "host"` only.
        Cgroups = "cgroups": TextList, Some("only the guest's own");
        /// Network interfaces for `socket_filter`, `xdp` and `tc`, as in `"eth0"`.
        Interfaces = "interfaces": TextList, Some("nothing");
        /// Hooks for `lsm`, without `bpf_lsm_` or `security_` in front, as in `"path_rmdir"`. Such a
        /// program can deny things to everybody on the host.
        LsmHooks = "lsm_hooks": TextList, Some("nothing");
        /// Helper functions that programs may call beside [those that need not be
        /// named](#helper-functions), as in `"bpf_send_signal"`. `"bpf_probe_write_user"` is the power to
        /// take over every process. `bpf_sys_bpf`, `bpf_sys_close` and `bpf_kallsyms_lookup_name` can never
        /// be granted.
        Helpers = "helpers": TextList, Some("those that need not be named");
        /// Programs that may be loaded at once, from 1 to 256.
        MaxPrograms = "max_programs": Integer, Some("16");
        /// Maps that there may be at once, from 1 to 256. The variables of an object (`.rodata`,
        /// `.data`, `.bss`) are maps as well.
        MaxMaps = "max_maps": Integer, Some("16");
        /// Bytes that these maps may have, by the sizes that they declare, up to `"1GiB"`.
        MapBytes = "map_bytes": Text, Some("\"16MiB\"");
        /// Instructions that one program may have, from 1 to 1000000.
        MaxInstructions = "max_instructions": Integer, Some("65536");
    }
}

tables! {
    /// Every table of a file of assertions, in the order of the reference.
    ASSERTION_TABLES = "the assertions";

    /// Keys that stand above the table.
    AssertionsKey = "" {
        /// The policy that is asked. A relative path starts at the directory of this file.
        Policy = "policy": Text, None;
        /// What it has to answer; see [`[expect]`](#expect).
        Expect = "expect": Table, None;
    }

    /// What the policy has to answer. An assertion is a list of strings, the words of
    /// `wasi-guard explain` after the policy: an operation and what it is about, for renames and
    /// links two names. There must be at least one.
    ExpectKey = "[expect]" {
        /// Attempts that the policy has to allow.
        Allow = "allow": TextLists, Some("nothing");
        /// Attempts that the policy has to deny.
        Deny = "deny": TextLists, Some("nothing");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn key_names_are_unique_in_their_table_and_documented() {
        for table in TABLES.iter().chain(ASSERTION_TABLES) {
            for (at, key) in table.keys.iter().enumerate() {
                assert!(table.keys[..at].iter().all(|other| other.name != key.name), "{key:?}");
                assert!(key.doc.trim().ends_with('.') || key.doc.trim().ends_with(')'), "{key:?}");
            }
        }
    }

    #[test]
    fn names_lead_to_their_variants() {
        assert_eq!(PreopenKey::from_name("deny").map(|(key, _)| key), Some(PreopenKey::Deny));
        assert_eq!(LimitsKey::from_name("fuel").map(|(key, _)| key), Some(LimitsKey::Fuel));
        assert!(RootKey::from_name("nothing").is_none());
    }
}
