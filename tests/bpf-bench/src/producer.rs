//! The thread whose calls of getppid(2) the object makes samples of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime};

use anyhow::{Context as _, Result};
use rustix::process::getppid;
use rustix::thread::gettid;

/// What it is to do.
enum Order {
    /// So many calls.
    Burst(u64),
    /// So many calls each millisecond, for so many milliseconds.
    Paced(u32, u32),
    /// As many as it can, until it is told to stop.
    Busy(Arc<AtomicBool>),
}

pub(crate) struct Producer {
    /// The thread, as bpf_get_current_pid_tgid() has it.
    pub(crate) id: u64,
    orders: Option<Sender<Order>>,
    ends: Receiver<u64>,
    thread: Option<JoinHandle<()>>,
}

/// Stops a busy producer when it is dropped.
pub(crate) struct Busy(Arc<AtomicBool>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

impl Producer {
    pub(crate) fn start() -> Result<Self> {
        let (orders, work) = channel();
        let (end, ends) = channel();
        let thread = thread::spawn(move || produce(&work, &end));
        let id = ends.recv().context("the producer ended")?;
        Ok(Self { id, orders: Some(orders), ends, thread: Some(thread) })
    }

    /// Makes so many calls; the real time after the last.
    pub(crate) fn burst(&self, calls: u64) -> Result<u64> {
        self.order(Order::Burst(calls))?;
        self.ends.recv().context("the producer ended")
    }

    /// Begins to make so many calls each millisecond for so many milliseconds.
    pub(crate) fn paced(&self, calls: u32, milliseconds: u32) -> Result<()> {
        self.order(Order::Paced(calls, milliseconds))
    }

    /// Begins to make as many calls as it can.
    pub(crate) fn busy(&self) -> Result<Busy> {
        let stop = Arc::new(AtomicBool::new(false));
        self.order(Order::Busy(Arc::clone(&stop)))?;
        Ok(Busy(stop))
    }

    /// Waits for the end of what was begun.
    pub(crate) fn stopped(&self) -> Result<()> {
        self.ends.recv().context("the producer ended").map(drop)
    }

    fn order(&self, order: Order) -> Result<()> {
        let sent = self.orders.as_ref().and_then(|it| it.send(order).ok());
        sent.context("the producer ended")
    }
}

impl Drop for Producer {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn produce(work: &Receiver<Order>, end: &Sender<u64>) {
    let thread = u64::from(gettid().as_raw_pid().cast_unsigned());
    let mut said = end.send(u64::from(std::process::id()) << 32 | thread);
    while said.is_ok()
        && let Ok(order) = work.recv()
    {
        match order {
            Order::Burst(calls) => call(calls),
            Order::Paced(calls, milliseconds) => {
                let start = Instant::now();
                for tick in 1..=milliseconds {
                    call(u64::from(calls));
                    let next = start + Duration::from_millis(u64::from(tick));
                    thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            }
            Order::Busy(stop) => {
                while !stop.load(Ordering::Relaxed) {
                    call(100);
                }
            }
        }
        said = end.send(real_time());
    }
}

fn call(times: u64) {
    for _ in 0..times {
        let _ = getppid();
    }
}

/// Nanoseconds, by a clock that all processes have.
pub(crate) fn real_time() -> u64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
