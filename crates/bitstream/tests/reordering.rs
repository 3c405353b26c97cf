//! How many pictures a stream may reorder, as its SPS says.

use gridwatch_bitstream::{h264, h265, nal};

/// libx264, `nal-hrd=vbr:bframes=3:b-pyramid=normal`, with aspect ratio, colours and timing; ffmpeg's `trace_headers` reads 2.
const H264: &[u8] = &[
    0x67, 0x64, 0x00, 0x0d, 0xac, 0xd9, 0x44, 0x26, 0xc3, 0x9a, 0x80, 0x80, 0x80, 0xa0, 0x00, 0x00, 0x03, 0x00, 0x20,
    0x00, 0x00, 0x06, 0x4c, 0x04, 0x00, 0x3d, 0x08, 0x00, 0x0f, 0x42, 0x52, 0x61, 0x80, 0x3c, 0x50, 0xa6, 0x58,
];
/// libx265, `bframes=4:b-pyramid=1`; ffmpeg reads 2.
const H265: &[u8] = &[
    0x42, 0x01, 0x01, 0x01, 0x60, 0x00, 0x00, 0x03, 0x00, 0x90, 0x00, 0x00, 0x03, 0x00, 0x00, 0x03, 0x00, 0x1e, 0xa0,
    0x20, 0x81, 0x05, 0x96, 0x56, 0x69, 0x24, 0xca, 0xf0, 0x16, 0x80, 0x80, 0x00, 0x00, 0x03, 0x00, 0x80, 0x00, 0x00,
    0x0c, 0x84,
];

fn sps_of(stream: &[u8], is_sps: impl Fn(u8) -> bool) -> &[u8] {
    nal::split(stream)
        .find(|nal| is_sps(nal[0]))
        .expect("the stream has an SPS")
}

#[test]
fn it_is_read_behind_every_part_of_the_vui() {
    assert_eq!(h264::reorder_frames(H264), Some(2));
    assert_eq!(h265::reorder_pictures(H265), Some(2));
    let none = sps_of(include_bytes!("../../rtsp/fixtures/slices.h264"), |h| h & 0x1f == 7);
    assert_eq!(h264::reorder_frames(none), Some(0));
    let one = sps_of(include_bytes!("../../rtsp/fixtures/cra.h265"), |h| h >> 1 & 0x3f == 33);
    assert_eq!(h265::reorder_pictures(one), Some(1));
}

#[test]
fn an_sps_without_it_or_cut_off_says_nothing() {
    for len in 0..H264.len() - 4 {
        assert_eq!(h264::reorder_frames(&H264[..len]), None, "{len} bytes");
    }
    for len in 0..20 {
        assert_eq!(h265::reorder_pictures(&H265[..len]), None, "{len} bytes");
    }
    // Baseline, level 3.0, pic_order_cnt_type 2, 320×240, no VUI: pictures come in output order.
    assert_eq!(
        h264::reorder_frames(&[0x67, 66, 0xc0, 30, 0b1101_1010, 0b0000_0101, 0b0000_0111, 0b1110_0100]),
        Some(0)
    );
}
