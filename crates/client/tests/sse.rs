//! The parser of event streams against a naive reading of the standard, and its known hard cases.

use proptest::prelude::*;
use sidestream_client::sse::{Event, LINE_BYTES_MAX, LineTooLong, Parsed, Parser};

fn parse(pieces: &[&[u8]]) -> Vec<Parsed> {
    let mut parser = Parser::new();
    let mut parsed = Vec::new();
    for piece in pieces {
        parser.push(piece).expect("no line is too long");
        parsed.extend(parser.by_ref());
    }
    parsed
}

fn event(data: &str, id: &str) -> Parsed {
    let (kind, data) = ("message".into(), data.into());
    let id = Some(id.to_owned()).filter(|id| !id.is_empty());
    Parsed::Event(Event { kind, data, id })
}

/// The standard, step by step, on the whole text at once.
fn naive(bytes: &[u8]) -> Vec<Parsed> {
    let text = String::from_utf8_lossy(bytes);
    let text = text.strip_prefix('\u{feff}').unwrap_or(&text);
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    let mut lines: Vec<&str> = text.split('\n').collect();
    lines.pop();

    let mut parsed = Vec::new();
    let (mut kind, mut data, mut id) = (String::new(), None::<String>, None::<String>);
    for line in lines {
        let (name, value) = match line.split_once(':') {
            Some((name, value)) => (name, value.strip_prefix(' ').unwrap_or(value)),
            None => (line, ""),
        };
        if line.is_empty() {
            match data.take() {
                Some(data) => parsed.push(Parsed::Event(Event {
                    kind: if kind.is_empty() {
                        "message".into()
                    } else {
                        kind.clone()
                    },
                    data,
                    id: id.take(),
                })),
                None => parsed.extend(id.take().map(Parsed::Moved)),
            }
            kind.clear();
        } else if line.starts_with(':') {
            parsed.push(Parsed::Comment);
        } else if name == "event" {
            kind = value.into();
        } else if name == "data" {
            data = Some(match data {
                Some(data) => format!("{data}\n{value}"),
                None => value.into(),
            });
        } else if name == "id" && !value.contains('\0') {
            id = Some(value.into());
        } else if name == "retry" && !value.is_empty() && value.chars().all(|c| c.is_ascii_digit())
        {
            parsed.push(Parsed::RetryMs(value.parse().unwrap_or(u64::MAX)));
        }
    }
    parsed
}

/// Pieces of event streams, well and badly formed, more often than random bytes would make them.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(b"data".to_vec()),
        2 => Just(b"id".to_vec()),
        1 => Just(b"event".to_vec()),
        1 => Just(b"retry".to_vec()),
        4 => Just(b":".to_vec()),
        2 => Just(b" ".to_vec()),
        3 => Just(b"\n".to_vec()),
        3 => Just(b"\r".to_vec()),
        3 => Just(b"\r\n".to_vec()),
        2 => Just(b"\n\n".to_vec()),
        1 => Just("\u{feff}".as_bytes().to_vec()),
        1 => Just("ü🙂".as_bytes().to_vec()),
        1 => Just(b"\0".to_vec()),
        2 => "[0-9]{1,25}".prop_map(String::into_bytes),
        2 => "[a-z{}\"]{0,6}".prop_map(String::into_bytes),
        1 => proptest::collection::vec(any::<u8>(), 0..4),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn wherever_the_bytes_are_split_the_standard_is_kept(
        bytes in stream(),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
    ) {
        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        places.extend([0, bytes.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
        prop_assert_eq!(parse(&pieces), naive(&bytes));
    }

    #[test]
    fn byte_by_byte_is_the_same_as_at_once(bytes in stream()) {
        let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(parse(&pieces), parse(&[&bytes]));
    }
}

#[test]
fn a_block_of_only_an_id_moves_the_cursor_and_is_no_event() {
    let parsed = parse(&[b"id: e-4\n\ndata: x\n\nid\n\n"]);
    let moved = |id: &str| Parsed::Moved(id.into());
    assert_eq!(parsed, [moved("e-4"), event("x", ""), moved("")]);
}

#[test]
fn an_id_with_a_nul_is_ignored() {
    assert_eq!(parse(&[b"id: 1\nid: 2\0\ndata: x\n\n"]), [event("x", "1")]);
}

#[test]
fn a_block_that_is_cut_off_is_not_told() {
    assert_eq!(
        parse(&[b"data: whole\n\ndata: half\n"]),
        [event("whole", "")]
    );
    assert_eq!(parse(&[b"data: half"]), []);
}

#[test]
fn a_line_end_split_between_its_two_bytes_is_one() {
    assert_eq!(
        parse(&[b"data: a\r", b"\n", b"data: b\r", b"", b"\n\r\n"]),
        [event("a\nb", "")]
    );
}

#[test]
fn only_the_first_byte_order_mark_is_taken_away() {
    let bytes = "\u{feff}data: a\n\n\u{feff}data: b\n\n".as_bytes();
    let pieces: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(parse(&pieces), [event("a", "")]);
}

#[test]
fn a_line_without_end_is_refused_and_not_kept() {
    let mut parser = Parser::new();
    let mebibyte = vec![b'x'; 1_048_576];
    let mut pushed = 0;
    let refused = loop {
        match parser.push(&mebibyte) {
            Ok(()) => pushed += mebibyte.len(),
            Err(refused) => break refused,
        }
    };
    assert_eq!((refused, pushed), (LineTooLong, LINE_BYTES_MAX));
}
