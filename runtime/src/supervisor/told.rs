//! What the worker says while the guest runs. From the guest's start on it is to be taken as the
//! guest's own words: it may name a cause in the audit, nothing more.

use std::time::Duration;

use super::{BATCH, Plan, start::Running};
use crate::{
    audit::Auditor,
    protocol::{Channel, ChannelError, End, FromWorker},
};

/// What it has said so far.
#[derive(Debug, Default)]
pub(super) struct Told {
    /// How the guest ended.
    end: Option<End>,
    /// The guest was refused a descriptor; how often it is said does not count.
    no_descriptor: bool,
    /// BPF objects that the guest asked for, whose records are not written yet: their sizes.
    bpf_loads: Vec<u32>,
    /// How many records of them are.
    bpf_denied: u64,
}

impl Told {
    /// Takes one message, if there is one. `false`: there is nothing more to be heard.
    pub(super) fn hear(&mut self, channel: &Channel) -> bool {
        match channel.receive::<FromWorker>(Some(Duration::ZERO)) {
            Ok(FromWorker::Ended(end)) => self.end = Some(end),
            Ok(FromWorker::NoDescriptor) => self.no_descriptor = true,
            Ok(FromWorker::BpfLoad { bytes }) => self.bpf_loads.push(bytes),
            // Of no further use.
            Ok(_) | Err(ChannelError::TimedOut(_)) => {}
            Err(_) => return false,
        }
        true
    }

    /// Takes what lies in the socket of a worker that has ended; more than a worker has to say is
    /// not waited for.
    pub(super) fn hear_last(&mut self, channel: &Channel) {
        let _ = (0..BATCH).find(|_| !self.hear(channel));
    }

    /// Writes the records of what was heard and denied.
    pub(super) fn record(&mut self, worker: u32, auditor: &mut Auditor) {
        for bytes in self.bpf_loads.drain(..) {
            self.bpf_denied += 1;
            auditor.bpf_load(bytes, worker);
        }
    }

    /// How many denials were recorded.
    pub(super) fn denied(&self) -> u64 {
        self.bpf_denied
    }

    /// The guest was stopped because its time was over.
    pub(super) fn timed_out(&self, running: &Running, plan: &Plan) -> bool {
        matches!(self.end, Some(End::Trap { .. }))
            && plan.time.is_some_and(|time| running.started.elapsed() >= time)
    }

    /// The guest was stopped because its fuel was used up.
    pub(super) fn fuel_ran_out(&self, plan: &Plan) -> bool {
        plan.fuel.is_some()
            && matches!(&self.end, Some(End::Trap { message }) if message.contains("fuel"))
    }

    /// The limit of open files that the guest met.
    pub(super) fn files_ran_out(&self, limit: Option<u64>) -> Option<u64> {
        limit.filter(|_| self.no_descriptor)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_descriptor_counts_where_there_is_a_limit_and_however_often_it_is_said() {
        let (ours, theirs) = Channel::pair().unwrap();
        let worker = Channel::from_fd(theirs);
        let mut told = Told::default();
        assert!(told.hear(&ours));
        assert_eq!(told.files_ran_out(Some(7)), None);
        for _ in 0..50 {
            worker.send(&FromWorker::NoDescriptor).unwrap();
        }
        for bytes in [1, u32::MAX] {
            worker.send(&FromWorker::BpfLoad { bytes }).unwrap();
        }
        let end = End::Exit { code: 3 };
        worker.send(&FromWorker::Ended(end.clone())).unwrap();
        drop(worker);
        told.hear_last(&ours);
        assert_eq!((told.files_ran_out(Some(7)), told.files_ran_out(None)), (Some(7), None));
        assert_eq!(told.end, Some(end));
        assert_eq!(told.bpf_loads, [1, u32::MAX]);
        assert!(!told.hear(&ours));
    }
}
