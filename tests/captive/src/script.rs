//! What can be asked: system calls in a row, each with arguments that may come from those before.

use serde::{Deserialize, Serialize};

/// Memory of a script, by its number. The kernel may read and write it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Buffer(pub u16);

/// A number that is known when the script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Value {
    /// This one.
    Number(u64),
    /// Where a buffer lies.
    Address(Buffer),
    /// What the step with this number answered; the negative errno if it failed.
    Result(u16),
    /// Four bytes of a buffer, as in the descriptors that pipe(2) writes.
    Word(Buffer, u16),
    /// The process id that getpid(2) answers here.
    OwnPid,
    /// The id of the thread that runs the script.
    OwnThread,
    /// What whoever sends the script puts into [`Script::given`] at this place.
    Given(u16),
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Step {
    /// A system call.
    Call(Call),
    /// Writes a value into a buffer: at this place, so many of its bytes.
    Put(Buffer, u16, u8, Value),
}

/// A system call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Call {
    /// How.
    pub entry: Entry,
    /// Its number.
    pub number: u64,
    /// At most six; the rest is 0.
    pub arguments: Vec<Value>,
    /// How often, at most: a failure ends it. Its result is that of the last time.
    pub times: u32,
}

/// How the kernel is entered, and what becomes of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Entry {
    /// `syscall`. Where a call makes a process or a thread, that one ends at once.
    Plain,
    /// `syscall`. What it makes stays and waits.
    Stay,
    /// `int 0x80`, the entry for 32-bit programs; of use for numbers only, as a buffer lies higher
    /// than 32 bits can say.
    Int80,
}

/// A list of system calls.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Script {
    /// What memory holds at the start.
    pub buffers: Vec<Vec<u8>>,
    /// What to do. A failure does not end it: later steps see the errno as a result.
    pub steps: Vec<Step>,
    /// Buffers that the answer shall contain.
    pub kept: Vec<Buffer>,
    /// In a thread of its own.
    pub thread: bool,
    /// For [`Value::Given`].
    pub given: Vec<u64>,
    /// After the steps.
    pub race: Option<Race>,
}

/// Two threads: one repeats its steps as long as the other, so many times, runs its own. In both
/// [`Value::Result`] counts from the script's steps on, which were run before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Race {
    /// What the one does, over and over.
    pub rival: Vec<Step>,
    /// What the other does.
    pub steps: Vec<Step>,
    /// How often.
    pub rounds: u32,
    /// The step, among those of a round, that may fail.
    pub decides: u16,
    /// What a round shows; zeros when it begins.
    pub shows: Buffer,
}

/// Rounds of a race that ended alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rounds {
    /// The negative errno of the step that decides; 0 if it worked.
    pub result: i64,
    /// What was shown.
    pub shown: Vec<u8>,
    /// How many of them.
    pub count: u32,
}

/// What came of a script.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// One a step: what the kernel answered, a negative errno if it was one. 0 for
    /// [`Step::Put`].
    pub results: Vec<i64>,
    /// The buffers that were asked for.
    pub kept: Vec<Vec<u8>>,
    /// How the rounds of the race ended.
    pub rounds: Vec<Rounds>,
}

impl Script {
    /// A buffer with these bytes.
    pub fn bytes(&mut self, bytes: impl Into<Vec<u8>>) -> Buffer {
        self.buffers.push(bytes.into());
        Buffer(self.buffers.len() as u16 - 1)
    }

    /// A buffer with this text and a NUL.
    pub fn text(&mut self, text: impl AsRef<str>) -> Buffer {
        self.bytes([text.as_ref().as_bytes(), &[0]].concat())
    }

    /// So many zeros.
    pub fn zeros(&mut self, length: usize) -> Buffer {
        self.bytes(vec![0; length])
    }

    /// A buffer that the answer shall contain.
    pub fn keep(&mut self, buffer: Buffer) {
        self.kept.push(buffer);
    }

    /// Writes eight bytes, such as an address, into a buffer.
    pub fn put(&mut self, buffer: Buffer, offset: usize, value: impl Into<Value>) {
        self.steps.push(Step::Put(buffer, offset as u16, 8, value.into()));
    }

    /// Writes four bytes, such as a descriptor, into a buffer.
    pub fn put_word(&mut self, buffer: Buffer, offset: usize, value: impl Into<Value>) {
        self.steps.push(Step::Put(buffer, offset as u16, 4, value.into()));
    }

    /// A system call; stands for its result.
    pub fn call(&mut self, number: i64, arguments: &[Value]) -> Value {
        self.enter(Entry::Plain, number as u64, arguments, 1)
    }

    /// Takes what was written since there were so many steps: a side of a [`Race`].
    pub fn side(&mut self, since: usize) -> Vec<Step> {
        self.steps.split_off(since.min(self.steps.len()))
    }

    /// A system call in any way.
    pub fn enter(&mut self, entry: Entry, number: u64, arguments: &[Value], times: u32) -> Value {
        let arguments = arguments.to_vec();
        self.steps.push(Step::Call(Call { entry, number, arguments, times }));
        Value::Result(self.steps.len() as u16 - 1)
    }
}

impl From<Buffer> for Value {
    fn from(buffer: Buffer) -> Self {
        Self::Address(buffer)
    }
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<usize> for Value {
    fn from(number: usize) -> Self {
        Self::Number(number as u64)
    }
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(number as u64)
    }
}

impl From<i32> for Value {
    fn from(number: i32) -> Self {
        i64::from(number).into()
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        u64::from(number).into()
    }
}

/// `call!(script, SYS_close, 3)`: a step that makes this system call; stands for its result.
#[macro_export]
macro_rules! call {
    ($script:expr, $name:ident $(, $argument:expr)* $(,)?) => {{
        let arguments = [$($crate::Value::from($argument)),*];
        $script.call($crate::libc::$name, &arguments)
    }};
}
