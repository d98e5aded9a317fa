//! For wasi-guard's own tests only, behind the feature `test-unchecked-host`: host functions that
//! do as a guest asks, with no look at the path. They stand in for a broken WASI layer, so that the
//! kernel is the only thing between the guest and the host.
//!
//! Module `wasi_guard_test`; each function answers a descriptor, a count or 0, or the negative
//! errno. Texts are pointer and length in the guest's memory.

use std::collections::HashMap;
use std::ffi::CString;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::{Mutex, PoisonError};

use rustix::fs::{AtFlags, CWD, Mode, OFlags, mkdirat, openat, renameat, unlinkat};
use rustix::io::{self, Errno};
use rustix::net::{AddressFamily, SocketType, connect, socket};
use wasmtime::{Caller, Extern, Linker, Memory};

/// Descriptors that these functions opened, by their numbers.
static OPEN: Mutex<Option<HashMap<i32, OwnedFd>>> = Mutex::new(None);

/// Adds the functions.
///
/// # Errors
/// If a name is taken.
pub(super) fn add_to_linker<T: 'static>(linker: &mut Linker<T>) -> wasmtime::Result<()> {
    const MODULE: &str = "wasi_guard_test";
    linker.func_wrap(MODULE, "open_any", |caller: Caller<'_, T>, path, length, flags: u32| {
        answer(text(caller, path, length).and_then(|path| {
            let flags = OFlags::from_bits_retain(flags) | OFlags::CLOEXEC;
            Ok(keep(openat(CWD, path, flags, Mode::from_raw_mode(0o666))?))
        }))
    })?;
    linker.func_wrap(
        MODULE,
        "read_any",
        |mut caller: Caller<'_, T>, fd: i32, at: u32, length: u32| {
            answer(memory(&mut caller).and_then(|memory| {
                let bytes = slice(memory.data_mut(&mut caller), at, length)?;
                with(fd, |fd| io::read(fd, bytes).map(count))
            }))
        },
    )?;
    linker.func_wrap(
        MODULE,
        "write_any",
        |mut caller: Caller<'_, T>, fd: i32, at: u32, length: u32| {
            answer(memory(&mut caller).and_then(|memory| {
                let bytes = slice(memory.data_mut(&mut caller), at, length)?;
                with(fd, |fd| io::write(fd, bytes).map(count))
            }))
        },
    )?;
    linker.func_wrap(MODULE, "unlink_any", |caller: Caller<'_, T>, path, length| {
        answer(
            text(caller, path, length)
                .and_then(|path| unlinkat(CWD, path, AtFlags::empty()).map(|()| 0)),
        )
    })?;
    linker.func_wrap(MODULE, "rmdir_any", |caller: Caller<'_, T>, path, length| {
        answer(
            text(caller, path, length)
                .and_then(|path| unlinkat(CWD, path, AtFlags::REMOVEDIR).map(|()| 0)),
        )
    })?;
    linker.func_wrap(MODULE, "mkdir_any", |caller: Caller<'_, T>, path, length| {
        answer(
            text(caller, path, length)
                .and_then(|path| mkdirat(CWD, path, Mode::from_raw_mode(0o777)).map(|()| 0)),
        )
    })?;
    linker.func_wrap(
        MODULE,
        "rename_any",
        |mut caller: Caller<'_, T>, old: u32, old_length: u32, new: u32, new_length: u32| {
            answer(memory(&mut caller).and_then(|memory| {
                let data = memory.data_mut(&mut caller);
                let old = path(slice(data, old, old_length)?)?;
                let new = path(slice(data, new, new_length)?)?;
                renameat(CWD, old, CWD, new).map(|()| 0)
            }))
        },
    )?;
    linker.func_wrap(MODULE, "connect_any", |caller: Caller<'_, T>, address, length| {
        answer(text(caller, address, length).and_then(|text| connect_to(&text)))
    })?;
    Ok(())
}

/// `127.0.0.1:80` or `[::1]:80`, TCP.
fn connect_to(text: &CString) -> Result<i32, Errno> {
    let text = text.to_str().map_err(|_| Errno::INVAL)?;
    let address: SocketAddr = text.parse().map_err(|_| Errno::INVAL)?;
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None)?;
    connect(&socket, &address)?;
    Ok(keep(socket))
}

fn answer(result: Result<i32, Errno>) -> i32 {
    result.unwrap_or_else(|errno| -errno.raw_os_error())
}

fn count(length: usize) -> i32 {
    i32::try_from(length).unwrap_or(i32::MAX)
}

fn keep(fd: OwnedFd) -> i32 {
    let number = fd.as_raw_fd();
    let mut open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    open.get_or_insert_default().insert(number, fd);
    number
}

fn with<R>(number: i32, call: impl FnOnce(&OwnedFd) -> Result<R, Errno>) -> Result<R, Errno> {
    let open = OPEN.lock().unwrap_or_else(PoisonError::into_inner);
    call(open.as_ref().and_then(|open| open.get(&number)).ok_or(Errno::BADF)?)
}

fn memory<T>(caller: &mut Caller<'_, T>) -> Result<Memory, Errno> {
    caller.get_export("memory").and_then(Extern::into_memory).ok_or(Errno::FAULT)
}

fn slice(data: &mut [u8], at: u32, length: u32) -> Result<&mut [u8], Errno> {
    let (at, length) = (at as usize, length as usize);
    data.get_mut(at..).and_then(|data| data.get_mut(..length)).ok_or(Errno::FAULT)
}

fn path(bytes: &[u8]) -> Result<CString, Errno> {
    CString::new(bytes).map_err(|_| Errno::INVAL)
}

fn text<T>(mut caller: Caller<'_, T>, at: u32, length: u32) -> Result<CString, Errno> {
    let memory = memory(&mut caller)?;
    path(slice(memory.data_mut(&mut caller), at, length)?)
}
