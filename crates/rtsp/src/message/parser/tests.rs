use proptest::prelude::*;

use super::*;

#[derive(Debug, PartialEq, Eq)]
enum Got {
    Frame(u8, Vec<u8>),
    Response(u16, usize, Vec<u8>),
    Request(String),
}

/// Reads `chunks` as they would arrive, with a buffer that keeps what was not used.
fn read<'a>(limits: Limits, chunks: impl IntoIterator<Item = &'a [u8]>) -> (Vec<Got>, Result<(), ParseError>) {
    let (mut parser, mut buffer, mut got) = (Parser::new(limits), Vec::new(), Vec::new());
    for chunk in chunks {
        buffer.extend_from_slice(chunk);
        loop {
            let (used, item) = match parser.next(&buffer) {
                Ok(some) => some,
                Err(error) => return (got, Err(error)),
            };
            let is_done = item == Item::Incomplete;
            match item {
                Item::Incomplete => {}
                Item::Frame { channel, payload } => got.push(Got::Frame(channel, buffer[payload].to_vec())),
                Item::Response(r) => got.push(Got::Response(r.status, r.headers.len(), r.body)),
                Item::Request(r) => got.push(Got::Request(r.method)),
            }
            buffer.drain(..used);
            if is_done {
                break;
            }
        }
    }
    (got, Ok(()))
}

fn read_all(input: &[u8]) -> Vec<Got> {
    let (got, end) = read(Limits::default(), [input]);
    assert_eq!(end, Ok(()));
    got
}

fn response(status: u16, headers: usize, body: &[u8]) -> Got {
    Got::Response(status, headers, body.to_vec())
}

const MIXED: &[u8] = b"$\x00\x00\x02ab\r\nRTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 5\r\n\r\nhello$\x09\x00\x00\
    OPTIONS rtsp://c/ RTSP/1.0\nCSeq: 1\n\nrtsp/1.0   404\nX : y\n  z\n\n$\x01\x00\x01c";

#[test]
fn frames_responses_and_requests_are_told_apart() {
    let expected = [
        Got::Frame(0, b"ab".to_vec()),
        response(200, 2, b"hello"),
        Got::Frame(9, vec![]),
        Got::Request("OPTIONS".into()),
        response(404, 1, b""),
        Got::Frame(1, b"c".to_vec()),
    ];
    assert_eq!(read_all(MIXED), expected);
    let (got, end) = read(Limits::default(), MIXED.chunks(1));
    assert_eq!((got.as_slice(), end), (&expected[..], Ok(())));
}

#[test]
fn odd_status_lines_are_read() {
    for line in [
        "RTSP/1.0 200",
        "RTSP/1.0  200 ",
        "RTSP/1.0\t200 OK",
        "rtsp/1.0 200 \u{e9}t\u{e9}",
        "RTSP/2.0 200OK",
    ] {
        for eol in ["\n", "\r\n", "\r\r\n"] {
            let input = format!("{line}{eol}CSeq:2{eol}{eol}");
            assert_eq!(read_all(input.as_bytes()), [response(200, 1, b"")], "{input:?}");
        }
    }
}

#[test]
fn an_http_response_has_no_body() {
    let input = b"HTTP/1.1 200 OK\r\nContent-Length: 32767\r\n\r\nRTSP/1.0 200 OK\r\n\r\n";
    assert_eq!(read_all(input), [response(200, 1, b""), response(200, 0, b"")]);
}

#[test]
fn garbage_between_frames_is_skipped() {
    let rtp = [&b"$\x00\x00\x0c\x80\x60"[..], &[7; 10]].concat();
    let payload = rtp[4..].to_vec();
    for garbage in [
        &b"\xff\xfe$\x07\x00\x01"[..],
        b"what is this RTSP\n",
        b"RTSP/1.0 OK\r\n",
        b"PLAY \x00\x01",
        b"$\x00",
    ] {
        // A frame first, so that a lone `$` is not taken for the frame's own start.
        let input = [&rtp[..], b"!", garbage, &rtp, b"RTSP/1.0 200 OK\r\n\r\n"].concat();
        let (got, end) = read(Limits::default(), input.chunks(1));
        assert_eq!(end, Ok(()));
        assert_eq!(got.last(), Some(&response(200, 0, b"")), "{garbage:?}");
        assert_eq!(got[0], Got::Frame(0, payload.clone()));
        assert_eq!(got[1], Got::Frame(0, payload.clone()), "{garbage:?}");
    }
}

#[test]
fn endless_garbage_is_an_error() {
    for garbage in [[0xff_u8; 4096], [b'\n'; 4096]] {
        let (got, end) = read(Limits::default(), std::iter::repeat_n(&garbage[..], 33));
        assert_eq!((got.len(), end), (0, Err(ParseError::Garbage { limit: 128 << 10 })));
    }
}

#[test]
fn an_endless_header_line_fails_at_its_limit() {
    let limit = |what, limit| Err(ParseError::Limit { what, limit });
    let long = [&b"RTSP/1.0 200 OK\r\nX: "[..], &[b'x'; 8200]].concat();
    assert_eq!(read(Limits::default(), [&long[..]]).1, limit("a header line", 8 << 10));
    let line = [&b"X: "[..], &[b'x'; 8000], b"\r\n"].concat();
    let block = [&b"RTSP/1.0 200 OK\r\n"[..], &line.repeat(5)].concat();
    assert_eq!(
        read(Limits::default(), [&block[..]]).1,
        limit("a header block", 32 << 10)
    );
    let many = [&b"RTSP/1.0 200 OK\r\n"[..], &b"X: y\r\n".repeat(65)].concat();
    assert_eq!(
        read(Limits::default(), [&many[..]]).1,
        limit("a number of header lines", 64)
    );
}

#[test]
fn a_body_is_refused_by_its_length_before_it_arrives() {
    for length in ["262145", "4000000000", "99999999999999999999999999"] {
        let input = format!("RTSP/1.0 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let expected = ParseError::Limit {
            what: "a message body",
            limit: 256 << 10,
        };
        assert_eq!(read(Limits::default(), [input.as_bytes()]).1, Err(expected));
    }
    assert_eq!(
        read_all(b"RTSP/1.0 200 OK\r\nContent-Length: -4\r\n\r\n"),
        [response(200, 1, b"")]
    );
}

#[test]
fn a_partial_body_tells_its_length() {
    let mut parser = Parser::new(Limits::default());
    let (_, item) = parser
        .next(b"RTSP/1.0 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        .unwrap();
    assert_eq!((item, parser.partial_body()), (Item::Incomplete, Some((3, 10))));
}

#[test]
fn the_largest_frame_fits_the_buffer_without_its_header() {
    let frame = [&b"$\x00\xff\xff"[..], &vec![1; 65_535]].concat();
    let mut parser = Parser::new(Limits::default());
    let (used, item) = parser.next(&frame[..65_536]).unwrap();
    assert_eq!((used, item), (4, Item::Incomplete));
    let (used, item) = parser.next(&frame[4..]).unwrap();
    assert_eq!(
        (used, item),
        (
            65_535,
            Item::Frame {
                channel: 0,
                payload: 0..65_535
            }
        )
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn splits_at_any_byte_change_nothing(mut at in proptest::collection::vec(0..MIXED.len(), 0..6)) {
        at.sort_unstable();
        let mut chunks = Vec::new();
        let mut from = 0;
        for to in at {
            chunks.push(&MIXED[from..to]);
            from = to;
        }
        chunks.push(&MIXED[from..]);
        prop_assert_eq!(read(Limits::default(), chunks).0, read_all(MIXED));
    }

    #[test]
    fn arbitrary_bytes_end_in_an_error_or_nothing(
        parts in proptest::collection::vec(
            prop_oneof![
                proptest::collection::vec(any::<u8>(), 0..64),
                Just(b"$\x00\x00\x05".to_vec()),
                Just(b"RTSP/1.0 200 OK\r\n".to_vec()),
                Just(b"Content-Length: 7\r\n\r\n".to_vec()),
                Just(b"\n\n".to_vec()),
            ],
            0..40,
        )
    ) {
        let whole = parts.concat();
        let split = read(Limits::default(), whole.chunks(1));
        prop_assert_eq!(read(Limits::default(), [&whole[..]]), split);
    }
}
