//! Each kind of argument, good and bent.

use super::Word::{Narrow, Wide};
use super::*;

#[test]
fn a_span_ends_where_the_memory_does() {
    assert_eq!(span(100, 0, 100), Ok(0..100));
    assert_eq!(span(100, 99, 1), Ok(99..100));
    for (pointer, size) in [(0, 101), (100, 1), (99, 2), (u64::MAX, 1), (1, u64::MAX), (1 << 32, 1)]
    {
        assert_eq!(span(100, pointer, size), Err(libc::EFAULT), "{pointer} {size}");
    }
    // Where there is nothing to touch there is nothing to be wrong.
    assert_eq!(span(0, u64::MAX, 0), Ok(0..0));
    // Of a larger memory than 32 bits reach, no pointer of more.
    assert_eq!(span(usize::MAX, 1 << 32, 1), Err(libc::EFAULT));
}

#[test]
fn an_object_is_of_bounded_size() {
    let memory = MAX_OBJECT + 10;
    let most = Narrow(MAX_OBJECT as i32);
    assert_eq!(object(memory, Narrow(10), most), Ok(10..memory));
    assert_eq!(object(memory, Narrow(11), most), Err(libc::EFAULT));
    assert_eq!(object(memory, Narrow(0), Narrow(most.narrow().unwrap() + 1)), Err(libc::EFBIG));
    assert_eq!(object(memory, Narrow(0), Narrow(-1)), Err(libc::EFBIG));
    assert_eq!(object(memory, Narrow(-1), Narrow(1)), Err(libc::EFAULT));
}

#[test]
fn a_text_ends_with_a_nul() {
    let mut memory = b"name\0\xff\0\0".to_vec();
    memory.extend([b'x'; MAX_TEXT]);
    assert_eq!(text(&memory, Narrow(0)), Ok("name"));
    assert_eq!(text(&memory, Wide(4)), Ok(""));
    assert_eq!(text(&memory, Narrow(5)), Err(libc::EINVAL));
    assert_eq!(text(&memory, Narrow(8)), Err(libc::EFAULT));
    memory.push(0);
    assert_eq!(text(&memory, Narrow(8)).map(str::len), Ok(MAX_TEXT));
    memory.insert(8, b'x');
    assert_eq!(text(&memory, Narrow(8)), Err(libc::ENAMETOOLONG));
    for pointer in [Narrow(memory.len() as i32), Narrow(-1), Wide(-1), Wide(1 << 32)] {
        assert_eq!(text(&memory, pointer), Err(libc::EFAULT), "{pointer:?}");
    }
}

#[test]
fn no_target_is_none_however_it_is_said() {
    let memory = b"x\0eth0\0";
    assert_eq!(target(memory, Narrow(0)), Ok(None));
    assert_eq!(target(memory, Narrow(1)), Ok(None));
    assert_eq!(target(memory, Narrow(2)), Ok(Some("eth0")));
    assert_eq!(target(memory, Narrow(7)), Err(libc::EFAULT));
}

#[test]
fn preopens_are_counted_from_the_first() {
    assert_eq!([i32::MIN, -1].map(preopen), [Ok(None); 2]);
    assert_eq!([0, 1, 2].map(preopen), [Err(libc::EBADF); 3]);
    assert_eq!(preopen(3), Ok(Some(0)));
    assert_eq!(preopen(i32::MAX), Ok(Some(0x7fff_fffc)));
}

#[test]
fn an_operation_has_room_for_all_that_it_touches() {
    let sizes = Sizes { key: 4, value: 16 };
    let read = |words: [i32; 5]| Operation::read(100, sizes, words.map(Narrow));
    assert_eq!(
        read([1, 96, 84, -1, 4]),
        Ok(Operation::Lookup { key: 96..100, value: 84..100, flags: 4 })
    );
    assert_eq!(
        read([2, 84, 84, -1, 0]),
        Ok(Operation::Update { key: 84..88, value: 84..100, flags: 0 })
    );
    assert_eq!(read([3, 0, -1, -1, 0]), Ok(Operation::Delete { key: 0..4 }));
    assert_eq!(read([4, 0, -1, 96, 9]), Ok(Operation::NextKey { key: None, next: 96..100 }));
    assert_eq!(
        read([4, 96, -1, 94, 0]),
        Ok(Operation::NextKey { key: Some(96..100), next: 94..98 })
    );
    for bad in
        [[1, 97, 0, 0, 0], [1, 0, 85, 0, 0], [2, 0, 85, 0, 0], [4, 97, 0, 0, 0], [4, 0, 0, 97, 0]]
    {
        assert_eq!(read(bad), Err(libc::EFAULT), "{bad:?}");
    }
    for bad in [[0; 5], [5, 0, 0, 0, 0], [-1, 0, 0, 0, 0], [3, 0, 0, 0, 1]] {
        assert_eq!(read(bad), Err(libc::EINVAL), "{bad:?}");
    }
    let wide = [Narrow(1), Wide(0), Wide(1 << 32), Wide(0), Wide(0)];
    assert_eq!(Operation::read(usize::MAX, sizes, wide), Err(libc::EFAULT));
}

#[test]
fn a_sample_is_cut_to_the_room() {
    let read = |words: [i32; 4]| Poll::read(100, Some(Narrow(-1)), words.map(Narrow));
    let poll = read([-7, 97, 3, -1]).unwrap();
    let expected = Poll { callback: Some(u32::MAX), context: -7, data: 97..100, timeout: -1 };
    assert_eq!(poll, expected);
    for (bad, errno) in [
        ([0, 0, 0, 0], libc::EINVAL),
        ([0, 0, -1, 0], libc::EINVAL),
        ([0, 0, i32::MIN, 0], libc::EINVAL),
        ([0, 98, 3, 0], libc::EFAULT),
        ([0, -1, i32::MAX, 0], libc::EFAULT),
    ] {
        assert_eq!(read(bad), Err(errno), "{bad:?}");
    }
    let mut memory = [9; 100];
    assert_eq!(poll.place(&mut memory, b"ab"), Ok(2));
    assert_eq!(memory[96..], [9, b'a', b'b', 9]);
    assert_eq!(poll.place(&mut memory, b"wxyz"), Ok(3));
    assert_eq!(memory[96..], [9, b'w', b'x', b'y']);
    assert_eq!(poll.place(&mut memory[..99], b"w"), Err(libc::EFAULT));
}

#[test]
fn a_text_is_put_with_its_nul_and_nothing_beyond() {
    let put = |size: i32, text: &str| {
        let mut memory = [9; 8];
        let answer = put_text(&mut memory, Narrow(2), Narrow(size), text);
        assert_eq!((memory[..2].to_vec(), memory[7]), (vec![9; 2], 9));
        (answer, memory[2..7].to_vec())
    };
    assert_eq!(put(5, "abcd"), (Ok(4), b"abcd\0".to_vec()));
    assert_eq!(put(5, "abcde"), (Ok(5), b"abcd\0".to_vec()));
    assert_eq!(put(4, "ab\u{e4}"), (Ok(4), b"ab\0\0\x09".to_vec()));
    assert_eq!(put(1, "ab"), (Ok(2), b"\0\x09\x09\x09\x09".to_vec()));
    assert_eq!(put(0, "ab"), (Ok(2), vec![9; 5]));
    assert_eq!(put(-1, "ab"), (Err(libc::EINVAL), vec![9; 5]));
    assert_eq!(put(7, "ab"), (Err(libc::EFAULT), vec![9; 5]));
    assert_eq!(put_text(&mut [], Narrow(-1), Narrow(0), "ab"), Ok(2));
}
