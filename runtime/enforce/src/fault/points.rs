//! The points: one for each step after which a crash leaves the host in another state, and one for
//! each call of the kernel that may be refused for lack of room.

#[cfg(feature = "test-faults")]
use Scene::{Compile, Compiler, End, Gc, Load, Reload, Run, Start, Sweep, Unload, Worker};

/// Where a point is passed, which says how a test comes there.
#[cfg(feature = "test-faults")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scene {
    /// The first start of a build, which loads the programs.
    Load,
    /// Every start, in this crate.
    Start,
    /// The end of a guest, in this crate.
    End,
    /// A start that finds what a killed one left.
    Sweep,
    /// Another policy for a guest.
    Reload,
    /// `wasi-guard gc`.
    Gc,
    /// `wasi-guard unload`.
    Unload,
    /// The supervisor of a whole guest.
    Run,
    /// Its worker.
    Worker,
    /// The supervisor of a compiler.
    Compile,
    /// The compiler.
    Compiler,
}

macro_rules! points {
    ($($(#[$doc:meta])* $point:ident $name:literal $scene:ident [$($errno:ident)*],)*) => {
        /// A step, or a call of the kernel, in the order of a guest's life.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Point { $($(#[$doc])* $point,)* }

        #[cfg(feature = "test-faults")]
        impl Point {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$point),*];

            /// Its name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$point => $name,)* }
            }

            /// Where it is passed.
            pub const fn scene(self) -> Scene {
                match self { $(Self::$point => $scene,)* }
            }

            /// The errors that the call there may end with; none if it is a step that was done.
            pub const fn errors(self) -> &'static [i32] {
                match self { $(Self::$point => &[$(libc::$errno),*],)* }
            }
        }
    };
}

points! {
    /// The directory for unfinished pins is there.
    PinsBegun "pins-begun" Load [],
    /// The map of tables is pinned.
    TablesPinned "tables-pinned" Load [],
    /// The map of their numbers is pinned.
    TableIdsPinned "table-ids-pinned" Load [],
    /// The maps are to be created.
    CreateMaps "create-maps" Load [ENOMEM],
    /// One more map is to be pinned.
    PinMap "pin-map" Load [ENOMEM],
    /// It is.
    MapPinned "map-pinned" Load [],
    /// One more program is to be loaded.
    LoadProgram "load-program" Load [ENOMEM EPERM],
    /// It is to be pinned.
    PinProgram "pin-program" Load [ENOMEM],
    /// It is.
    ProgramPinned "program-pinned" Load [],
    /// It is to be attached.
    AttachProgram "attach-program" Load [ENOMEM EBUSY],
    /// It is, by a link of this process alone.
    ProgramAttached "program-attached" Load [],
    /// The link is to be pinned.
    PinLink "pin-link" Load [ENOMEM],
    /// It is.
    LinkPinned "link-pinned" Load [],
    /// The pins have their name.
    PinsPublished "pins-published" Load [],

    /// The host lock is held.
    HostLocked "host-locked" Start [],
    /// The pins are open.
    PinsTaken "pins-taken" Start [],
    /// The parent cgroup is there.
    ParentMade "parent-made" Start [],
    /// The runtime's files are to be marked.
    MarkRuntime "mark-runtime" Start [ENOMEM],
    /// A cgroup is to be made.
    MakeCgroup "make-cgroup" Start [ENOMEM EAGAIN],
    /// The cgroup is there, and nobody holds its lock.
    CgroupMade "cgroup-made" Start [],
    /// Its limits are set; it is locked.
    CgroupLimited "cgroup-limited" Start [],
    /// The ring buffer is to be made.
    MakeRing "make-ring" Start [ENOMEM],
    /// Its entry is to be written.
    EnterRing "enter-ring" Start [ENOMEM E2BIG],
    /// The guest's entry is to be written.
    EnterGuest "enter-guest" Start [ENOMEM E2BIG],
    /// It is: the guest is made.
    GuestMade "guest-made" Start [],
    /// A preopen's root is to be marked.
    MarkRoot "mark-root" Start [ENOMEM],
    /// A file with several names is to be marked.
    MarkLinks "mark-links" Start [ENOMEM],
    /// A process is to be started in the cgroup.
    Spawn "spawn" Start [ENOMEM EAGAIN],
    /// It runs.
    Spawned "spawned" Start [],
    /// The leave to load compiled code is to be given.
    BeginLoading "begin-loading" Start [ENOMEM E2BIG],
    /// The table is to be made.
    MakeTable "make-table" Start [ENOMEM],
    /// A part of it is to be written.
    FillTable "fill-table" Start [ENOMEM],
    /// It is pinned.
    TablePinned "table-pinned" Start [],
    /// It is to go into force.
    EnterTable "enter-table" Start [ENOMEM E2BIG],
    /// It is in force.
    TableEntered "table-entered" Start [],
    /// The set-up is to end.
    EndSetup "end-setup" Start [ENOMEM],
    /// The policy is in force.
    Armed "armed" Start [],
    /// The leave to load compiled code is to end.
    EndLoading "end-loading" Start [ENOMEM],

    /// Nobody else is to replace a table.
    LockSwap "lock-swap" Reload [ENOLCK],
    /// The table before is out of force, and still pinned.
    TableReplaced "table-replaced" Reload [],

    /// The guest is to end.
    EndBegun "end-begun" End [],
    /// Its processes are gone.
    ProcessesGone "processes-gone" End [],
    /// A process is to be started that removes the entries of the maps of maps.
    RemovalBegun "removal-begun" End [EAGAIN],
    /// Its table is forgotten, its other entries are not.
    TableForgotten "table-forgotten" End [],
    /// All its entries are gone.
    EntriesGone "entries-gone" End [],
    /// The pin of its table is gone, if nobody else used it.
    TableReleased "table-released" End [],
    /// Its cgroup is gone.
    CgroupRemoved "cgroup-removed" End [],

    /// The cgroup of a guest without a supervisor is locked.
    AbandonedFound "abandoned-found" Sweep [],
    /// Its processes are gone.
    AbandonedKilled "abandoned-killed" Sweep [],
    /// Its entries are gone.
    AbandonedForgotten "abandoned-forgotten" Sweep [],
    /// Its cgroup is gone.
    AbandonedRemoved "abandoned-removed" Sweep [],

    /// `gc` has removed cgroups.
    GcCgroups "gc-cgroups" Gc [],
    /// And entries.
    GcEntries "gc-entries" Gc [],
    /// And a directory of unfinished pins.
    GcPins "gc-pins" Gc [],

    /// `unload` has removed the parent cgroup.
    UnloadedCgroup "unloaded-cgroup" Unload [],
    /// `unload` has taken their name from the pins.
    PinsWithdrawn "pins-withdrawn" Unload [],
    /// One more pin is removed.
    PinRemoved "pin-removed" Unload [],

    /// The worker's compiler is started.
    CompilerStarted "compiler-started" Compile [],
    /// A file with a temporary name is in the cache.
    CacheBegun "cache-begun" Compile [],
    /// The compiled module is in it.
    CacheWritten "cache-written" Compile [],
    /// Directories for single files are made.
    HoldersMade "holders-made" Run [],
    /// Files with several names were looked for.
    LinksSearched "links-searched" Run [],
    /// The worker was started with its artifact.
    WorkerSpawned "worker-spawned" Run [],
    /// The guest's socket is there.
    SocketMade "socket-made" Run [],
    /// The worker's program runs.
    StartedHeard "started-heard" Run [],
    /// The worker has given up its rights.
    HardenedHeard "hardened-heard" Run [],
    /// The supervisor answers for the worker's filter.
    ListenerTaken "listener-taken" Run [],
    /// The worker was told that the policy is in force.
    ArmedSaid "armed-said" Run [],
    /// The self-test passed.
    CanaryChecked "canary-checked" Run [],
    /// The worker may load the module.
    LoadSaid "load-said" Run [],
    /// It has.
    LoadedHeard "loaded-heard" Run [],
    /// The guest starts.
    StartSaid "start-said" Run [],
    /// The guest is watched.
    Watching "watching" Run [],
    /// The worker has ended.
    WorkerEnded "worker-ended" Run [],
    /// The end is in the audit.
    EndRecorded "end-recorded" Run [],

    /// The worker has its config.
    WorkerStarted "worker-started" Worker [],
    /// It has given up its rights, but for seccomp.
    WorkerHardened "worker-hardened" Worker [],
    /// seccomp is in force.
    WorkerFiltered "worker-filtered" Worker [],
    /// The supervisor knows.
    WorkerTold "worker-told" Worker [],
    /// The policy is in force.
    WorkerArmed "worker-armed" Worker [],
    /// The self-test was told of.
    WorkerTested "worker-tested" Worker [],
    /// The module may be loaded.
    WorkerMayLoad "worker-may-load" Worker [],
    /// It is.
    WorkerLoaded "worker-loaded" Worker [],
    /// The guest may start.
    WorkerMayStart "worker-may-start" Worker [],
    /// The guest has ended.
    WorkerDone "worker-done" Worker [],
    /// The supervisor knows.
    WorkerEndSaid "worker-end-said" Worker [],

    /// The compiler has given up its rights.
    CompilerHardened "compiler-hardened" Compiler [],
    /// The module is compiled.
    CompilerDone "compiler-done" Compiler [],
    /// The supervisor knows.
    CompilerTold "compiler-told" Compiler [],
}
