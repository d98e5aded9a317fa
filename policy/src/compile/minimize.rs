//! Merges states that no input tells apart.
//!
//! Partition refinement over blocks of states and cords of transitions, after A. Valmari, "Fast
//! brief practical DFA minimization", Information Processing Letters 112 (2012): O(m log n) for m
//! transitions that lead anywhere.

use super::machine::{Machine, Named};

/// The smallest automaton that gives the same outputs. State 0 is dead; the others are numbered
/// in the order in which a breadth-first walk from the starts meets them, so that equal policies
/// give equal tables.
///
/// A name that leads somewhere else than its bytes keeps two states apart unless both have it, even
/// if its bytes lead from the other one to the same place.
pub(super) fn minimize(mut machine: Machine) -> Machine {
    loop {
        let blocks = blocks(&machine, &machine.output);
        machine = merged(&machine, &blocks);
        // What was left out of the automaton may turn out to make no difference.
        if !machine.drop_needless_names() {
            return machine;
        }
    }
}

/// One state for each block that can be reached.
fn merged(machine: &Machine, blocks: &[u32]) -> Machine {
    let mut numbers: Vec<Option<u32>> =
        vec![None; blocks.iter().map(|b| *b as usize + 1).max().unwrap_or(1)];
    numbers[0] = Some(0);
    let mut members: Vec<usize> = vec![0];
    let mut number = |state: u32, members: &mut Vec<usize>| -> u32 {
        let slot = &mut numbers[blocks[state as usize] as usize];
        *slot.get_or_insert_with(|| {
            members.push(state as usize);
            members.len() as u32 - 1
        })
    };
    let starts = machine.starts.iter().map(|start| number(*start, &mut members)).collect();
    let mut next = Vec::new();
    let mut output = Vec::new();
    let mut named = Vec::new();
    let mut at = 0;
    while let Some(member) = members.get(at).copied() {
        output.push(machine.output[member]);
        for state in &machine.next[member * machine.classes..][..machine.classes] {
            let target = number(*state, &mut members);
            next.push(target);
        }
        for name in machine.named_from(member as u32) {
            let to = number(name.to, &mut members);
            named.push(Named { from: at as u32, to, ..*name });
        }
        at += 1;
    }
    Machine {
        class: machine.class,
        classes: machine.classes,
        next,
        output,
        starts,
        named,
        words: machine.words.clone(),
    }
}

/// For each state the number of its block, if `outputs` were its outputs; block 0 holds the states
/// that are as good as dead.
pub(super) fn blocks(machine: &Machine, outputs: &[u32]) -> Vec<u32> {
    let states = machine.states();
    let useful = useful(machine, outputs);
    // Useful states get dense numbers, so that the rest costs nothing.
    let mut dense = vec![u32::MAX; states];
    let mut members = Vec::new();
    for state in (0..states).filter(|state| useful[*state]) {
        dense[state] = members.len() as u32;
        members.push(state);
    }
    let mut transitions = Vec::new();
    for class in 0..machine.classes {
        for (tail, state) in members.iter().enumerate() {
            let head = dense[machine.next[state * machine.classes + class] as usize];
            if head != u32::MAX {
                transitions.push(Transition { tail: tail as u32, class: class as u32, head });
            }
        }
    }
    let mut named = machine.named.clone();
    named.sort_unstable_by_key(|named| (named.word, named.from));
    for Named { from, word, to, .. } in named {
        let [tail, head] = [from, to].map(|state| dense[state as usize]);
        if tail != u32::MAX && head != u32::MAX {
            transitions.push(Transition { tail, class: machine.classes as u32 + word, head });
        }
    }
    let outputs: Vec<u32> = members.iter().map(|state| outputs[*state]).collect();
    let partition = refine(&outputs, &transitions);
    let mut blocks = vec![0; states];
    for (index, state) in members.iter().enumerate() {
        blocks[*state] = partition[index] + 1;
    }
    blocks
}

/// States from which an output other than 0 can be reached.
fn useful(machine: &Machine, outputs: &[u32]) -> Vec<bool> {
    let states = machine.states();
    let mut before: Vec<(u32, u32)> = Vec::new();
    for state in 0..states {
        let row = &machine.next[state * machine.classes..][..machine.classes];
        let mut last = None;
        for next in row.iter().filter(|next| **next != 0) {
            // Neighbouring classes mostly lead to the same state.
            if last != Some(*next) {
                before.push((*next, state as u32));
                last = Some(*next);
            }
        }
    }
    before.extend(machine.named.iter().map(|named| (named.to, named.from)));
    before.sort_unstable();
    let mut useful: Vec<bool> =
        (0..states).map(|state| state != 0 && outputs[state] != 0).collect();
    let mut work: Vec<u32> = (0..states as u32).filter(|state| useful[*state as usize]).collect();
    while let Some(state) = work.pop() {
        let from = before.partition_point(|(next, _)| *next < state);
        for (_, previous) in before[from..].iter().take_while(|(next, _)| *next == state) {
            if !useful[*previous as usize] && *previous != 0 {
                useful[*previous as usize] = true;
                work.push(*previous);
            }
        }
    }
    useful
}

struct Transition {
    tail: u32,
    class: u32,
    head: u32,
}

/// The coarsest partition of the states that keeps outputs and transitions apart. `transitions`
/// are sorted by class.
fn refine(outputs: &[u32], transitions: &[Transition]) -> Vec<u32> {
    let mut blocks = Partition::new(outputs);
    let classes: Vec<u32> = transitions.iter().map(|transition| transition.class).collect();
    let mut cords = Partition::new(&classes);

    // Incoming transitions of each state, as ranges of one list.
    let mut first = vec![0u32; outputs.len() + 1];
    for transition in transitions {
        first[transition.head as usize + 1] += 1;
    }
    for state in 0..outputs.len() {
        first[state + 1] += first[state];
    }
    let mut place = first.clone();
    let mut incoming = vec![0u32; transitions.len()];
    for (index, transition) in transitions.iter().enumerate() {
        let place = &mut place[transition.head as usize];
        incoming[*place as usize] = index as u32;
        *place += 1;
    }

    // All blocks but one suffice as splitters: what leads into none of them leads into it.
    let mut block = 1;
    let mut cord = 0;
    while cord < cords.sets() {
        for at in cords.range(cord) {
            let tail = transitions[cords.elements[at] as usize].tail;
            blocks.mark(tail);
        }
        blocks.split();
        cord += 1;
        while block < blocks.sets() {
            for at in blocks.range(block) {
                let state = blocks.elements[at] as usize;
                for incoming in &incoming[first[state] as usize..first[state + 1] as usize] {
                    cords.mark(*incoming);
                }
            }
            cords.split();
            block += 1;
        }
    }
    blocks.set_of
}

/// A partition of 0..n that splits sets by marked elements in time linear in the marks.
struct Partition {
    /// Elements, those of one set next to each other.
    elements: Vec<u32>,
    /// Where each element stands in `elements`.
    location: Vec<u32>,
    /// The set of each element.
    set_of: Vec<u32>,
    /// Where each set begins and ends in `elements`, and how many at its beginning are marked.
    bounds: Vec<Bounds>,
    /// Sets with marks.
    touched: Vec<u32>,
}

struct Bounds {
    start: u32,
    end: u32,
    marked: u32,
}

impl Partition {
    /// Elements with equal keys are in one set; sets are ordered by key.
    fn new(keys: &[u32]) -> Self {
        let mut elements: Vec<u32> = (0..keys.len() as u32).collect();
        elements.sort_by_key(|element| keys[*element as usize]);
        let mut location = vec![0; keys.len()];
        let mut set_of = vec![0; keys.len()];
        let mut bounds: Vec<Bounds> = Vec::new();
        let mut last_key = None;
        for (at, element) in (0u32..).zip(&elements) {
            let key = keys[*element as usize];
            if last_key != Some(key) {
                bounds.push(Bounds { start: at, end: at, marked: 0 });
                last_key = Some(key);
            }
            let set = bounds.len() - 1;
            bounds[set].end = at + 1;
            set_of[*element as usize] = set as u32;
            location[*element as usize] = at;
        }
        Self { elements, location, set_of, bounds, touched: Vec::new() }
    }

    fn sets(&self) -> usize {
        self.bounds.len()
    }

    fn range(&self, set: usize) -> std::ops::Range<usize> {
        self.bounds[set].start as usize..self.bounds[set].end as usize
    }

    fn mark(&mut self, element: u32) {
        let set = self.set_of[element as usize];
        let bounds = &mut self.bounds[set as usize];
        let at = self.location[element as usize];
        let border = bounds.start + bounds.marked;
        if at < border {
            return;
        }
        if bounds.marked == 0 {
            self.touched.push(set);
        }
        bounds.marked += 1;
        let other = self.elements[border as usize];
        self.elements.swap(at as usize, border as usize);
        self.location[other as usize] = at;
        self.location[element as usize] = border;
    }

    /// Splits each set with marks into marked and unmarked; the smaller part becomes a new set.
    fn split(&mut self) {
        while let Some(set) = self.touched.pop() {
            let new = self.bounds.len() as u32;
            let bounds = &mut self.bounds[set as usize];
            let border = bounds.start + bounds.marked;
            let marked = std::mem::take(&mut bounds.marked);
            if border == bounds.end {
                continue;
            }
            let (start, end) = if marked <= bounds.end - border {
                let part = (bounds.start, border);
                bounds.start = border;
                part
            } else {
                let part = (border, bounds.end);
                bounds.end = border;
                part
            };
            self.bounds.push(Bounds { start, end, marked: 0 });
            for element in &self.elements[start as usize..end as usize] {
                self.set_of[*element as usize] = new;
            }
        }
    }
}
