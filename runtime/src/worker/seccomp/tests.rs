//! The lists against the real kernel. A filter that is not spread to all threads holds for the
//! thread that installed it, so each test spends a thread.

use std::process::Command;
use std::thread;

use rustix::fs::{CWD, MemfdFlags, Mode, chmodat, memfd_create};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, socket};
use rustix::process::{DumpableBehavior, chroot, set_dumpable_behavior};

use super::super::sys;
use super::filters::program;
use super::list::{Rows, Unlisted};
use super::*;

/// Calls in a thread for which the list holds; what is not on it the kernel itself denies. How the
/// supervisor answers is tested with it.
pub(in super::super) fn confined<T: Send + 'static>(
    list: List,
    call: impl FnOnce() -> T + Send + 'static,
) -> T {
    let thread = thread::spawn(move || {
        rustix::thread::set_no_new_privs(true).unwrap();
        let rows = Rows::parse(list.text()).unwrap();
        let mut program = program(&rows, Unlisted::Denied).unwrap();
        for instruction in program.iter_mut().filter(|it| it.k == OWN_PID) {
            instruction.k = std::process::id();
        }
        seccompiler::apply_filter(&program).unwrap();
        call()
    });
    thread.join().unwrap()
}

/// The parser's has no thread, and none can end under it: `bent` answers for its rows.
const LISTS: [List; 3] = [List::Run, List::Compile, List::Parse];

#[test]
fn a_call_without_a_row_is_answered_with_eacces_and_never_with_eperm() {
    for list in [List::Run, List::Compile] {
        let call = || {
            [
                memfd_create("x", MemfdFlags::CLOEXEC).map(drop),
                set_dumpable_behavior(DumpableBehavior::Dumpable),
                chmodat(CWD, "/nothing", Mode::RUSR, rustix::fs::AtFlags::empty()),
                socket(AddressFamily::UNIX, SocketType::STREAM, None).map(drop),
                socket(AddressFamily::NETLINK, SocketType::RAW, None).map(drop),
            ]
        };
        assert_eq!(confined(list, call), [Err(Errno::ACCESS); 5], "{list:?}");
    }
}

#[test]
fn no_process_can_be_started() {
    for list in [List::Run, List::Compile] {
        let call = || Command::new("/bin/true").status().map_err(|error| error.raw_os_error());
        let result = confined(list, call);
        assert_eq!(result.unwrap_err(), Some(libc::EACCES), "{list:?}");
    }
}

#[test]
fn signals_reach_this_process_only() {
    fn ask(process: u32) -> Result<(), Option<i32>> {
        sys::try_signal(process).map_err(|error| error.raw_os_error())
    }
    let own = || ask(std::process::id());
    let parent = || ask(std::os::unix::process::parent_id());
    assert_eq!((own(), parent()), (Ok(()), Ok(())), "outside");
    for list in [List::Run, List::Compile] {
        assert_eq!(confined(list, own), Ok(()), "{list:?}");
        let denied = Err(Some(libc::EACCES));
        assert_eq!(confined(list, parent), denied, "{list:?}");
    }
    assert_eq!((own(), parent()), (Ok(()), Ok(())), "outside again");
}

#[test]
fn threads_can_be_started() {
    for list in [List::Run, List::Compile] {
        let call = || thread::Builder::new().name("x".into()).spawn(|| 7).unwrap().join().unwrap();
        assert_eq!(confined(list, call), 7, "{list:?}");
    }
}

#[test]
fn the_guests_list_opens_files_and_internet_sockets_the_compilers_does_not() {
    let call = || {
        let file = std::fs::File::open("/").map(drop).map_err(|error| error.raw_os_error());
        let internet = [AddressFamily::INET, AddressFamily::INET6]
            .map(|family| socket(family, SocketType::STREAM, None).map(drop) != Err(Errno::ACCESS));
        (file, internet)
    };
    assert_eq!(confined(List::Run, call), (Ok(()), [true, true]));
    let nothing = (Err(Some(libc::EACCES)), [false, false]);
    assert_eq!(confined(List::Compile, call), nothing);
}

#[test]
fn code_can_be_loaded_while_compiling_and_not_while_a_guest_runs() {
    let call = || {
        let mut config = wasmtime::Config::new();
        // The threads of a shared pool would inherit this thread's filter.
        config.parallel_compilation(false);
        let engine = wasmtime::Engine::new(&config).unwrap();
        let module = wasmtime::Module::new(&engine, "(module (func (export \"f\")))");
        module.map(drop).map_err(|error| format!("{error:#}"))
    };
    assert_eq!(confined(List::Compile, call), Ok(()));
    let error = confined(List::Run, call).unwrap_err();
    assert!(error.contains("Permission denied"), "{error}");
}

#[test]
fn a_call_of_the_kill_rows_ends_the_process() {
    assert_ends_the_process(|| chroot("/").map_err(std::io::Error::from));
}

#[test]
fn a_call_of_the_x32_interface_ends_the_process() {
    assert_ends_the_process(sys::try_x32);
}

/// The call ends the whole process, so the test starts itself again.
fn assert_ends_the_process(call: fn() -> std::io::Result<()>) {
    const MARK: &str = "WASI_GUARD_TEST_IS_THE_VICTIM";
    if std::env::var_os(MARK).is_some() {
        let result = confined(List::Run, call);
        panic!("still alive: {result:?}");
    }
    let name = thread::current().name().unwrap().to_owned();
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &name])
        .env(MARK, "1")
        .output()
        .unwrap();
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    assert_eq!(signal, Some(libc::SIGSYS), "{output:?}");
}

#[test]
fn an_unknown_call_is_an_error() {
    let rows = Rows::parse("[[allow]]\nsyscall = \"opeen\"\nreason = \"a typo\"\n").unwrap();
    assert!(program(&rows, Unlisted::Denied).is_err());
    let rows = Rows::parse("[[kill]]\nsyscall = \"opeen\"\nreason = \"a typo\"\n").unwrap();
    assert!(rows.kill_numbers().unwrap_err().to_string().contains("no such system call"));
}

#[test]
fn what_is_built_in_is_what_the_lists_say() {
    for list in LISTS {
        let rows = Rows::parse(list.text()).unwrap();
        let mut found = 0;
        let mut expected = program(&rows, list.unlisted()).unwrap();
        for instruction in expected.iter_mut().filter(|it| it.k == OWN_PID) {
            assert_eq!(instruction.code, IF_EQUAL);
            instruction.k = std::process::id();
            found += 1;
        }
        assert_eq!(list.filter(), expected, "{list:?}");
        if list == List::Run {
            let load = rows.load_numbers().unwrap();
            assert_eq!(
                built::LOAD.iter().map(|&(call, args)| (call, args.to_vec())).collect::<Vec<_>>(),
                load
            );
            assert_eq!(built::KILL, rows.kill_numbers().unwrap());
        }
        assert_eq!(found, 1, "{list:?} has one row about the process itself");
        assert_eq!(OWN_PID, super::list::OWN_PID);
    }
}
