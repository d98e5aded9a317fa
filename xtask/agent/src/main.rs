//! Process 1 of the VMs that `cargo xtask vm` boots.
//!
//! It sets the machine up like a small Debian host (`machine`), then runs one command after the
//! other for the host and sends back what they print and how they end (`command`).
//! It relies on the initramfs and the disks that xtask's `vm` module makes.

mod command;
mod kernel_log;
mod machine;

use std::fs::{File, OpenOptions};

use anyhow::{Context, Result};
use rustix::system::RebootCommand;
use wasi_guard_vm_agent::Frame;

fn main() {
    // The end of process 1 is a kernel panic, with the message on the console before it: the
    // host sees both. That is the way to fail before and after the port to the host is open.
    if let Err(error) = serve() {
        eprintln!("wasi-guard-vm-agent: {error:#}");
    }
}

fn serve() -> Result<()> {
    machine::load_drivers()?;
    machine::enter_root_disk()?;
    machine::configure()?;
    let mut port = open_port()?;
    let reaper = command::Reaper::start()?;
    let healthy = kernel_log::Taint::read()?;
    let release = rustix::system::uname().release().to_string_lossy().into_owned();
    Frame::Ready(release).write_to(&mut port).context("cannot reach the host")?;
    loop {
        match Frame::read_from(&mut port) {
            Ok(Frame::Run(words)) => {
                let status = command::run(&words, &reaper, &mut port)?;
                if let Some(fault) = healthy.new_fault()? {
                    Frame::Fault(fault).write_to(&mut port)?;
                }
                Frame::Exit(status).write_to(&mut port)?;
            }
            Ok(other) => anyhow::bail!("the host sent {other:?}, which only an agent sends"),
            // The host went away: nobody needs this machine any more.
            Err(_) => {
                rustix::system::reboot(RebootCommand::PowerOff).context("cannot power off")?;
            }
        }
    }
}

fn open_port() -> Result<File> {
    machine::wait_for(machine::PORT)?;
    OpenOptions::new()
        .read(true)
        .write(true)
        .open(machine::PORT)
        .with_context(|| format!("cannot open {}", machine::PORT))
}
