//! Samples that were fetched and not delivered yet.

use super::arguments::Errno;

/// Samples of one buffer, oldest first.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// Each after its length, four bytes in little endian, as the broker sends them.
    bytes: Vec<u8>,
    /// Where the next one's length is.
    next: usize,
    /// The broker had more than fitted into its answer.
    pub(super) more: bool,
}

impl Queue {
    /// Of an answer of the broker's.
    ///
    /// # Errors
    /// `EIO` if it is not `count` samples.
    pub(super) fn new(bytes: Vec<u8>, count: u32, more: bool) -> Result<Self, Errno> {
        let mut queue = Self { bytes, next: 0, more };
        let mut found = 0;
        while queue.pop() {
            found += 1;
        }
        if found != count || queue.next != queue.bytes.len() {
            return Err(libc::EIO);
        }
        queue.next = 0;
        Ok(queue)
    }

    /// The oldest sample.
    pub(super) fn front(&self) -> Option<&[u8]> {
        let (length, rest) = self.bytes.get(self.next..)?.split_first_chunk()?;
        rest.get(..u32::from_le_bytes(*length) as usize)
    }

    /// Takes the oldest sample away, if there is one.
    pub(super) fn pop(&mut self) -> bool {
        let Some(length) = self.front().map(<[u8]>::len) else { return false };
        self.next += size_of::<u32>() + length;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batch(samples: &[&[u8]]) -> Vec<u8> {
        let each = samples.iter().map(|it| [&(it.len() as u32).to_le_bytes(), *it].concat());
        each.collect::<Vec<_>>().concat()
    }

    #[test]
    fn samples_come_in_their_order() {
        let mut queue = Queue::new(batch(&[b"one", b"", b"three"]), 3, true).unwrap();
        for expected in [b"one".as_slice(), b"", b"three"] {
            assert_eq!(queue.front(), Some(expected));
            assert!(queue.pop());
        }
        assert!(queue.front().is_none() && !queue.pop() && queue.more);
        assert_eq!(Queue::default().front(), None);
    }

    #[test]
    fn an_answer_that_is_no_list_of_samples_is_none() {
        let good = batch(&[b"one", b"two"]);
        for cut in 1..good.len() {
            assert!(Queue::new(good[..cut].to_vec(), 2, false).is_err(), "{cut}");
        }
        for count in [0, 1, 3] {
            assert!(Queue::new(good.clone(), count, false).is_err(), "{count}");
        }
        assert!(Queue::new(u32::MAX.to_le_bytes().to_vec(), 1, false).is_err());
        assert!(Queue::new(Vec::new(), 0, false).is_ok());
    }
}
